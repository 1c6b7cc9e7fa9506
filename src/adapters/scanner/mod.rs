//! Vulnerability scanners: Trivy and Grype as programs of this host or from images pinned by
//! digest, the one in this program, and which of them is taken.
//!
//! Whatever a scanner does but print a whole report is an error, never "no findings". Nothing is
//! decided here about what a report means: that is the gate's work.

mod builtin;
mod container;
mod grype;
mod program;
mod trivy;

use std::ffi::OsString;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use self::builtin::Builtin;
use self::container::Containers;
use self::program::{Call, FACTS_LIMIT, Finished, Programs, REPORT_LIMIT};
use super::docker::Docker;
use super::http::Http;
use crate::base::Timestamp;
use crate::ports::scanner::{
    ScanError, ScanRequest, Scanned, Scanner, ScannerChoice, ScannerName, Subject,
};
use crate::ports::{Output, Silent};
use crate::scan::{Inventory, Report, Tool};

/// Every scanner this host can run.
pub struct Scanners {
    programs: Programs,
    containers: Option<Containers>,
    builtin: Option<Builtin>,
}

impl Scanners {
    /// Scanners for an environment, of which only an allow list is used. `PATH` decides where
    /// programs are looked for.
    pub fn new(env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self {
            programs: Programs::new(env),
            containers: None,
            builtin: None,
        }
    }

    /// Scanners for the environment of this process.
    pub fn from_env() -> Self {
        Self::new(std::env::vars_os())
    }

    /// With an engine that runs scanners from images. Archives of images for them are put into a
    /// directory for the time of a scan.
    #[must_use]
    pub fn with_engine(mut self, engine: Docker, work: PathBuf) -> Self {
        self.containers = Some(Containers::new(engine, work));
        self
    }

    /// With the scanner in this program, which asks the advisories in a directory unless another is
    /// named.
    #[must_use]
    pub fn with_builtin(
        mut self,
        advisories: Option<PathBuf>,
        http: Http,
        now: fn() -> Timestamp,
    ) -> Self {
        self.builtin = Some(Builtin {
            advisories,
            http,
            now,
        });
        self
    }

    /// The engine that images are read of.
    fn engine(&self) -> Option<&Docker> {
        self.containers.as_ref().map(Containers::engine)
    }

    /// Decides which scanner is used, and says why.
    fn choose(&self, choice: Option<&ScannerChoice>) -> (ScannerName, String) {
        if let Some(name) = choice.and_then(|choice| choice.name) {
            return (name, format!("using {}: it was asked for", name.word()));
        }
        if let Some(program) = self.programs.find("trivy") {
            let reason = format!(
                "using trivy: no scanner was asked for, and {} is on the path",
                program.display()
            );
            return (ScannerName::Trivy, reason);
        }
        let reason =
            "using the built-in scanner: no scanner was asked for, and trivy is not on the path";
        (ScannerName::Builtin, reason.to_owned())
    }

    fn program(&self, name: ScannerName) -> Result<PathBuf, ScanError> {
        let word = name.word();
        self.programs.find(word).ok_or_else(|| {
            ScanError::Unavailable(format!(
                "{word} is not on the PATH; install it, or name an image of it that is pinned by digest"
            ))
        })
    }

