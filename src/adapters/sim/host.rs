//! Processes, messages, scans, secrets and the time of a simulated world.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{Call, Done, Life};
use super::disk::Kind;
use super::fault::matches;
use super::ledger::Rule;
use super::play::{KILLED, Place, Play};
use super::script::{Act, acts, script_of};
use super::state::State;
use crate::base::{Secret, Timestamp};
use crate::ports::Output;
use crate::ports::clock::Clock;
use crate::ports::notifier::{Message, Notifier, NotifyError};
use crate::ports::process::{Host, ProcessError, ProcessSpec, Program};
use crate::ports::scanner::{ScanError, ScanRequest, Scanned, Scanner, Subject};
use crate::ports::secrets::{SecretError, SecretReader, SecretSource};
use crate::scan::{Inventory, Report, Tool};

impl State {
    fn check_process(
        &mut self,
        call: &Call,
        spec: &ProcessSpec,
        script: &str,
    ) -> Result<(), ProcessError> {
        let cannot = |kind: io::ErrorKind| ProcessError::Start {
            program: call.subject().to_owned(),
            source: io::Error::from(kind),
        };
        if !self.disk.exists(&spec.workdir) {
            let message = format!("{} does not exist", spec.workdir.display());
            self.violate(Rule::UnknownDirectory, call, message);
            return Err(cannot(io::ErrorKind::NotFound));
        }
        let kind = self
            .disk
            .locate(&spec.workdir)
            .map(|(_, folder, _)| folder.kind);
        if kind == Some(Kind::Tree) {
            let message = "it works in the shared files of a commit";
            self.violate(Rule::TreeWritten, call, message);
        }
        let taken = self.markers.values().any(|marker| *marker == spec.marker);
        if spec.marker.is_empty() || taken {
            let message = if taken {
                "a process with this marker runs"
            } else {
                "it is empty"
            };
            self.violate(Rule::BadMarker, call, message);
        }
        for (name, _) in &spec.env {
            if name.is_empty() || name.contains(['=', '\0', '\n']) {
                let message = format!("{name:?} is not a name of a variable");
                self.violate(Rule::BadEnv, call, message);
                return Err(cannot(io::ErrorKind::InvalidInput));
            }
        }
        self.check_leaks(call, "the command", [script]);
        if script.trim().is_empty() && matches!(&spec.program, Program::Command(_)) {
            return Err(cannot(io::ErrorKind::NotFound));
        }
        Ok(())
    }
}

#[async_trait]
impl Host for Life {
    async fn run(
        &self,
        spec: &ProcessSpec,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<i32, ProcessError> {
        let script = match &spec.program {
            Program::Command(words) => script_of(words, None),
            Program::Script(script) => script.clone(),
        };
        let line = script.lines().next().unwrap_or_default().to_owned();
        let call = Call::new("process.run", [spec.marker.clone(), line.clone()]);
        self.tracked(&call, async {
            let mut ticket = self.enter::<ProcessError>(&call, Some(cancel)).await?;
            let env = spec
                .env
                .iter()
                .map(|(name, value)| (name.clone(), value.expose().to_owned()))
                .collect();
            let acts = match ticket.exit {
                Some(code) => VecDeque::from([Act::Work, Act::Exit(code)]),
                None => acts(&script, &env),
            };
            let play = self
                .act(&call, &mut ticket, |state| {
                    state.check_process(&call, spec, &script)?;
                    let latency = self.shared.latency();
                    let work = self
                        .shared
                        .vary(latency.work, &format!("work {}", spec.marker));
                    let place = Place::Host(spec.workdir.clone());
                    let play = Play::new(acts, Instant::now(), place, latency, work, false);
                    let play = state.begin(play);
                    state.markers.insert(play, spec.marker.clone());
                    Ok(Done::changed(play, spec.marker.as_str(), line.as_str()))
                })
                .await?;
            let status = self.follow(play, output, spec.grace, Some(cancel)).await;
            self.look(|state| {
                state.plays.remove(&play);
                state.markers.remove(&play);
            })
            .await;
            let status = status.ok_or(ProcessError::Cancelled)?;
            Ok(i32::try_from(status).unwrap_or(1))
        })
        .await
    }

    async fn asked_to_stop(&self) -> Option<String> {
        None
    }

    async fn reap(&self, prefix: &str) -> usize {
        let call = Call::one("process.reap", prefix);
        let Ok(mut ticket) = self.enter::<ProcessError>(&call, None).await else {
            return 0;
        };
        let reaped: Result<usize, ProcessError> = self
            .act(&call, &mut ticket, |state| {
                if prefix.is_empty() {
                    let message = "it would kill what is not ours";
                    state.violate(Rule::BroadReap, &call, message);
                    return Ok(Done::nothing(0));
                }
                let marked: Vec<u64> = state
                    .markers
                    .iter()
                    .filter(|(_, marker)| marker.starts_with(prefix))
                    .map(|(play, _)| *play)
                    .collect();
                let mut killed = 0;
                for id in marked {
                    state.markers.remove(&id);
                    if let Some(play) = state.plays.get_mut(&id)
                        && play.status.is_none()
                    {
                        play.end(KILLED);
                        killed += 1;
                    }
                }
                Ok(match killed {
                    0 => Done::nothing(0),
                    killed => Done::changed(killed, prefix, format!("{killed} killed")),
                })
            })
            .await;
        reaped.unwrap_or(0)
    }
}

#[async_trait]
impl Notifier for Life {
    async fn send(&self, message: &Message) -> Result<(), NotifyError> {
        let url = message.url.expose();
        // A secret that was made up is an address where one is wanted.
        let whole = format!("https://{url}");
        let made_up = self.shared.options.lenient_secrets && url.starts_with(MADE_UP);
        let url = if made_up { &whole } else { url };
        // An address is often a secret: only its host is shown.
        let host = url
            .split_once("://")
            .and_then(|(_, rest)| rest.split(['/', '?']).next())
            .and_then(|authority| authority.rsplit('@').next())
            .unwrap_or_default();
        let call = Call::one("notifier.send", host);
        let mut ticket = self.enter::<NotifyError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let web = url.starts_with("https://") || url.starts_with("http://");
            if !web || host.is_empty() || serde_json::from_str::<Value>(&message.body).is_err() {
                let problem = "its address is not HTTP or its body is not JSON";
                state.violate(Rule::BadMessage, &call, problem);
                return Err(NotifyError::Refused(problem.to_owned()));
            }
            state.check_leaks(&call, "the message", [&*message.body]);
            state.messages.push(message.body.clone());
            Ok(Done::changed((), host, message.body.as_str()))
        })
        .await
    }
}

