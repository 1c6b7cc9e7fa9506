//! `scan`: has the built image scanned and gates its push.

mod baseline;
mod spec;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::common::duration;
use super::found::{in_registry, resolved};
use super::{
    CheckContext, Done, Failure, Forecast, Kind, Lowering, PlanContext, Read, Stage, StageContext,
    Values, Verdict, Want,
};
use crate::base::{Diagnostic, Spanned, StageId};
use crate::decl;
use crate::lang::{Node, Template};
use crate::ports::engines::EngineSite;
use crate::ports::registry::RegistryReader;
use crate::ports::scanner::{
    ScanError, ScanRequest, ScannerChoice, ScannerName, Subject, is_pinned,
};
use crate::scan::gate::{self, Gate, Ignore, MaxAge, Otherwise};
use crate::scan::sbom::{self, About, Format};
use crate::scan::vex::{self, Product};
use crate::scan::{Inventory, Rating, Report, table};

/// The kind.
pub const KIND: Kind = Kind {
    spec: &spec::SPEC,
    effect: false,
    outputs: &[
        ("critical", "number of critical findings"),
        ("high", "number of high findings"),
        ("medium", "number of medium findings"),
        ("low", "number of low findings"),
        ("unknown", "number of findings that nobody rated"),
        (
            "report",
            "the full report as JSON, by its digest in the state directory; `pipewright report` shows it",
        ),
        (
            "sbom",
            "a CycloneDX bill of materials, by its digest in the state directory",
        ),
    ],
    lower,
};

#[derive(Debug)]
struct Scan {
    image: Spanned<String>,
    /// The gate, but for what is read when it runs.
    gate: Gate,
    scanner: Option<Asked>,
    vex: Vec<Template>,
    only_new: bool,
    rescan: bool,
}

/// The scanner somebody asked for.
#[derive(Debug)]
struct Asked {
    name: ScannerName,
    image: Option<Spanned<String>>,
    database: Option<Template>,
    offline: bool,
    span: crate::base::Span,
}

fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    let node = cx.node;
    let word = |name: &str| node.child_arg(name).and_then(|value| value.as_str());
    let files = node.children_named("vex").flat_map(|vex| &vex.args);
    Arc::new(Scan {
        image: Spanned::new(cx.member.to_owned(), node.head()),
        gate: Gate {
            fail_on: word("fail-on").map_or(Rating::High, Rating::of_word),
            ignore_unfixed: node.flag("ignore-unfixed"),
            ignore: node.children_named("ignore").flat_map(ignored).collect(),
            not_covered: word("not-covered")
                .and_then(Otherwise::of_word)
                .unwrap_or_default(),
            max_age: max_age(node),
            ..Gate::default()
        },
        scanner: node.child("scanner").and_then(|scanner| asked(cx, scanner)),
        vex: files.map(|file| cx.template(file)).collect(),
        only_new: node.flag("only-new"),
        rescan: node.flag("rescan"),
    })
}

fn ignored(entry: &Node) -> impl Iterator<Item = Ignore> {
    let text = |name: &str| Some(entry.prop(name)?.as_str()?.to_owned());
    let (until, reason) = (text("until"), text("reason"));
    let ids = entry.args.iter().filter_map(|value| value.as_str());
    ids.map(move |id| Ignore {
        id: id.to_owned(),
        until: until.clone(),
        reason: reason.clone(),
    })
}

fn max_age(node: &Node) -> Option<MaxAge> {
    let limit = node.child("max-db-age")?;
    let otherwise = limit.prop("otherwise").and_then(|value| value.as_str());
    Some(MaxAge {
        age: duration(node, "max-db-age")?,
        otherwise: otherwise.and_then(Otherwise::of_word).unwrap_or_default(),
    })
}

