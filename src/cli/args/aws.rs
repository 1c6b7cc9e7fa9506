//! The arguments of `aws`.

use clap::{Args, Subcommand};

/// What `aws` prints.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Aws {
    /// Print the least IAM policy a pipeline needs, as JSON
    ///
    /// Derived from its stages: asks nobody, changes nothing. What is known only in a run is a `*`.
    #[command(after_help = "\
Examples:
  pipewright aws policy release > policy.json
  pipewright aws policy release --trust --issuer https://token.actions.githubusercontent.com \\
      --subject 'repo:acme/shop:ref:refs/heads/main'")]
    Policy(Policy),
}

/// Arguments of `aws policy`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Policy {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub pipeline: String,
    /// Name of the `aws` declaration; needed if the pipeline works in several accounts
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Print the trust policy of the role instead: who may assume it
    #[arg(long)]
    pub trust: bool,
    /// Issuer of the tokens the role is to trust; that of the token file if not given
    #[arg(long, value_name = "URL", requires = "trust", requires = "subject")]
    pub issuer: Option<String>,
    /// Subject of the tokens; `*` stands for any characters
    #[arg(long, value_name = "SUBJECT", requires = "issuer")]
    pub subject: Option<String>,
    /// Audience of the tokens
    #[arg(
        long,
        value_name = "AUDIENCE",
        default_value = "sts.amazonaws.com",
        requires = "issuer"
    )]
    pub audience: String,
}
