//! Just enough of a Dockerfile to play a build of it.

use std::collections::{BTreeMap, VecDeque};

use super::image::Blob;
use super::script::{Act, acts};
use crate::base::Digest;

/// One instruction on its way into an image.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// What BuildKit would show: `[app 2/4] RUN make`.
    pub(super) label: String,
    /// The image it starts from, if it is a `FROM` of one.
    pub(super) base: Option<String>,
    /// The layer it adds to the image at the end, or to a stage before it.
    pub(super) layer: Option<Blob>,
    /// What a `RUN` does.
    pub(super) acts: VecDeque<Act>,
    /// Whether it belongs to the stage that becomes the image.
    pub(super) is_final: bool,
}

/// A Dockerfile read for one build.
#[derive(Clone, Debug, Default)]
pub(super) struct Recipe {
    pub(super) steps: Vec<Step>,
    pub(super) checked: bool,
}

const KNOWN: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

struct Stage {
    name: Option<String>,
    /// Index of the stage it goes on, if it is one of this file.
    parent: Option<usize>,
    steps: Vec<Step>,
    checked: bool,
}

/// Reads a Dockerfile. `facts` stands for everything that a copied file may hold.
pub(super) fn read(
    text: &str,
    target: Option<&str>,
    args: &BTreeMap<String, String>,
    facts: &Digest,
) -> Result<Recipe, String> {
    let mut stages: Vec<Stage> = Vec::new();
    let mut values = args.clone();
    // Everything before a step takes part in it, as in a cache of BuildKit.
    let mut chain = Digest::of(b"");
    for (word, rest) in instructions(text)? {
        let rest = rest.as_str();
        if word == "ARG" {
            let (name, default) = rest.split_once('=').unwrap_or((rest, ""));
            let value = default.trim_matches('"').to_owned();
            let value = values.entry(name.trim().to_owned()).or_insert(value);
            chain = Digest::of(format!("{chain} ARG {name}={value}").as_bytes());
            continue;
        }
        if word == "FROM" {
            let rest = fill(rest, &values);
            let mut words = rest.split_whitespace().filter(|w| !w.starts_with("--"));
            let base = words.next().ok_or("FROM needs an image")?.to_owned();
            let name = match (words.next(), words.next()) {
                (Some(with), Some(name)) if with.eq_ignore_ascii_case("as") => {
                    Some(name.to_owned())
                }
                (None, _) => None,
                _ => return Err(format!("cannot read FROM {rest}")),
            };
            let named = |stage: &Stage| stage.name.as_deref() == Some(&*base);
            let parent = stages.iter().position(named);
            chain = Digest::of(format!("{chain} FROM {base}").as_bytes());
            let step = Step {
                label: format!("FROM {base}"),
                base: (parent.is_none() && base != "scratch").then_some(base),
                layer: None,
                acts: VecDeque::new(),
                is_final: false,
            };
            stages.push(Stage {
                name,
                parent,
                steps: vec![step],
                checked: false,
            });
            continue;
        }
        let stage = stages
            .last_mut()
            .ok_or("no build stage in current context")?;
        if word == "HEALTHCHECK" {
            stage.checked = !rest.trim().eq_ignore_ascii_case("none");
        }
        let copies = matches!(word.as_str(), "COPY" | "ADD");
        let seen = if copies { facts.as_str() } else { "" };
        chain = Digest::of(format!("{chain} {word} {rest} {seen}").as_bytes());
        if !copies && word != "RUN" {
            continue;
        }
        let command = rest
            .split_whitespace()
            .skip_while(|word| word.starts_with("--"))
            .collect::<Vec<_>>()
            .join(" ");
        stage.steps.push(Step {
            label: format!("{word} {rest}"),
            base: None,
            layer: Some(Blob::new(format!("simulated layer {chain}").into_bytes())),
            acts: if copies {
                VecDeque::new()
            } else {
                acts(&command, &values)
            },
            is_final: false,
        });
    }
    finish(stages, target)
}

/// Puts the steps of the stages that a target needs in order.
fn finish(mut stages: Vec<Stage>, target: Option<&str>) -> Result<Recipe, String> {
    let last = match target {
        Some(target) => stages
            .iter()
            .position(|stage| stage.name.as_deref() == Some(target))
            .ok_or_else(|| format!("target stage \"{target}\" could not be found"))?,
        None => stages
            .len()
            .checked_sub(1)
            .ok_or("the file has no build stage")?,
    };
    let mut recipe = Recipe::default();
    let mut at = Some(last);
    while let Some(index) = at {
        let stage = &mut stages[index];
        recipe.checked |= stage.checked;
        for step in &mut stage.steps {
            step.is_final = true;
        }
        at = stage.parent;
    }
    for (index, stage) in stages.into_iter().take(last + 1).enumerate() {
        let name = stage.name.unwrap_or_else(|| format!("stage-{index}"));
        let count = stage.steps.len();
        for (number, mut step) in stage.steps.into_iter().enumerate() {
            step.label = format!("[{name} {}/{count}] {}", number + 1, step.label);
            recipe.steps.push(step);
        }
    }
    Ok(recipe)
}

