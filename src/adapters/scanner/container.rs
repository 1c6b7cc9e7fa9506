//! Runs scanners from images.
//!
//! A scanner's image is code of others with our images before it, so it gets as little as it can
//! work with: the image to scan as a file it may only read, a place for its report, a volume for its
//! database, and the network unless it is to work offline. No socket of the engine, no credential, no
//! variable of ours.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::program::{FACTS_LIMIT, REPORT_LIMIT};
use super::{grype, no_report, trivy};
use crate::adapters::docker::Docker;
use crate::base::Text;
use crate::ports::engine::{ContainerSpec, Engine, EngineError, Mount, Network};
use crate::ports::scanner::{
    ScanError, ScanRequest, ScannerChoice, ScannerName, Subject, is_pinned,
};
use crate::ports::{Output, Progress};
use crate::scan::{Report, Tool};

/// Where things are in the container.
const IMAGE: &str = "/pipewright/image";
const REPORT: &str = "/pipewright/report";
const DATABASE: &str = "/pipewright/db";
/// How much of what it printed goes into an error.
const TAIL: usize = 2000;
/// Time between asking and forcing it to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Runs scanners in containers of one engine.
pub(super) struct Containers {
    engine: Docker,
    work: PathBuf,
}

impl Containers {
    pub(super) fn new(engine: Docker, work: PathBuf) -> Self {
        Self { engine, work }
    }

    /// The engine.
    pub(super) fn engine(&self) -> &Docker {
        &self.engine
    }

    pub(super) async fn scan(
        &self,
        name: ScannerName,
        image: &str,
        request: &ScanRequest<'_>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Report, ScanError> {
        let word = name.word();
        if !is_pinned(image) {
            return Err(ScanError::Unavailable(format!(
                "the scanner's image {image} is not pinned by a digest (`@sha256:…`)"
            )));
        }
        if name == ScannerName::Builtin {
            return Err(ScanError::Unavailable(
                "the built-in scanner is run from no image".to_owned(),
            ));
        }
        if !self.engine.is_local() {
            return Err(ScanError::Unavailable(format!(
                "{word} is run from an image only by an engine of this host; install {word} here"
            )));
        }
        let room = self.room().map_err(|error| {
            ScanError::Broken(format!(
                "cannot make room for {word} in {}: {error}",
                self.work.display()
            ))
        })?;
        let plain = ScannerChoice::default();
        let choice = request.choice.unwrap_or(&plain);
        let (mounts, subject) = self.mounts(name, request, choice, &room, cancel).await?;
        self.engine.pull(image, None, output, cancel).await?;
        let job = Job {
            engine: &self.engine,
            image,
            request,
            mounts: &mounts,
            offline: choice.offline,
        };
        let database = Some(Path::new(DATABASE));
        let report_path = format!("{REPORT}/report.json");
        let (args, env) = match name {
            ScannerName::Grype => {
                let mut args = grype::arguments(&subject);
                args.extend(["--file".into(), report_path.into()]);
                (args, grype::variables(choice, database))
            }
            _ => {
                let mut args =
                    trivy::arguments(&subject, choice, database).map_err(ScanError::Unavailable)?;
                args.extend(["--output".into(), report_path.into()]);
                (args, trivy::variables())
            }
        };
        let heard = Heard::new(output, TAIL);
        let status = job.run(&args, &env, &heard, cancel).await?;
        let complaints = heard.text();
        let fine =
            status == 0 || name == ScannerName::Grype && grype::is_about_findings(&complaints);
        if !fine {
            let message = format!("{word} ended with status {status}: {}", complaints.trim());
            let about_database = match name {
                ScannerName::Grype => grype::is_about_database(&complaints),
                _ => trivy::is_about_database(&complaints),
            };
            return Err(match about_database {
                true => ScanError::NoDatabase(message),
                false => ScanError::Broken(message),
            });
        }
        let written = room.path().join("report/report.json");
        let bytes = bounded(&written, REPORT_LIMIT).map_err(|error| no_report(word, &error))?;
        if name == ScannerName::Grype {
            return grype::report(request.subject, &bytes).map_err(|why| no_report(word, &why));
        }
        let mut report = trivy::report(Tool::named(word), request.subject, &bytes)
            .map_err(|why| no_report(word, &why))?;
        // Asked afterwards: the scan itself may have fetched another database.
        let silent = crate::ports::Silent;
        let heard = Heard::new(&silent, usize::try_from(FACTS_LIMIT).unwrap_or(TAIL));
        let args = trivy::facts_arguments(database);
        if job.run(&args, &env, &heard, cancel).await? == 0
            && let Some((version, database)) = trivy::facts(heard.text().as_bytes())
        {
            report.tool.version = Some(version);
            report.database = database;
        }
        Ok(report)
    }