fn asked(cx: &Lowering<'_>, node: &Node) -> Option<Asked> {
    Some(Asked {
        name: match node.args.first()?.as_str()? {
            "grype" => ScannerName::Grype,
            "builtin" => ScannerName::Builtin,
            _ => ScannerName::Trivy,
        },
        image: node.prop("image").and_then(|value| value.spanned()),
        database: node.prop("database").map(|value| cx.template(value)),
        offline: node.flag("offline"),
        span: node.head(),
    })
}

impl Asked {
    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let Some(image) = &self.image else {
            return;
        };
        if self.name == ScannerName::Builtin {
            diagnostics.push(
                Diagnostic::error(
                    "PW0019",
                    "the built-in scanner is part of this program and run from no image",
                    cx.source,
                    self.span,
                )
                .help("leave `image` out"),
            );
        } else if !is_pinned(&image.value) {
            diagnostics.push(
                Diagnostic::error(
                    "PW0055",
                    format!("the scanner's image `{}` is not pinned by digest", image.value),
                    cx.source,
                    image.span,
                )
                .help(
                    "write `name@sha256:…`: a tag may stand for another program tomorrow, and it sees your images",
                ),
            );
        }
    }

    async fn choice(&self, cx: &StageContext<'_>) -> Result<ScannerChoice, Failure> {
        let database = match &self.database {
            Some(template) => {
                let path = PathBuf::from(cx.values.plain(template).await?);
                if !path.is_absolute() {
                    return Err(Failure::failed(format!(
                        "the scanner's database \"{}\" is no absolute path",
                        path.display()
                    )));
                }
                Some(path)
            }
            None => None,
        };
        Ok(ScannerChoice {
            name: Some(self.name),
            image: self.image.as_ref().map(|image| image.value.clone()),
            offline: self.offline,
            database,
        })
    }
}

/// Why an image that the engine does not have is not scanned.
const SCANNED: &str = "the image is in the registry; it was scanned before it was pushed";

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
        let database = self.scanner.iter().filter_map(|one| one.database.as_ref());
        self.vex.iter().chain(database).collect()
    }

    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        decl::require(
            &cx.decls.images,
            "image",
            &self.image,
            cx.source,
            diagnostics,
        );
        if let Some(scanner) = &self.scanner {
            scanner.check(cx, diagnostics);
        }
    }

    /// A scanner may run in a container.
    fn engine(&self) -> Option<EngineSite> {
        let scanner = self.scanner.as_ref()?;
        scanner.image.as_ref().map(|_| EngineSite::Local)
    }

    async fn forecast(&self, cx: &PlanContext<'_>) -> Forecast {
        let gate = format!(
            "scans it; fails on {} and worse{}{}",
            self.gate.fail_on.word(),
            if self.gate.ignore_unfixed {
                " that have a fix"
            } else {
                ""
            },
            if self.only_new {
                ", if it is new on the branch"
            } else {
                ""
            }
        );
        let build = StageId::new("build", &self.image.value);
        if !cx.offline
            && let Ok(true) = self.is_kept(cx.values, &*cx.readers.registry).await
        {
            return Forecast::new(Verdict::UpToDate, SCANNED);
        }
        match cx.values.ended(&build) {
            Some((_, outputs)) if !self.rescan && !cx.offline => match outputs.get("id") {
                Some(id) if !matches!(cx.readers.engine.image(id).await, Ok(Some(_))) => {
                    Forecast::new(Verdict::UpToDate, SCANNED)
                }
                _ => Forecast::new(Verdict::Run, gate),
            },
            _ => Forecast::new(Verdict::Run, gate),
        }
    }

    async fn run(&self, cx: &StageContext<'_>) -> Result<Done, Failure> {
        let kept = self.is_kept(cx.values, &*cx.world.readers.registry).await?;
        let image = match kept {
            true => None,
            false => self.image(cx).await?,
        };
        let Some(image) = image else {
            return Ok(Done::up_to_date(SCANNED));
        };
        let gate = Gate {
            vex: self.statements(cx).await?,
            baseline: self.baseline(cx)?,
            ..self.gate.clone()
        };
        let choice = match &self.scanner {
            Some(asked) => Some(asked.choice(cx).await?),
            None => None,
        };
        let subject = Subject::Engine(image.clone());
        let request = ScanRequest {
            subject: &subject,
            choice: choice.as_ref(),
            labels: &cx.labels(),
        };
        let scanner = &cx.world.scanner;
        let scanned = match scanner.scan(&request, cx.output, &cx.cancel).await {
            Ok(scanned) => scanned,
            Err(error) => return self.without_report(cx, error),
        };
        let inventory = match scanned.inventory {
            Some(inventory) => Ok(inventory),
            None => scanner.inventory(&subject, cx.output, &cx.cancel).await,
        };
        let product = self.product(cx, &image).await;
        let bill = match inventory {
            Ok(inventory) => Ok(bill(cx, &inventory, &product)?),
            Err(ScanError::Cancelled) => return Err(ScanError::Cancelled.into()),
            // Another scanner did its work all the same.
            Err(error) => Err(format!("no bill of materials is kept: {error}")),
        };
        conclude(cx, &gate, scanned.report, &product, bill)
    }
}

