//! What is unusable in the edits of a bump, as far as that can be told without the repository.

use super::spec::{EditSpec, File, What};
use crate::base::{Diagnostic, Source};
use crate::decl;
use crate::formats::manifest::{self, Format};
use crate::formats::yaml;
use crate::lang::Template;
use crate::stage::CheckContext;

impl File {
    /// Reports what cannot work.
    pub(super) fn check(
        &self,
        cx: &CheckContext<'_>,
        source: &Source,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let format = match self.format {
            Some(format) => Some(format),
            // What has paths in a file whose name tells nothing is YAML.
            None => self
                .path
                .as_literal()
                .map(Format::of)
                .filter(|format| *format != Format::Text),
        };
        for edit in &self.edits {
            if let Some(image) = edit.image() {
                decl::require(&cx.decls.images, "image", image, source, diagnostics);
            }
            edit.check(format.filter(|_| !self.kustomization), source, diagnostics);
        }
    }
}

impl EditSpec {
    fn check(&self, format: Option<Format>, source: &Source, diagnostics: &mut Vec<Diagnostic>) {
        let mut bad = |message: String, span, help: &str| {
            diagnostics.push(Diagnostic::error("PW0015", message, source, span).help(help));
        };
        match &self.what {
            What::Set {
                path,
                value,
                literal,
                ..
            } => {
                let refused = format.and_then(|format| manifest::without_paths(format).err());
                if let Some(error) = refused {
                    bad(
                        error.message,
                        path.span,
                        "use `match` or `marker`, or say `format=`",
                    );
                } else if let Some((message, help)) = bad_path(path) {
                    bad(message, path.span, help);
                }
                if let Some(text) = value.as_literal()
                    && *literal
                    && !yaml::is_literal(text)
                {
                    bad(
                        format!("\"{text}\" is no number, boolean or null"),
                        value.span,
                        "leave out `literal` to write it as a string",
                    );
                }
            }
            What::Image { at: Some(path), .. } => {
                if let Some((message, help)) = bad_path(path) {
                    bad(message, path.span, help);
                }
            }
            What::Match { pattern, .. } => {
                if let Err(error) = manifest::check_pattern(&pattern.value) {
                    bad(
                        error.message,
                        pattern.span,
                        "capture the value with one group",
                    );
                }
            }
            What::Marker { name, .. } => {
                if let Some(text) = name.as_literal()
                    && !manifest::is_marker(text)
                {
                    bad(
                        format!("\"{text}\" cannot be the name of a marker"),
                        name.span,
                        "use letters, digits, `.`, `_` and `-`",
                    );
                }
            }
            What::Image { at: None, .. } | What::Entry { .. } => {}
        }
    }
}

fn bad_path(path: &Template) -> Option<(String, &'static str)> {
    let text = path.as_literal()?;
    let error = yaml::Path::parse(text).err()?;
    Some((
        format!("\"{text}\" is not a path: {error}"),
        "write `.key.key`, `[0]`, `[name=app]`, and quote keys that hold dots: `.\"a.b\"`",
    ))
}