    /// A directory for one scan, gone with the value. The scanner may not be root.
    fn room(&self) -> std::io::Result<tempfile::TempDir> {
        std::fs::create_dir_all(&self.work)?;
        let work = self.work.canonicalize()?;
        let room = tempfile::Builder::new().prefix("scan-").tempdir_in(work)?;
        let report = room.path().join("report");
        std::fs::create_dir(&report)?;
        std::fs::set_permissions(&report, std::fs::Permissions::from_mode(0o777))?;
        Ok(room)
    }

    /// What the container sees of this host, and what the image to scan is called in there.
    async fn mounts(
        &self,
        name: ScannerName,
        request: &ScanRequest<'_>,
        choice: &ScannerChoice,
        room: &tempfile::TempDir,
        cancel: &CancellationToken,
    ) -> Result<(Vec<Mount>, Subject), ScanError> {
        let inside = PathBuf::from(IMAGE);
        let (source, subject) = match request.subject {
            Subject::Engine(reference) => {
                let archive = room.path().join("image.tar");
                self.engine.save(reference, &archive, cancel).await?;
                let mode = std::fs::Permissions::from_mode(0o644);
                std::fs::set_permissions(&archive, mode)
                    .map_err(|error| ScanError::Broken(error.to_string()))?;
                (archive, Subject::DockerArchive(inside))
            }
            Subject::OciLayout(path) => (path.clone(), Subject::OciLayout(inside)),
            Subject::DockerArchive(path) => (path.clone(), Subject::DockerArchive(inside)),
            Subject::OciArchive(path) => (path.clone(), Subject::OciArchive(inside)),
        };
        let source = source
            .canonicalize()
            .map_err(|error| ScanError::Broken(format!("{}: {error}", source.display())))?;
        let database = match &choice.database {
            Some(path) => path
                .canonicalize()
                .map_err(|error| ScanError::NoDatabase(format!("{}: {error}", path.display())))?
                .to_string_lossy()
                .into_owned(),
            None => {
                let volume = format!("pipewright-scanner-{}", name.word());
                self.engine.keep_volume(&volume).await?;
                volume
            }
        };
        let mount = |source: String, target: &str, read_only| Mount {
            source,
            target: target.to_owned(),
            read_only,
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mounts = vec![
            mount(text(&source), IMAGE, true),
            mount(text(&room.path().join("report")), REPORT, false),
            mount(database, DATABASE, false),
        ];
        Ok((mounts, subject))
    }
}

/// A container to run.
struct Job<'a> {
    engine: &'a Docker,
    image: &'a str,
    request: &'a ScanRequest<'a>,
    mounts: &'a [Mount],
    offline: bool,
}

impl Job<'_> {
    /// Runs it to its end and removes it, whatever becomes of it.
    async fn run(
        &self,
        args: &[OsString],
        env: &[(&'static str, OsString)],
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<i64, ScanError> {
        let text = |text: &OsString| text.to_string_lossy().into_owned();
        let spec = ContainerSpec {
            name: format!("pipewright-scanner-{:016x}", fastrand::u64(..)),
            image: self.image.to_owned(),
            command: Some(args.iter().map(text).collect()),
            env: env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Text::Plain(text(value))))
                .collect(),
            labels: self.request.labels.clone(),
            mounts: self.mounts.to_vec(),
            network: self.offline.then_some(Network::None),
            ..ContainerSpec::default()
        };
        let id = self.engine.create(&spec).await?;
        let ended = self.engine.run(&id, None, output, GRACE, cancel).await;
        let removed = self.engine.remove(&id).await;
        let status = ended?;
        removed?;
        Ok(status)
    }
}

impl From<EngineError> for ScanError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Cancelled => Self::Cancelled,
            EngineError::Unreachable { .. } => Self::Unavailable(error.to_string()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// A file of at most so many bytes. What made it may have put anything in its place.
fn bounded(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let found = std::fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("what it wrote is no file".to_owned());
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("it is more than {limit} bytes"));
    }
    Ok(bytes)
}

/// Passes output on and keeps the end of it.
struct Heard<'a> {
    to: &'a dyn Output,
    limit: usize,
    tail: Mutex<Vec<u8>>,
}

impl<'a> Heard<'a> {
    fn new(to: &'a dyn Output, limit: usize) -> Self {
        Self {
            to,
            limit,
            tail: Mutex::default(),
        }
    }

    fn text(&self) -> String {
        let tail = self.tail.lock().expect("no holder of this lock panics");
        String::from_utf8_lossy(&tail).into_owned()
    }
}

impl Output for Heard<'_> {
    fn log(&self, bytes: &[u8]) {
        let mut tail = self.tail.lock().expect("no holder of this lock panics");
        tail.extend_from_slice(bytes);
        let surplus = tail.len().saturating_sub(self.limit);
        tail.drain(..surplus);
        drop(tail);
        self.to.log(bytes);
    }

    fn progress(&self, progress: Progress) {
        self.to.progress(progress);
    }
}