impl Scan {
    /// Whether the image never changes and the registry has it, so that this machine's own copy is
    /// of no matter.
    async fn is_kept(
        &self,
        values: &Values,
        registry: &dyn RegistryReader,
    ) -> Result<bool, Failure> {
        let declared = values.decls.images.get(&self.image.value);
        if self.rescan || declared.is_none_or(|declared| !declared.value.immutable) {
            return Ok(false);
        }
        let facts = values.image(&self.image.value).await?;
        Ok(in_registry(registry, &facts, None, true).await?.is_some())
    }

    /// The image's id on the engine, which fetches it if it has to; `None` if there is nothing to scan.
    async fn image(&self, cx: &StageContext<'_>) -> Result<Option<String>, Failure> {
        let build = StageId::new("build", &self.image.value);
        let id = cx
            .values
            .ended(&build)
            .and_then(|(_, outputs)| outputs.get("id").cloned())
            .unwrap_or_default();
        if !id.is_empty()
            && let Some(image) = cx.world.readers.engine.image(&id).await?
        {
            return Ok(Some(image.id));
        }
        if !self.rescan {
            return Ok(None);
        }
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
        let pinned = facts.pinned(&digest);
        let engine = &cx.world.engine;
        let pulled = engine
            .pull(&pinned, Some(&target), cx.output, &cx.cancel)
            .await?;
        Ok(Some(pulled))
    }

    async fn statements(&self, cx: &StageContext<'_>) -> Result<Vec<vex::Document>, Failure> {
        let mut documents = Vec::new();
        for template in &self.vex {
            let path = cx.values.plain(template).await?;
            let file = std::path::Path::new(&path);
            let read = cx
                .world
                .workspace
                .read_below(&cx.tree, file, vex::MAX_BYTES)
                .await?;
            let Some(bytes) = read else {
                return Err(Failure::failed(format!("the commit has no file {path}")));
            };
            documents.push(vex::Document::parse(&path, &bytes).map_err(Failure::failed)?);
        }
        Ok(documents)
    }

    fn baseline(&self, cx: &StageContext<'_>) -> Result<Option<gate::Baseline>, Failure> {
        if !self.only_new {
            return Ok(None);
        }
        let commit = &cx.values.commit;
        let reference = commit.tag.as_ref().or(commit.branch.as_ref());
        let wanted = baseline::Wanted {
            run: cx.run,
            stage: cx.stage,
            pipeline: &cx.values.pipeline,
            reference: reference.unwrap_or(&commit.reference),
        };
        let found = baseline::find(&*cx.world.readers.store, &wanted)
            .map_err(|error| Failure::errored(error.to_string()))?;
        cx.say(match &found {
            Some((run, _)) => format!("compared with run {}", run.short()),
            None => format!(
                "nothing to compare with: no run of {} for {} succeeded with a report yet; everything counts",
                wanted.pipeline, wanted.reference
            ),
        });
        Ok(found.map(|(_, baseline)| baseline))
    }

