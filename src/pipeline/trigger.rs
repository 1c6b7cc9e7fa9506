//! What starts a pipeline.

use super::watch::Watch;
use crate::base::{Diagnostic, Spanned};
use crate::lang::{Node, expr};

/// Something that starts a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A push to a branch.
    Branch {
        /// Pattern of the branch.
        pattern: String,
        /// Paths that count.
        paths: Paths,
    },
    /// A push of a tag.
    Tag {
        /// Pattern of the tag.
        pattern: String,
        /// Paths that count.
        paths: Paths,
    },
    /// A pull request.
    PullRequest {
        /// Pattern of the branch it wants to go to.
        base: Option<String>,
        /// Paths that count.
        paths: Paths,
    },
    /// A schedule.
    Schedule {
        /// Five cron fields.
        cron: String,
        /// Time zone.
        timezone: Option<String>,
    },
    /// A person.
    Manual,
    /// The end of another pipeline's run.
    Pipeline {
        /// The pipeline.
        name: Spanned<String>,
        /// How it must have ended.
        outcome: ChainOutcome,
    },
    /// A registry that is watched.
    Watch(Box<Watch>),
}

/// How an upstream run must have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainOutcome {
    /// Succeeded or up-to-date.
    Succeeded,
    /// Failed, errored, timed out.
    Failed,
    /// In any way.
    Any,
}

/// Path patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths(pub Vec<String>);

/// An input of a pipeline that is started by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its type.
    pub ty: InputType,
    /// Its value if it is not given.
    pub default: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

/// The type of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputType {
    /// Any text.
    String,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A semantic version.
    Version,
    /// A duration.
    Duration,
}

impl Input {
    pub(super) fn lower(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let text = |name: &str| {
            node.prop(name)
                .and_then(|value| value.as_str())
                .map(str::to_owned)
        };
        let input = Self {
            ty: match text("type").as_deref() {
                Some("bool") => InputType::Bool,
                Some("int") => InputType::Int,
                Some("version") => InputType::Version,
                Some("duration") => InputType::Duration,
                _ => InputType::String,
            },
            default: text("default"),
            description: text("description"),
        };
        if let (Some(default), Some(value)) = (&input.default, node.prop("default"))
            && let Err(why) = input.accepts(default)
        {
            diagnostics.push(
                Diagnostic::error("PW0015", why, &node.source, value.span)
                    .help("give a default of the input's own type"),
            );
        }
        input
    }

    /// Whether a value is of the input's type.
    pub fn accepts(&self, value: &str) -> Result<(), String> {
        let fits = match self.ty {
            InputType::String => true,
            InputType::Bool => matches!(value, "true" | "false"),
            InputType::Int => value.parse::<i64>().is_ok(),
            InputType::Version => expr::Value::parse(&expr::Type::Version, value).is_some(),
            InputType::Duration => crate::base::parse_duration(value).is_some(),
        };
        if fits {
            return Ok(());
        }
        Err(match self.ty {
            InputType::Bool => format!("\"{value}\" is neither \"true\" nor \"false\""),
            InputType::Int => format!("\"{value}\" is not a whole number"),
            InputType::Version => format!("\"{value}\" is not a version such as \"1.2.3\""),
            _ => format!("\"{value}\" is not a duration such as \"10m\""),
        })
    }
}

