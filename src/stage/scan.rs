//! `scan`: has the built image scanned and gates its push.

use std::sync::Arc;

use async_trait::async_trait;

use super::found::{in_registry, resolved};
use super::{
    CheckContext, Done, Failure, Forecast, Kind, Lowering, PlanContext, Read, Stage, StageContext,
    Verdict, Want,
};
use crate::base::{Diagnostic, Spanned, StageId, Timestamp};
use crate::decl;
use crate::lang::Template;
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};
use crate::ports::scanner::{ScanRequest, ScannerChoice, ScannerName, Subject};
use crate::scan::gate::{Gate, Ignore};
use crate::scan::{Finding, Rating, Report};
use crate::stage_children;

const RATINGS: &[&str] = &["low", "medium", "high", "critical"];

const SCANNER: NodeSpec = NodeSpec::field(
    "scanner",
    Type::OneOf(&["trivy", "grype", "builtin"]),
    "Scanner to use; whichever is there if absent.",
);
const FAIL_ON: NodeSpec = NodeSpec::field(
    "fail-on",
    Type::OneOf(RATINGS),
    "Lowest severity that fails; `high` if absent.",
);
const IGNORE_UNFIXED: NodeSpec = NodeSpec::new(
    "ignore-unfixed",
    "Leave out findings that no version fixes yet.",
);
const IGNORE: NodeSpec = NodeSpec {
    args: Args::some(Type::Literal, "advisory"),
    props: &[
        PropSpec::new(
            "until",
            Type::Date,
            "last day it is ignored; afterwards the stage fails and says so",
        ),
        PropSpec::new("reason", Type::Literal, "why it is ignored"),
    ],
    many: true,
    ..NodeSpec::new("ignore", "Advisories to leave out.")
};
const RESCAN: NodeSpec = NodeSpec::new("rescan", "Scan also what is in the registry already.");
const VEX: NodeSpec = NodeSpec::field(
    "vex",
    Type::Path,
    "OpenVEX file that says what does not apply.",
);
const ONLY_NEW: NodeSpec = NodeSpec::new(
    "only-new",
    "Fail only on what the last successful run of the branch did not have.",
);
const MAX_DB_AGE: NodeSpec = NodeSpec::field(
    "max-db-age",
    Type::Duration,
    "Oldest advisory database accepted.",
);

/// The kind.
pub const KIND: Kind = Kind {
    spec: &NodeSpec {
        args: Args::some(Type::Name, "image"),
        many: true,
        children: stage_children![
            &SCANNER,
            &FAIL_ON,
            &IGNORE_UNFIXED,
            &IGNORE,
            &RESCAN,
            &VEX,
            &ONLY_NEW,
            &MAX_DB_AGE
        ],
        ..NodeSpec::new(
            "scan",
            "Scans built images for known vulnerabilities and gates their push.",
        )
    },
    effect: false,
    outputs: &[
        ("critical", "number of critical findings"),
        ("high", "number of high findings"),
        ("medium", "number of medium findings"),
        ("low", "number of low findings"),
        (
            "report",
            "the full report as JSON, by its digest in the state directory",
        ),
    ],
    lower,
};

#[derive(Debug)]
struct Scan {
    image: Spanned<String>,
    gate: Gate,
    scanner: Option<ScannerChoice>,
    rescan: bool,
    /// Fields whose back end is not part of this version.
    later: Vec<&'static str>,
}

fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    let node = cx.node;
    let word = |name: &str| node.child_arg(name).and_then(|value| value.as_str());
    let ignore = node
        .children_named("ignore")
        .flat_map(|entry| {
            let text = |name: &str| {
                entry
                    .prop(name)
                    .and_then(|value| value.as_str())
                    .map(str::to_owned)
            };
            let (until, reason) = (text("until"), text("reason"));
            entry
                .args
                .iter()
                .filter_map(|value| value.as_str())
                .map(move |id| Ignore {
                    id: id.to_owned(),
                    until: until.clone(),
                    reason: reason.clone(),
                })
        })
        .collect();
    Arc::new(Scan {
        image: Spanned::new(cx.member.to_owned(), node.head()),
        gate: Gate {
            fail_on: match word("fail-on") {
                Some("low") => Rating::Low,
                Some("medium") => Rating::Medium,
                Some("critical") => Rating::Critical,
                _ => Rating::High,
            },
            ignore_unfixed: node.flag("ignore-unfixed"),
            ignore,
        },
        scanner: word("scanner").map(|name| ScannerChoice {
            name: Some(match name {
                "grype" => ScannerName::Grype,
                "builtin" => ScannerName::Builtin,
                _ => ScannerName::Trivy,
            }),
            ..ScannerChoice::default()
        }),
        rescan: node.flag("rescan"),
        later: ["vex", "only-new", "max-db-age"]
            .into_iter()
            .filter(|name| node.flag(name))
            .collect(),
    })
}

fn table(findings: &[&Finding]) -> String {
    let mut text = String::new();
    for finding in findings.iter().take(200) {
        let fix = finding
            .fixed
            .as_deref()
            .map_or("no fix yet".to_owned(), |fixed| format!("fixed in {fixed}"));
        text.push_str(&format!(
            "{:<8} {:<20} {} {} ({fix})\n",
            finding.rating.word(),
            finding.advisory.id,
            finding.package,
            finding.version
        ));
    }
    if findings.len() > 200 {
        text.push_str(&format!("… and {} more\n", findings.len() - 200));
    }
    text
}

