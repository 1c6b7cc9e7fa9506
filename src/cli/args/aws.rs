//! The arguments of `aws`.

use std::path::PathBuf;

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
    /// Make the key and the documents of an issuer of tokens, so that roles trust runs without a
    /// stored key of AWS
    ///
    /// An `aws` declaration with `web-identity issuer` signs a short-lived token with the key for each
    /// use. AWS verifies it by the documents, which are plain files for any web server or bucket.
    #[command(after_help = "\
Examples:
  pipewright aws issuer https://ci.example.com --key /etc/pipewright/issuer.pem --out site
  pipewright aws issuer https://ci.example.com --key new.pem --out site      rotate: the old key stays
  pipewright aws issuer https://ci.example.com --key new.pem --out site --replace   and now it goes")]
    Issuer(IssuerArgs),
}

/// Arguments of `aws issuer`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct IssuerArgs {
    /// Where the documents will be: https://, no slash at its end
    #[arg(value_name = "URL")]
    pub url: String,
    /// File of the private key, made if it is not there
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Directory to host at the URL
    #[arg(long, value_name = "DIRECTORY")]
    pub out: PathBuf,
    /// Drop the keys that were published before
    #[arg(long)]
    pub replace: bool,
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