impl Trigger {
    /// Lowers the children of `on`.
    pub(super) fn lower(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Vec<Spanned<Self>> {
        let text = |name: &str| {
            node.prop(name)
                .and_then(|value| value.as_str())
                .map(str::to_owned)
        };
        let arg = || node.args.first().and_then(|value| value.spanned());
        let paths = || {
            let child = node.child("paths");
            let paths = child.map(|paths| {
                paths
                    .args
                    .iter()
                    .filter_map(|value| value.as_str().map(str::to_owned))
                    .collect()
            });
            Paths(paths.unwrap_or_default())
        };
        let one = |trigger: Self| vec![Spanned::new(trigger, node.head())];
        match node.name.value.as_str() {
            "push" => match (text("branch"), text("tag")) {
                (Some(pattern), None) => one(Self::Branch {
                    pattern,
                    paths: paths(),
                }),
                (None, Some(pattern)) => one(Self::Tag {
                    pattern,
                    paths: paths(),
                }),
                (None, None) => one(Self::Branch {
                    pattern: "**".to_owned(),
                    paths: paths(),
                }),
                (Some(_), Some(_)) => {
                    diagnostics.push(
                        Diagnostic::error(
                            "PW0019",
                            "a push is of a branch or of a tag, not of both",
                            &node.source,
                            node.head(),
                        )
                        .help("write two `push` nodes; either starts the pipeline"),
                    );
                    Vec::new()
                }
            },
            "pull-request" => one(Self::PullRequest {
                base: text("base"),
                paths: paths(),
            }),
            "schedule" => match arg() {
                Some(cron) => {
                    if let Err(why) = cron_fields(&cron.value) {
                        diagnostics.push(
                            Diagnostic::error("PW0015", why, &node.source, cron.span)
                                .help("write five fields: minute, hour, day of month, month, weekday; \"0 3 * * *\" is daily at 03:00"),
                        );
                    }
                    one(Self::Schedule {
                        cron: cron.value,
                        timezone: text("timezone"),
                    })
                }
                None => Vec::new(),
            },
            "manual" => one(Self::Manual),
            "pipeline" => match arg() {
                Some(name) => one(Self::Pipeline {
                    name,
                    outcome: match text("outcome").as_deref() {
                        Some("failed") => ChainOutcome::Failed,
                        Some("any") => ChainOutcome::Any,
                        _ => ChainOutcome::Succeeded,
                    },
                }),
                None => Vec::new(),
            },
            "watch" => match Watch::lower(node, diagnostics) {
                Some(watch) => one(Self::Watch(Box::new(watch))),
                None => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// In words, for messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Branch { pattern, .. } => format!("push branch={pattern}"),
            Self::Tag { pattern, .. } => format!("push tag={pattern}"),
            Self::PullRequest { .. } => "pull-request".to_owned(),
            Self::Schedule { cron, .. } => format!("schedule \"{cron}\""),
            Self::Manual => "manual".to_owned(),
            Self::Pipeline { name, .. } => format!("pipeline {}", name.value),
            Self::Watch(watch) => watch.describe(),
        }
    }
}

/// Checks five cron fields: numbers, names of months and weekdays, `*`, ranges, steps, lists.
fn cron_fields(text: &str) -> Result<(), String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let limits = [
        ("minute", 0, 59),
        ("hour", 0, 23),
        ("day", 1, 31),
        ("month", 1, 12),
        ("weekday", 0, 7),
    ];
    if fields.len() != limits.len() {
        return Err(format!(
            "\"{text}\" has {} cron fields, not five",
            fields.len()
        ));
    }
    for (field, (name, low, high)) in fields.iter().zip(limits) {
        for item in field.split(',') {
            let (range, step) = item
                .split_once('/')
                .map_or((item, None), |(range, step)| (range, Some(step)));
            let step_fits = step.is_none_or(|step| step.parse::<u32>().is_ok_and(|step| step > 0));
            let number = |text: &str| {
                let number = name_number(name, text).or_else(|| text.parse().ok());
                number.is_some_and(|number: u32| (low..=high).contains(&number))
            };
            let range_fits = range == "*"
                || match range.split_once('-') {
                    Some((from, to)) => number(from) && number(to),
                    None => number(range),
                };
            if !step_fits || !range_fits {
                return Err(format!("\"{item}\" is no {name} in a cron field"));
            }
        }
    }
    Ok(())
}

fn name_number(field: &str, text: &str) -> Option<u32> {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let text = text.to_ascii_lowercase();
    let at = |names: &[&str], first: u32| {
        names
            .iter()
            .position(|name| *name == text)
            .map(|at| at as u32 + first)
    };
    match field {
        "month" => at(&MONTHS, 1),
        "weekday" => at(&DAYS, 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron() {
        for good in ["0 3 * * *", "*/5 0-6,12 1 jan-mar mon", "59 23 31 12 7"] {
            assert_eq!(cron_fields(good), Ok(()), "{good}");
        }
        for bad in [
            "0 3 * *",
            "60 * * * *",
            "* * 0 * *",
            "*/0 * * * *",
            "a * * * *",
            "1- * * * *",
        ] {
            assert!(cron_fields(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn inputs_have_types() {
        let input = |ty| Input {
            ty,
            default: None,
            description: None,
        };
        assert!(input(InputType::Version).accepts("v1.2.3-rc.1").is_ok());
        assert!(input(InputType::Version).accepts("latest").is_err());
        assert!(input(InputType::Bool).accepts("yes").is_err());
        assert!(input(InputType::Int).accepts("-3").is_ok());
    }
}
