//! The arguments. What they mean is decided elsewhere; this file only knows their shape.
//!
//! Parsing must stay lean: `pipewright --version` answers within milliseconds.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

mod advisories;
mod aws;
mod bump;
mod prune;
mod rollback;
mod scan;
mod values;
mod watch;

pub use advisories::{Advisories, AdvisoriesCommand, Import, Status};
pub use aws::{Aws, IssuerArgs, Policy};
pub use bump::{Assignment, Bump, ImageArg, Marker};
pub use prune::{Age, Prune, Size};
pub use rollback::{Rollback, TakeBack};
pub use scan::{Report, ReportFormat, Scan, ScanFormat};
pub use values::{EventArg, EventArgError, Input, InputError, RunRef, RunRefError};
pub use watch::{Images, ImagesFormat, Watch, WatchFormat};

use super::diagnostics::DiagnosticFormat;

const COMMANDS: &str = "\
{before-help}{about}

{usage-heading} {usage}

Write:
  init         Write a first pipeline for this repository
  check        Check pipelines without running anything
  plan         Show what a run would do, without doing it
  graph        Show the stages of a pipeline and what waits for what

Run:
  run          Run a pipeline
  rerun        Run a finished run again
  rollback     Go back to what an earlier run deployed
  cancel       Ask a run to stop
  scan         Scan an image for known vulnerabilities
  bump         Change values in files, and nothing else in them
  watch        Look at registries and run a pipeline when images change

Look:
  runs         List runs
  show         Show what came of a run
  report       Show what scans of a run found
  logs         Print what stages printed
  images       Explain which tag of an image would be chosen, and why
  prune        Forget old runs

Set up:
  advisories   Fill the database of the built-in scanner, or show what it has
  aws          Print what a pipeline has to be allowed in AWS
  completions  Print completions for a shell
  man          Print the manual page
  help         Explain a command

Options:
{options}{after-help}";

const EXAMPLES: &str = "\
Examples:
  pipewright init                       write pipelines/release.kdl to start from
  pipewright check                      find mistakes before anything runs
  pipewright plan release               see what would be built, pushed and changed
  pipewright run release                do it
  pipewright show last                  see what came of it

`pipewright help COMMAND` explains a command with examples.";

/// Describes, checks, plans and runs how a commit becomes a running release.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(
    name = "pipewright",
    version,
    about,
    max_term_width = 100,
    help_template = COMMANDS,
    after_help = EXAMPLES,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Work as if started in this directory
    #[arg(short = 'C', long = "dir", value_name = "DIR", global = true)]
    pub dir: Option<PathBuf>,
    /// Directory of the pipelines, relative to the repository
    #[arg(long, value_name = "DIR", global = true, default_value = "pipelines")]
    pub project: PathBuf,
    /// Directory where runs are remembered, relative to the repository
    #[arg(long, value_name = "DIR", global = true, default_value = ".pipewright")]
    pub state: PathBuf,
    /// When to use colours
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto")]
    pub color: Color,
    /// Tell more; twice for even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Write a first pipeline for this repository
    ///
    /// Looks for Dockerfiles, manifests and build files, and writes a commented pipeline to
    /// start from. Never overwrites a file.
    #[command(after_help = "\
Examples:
  pipewright init                       write pipelines/release.kdl
  pipewright init --project ci          write ci/release.kdl")]
    Init,
    /// Check pipelines without running anything
    ///
    /// Reports every problem of every file at once: syntax, names, types, the graph, triggers,
    /// secrets, files that pipelines refer to. Exits with 1 if there are errors.
    #[command(after_help = "\
