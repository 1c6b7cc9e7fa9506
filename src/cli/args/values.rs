//! Values of arguments that people write in a form of their own.

use std::path::PathBuf;
use std::str::FromStr;

/// A run as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunRef {
    /// The newest run.
    Last,
    /// A run by its id or by the end of it, in lower case.
    Id(String),
}

/// A text that names no run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a run is named by its 16-character id, by the last 4 or more characters of it, or by `last`"
)]
pub struct RunRefError;

impl FromStr for RunRef {
    type Err = RunRefError;

    fn from_str(text: &str) -> Result<Self, RunRefError> {
        if text == "last" {
            return Ok(Self::Last);
        }
        let id = text.to_ascii_lowercase();
        // The alphabet of ids leaves out letters that look like others.
        let known = |byte: u8| byte.is_ascii_alphanumeric() && !b"ilou".contains(&byte);
        if (4..=16).contains(&id.len()) && id.bytes().all(known) {
            Ok(Self::Id(id))
        } else {
            Err(RunRefError)
        }
    }
}

/// What happened, by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventArg {
    /// A push to a branch.
    Push,
    /// A push of a tag.
    Tag,
    /// A pull request.
    PullRequest,
    /// A schedule came due.
    Schedule,
    /// A person asked for it.
    Manual,
    /// Another pipeline's run ended.
    Pipeline,
    /// A watched registry changed.
    Watch,
    /// What a file says.
    File(PathBuf),
}

/// A text that is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected push, tag, pull-request, schedule, manual, pipeline, watch, or the path of a JSON file \
     (with a `/` or ending in `.json`)"
)]
pub struct EventArgError;

impl FromStr for EventArg {
    type Err = EventArgError;

    fn from_str(text: &str) -> Result<Self, EventArgError> {
        Ok(match text {
            "push" => Self::Push,
            "tag" => Self::Tag,
            "pull-request" => Self::PullRequest,
            "schedule" => Self::Schedule,
            "manual" => Self::Manual,
            "pipeline" => Self::Pipeline,
            "watch" => Self::Watch,
            // A mistyped word must not be taken for a file that is missing.
            path if path.contains('/') || path.ends_with(".json") => Self::File(path.into()),
            _ => return Err(EventArgError),
        })
    }
}

/// An input given by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its value; may be empty.
    pub value: String,
}

/// A text that sets no input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected NAME=VALUE, such as `version=1.4.0`")]
pub struct InputError;

impl FromStr for Input {
    type Err = InputError;

    fn from_str(text: &str) -> Result<Self, InputError> {
        match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => Ok(Self {
                name: name.trim().to_owned(),
                value: value.to_owned(),
            }),
            _ => Err(InputError),
        }
    }
}