fn today(now: Timestamp) -> String {
    now.rfc3339().chars().take(10).collect()
}

#[async_trait]
impl Stage for Scan {
    fn reads(&self) -> Vec<Read> {
        vec![Read {
            what: Want::Built(self.image.value.clone()),
            span: self.image.span,
            optional: false,
        }]
    }

    fn templates(&self) -> Vec<&Template> {
        Vec::new()
    }

    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        decl::require(
            &cx.decls.images,
            "image",
            &self.image,
            cx.source,
            diagnostics,
        );
    }

    async fn forecast(&self, cx: &PlanContext<'_>) -> Forecast {
        let gate = format!(
            "scans it; fails on {} and worse{}",
            self.gate.fail_on.word(),
            if self.gate.ignore_unfixed {
                " that have a fix"
            } else {
                ""
            }
        );
        let build = StageId::new("build", &self.image.value);
        match cx.values.ended(&build) {
            Some((_, outputs)) if !self.rescan && !cx.offline => match outputs.get("id") {
                Some(id) if !matches!(cx.readers.engine.image(id).await, Ok(Some(_))) => {
                    Forecast::new(
                        Verdict::UpToDate,
                        "the image is in the registry; it was scanned before it was pushed",
                    )
                }
                _ => Forecast::new(Verdict::Run, gate),
            },
            _ => Forecast::new(Verdict::Run, gate),
        }
    }

    async fn run(&self, cx: &StageContext<'_>) -> Result<Done, Failure> {
        if let Some(field) = self.later.first() {
            return Err(Failure::errored(format!(
                "`{field}` is not part of this version yet; remove it to scan without it"
            )));
        }
        let today = today(cx.world.readers.clock.now());
        let build = StageId::new("build", &self.image.value);
        let id = cx
            .values
            .ended(&build)
            .and_then(|(_, outputs)| outputs.get("id").cloned())
            .unwrap_or_default();
        let local = if id.is_empty() {
            None
        } else {
            cx.world.readers.engine.image(&id).await?
        };
        let image = match local {
            Some(image) => image.id,
            None if !self.rescan => {
                return Ok(Done::up_to_date(
                    "the image is in the registry; it was scanned before it was pushed",
                ));
            }
            None => {
                let facts = cx.values.image(&self.image.value).await?;
                let registry = &*cx.world.readers.registry;
                let found = in_registry(registry, &facts, None, true).await?;
                let Some(digest) = found.and_then(|found| found.digest) else {
                    return Err(Failure::failed(format!(
                        "neither the engine nor the registry has {}",
                        facts.reference()
                    )));
                };
                let target = resolved(registry, facts.target.clone()).await?;
                cx.world
                    .engine
                    .pull(&facts.pinned(&digest), Some(&target), cx.output, &cx.cancel)
                    .await?
            }
        };
        let request = ScanRequest {
            subject: &Subject::Engine(image),
            choice: self.scanner.as_ref(),
            labels: &cx.labels(),
        };
        let report = cx
            .world
            .scanner
            .scan(&request, cx.output, &cx.cancel)
            .await?;
        let json =
            serde_json::to_vec(&report).map_err(|error| Failure::errored(error.to_string()))?;
        let kept = cx
            .world
            .store
            .put_blob(&json)
            .map_err(|error| Failure::errored(error.to_string()))?;
        self.conclude(cx, &report, &today, kept)
    }
}

impl Scan {
    fn conclude(
        &self,
        cx: &StageContext<'_>,
        report: &Report,
        today: &str,
        kept: String,
    ) -> Result<Done, Failure> {
        let judgement = self.gate.judge(report, today);
        cx.say(format!(
            "{}: {} packages, {} findings ({} critical, {} high, {} medium, {} low)",
            report.tool.name,
            report.packages,
            report.findings.len(),
            report.count(Rating::Critical),
            report.count(Rating::High),
            report.count(Rating::Medium),
            report.count(Rating::Low),
        ));
        cx.output.log(table(&judgement.against).as_bytes());
        if let Some(expired) = judgement.expired.first() {
            return Err(Failure::failed(format!(
                "ignoring {} ended on {}{}; decide again",
                expired.id,
                expired.until.as_deref().unwrap_or("-"),
                expired
                    .reason
                    .as_deref()
                    .map(|why| format!(" ({why})"))
                    .unwrap_or_default()
            )));
        }
        if let Some(worst) = judgement
            .against
            .iter()
            .max_by_key(|finding| finding.rating)
        {
            return Err(Failure::failed(format!(
                "{} finding{} at or above the gate, such as {} in {} {}{}",
                judgement.against.len(),
                if judgement.against.len() == 1 {
                    ""
                } else {
                    "s"
                },
                worst.advisory.id,
                worst.package,
                worst.version,
                worst
                    .fixed
                    .as_deref()
                    .map(|fixed| format!(" (fixed in {fixed})"))
                    .unwrap_or_default()
            )));
        }
        let mut done = Done::succeeded(format!(
            "nothing at or above the gate in {} packages ({} unfixed, {} ignored)",
            report.packages, judgement.unfixed, judgement.ignored
        ))
        .output("critical", report.count(Rating::Critical).to_string())
        .output("high", report.count(Rating::High).to_string())
        .output("medium", report.count(Rating::Medium).to_string())
        .output("low", report.count(Rating::Low).to_string())
        .output("report", kept);
        for ignore in judgement.unused {
            done = done.warn(format!(
                "ignoring {} has no effect: it is not found",
                ignore.id
            ));
        }
        Ok(done)
    }
}