Examples:
  pipewright check                      check the project of this repository
  pipewright check ci services/*/ci     check these projects
  pipewright check --format concise     one line per problem, for editors and hooks
  pipewright check --format json        positions, labels and fixes, for programs")]
    Check(Check),
    /// Show what a run would do, without doing it
    ///
    /// Asks registries, repositories and services what is there and lists what a run would
    /// build, push, change and deploy. Changes nothing.
    #[command(after_help = "\
Examples:
  pipewright plan release                          as `pipewright run release` would
  pipewright plan release --event push --ref main  as a push to main would
  pipewright plan release --event event.json       as a recorded event would
  pipewright plan release --input version=1.4.0    with an input
  pipewright plan release --offline                without asking anybody
  pipewright plan release --format dot | dot -Tsvg > plan.svg")]
    Plan(Plan),
    /// Run a pipeline
    ///
    /// Runs the pipeline at the commit that is checked out. Whatever is done already is not done
    /// again. Pipelines that follow this one run afterwards.
    #[command(after_help = "\
Examples:
  pipewright run release                           run it here and now
  pipewright run release --only build.app          only this stage and what it needs
  pipewright run release --simulate                in a simulated world, without effects
  pipewright run test --dirty                      with changes that are not committed
  pipewright run release --input version=1.4.0     with an input
  pipewright run release --junit report.xml --summary summary.md
  pipewright run --resume last                     go on where a run was cut off

Exit status: 0 it succeeded (or there was nothing to do), 1 it did not, 2 wrong use or pipeline,
3 pipewright itself could not go on, 130 it was cancelled.")]
    Run(Run),
    /// List runs
    ///
    /// Lists the newest runs first.
    #[command(after_help = "\
Examples:
  pipewright runs                       the last 20 runs
  pipewright runs release --limit 100   more, of one pipeline
  pipewright runs --format json         for programs")]
    Runs(Runs),
    /// Show what came of a run
    ///
    /// Prints every stage with its outcome and why, what was made, and where the time went.
    #[command(after_help = "\
Examples:
  pipewright show last                  the newest run
  pipewright show 7f3k2a                a run by the end of its id
  pipewright show last --format json    for programs")]
    Show(Show),
    /// Show what scans of a run found
    ///
    /// Shows the reports that the `scan` stages of a run kept, as their gates judged them.
    #[command(after_help = "\
Examples:
  pipewright report last                           every scan of the newest run
  pipewright report last scan.app --format sarif   for a code host
  pipewright report 7f3k2a --format markdown       for a pull request")]
    Report(Report),
    /// Scan an image for known vulnerabilities
    ///
    /// Scans an image without a pipeline and judges it by the same gate.
    #[command(after_help = "\
Examples:
  pipewright scan app:1                            an image of the engine
  pipewright scan oci:build/layout --fail-on critical --ignore-unfixed
  pipewright scan docker-archive:app.tar --format sarif > app.sarif
  pipewright scan app:1 --scanner grype --offline --database /var/lib/grype
  pipewright scan app:1 --format cyclonedx > app.cdx.json

Exit status: 0 it passes, 1 it does not, 2 wrong use, 3 it could not be scanned.")]
    Scan(Box<Scan>),
    /// Change values in files, and nothing else in them
    ///
    /// Edits manifests as the stage `bump` does: values at paths, images, what a pattern captures.
    /// Comments, quotes, order and line ends stay byte for byte. What cannot be done surely is
    /// refused, and then no file is written.
    #[command(after_help = "\
Examples:
  pipewright bump values.yaml --set .front.imageTag=v1.2.3
  pipewright bump k8s/*.yaml --image registry.example.com/app:v1.2.3
  pipewright bump overlays/prod/kustomization.yaml --image app=registry.example.com/app:v2 --create
  pipewright bump all.yaml --document kind=Deployment/name=front --literal .spec.replicas=3
  pipewright bump .env --match '^TAG=(.*)$' v1.2.3 --dry-run

Exit status: 0 it is as asked, 1 an edit was refused (or --check found a difference), 2 wrong use.")]
    Bump(Box<Bump>),
    /// Look at registries and run a pipeline when images change
    ///
    /// Looks as the `watch` triggers of the pipeline say, and starts one run for each new set of
    /// digests, at the tip of the default branch, until it is told to stop. What it started is
    /// remembered; several may watch with one state directory.
    #[command(after_help = "\
Examples:
  pipewright watch update                    until Ctrl-C
  pipewright watch update --once             once, for cron
  pipewright watch update --once --dry-run   say what would be started
  pipewright watch update --listen 127.0.0.1:8086 --listen-secret /run/secrets/hook

Exit status with --once: 0 nothing new, or the run succeeded; 1 the look or the run failed.")]
    Watch(Watch),
    /// Explain which tag of an image would be chosen, and why
    ///
    /// Looks at the registry as the `watch` trigger that names the image would, and tells of each
    /// tag why it is chosen or not. Starts nothing.
    #[command(after_help = "\
Examples:
  pipewright images app                      the best tags first
  pipewright images app --limit 200          more of them
  pipewright images app --format json        for programs")]
    Images(Images),
    /// Print what stages printed
    ///
    /// Prints the log of one stage, or of all stages in turn. Secrets are masked.
    #[command(after_help = "\
Examples:
  pipewright logs last                  everything the newest run printed
  pipewright logs last build.app        one stage
  pipewright logs last build.app -f     and what it will print")]
    Logs(Logs),
    /// Forget old runs
    ///
    /// Removes runs with their events, logs and artifacts. A run that has not ended stays, and so
    /// does the newest success of each pipeline on each branch. With an age, caches that no stage
    /// has used since go too.
    #[command(after_help = "\
Examples:
  pipewright prune --older-than 30d      runs of the last 30 days stay
  pipewright prune --keep 100 --dry-run  say what goes if the newest 100 stay
  pipewright prune --max-size 1GiB       oldest first, until logs and events take no more")]
    Prune(Prune),
    /// Run a finished run again
    ///
    /// Starts a run like the earlier one, with its stored plan and inputs; with --failed the same
    /// run goes on in a new attempt. Secrets are read anew, and what is done already (images,
    /// commits, deployments) is not done again.
    #[command(after_help = "\
Examples:
  pipewright rerun last --failed        only what did not succeed, and what waited for it
  pipewright rerun 7f3k2a               everything
  pipewright rerun last --fresh         the pipelines of today, at the commit of that run")]
    Rerun(Rerun),
    /// Go back to what an earlier run deployed
    ///
    /// Finds the last revision that an earlier run deployed with success, and makes it the running
    /// one: a run of its own, with nothing but the deployments, that waits and ends as they do.
    /// Nothing is built, and no task runs before. For `deploy ecs`.
    #[command(after_help = "\
Examples:
  pipewright rollback last              take back what the newest run deployed
  pipewright rollback 7f3k2a            what ran before that run
  pipewright rollback deploy.web        what ran before the newest deployment of this stage")]
    Rollback(Rollback),
    /// Ask a run to stop
    ///
    /// Running stages are told to end and get time to do so; an effect in flight is finished and
    /// recorded.
    #[command(after_help = "\
Example:
  pipewright cancel last")]
    Cancel(Cancel),
    /// Show the stages of a pipeline and what waits for what
    #[command(after_help = "\
Examples:
  pipewright graph release                         as text
  pipewright graph release --format mermaid        for Markdown
  pipewright graph release --format dot | dot -Tsvg > release.svg")]
    Graph(Graph),
    /// Fill the database of the built-in scanner, or show what it has
    ///
    /// The built-in scanner needs no network: it asks a local database of advisories, which is
    /// filled from OSV's published archives. `import` reads them, `status` tells what is there.
    #[command(after_help = "\
Examples:
  pipewright advisories import https://osv-vulnerabilities.storage.googleapis.com/Debian/all.zip
  pipewright advisories import /mnt/mirror      archives that were brought along
  pipewright advisories status                  what is there, and how old it is")]
    Advisories(Advisories),
    /// Print what a pipeline has to be allowed in AWS
    #[command(after_help = "\
Example:
  pipewright aws policy release                 the least policy, as JSON")]
    #[command(subcommand)]
    Aws(Aws),
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  pipewright completions bash > ~/.local/share/bash-completion/completions/pipewright
  pipewright completions zsh > ~/.zfunc/_pipewright
  pipewright completions fish > ~/.config/fish/completions/pipewright.fish")]
    Completions(Completions),
    /// Print the manual page
    #[command(after_help = "\
Example:
  pipewright man | man -l -")]
    Man,
}

/// Arguments of `check`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Check {
    /// Projects (directories) or pipeline files; the project of this repository if none is given
    #[arg(value_name = "PATHS")]
    pub paths: Vec<PathBuf>,
    /// How problems are shown
    #[arg(long, value_name = "FORMAT", default_value = "full")]
    pub format: DiagnosticFormat,
}

/// What a run is for: the event, the ref, inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "What it runs for")]
pub struct For {
    /// As if this happened: push, tag, pull-request, schedule, manual, pipeline, watch, or a JSON
    /// file that holds an event
    #[arg(long, value_name = "EVENT")]
    pub event: Option<EventArg>,
    /// Branch, tag or commit to run at; what is checked out if not given
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// Sets an input; may be repeated
    #[arg(long = "input", value_name = "NAME=VALUE")]
    pub inputs: Vec<Input>,
    /// Run whose outputs are `${upstream.…}`, for a pipeline that follows another
    #[arg(long, value_name = "RUN")]
    pub upstream: Option<RunRef>,
}

/// Arguments of `plan`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Plan {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub pipeline: String,
    /// Ask nobody: what is there already counts as unknown
    #[arg(long)]
    pub offline: bool,
    /// How the plan is shown
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: PlanFormat,
    /// What it runs for.
    #[command(flatten)]
    pub what: For,
}

/// How a plan is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// For Graphviz
    Dot,
    /// For Markdown
    Mermaid,
}

/// Arguments of `run`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Run {
    /// The pipeline
    #[arg(value_name = "PIPELINE", required_unless_present = "resume")]
    pub pipeline: Option<String>,
    /// Run only this stage and what it needs; may be repeated
    #[arg(long, value_name = "STAGE", conflicts_with = "resume")]
    pub only: Vec<String>,
    /// `run` and `scan` stages that may run at the same time; the number of processors if not given
    ///
    /// Builds are the engine's work: as many run at once, but at least 4.
    #[arg(long, short = 'j', value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Run in a simulated world: no engine, no registry, no effects
    #[arg(long, conflicts_with = "resume")]
    pub simulate: bool,
    /// Run the working tree with its uncommitted changes; refuses push, bump and deploy
    #[arg(long, conflicts_with_all = ["resume", "reference"])]
    pub dirty: bool,
    /// Go on with a run that was cut off, with its stored plan and inputs
    #[arg(
        long,
        value_name = "RUN",
        conflicts_with_all = ["event", "reference", "inputs", "upstream"]
    )]
    pub resume: Option<RunRef>,
    /// Do not run the pipelines that follow this one
    #[arg(long)]
    pub no_chain: bool,
    /// What it runs for.
    #[command(flatten)]
    pub what: For,
    /// How progress is shown; tty on a terminal and plain elsewhere if not given
    #[arg(long, value_name = "FORMAT", help_heading = "Reports")]
    pub format: Option<RunFormat>,
    /// Write the outcome as JUnit XML to this file
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub junit: Option<PathBuf>,
    /// Append the outcome as Markdown to this file
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub summary: Option<PathBuf>,
}

/// How the progress of a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunFormat {
    /// A live tree
    Tty,
    /// Lines
    Plain,
    /// One JSON object per line
    Json,
}

/// How a list or a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Arguments of `runs`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Runs {
    /// Only runs of this pipeline
    #[arg(value_name = "PIPELINE")]
    pub pipeline: Option<String>,
    /// How many
    #[arg(long, short = 'n', value_name = "N", default_value = "20")]
    pub limit: NonZeroUsize,
    /// How they are shown
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ListFormat,
}

/// Arguments of `show`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Show {
    /// The run: its id, the end of its id, or `last`
    #[arg(value_name = "RUN")]
    pub run: RunRef,
    /// How it is shown
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ListFormat,
}

/// Arguments of `logs`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Logs {
    /// The run: its id, the end of its id, or `last`
    #[arg(value_name = "RUN")]
    pub run: RunRef,
    /// The stage; all if not given
    #[arg(value_name = "STAGE")]
    pub stage: Option<String>,
    /// Go on printing until the run ends
    #[arg(long, short = 'f')]
    pub follow: bool,
}

/// Arguments of `rerun`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Rerun {
    /// The run: its id, the end of its id, or `last`
    #[arg(value_name = "RUN")]
    pub run: RunRef,
    /// Only stages that did not succeed
    #[arg(long, conflicts_with = "fresh")]
    pub failed: bool,
    /// Plan anew from the pipelines of today, at the same commit and with the same inputs
    #[arg(long)]
    pub fresh: bool,
}

/// Arguments of `cancel`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Cancel {
    /// The run: its id, the end of its id, or `last`
    #[arg(value_name = "RUN")]
    pub run: RunRef,
}

/// Arguments of `graph`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Graph {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub pipeline: String,
    /// How the graph is shown
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: GraphFormat,
}

/// How a graph is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// For Graphviz
    Dot,
    /// For Markdown
    Mermaid,
    /// For people
    Text,
}

/// Arguments of `completions`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

#[cfg(test)]
mod tests;