/// Instructions with continued lines joined and here-documents attached.
fn instructions(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim().to_owned();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        while let Some(open) = line.strip_suffix('\\') {
            let next = lines.next().unwrap_or_default().trim();
            let next = if next.starts_with('#') { "\\" } else { next };
            line = format!("{}{next}", open.trim_end().to_owned() + " ");
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        let word = word.to_ascii_uppercase();
        if !KNOWN.contains(&word.as_str()) {
            return Err(format!(
                "dockerfile parse error: unknown instruction: {word}"
            ));
        }
        let mut rest = rest.trim().to_owned();
        if matches!(word.as_str(), "RUN" | "COPY" | "ADD")
            && let Some(end) = here_document(&rest)
        {
            for line in lines.by_ref().take_while(|line| line.trim() != end) {
                rest.push('\n');
                rest.push_str(line);
            }
        }
        found.push((word, rest));
    }
    Ok(found)
}

/// The word that ends a here-document that a line begins.
fn here_document(line: &str) -> Option<String> {
    let (_, after) = line.split_once("<<")?;
    let word: String = after
        .trim_start_matches('-')
        .trim_start_matches(['"', '\''])
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect();
    (!word.is_empty()).then_some(word)
}

/// Fills in `$NAME` and `${NAME}`; what has no value is left as it is.
fn fill(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = text.to_owned();
    for (name, value) in values.iter().rev() {
        out = out.replace(&format!("${{{name}}}"), value);
        out = out.replace(&format!("${name}"), value);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(text: &str, target: Option<&str>) -> Result<Recipe, String> {
        let args = BTreeMap::from([("V".to_owned(), "2".to_owned())]);
        read(text, target, &args, &Digest::of(b"files"))
    }

    const TWO: &str = "ARG V=1\nARG BASE=golang\nFROM $BASE:${V} AS build\nCOPY . .\n\
        RUN make \\\n  all\nFROM scratch AS app\nHEALTHCHECK CMD true\nCOPY --from=build /a /a\n\
        FROM app\nRUN <<EOF\nexit 9\nEOF\n";

    #[test]
    fn stages_and_arguments() {
        let whole = recipe(TWO, None).expect("it is a Dockerfile");
        let labels: Vec<_> = whole.steps.iter().map(|step| step.label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "[build 1/3] FROM golang:2",
                "[build 2/3] COPY . .",
                "[build 3/3] RUN make all",
                "[app 1/2] FROM scratch",
                "[app 2/2] COPY --from=build /a /a",
                "[stage-2 1/2] FROM app",
                "[stage-2 2/2] RUN <<EOF\nexit 9",
            ]
        );
        assert_eq!(whole.steps[0].base.as_deref(), Some("golang:2"));
        let ours: Vec<_> = whole.steps.iter().map(|step| step.is_final).collect();
        assert_eq!(ours, [false, false, false, true, true, true, true]);
        assert!(whole.checked);
        assert_eq!(recipe(TWO, Some("build")).map(|r| r.steps.len()), Ok(3));
    }

    #[test]
    fn a_change_changes_every_later_layer() {
        let layers = |text: &str| -> Vec<Digest> {
            let steps = recipe(text, None).expect("it is a Dockerfile").steps;
            steps
                .into_iter()
                .filter_map(|s| s.layer)
                .map(|l| l.digest)
                .collect()
        };
        let before = layers("FROM scratch\nCOPY a a\nRUN x\nRUN y\n");
        let after = layers("FROM scratch\nCOPY a a\nRUN z\nRUN y\n");
        assert_eq!(before[0], after[0]);
        assert!(before[1] != after[1] && before[2] != after[2]);
    }

    #[test]
    fn mistakes() {
        for (text, target, message) in [
            ("RUN x\n", None, "no build stage in current context"),
            ("", None, "the file has no build stage"),
            (
                "FROM a\nFLY\n",
                None,
                "dockerfile parse error: unknown instruction: FLY",
            ),
            (
                "FROM a\n",
                Some("x"),
                "target stage \"x\" could not be found",
            ),
            ("FROM a b c\n", None, "cannot read FROM a b c"),
        ] {
            assert_eq!(
                recipe(text, target).map(|_| ()),
                Err(message.to_owned()),
                "{text}"
            );
        }
    }
}