#[async_trait]
impl Scanner for Life {
    async fn scan(
        &self,
        request: &ScanRequest<'_>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Scanned, ScanError> {
        let image = &*request.subject.to_string();
        let call = Call::one("scanner.scan", image);
        self.tracked(&call, async {
            self.pass::<ScanError>(&call, Some(cancel)).await?;
            let time = self.shared.latency().work;
            if self.wait(self.shared.vary(time, image), Some(cancel)).await {
                return Err(ScanError::Cancelled);
            }
            let report = self
                .look(|state| {
                    let found = state.lookup(&call, image).map_err(ScanError::Broken)?;
                    let Some(found) = found else {
                        let message = format!("the engine has no image {image}");
                        state.violate(Rule::NeverBuilt, &call, message.clone());
                        return Err(ScanError::Broken(message));
                    };
                    let mut names = state.tags_of(found.id());
                    names.extend([found.id().to_owned(), image.to_owned()]);
                    let hit = |pattern: &str| names.iter().any(|name| matches(pattern, name));
                    let scripted = state.reports.iter().rev().find(|(p, _)| hit(p));
                    Ok(scripted.map_or_else(
                        || {
                            let name = request.choice.and_then(|choice| choice.name);
                            let name = name.map_or("scanner", |name| name.word());
                            let tool = Tool::named(&format!("simulated {name}"));
                            Report {
                                packages: found.layers.len() as u64,
                                ..Report::new(tool, image)
                            }
                        },
                        |(_, report)| report.clone(),
                    ))
                })
                .await?;
            let count = report.findings.len();
            output.log(format!("simulated: {count} findings in {image}\n").as_bytes());
            Ok(report.into())
        })
        .await
    }

    async fn inventory(
        &self,
        subject: &Subject,
        _output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Inventory, ScanError> {
        let image = &*subject.to_string();
        let call = Call::one("scanner.inventory", image);
        self.tracked(&call, async {
            self.pass::<ScanError>(&call, Some(cancel)).await?;
            self.look(|state| {
                let found = state.lookup(&call, image).map_err(ScanError::Broken)?;
                let Some(found) = found else {
                    let message = format!("the engine has no image {image}");
                    state.violate(Rule::NeverBuilt, &call, message.clone());
                    return Err(ScanError::Broken(message));
                };
                // Simulated images hold layers and no package.
                Ok(Inventory {
                    image: found.id().to_owned(),
                    ..Inventory::default()
                })
            })
            .await
        })
        .await
    }
}

#[async_trait]
impl SecretReader for Life {
    async fn read(&self, source: &SecretSource) -> Result<Secret, SecretError> {
        let name = match source {
            SecretSource::Env(name) => name.clone(),
            SecretSource::File(path) => path.to_string_lossy().into_owned(),
            SecretSource::Stored { place, .. } => place.name.clone(),
        };
        let call = Call::one("secrets.read", &name);
        self.pass::<SecretError>(&call, None).await?;
        let lenient = self.shared.options.lenient_secrets;
        self.look(|state| {
            let declared = state.secrets.get(source).filter(|value| !value.is_empty());
            let value = match declared {
                Some(value) => value.clone(),
                None if lenient => made_up(&name),
                None => return Err(SecretError::Missing(name)),
            };
            Ok(Secret::new(value))
        })
        .await
    }
}

/// What made-up values begin with.
const MADE_UP: &str = "simulated-";

/// A value that fits where secrets and variables go, host names included.
fn made_up(name: &str) -> String {
    let last = Path::new(name).file_name().unwrap_or_default();
    let plain: String = last
        .to_string_lossy()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    format!("{MADE_UP}{}", plain.trim_matches('-'))
}

impl Clock for Life {
    fn now(&self) -> Timestamp {
        let options = &self.shared.options;
        let start = options.start.unwrap_or(options.commit.time);
        let passed = self.shared.origin.elapsed().as_millis();
        Timestamp(start.0 + i64::try_from(passed).unwrap_or(i64::MAX - start.0.max(0)))
    }

    fn random(&self) -> u64 {
        // SplitMix64: the seed decides every number, whatever life asks for it.
        let mut state = self.shared.state();
        state.dice = state.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