    /// What statements may call the image.
    async fn product(&self, cx: &StageContext<'_>, id: &str) -> Product {
        let mut product = Product {
            names: Vec::new(),
            digests: vec![id.to_owned()],
        };
        if let Ok(facts) = cx.values.image(&self.image.value).await {
            product.names.push(facts.reference());
            product.names.push(facts.name());
        }
        if let Ok(Some(image)) = cx.world.readers.engine.image(id).await {
            product.names.extend(image.tags);
            let digests = image.digests.iter().filter_map(|name| name.split_once('@'));
            product
                .digests
                .extend(digests.map(|(_, digest)| digest.to_owned()));
        }
        product
    }

    /// What it means that there is no report.
    fn without_report(&self, cx: &StageContext<'_>, error: ScanError) -> Result<Done, Failure> {
        let missing = matches!(error, ScanError::NoDatabase(_));
        let Some(limit) = self.gate.max_age.filter(|_| missing) else {
            return Err(error.into());
        };
        let note = format!("not scanned: {error}");
        match limit.otherwise {
            Otherwise::Error => Err(error.into()),
            Otherwise::Fail => Err(Failure::failed(error.to_string())),
            Otherwise::Warn => Ok(Done::succeeded("not scanned").warn(note)),
            Otherwise::Ignore => {
                cx.say(&note);
                Ok(Done::succeeded("not scanned"))
            }
        }
    }
}

/// Judges a report and keeps it, whatever becomes of the image.
fn conclude(
    cx: &StageContext<'_>,
    gate: &Gate,
    mut report: Report,
    product: &Product,
    bill: Result<String, String>,
) -> Result<Done, Failure> {
    let now = cx.world.readers.clock.now();
    let judgement = gate.judge(&report, product, now);
    let text = table::render(&report, &judgement, &table::plain);
    cx.output.log(text.as_bytes());
    let verdict = judgement.verdict(&report);
    let mut warnings = judgement.warnings(&report);
    let kept = judgement.kept(&report);
    report.judged = Some(kept);
    let mut outputs = keep(cx, &report)?;
    match bill {
        Ok(digest) => drop(outputs.insert("sbom".to_owned(), digest)),
        Err(warning) => warnings.push(warning),
    }
    match verdict {
        gate::Verdict::Failed(message) => Err(Failure::failed(message).outputs(outputs)),
        gate::Verdict::Errored(message) => Err(Failure::errored(message).outputs(outputs)),
        gate::Verdict::Passed(note) => {
            let done = warnings.into_iter().fold(Done::succeeded(note), Done::warn);
            let outputs = outputs.into_iter();
            Ok(outputs.fold(done, |done, (name, value)| done.output(&name, value)))
        }
    }
}

/// Keeps a bill of materials of what the image holds.
fn bill(
    cx: &StageContext<'_>,
    inventory: &Inventory,
    product: &Product,
) -> Result<String, Failure> {
    let about = About {
        name: product.names.first().map_or("image", String::as_str),
        created: cx.values.commit.time,
        version: env!("CARGO_PKG_VERSION"),
    };
    let bytes = sbom::document(Format::CycloneDx, inventory, &about);
    let kept = cx.world.store.put_blob(&bytes);
    kept.map_err(|error| Failure::errored(error.to_string()))
}

/// Keeps a report, and tells what is in it.
fn keep(cx: &StageContext<'_>, report: &Report) -> Result<BTreeMap<String, String>, Failure> {
    let json = serde_json::to_vec(report).map_err(|error| Failure::errored(error.to_string()))?;
    let digest = cx
        .world
        .store
        .put_blob(&json)
        .map_err(|error| Failure::errored(error.to_string()))?;
    let mut outputs: BTreeMap<String, String> = Rating::ALL
        .into_iter()
        .map(|rating| (rating.word().to_owned(), report.count(rating).to_string()))
        .collect();
    outputs.insert("report".to_owned(), digest);
    Ok(outputs)
}
