//! The arguments of `watch` and `images`.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

/// Arguments of `watch`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Watch {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub pipeline: String,
    /// Look once, run what is new, and end: for a scheduler of your own
    #[arg(long)]
    pub once: bool,
    /// Say what would be started, without starting or remembering anything
    #[arg(long)]
    pub dry_run: bool,
    /// Branch, tag or commit to run at; the tip of the default branch if not given
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// Take notifications of registries at this address; each makes the next look come at once
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "listen_secret",
        conflicts_with = "once"
    )]
    pub listen: Option<SocketAddr>,
    /// File with the secret that a notification must show: as the last part of its path, as a
    /// bearer token, or as the key of its signature
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub listen_secret: Option<std::path::PathBuf>,
    /// How it is told
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: WatchFormat,
}

/// How a watch tells what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WatchFormat {
    /// Lines for people
    Text,
    /// One JSON object per line, events of runs among them
    Json,
}

/// Arguments of `images`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Images {
    /// The image
    #[arg(value_name = "NAME")]
    pub image: String,
    /// Pipeline that watches it; needed if several do
    #[arg(long, value_name = "PIPELINE")]
    pub pipeline: Option<String>,
    /// Tags that are shown at the most, the best first
    #[arg(long, value_name = "N", default_value = "20")]
    pub limit: usize,
    /// How they are shown
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ImagesFormat,
}

/// How tags are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImagesFormat {
    /// A table
    Text,
    /// JSON
    Json,
}
