//! What is accepted, what is refused, and what the help says.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("pipewright").chain(line.split_whitespace()))
}

fn run(line: &str) -> Run {
    match parse(line).expect("valid arguments").command {
        Command::Run(run) => run,
        other => panic!("not a run: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    parse(line).expect_err(line).to_string()
}

#[test]
fn the_definition_holds() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_parses() {
    for line in [
        "init",
        "check",
        "check a b/c --format concise",
        "plan release --event push --ref main --input a=1 --input b= --offline --format json",
        "plan release --event ./event.json --format dot",
        "plan deploy --upstream last --format mermaid",
        "run release --only build.app --only run.test[go=1.22,os=linux] --jobs 4 --simulate",
        "run release --dirty --no-chain --format plain --junit a.xml --summary b.md",
        "run --resume last --jobs 2 --format json",
        "runs",
        "runs release --limit 5 --format json",
        "show last --format json",
        "logs 7f3k2a build.app --follow",
        "rerun 01kg9h1s00000007 --failed",
        "rerun LAST4 --fresh".replace("LAST4", "7F3K").as_str(),
        "rollback last",
        "rollback 7f3k2a",
        "rollback deploy.web --pipeline release",
        "prune --keep 100 --older-than 30d --max-size 1GiB --dry-run",
        "cancel last",
        "graph release --format mermaid",
        "completions bash",
        "man",
        "-C sub --project ci --state /tmp/state --color never -vv check",
        "check -C sub --color always -v",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn defaults() {
    let cli = parse("run release").expect("valid arguments");
    assert_eq!(cli.global.project, PathBuf::from("pipelines"));
    assert_eq!(cli.global.state, PathBuf::from(".pipewright"));
    assert_eq!((cli.global.color, cli.global.verbose), (Color::Auto, 0));
    let run = run("run release");
    assert_eq!((run.jobs, run.format), (None, None));
    assert_eq!(run.what, For::default());
}

#[test]
fn values_are_understood() {
    let run = run("run release --event tag --ref v1 --input version=a=b --upstream 7F3K2A -j 3");
    assert_eq!(run.what.event, Some(EventArg::Tag));
    assert_eq!(run.what.reference.as_deref(), Some("v1"));
    assert_eq!(run.what.inputs[0].value, "a=b");
    assert_eq!(run.what.upstream, Some(RunRef::Id("7f3k2a".to_owned())));
    assert_eq!(run.jobs.map(NonZeroUsize::get), Some(3));
    assert_eq!(
        "event.json".parse(),
        Ok(EventArg::File(PathBuf::from("event.json")))
    );
}

#[test]
fn resume_makes_the_pipeline_optional_and_excludes_choices() {
    let resumed = run("run --resume last");
    assert_eq!(
        (resumed.pipeline, resumed.resume),
        (None, Some(RunRef::Last))
    );
    assert!(refused("run").contains("<PIPELINE>"));
    for extra in [
        "--only a.b",
        "--simulate",
        "--dirty",
        "--event push",
        "--ref x",
        "--input a=b",
    ] {
        let text = refused(&format!("run --resume last {extra}"));
        assert!(text.contains("cannot be used with"), "{text}");
    }
}

#[test]
fn refusals_say_what_is_expected() {
    for (line, expected) in [
        ("show ../../etc", "by its 16-character id"),
        ("show abc", "by its 16-character id"),
        ("show 01kg9h1s000000070", "by its 16-character id"),
        ("plan release --event psuh", "expected push, tag"),
        ("run release --input version", "expected NAME=VALUE"),
        ("run release --input =x", "expected NAME=VALUE"),
        ("run release --jobs 0", "--jobs"),
        ("rerun last --failed --fresh", "cannot be used with"),
        ("prune", "required"),
        ("prune --dry-run", "required"),
        ("prune --older-than 30", "30d"),
        ("prune --max-size big", "1GiB"),
        ("check --format ful", "similar value exists: 'full'"),
        ("chekc", "similar subcommand exists: 'check'"),
        ("run release --dirty --ref main", "cannot be used with"),
    ] {
        let text = refused(line);
        assert!(text.contains(expected), "{line}: {text}");
    }
}

#[test]
fn the_overview_names_every_command_once_with_its_own_words() {
    let mut command = Cli::command();
    let help = command.render_help().to_string();
    for sub in Cli::command().get_subcommands() {
        let about = sub
            .get_about()
            .expect("every command has a summary")
            .to_string();
        let line = format!("  {:<11}  {about}", sub.get_name());
        assert_eq!(help.matches(&line).count(), 1, "{line:?} in {help}");
    }
}

#[test]
fn every_command_that_takes_something_teaches_by_example() {
    for sub in Cli::command().get_subcommands() {
        let help = sub.clone().render_long_help().to_string();
        assert!(help.contains("Example"), "{}", sub.get_name());
        assert!(
            help.contains(&format!("pipewright {}", sub.get_name())),
            "{help}"
        );
    }
}

#[test]
fn examples_parse() {
    let mut seen = 0;
    let texts = Cli::command()
        .get_subcommands()
        .filter_map(|sub| sub.get_after_help().map(ToString::to_string))
        .chain([EXAMPLES.to_owned()])
        .collect::<Vec<_>>();
    for line in texts.iter().flat_map(|text| text.lines()) {
        let Some(example) = line.strip_prefix("  pipewright ") else {
            continue;
        };
        // Two blanks begin an explanation, > and | the rest of a shell line.
        let end = ["  ", " > ", " | "]
            .iter()
            .filter_map(|mark| example.find(mark));
        let example = &example[..end.min().unwrap_or(example.len())];
        if let Err(error) = parse(example) {
            panic!("{example}: {error}");
        }
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn version_and_help_are_no_errors_of_use() {
    let kind = |line: &str| parse(line).expect_err(line).kind();
    assert_eq!(kind("--version"), ErrorKind::DisplayVersion);
    assert_eq!(kind("--help"), ErrorKind::DisplayHelp);
    assert_eq!(kind("help run"), ErrorKind::DisplayHelp);
}
