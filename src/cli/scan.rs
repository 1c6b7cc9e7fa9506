//! `scan`: an image, without a pipeline.

use std::collections::BTreeMap;
use std::io::Write as _;

use tokio_util::sync::CancellationToken;

use super::app::{App, Exit, Failure, Screen};
use super::args::{Scan, ScanFormat};
use super::report::{self, Shown};
use crate::ports::scanner::{ScanError, ScanRequest, ScannerChoice, Subject};
use crate::ports::{Output, Progress};
use crate::report::text;
use crate::scan::gate::{Gate, Ignore, MaxAge, Otherwise, Verdict};
use crate::scan::sbom::{self, About, Format};
use crate::scan::vex::{self, Product};

/// `scan`.
pub(super) async fn scan(app: &App<'_>, args: &Scan) -> Result<Exit, Failure> {
    let subject = absolute(app, &args.image);
    let scanner = app.worlds.scanner(&app.state_dir())?;
    let cancel = CancellationToken::new();
    let log = Log {
        screen: app.screen.clone(),
        shown: args.format == ScanFormat::Table && app.global.verbose > 0,
    };
    let bill = match args.format {
        ScanFormat::CycloneDx => Some(Format::CycloneDx),
        ScanFormat::Spdx => Some(Format::Spdx),
        _ => None,
    };
    if let Some(format) = bill {
        let work = scanner.inventory(&subject, &log, &cancel);
        let inventory = work.await.map_err(failure)?;
        let about = About {
            name: &args.image.to_string(),
            created: (app.now)(),
            version: env!("CARGO_PKG_VERSION"),
        };
        return app.write(|out| out.write_all(&sbom::document(format, &inventory, &about)));
    }
    let choice = ScannerChoice {
        name: args.scanner.map(|scanner| scanner.name()),
        image: args.scanner_image.clone(),
        offline: args.offline,
        database: args.database.as_ref().map(|dir| app.here.join(dir)),
    };
    let gate = gate(app, args)?;
    let request = ScanRequest {
        subject: &subject,
        choice: Some(&choice),
        labels: &BTreeMap::new(),
    };
    let work = scanner.scan(&request, &log, &cancel);
    let mut report = work.await.map_err(failure)?.report;
    let product = Product {
        names: vec![args.image.to_string()],
        digests: vec![report.image.clone()],
    };
    let judgement = gate.judge(&report, &product, (app.now)());
    let verdict = judgement.verdict(&report);
    let kept = judgement.kept(&report);
    report.judged = Some(kept);
    let shown = match args.format {
        ScanFormat::Json => Shown::Json,
        ScanFormat::Sarif => Shown::Sarif,
        ScanFormat::Markdown => Shown::Markdown,
        _ => Shown::Table,
    };
    app.print(&report::text(app, &args.image.to_string(), &report, shown))?;
    let ended = |exit, message| {
        Err(Failure {
            exit,
            message,
            help: None,
        })
    };
    match verdict {
        Verdict::Passed(note) if shown == Shown::Table => app.print(&format!("\n{note}\n")),
        Verdict::Passed(_) => Ok(Exit::SUCCESS),
        Verdict::Failed(message) => ended(Exit::FAILED, message),
        Verdict::Errored(message) => ended(Exit::INTERNAL, message),
    }
}

/// The image with its path, if it has one, as the caller means it.
fn absolute(app: &App<'_>, subject: &Subject) -> Subject {
    match subject {
        Subject::Engine(reference) => Subject::Engine(reference.clone()),
        Subject::OciLayout(path) => Subject::OciLayout(app.here.join(path)),
        Subject::DockerArchive(path) => Subject::DockerArchive(app.here.join(path)),
        Subject::OciArchive(path) => Subject::OciArchive(app.here.join(path)),
    }
}

fn gate(app: &App<'_>, args: &Scan) -> Result<Gate, Failure> {
    let mut documents = Vec::new();
    for path in &args.vex {
        let text = app.files.read(&app.here.join(path), vex::MAX_BYTES)?;
        let name = path.display().to_string();
        let document = vex::Document::parse(&name, text.as_bytes())
            .map_err(|why| Failure::usage(why, "see https://openvex.dev for the format"))?;
        documents.push(document);
    }
    let ignored = |id: &String| Ignore {
        id: id.clone(),
        until: None,
        reason: None,
    };
    Ok(Gate {
        fail_on: args.fail_on.rating(),
        ignore_unfixed: args.ignore_unfixed,
        ignore: args.ignore.iter().map(ignored).collect(),
        vex: documents,
        not_covered: args.not_covered.otherwise(),
        max_age: args.max_db_age.map(|age| MaxAge {
            age,
            otherwise: Otherwise::Error,
        }),
        baseline: None,
    })
}

fn failure(error: ScanError) -> Failure {
    let failure = Failure::internal(error.to_string());
    match error {
        ScanError::NoDatabase(_) => {
            failure.help("let the scanner fetch one, or name its directory with --database")
        }
        ScanError::Cancelled => Failure {
            exit: Exit::CANCELLED,
            ..failure
        },
        _ => failure,
    }
}

/// What a scanner says goes to the screen if somebody wants to hear it, and nowhere else.
struct Log {
    screen: Screen,
    shown: bool,
}

impl Output for Log {
    fn log(&self, bytes: &[u8]) {
        if !self.shown {
            return;
        }
        let mut out = (self.screen.out)();
        for line in String::from_utf8_lossy(bytes).lines() {
            // What cannot be shown is lost, and the scan goes on.
            let line = text::clean_log(line, self.screen.style.has_colour());
            let _ = writeln!(out, "{line}");
        }
        let _ = out.flush();
    }

    fn progress(&self, _: Progress) {}
}