    async fn trivy(
        &self,
        subject: &Subject,
        choice: &ScannerChoice,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Report, ScanError> {
        let program = self.program(ScannerName::Trivy)?;
        let cache = choice.database.as_deref();
        let args = trivy::arguments(subject, choice, cache).map_err(ScanError::Unavailable)?;
        let env = trivy::variables();
        let call = Call {
            program: &program,
            args: &args,
            env: &env,
            limit: REPORT_LIMIT,
        };
        let done = self.programs.run(&call, output, cancel).await?;
        if !done.status.success() {
            let about = trivy::is_about_database(&done.complaints());
            return Err(ended_badly("trivy", &done, about));
        }
        let mut report = trivy::report(Tool::named("trivy"), subject, &done.stdout)
            .map_err(|why| no_report("trivy", &why))?;
        // Asked afterwards: the scan itself may have fetched another database.
        let call = Call {
            program: &program,
            args: &trivy::facts_arguments(cache),
            env: &env,
            limit: FACTS_LIMIT,
        };
        let told = self.programs.run(&call, &Silent, cancel).await;
        if let Some((version, database)) = told_facts(told, trivy::facts)? {
            report.tool.version = Some(version);
            report.database = database;
        }
        Ok(report)
    }

    async fn grype(
        &self,
        subject: &Subject,
        choice: &ScannerChoice,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Report, ScanError> {
        let program = self.program(ScannerName::Grype)?;
        let env = grype::variables(choice, choice.database.as_deref());
        let call = Call {
            program: &program,
            args: &grype::arguments(subject),
            env: &env,
            limit: REPORT_LIMIT,
        };
        let done = self.programs.run(&call, output, cancel).await?;
        let complaints = done.complaints();
        if !done.status.success() && !grype::is_about_findings(&complaints) {
            let about = grype::is_about_database(&complaints);
            return Err(ended_badly("grype", &done, about));
        }
        let mut report =
            grype::report(subject, &done.stdout).map_err(|why| no_report("grype", &why))?;
        if report.database.is_none() {
            let call = Call {
                program: &program,
                args: &grype::facts_arguments(),
                env: &env,
                limit: FACTS_LIMIT,
            };
            let told = self.programs.run(&call, &Silent, cancel).await;
            report.database = told_facts(told, |bytes| {
                grype::database(&serde_json::from_slice(bytes).ok()?)
            })?;
        }
        Ok(report)
    }
}

#[async_trait]
impl Scanner for Scanners {
    async fn scan(
        &self,
        request: &ScanRequest<'_>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Scanned, ScanError> {
        let plain = ScannerChoice::default();
        let choice = request.choice.unwrap_or(&plain);
        if let Subject::Engine(name) = request.subject
            && (name.is_empty() || name.starts_with('-'))
        {
            return Err(ScanError::Broken(format!(
                "{name:?} is not the name of an image"
            )));
        }
        let (name, reason) = self.choose(request.choice);
        output.log(format!("{reason}\n").as_bytes());
        if let Some(image) = &choice.image {
            let Some(containers) = &self.containers else {
                return Err(ScanError::Unavailable(
                    "there is no container engine to run a scanner's image with".to_owned(),
                ));
            };
            let report = containers.scan(name, image, request, output, cancel);
            return Ok(report.await?.into());
        }
        let subject = request.subject;
        match name {
            ScannerName::Trivy => Ok(self.trivy(subject, choice, output, cancel).await?.into()),
            ScannerName::Grype => Ok(self.grype(subject, choice, output, cancel).await?.into()),
            ScannerName::Builtin => {
                let Some(builtin) = &self.builtin else {
                    return Err(ScanError::Unavailable(
                        "the built-in scanner is not part of this world".to_owned(),
                    ));
                };
                let engine = self.engine();
                builtin.scan(engine, subject, choice, output, cancel).await
            }
        }
    }

    async fn inventory(
        &self,
        subject: &Subject,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Inventory, ScanError> {
        builtin::inventory(self.engine(), subject, output, cancel).await
    }
}

fn ended_badly(name: &str, done: &Finished, about_database: bool) -> ScanError {
    let message = match done.complaints().as_str() {
        "" => format!("{name} ended with {}", done.status),
        tail => format!("{name} ended with {}: {tail}", done.status),
    };
    if about_database {
        ScanError::NoDatabase(message)
    } else {
        ScanError::Broken(message)
    }
}

fn no_report(name: &str, why: &str) -> ScanError {
    ScanError::Broken(format!("{name} printed no report: {why}"))
}

/// What a scanner says about itself. It is for people and for the age of the database; a scanner
/// that says nothing has none that is known.
fn told_facts<T>(
    told: Result<Finished, ScanError>,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Option<T>, ScanError> {
    match told {
        Ok(done) if done.status.success() => Ok(read(&done.stdout)),
        Err(ScanError::Cancelled) => Err(ScanError::Cancelled),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
