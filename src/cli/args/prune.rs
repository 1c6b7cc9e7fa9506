//! Arguments of `prune`.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::base::{parse_duration, parse_size};

/// Arguments of `prune`. A run goes if any of the limits says so.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(group = clap::ArgGroup::new("limit").required(true).multiple(true))]
pub struct Prune {
    /// Keep the newest N runs
    #[arg(long, value_name = "N", group = "limit")]
    pub keep: Option<usize>,
    /// Forget runs that began longer ago, such as 30d or 12h
    #[arg(long, value_name = "AGE", group = "limit")]
    pub older_than: Option<Age>,
    /// Keep at most so many bytes of events and logs, such as 1GiB
    #[arg(long, value_name = "SIZE", group = "limit")]
    pub max_size: Option<Size>,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
}

/// A time span on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age(pub Duration);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text)
            .map(Self)
            .ok_or_else(|| "write a number with a unit: 12h, 30d".to_owned())
    }
}

/// A number of bytes on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_size(text)
            .map(Self)
            .ok_or_else(|| "write a number with a unit: 500MB, 1GiB".to_owned())
    }
}
