//! Values a `run` leaves to others.

use std::path::Path;

use crate::lang::Node;
use crate::stage::{Failure, StageContext};

/// `output NAME from=FILE match=REGEX`.
#[derive(Debug)]
pub(super) struct OutputSpec {
    pub(super) name: String,
    from: String,
    pattern: Option<regex::Regex>,
}

/// Longest file an output is looked for in.
const MAX_FILE: u64 = 16 << 20;
/// Longest value of an output.
const MAX_VALUE: usize = 64 << 10;

impl OutputSpec {
    pub(super) fn lower(node: &Node) -> Option<Self> {
        Some(Self {
            name: node.args.first()?.as_str()?.to_owned(),
            from: node.prop("from")?.as_str()?.to_owned(),
            pattern: match node.prop("match") {
                Some(value) => Some(
                    regex::RegexBuilder::new(value.as_str()?)
                        .size_limit(1 << 20)
                        .build()
                        .ok()?,
                ),
                None => None,
            },
        })
    }

    /// Reads the value. One that holds a secret is an error that names it.
    pub(super) async fn read(&self, cx: &StageContext<'_>, root: &Path) -> Result<String, Failure> {
        let fail = |why: String| Failure::failed(format!("output {}: {why}", self.name));
        let bytes = cx
            .world
            .workspace
            .read_below(root, Path::new(&self.from), MAX_FILE)
            .await?
            .ok_or_else(|| fail(format!("{} was not written", self.from)))?;
        let text =
            String::from_utf8(bytes).map_err(|_| fail(format!("{} is not text", self.from)))?;
        let value = match &self.pattern {
            None => text.trim(),
            Some(pattern) => pattern
                .captures(&text)
                .and_then(|found| found.get(1).or_else(|| found.get(0)))
                .map(|found| found.as_str())
                .ok_or_else(|| fail(format!("nothing in {} fits {pattern}", self.from)))?,
        };
        if value.len() > MAX_VALUE {
            return Err(fail(format!(
                "the value is longer than {} KiB",
                MAX_VALUE / 1024
            )));
        }
        for (name, secret) in &cx.values.secrets {
            if !secret.expose().is_empty() && value.contains(secret.expose()) {
                return Err(fail(format!(
                    "the value holds secret {name}; outputs are shown and stored"
                )));
            }
        }
        Ok(value.to_owned())
    }
}
