//! Containers and networks of the simulated engine.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{Call, Done, Life};
use super::disk::{Kind, ROOT};
use super::ledger::Rule;
use super::play::{KILLED, Place, Play, TERMINATED};
use super::reference::{Publish, is_name};
use super::script::{Act, acts, script_of};
use super::state::State;
use crate::base::Digest;
use crate::ports::Output;
use crate::ports::engine::{ContainerSpec, ContainerState, EngineError, Health, Network};

/// A container.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) spec: ContainerSpec,
    pub(super) image_id: String,
    /// Its main process, once it was started.
    pub(super) play: Option<u64>,
    started: Option<Instant>,
    ports: Vec<(String, String)>,
    address: Option<String>,
    /// Whether its image has a health check.
    checked: bool,
}

/// How long a health check takes to be sure, before scaling.
const CHECK: Duration = Duration::from_secs(1);

pub(super) fn refused(call: &Call, message: impl Into<String>) -> EngineError {
    EngineError::Refused {
        what: call.to_string(),
        message: message.into(),
    }
}

/// Everything but the name.
fn same(a: &ContainerSpec, b: &ContainerSpec) -> bool {
    a.image == b.image
        && a.entrypoint == b.entrypoint
        && a.command == b.command
        && a.env == b.env
        && a.labels == b.labels
        && a.workdir == b.workdir
        && a.user == b.user
        && a.mounts == b.mounts
        && a.network == b.network
        && a.publish == b.publish
        && a.restart == b.restart
        && a.stdin == b.stdin
}

impl State {
    /// A container by id or name.
    pub(super) fn find(&self, name: &str) -> Option<&Container> {
        self.containers
            .get(name)
            .or_else(|| self.containers.values().find(|c| c.spec.name == name))
    }

    fn id_of(&self, name: &str) -> Option<String> {
        self.find(name).map(|container| container.id.clone())
    }

    fn known(&mut self, call: &Call, name: &str) -> Result<String, EngineError> {
        if let Some(id) = self.id_of(name) {
            return Ok(id);
        }
        if self.removed.contains(name) {
            self.violate(Rule::RemovedContainer, call, "it was removed");
        } else {
            self.violate(Rule::UnknownContainer, call, "it was never created");
        }
        Err(EngineError::NotFound {
            what: format!("container {name}"),
        })
    }

    fn is_running(&self, container: &Container) -> bool {
        container
            .play
            .and_then(|play| self.plays.get(&play))
            .is_some_and(|play| play.status.is_none())
    }

    pub(super) fn describe(&self, container: &Container, check: Duration) -> ContainerState {
        let spec = &container.spec;
        let play = container.play.and_then(|play| self.plays.get(&play));
        let verdict = self
            .verdict(&[&spec.name, &spec.image])
            .or(container.checked.then_some((Health::Healthy, check)));
        let health = match (verdict, container.started) {
            (None, _) => Health::NoCheck,
            (Some((health, after)), Some(started)) if started.elapsed() >= after => health,
            _ => Health::Starting,
        };
        ContainerState {
            id: container.id.clone(),
            name: spec.name.clone(),
            image_id: container.image_id.clone(),
            image: spec.image.clone(),
            labels: spec.labels.clone(),
            running: self.is_running(container),
            exit_code: play.and_then(|play| play.status),
            health,
            address: container.address.clone(),
            ports: container.ports.clone(),
        }
    }

    fn check_spec(&mut self, call: &Call, spec: &ContainerSpec) -> Result<(), EngineError> {
        if !is_name(&spec.name) {
            let message = format!("{:?} is not a name of a container", spec.name);
            self.violate(Rule::BadName, call, message.clone());
            return Err(refused(call, message));
        }
        if self.find(&spec.name).is_some() {
            let message = format!("the name {} is in use", spec.name);
            self.violate(Rule::NameInUse, call, message.clone());
            return Err(refused(call, message));
        }
        for (name, _) in &spec.env {
            if name.is_empty() || name.contains(['=', '\0', '\n']) {
                let message = format!("{name:?} is not a name of a variable");
                self.violate(Rule::BadEnv, call, message.clone());
                return Err(refused(call, message));
            }
        }
        for text in &spec.publish {
            if Publish::parse(text).is_none() {
                let message = format!("{text:?} is not a port to publish");
                self.violate(Rule::BadPort, call, message.clone());
                return Err(refused(call, message));
            }
        }
        self.check_mounts(call, spec)?;
        if let Some(Network::Named { name, .. }) = &spec.network
            && self.network(name).is_none()
        {
            self.violate(Rule::NoNetwork, call, format!("there is no network {name}"));
            return Err(EngineError::NotFound {
                what: format!("network {name}"),
            });
        }
        let twin = self
            .containers
            .values()
            .find(|other| same(&other.spec, spec) && self.is_running(other))
            .map(|other| other.spec.name.clone());
        if let Some(twin) = twin.filter(|_| !spec.labels.is_empty()) {
            let message = format!("{twin} runs with the very same specification");
            self.violate(Rule::DoubleContainer, call, message);
        }
        let words = spec.entrypoint.iter().chain(&spec.command).flatten();
        let texts: Vec<&str> = words
            .chain(spec.labels.iter().flat_map(|(key, value)| [key, value]))
            .chain([&spec.image, &spec.name])
            .map(String::as_str)
            .collect();
        self.check_leaks(call, "the container's command, labels or names", texts);
        Ok(())
    }

    fn check_mounts(&mut self, call: &Call, spec: &ContainerSpec) -> Result<(), EngineError> {
        for mount in &spec.mounts {
            let source = std::path::Path::new(&mount.source);
            let bind = mount.source.starts_with('/');
            if !mount.target.starts_with('/') || !(bind || is_name(&mount.source)) {
                let message = format!("cannot mount {:?} at {:?}", mount.source, mount.target);
                self.violate(Rule::BadMount, call, message.clone());
                return Err(refused(call, message));
            }
            if !source.starts_with(ROOT) {
                continue;
            }
            if !self.disk.exists(source) {
                let message = format!("{} does not exist", mount.source);
                self.violate(Rule::UnknownDirectory, call, message.clone());
                return Err(refused(call, message));
            }
            let kind = self.disk.locate(source).map(|(_, folder, _)| folder.kind);
            if kind == Some(Kind::Tree) && !mount.read_only {
                let message = "mounts the shared files of a commit to be written";
                self.violate(Rule::TreeWritten, call, message);
            }
        }
        Ok(())
    }

    fn create(&mut self, call: &Call, spec: &ContainerSpec) -> Result<Done<String>, EngineError> {
        self.check_spec(call, spec)?;
        let image = self
            .lookup(call, &spec.image)
            .map_err(|m| refused(call, m))?;
        let Some(image) = image else {
            let message = format!("image {} is not on the engine", spec.image);
            self.violate(Rule::NoImage, call, message);
            return Err(EngineError::NotFound {
                what: format!("image {}", spec.image),
            });
        };
        let number = self.count();
        let id = Digest::of(format!("container {number} {}", spec.name).as_bytes())
            .hex()
            .to_owned();
        let address = match spec.network {
            Some(Network::None | Network::Host) => None,
            _ => Some(format!(
                "172.18.{}.{}",
                number / 250 % 250,
                number % 250 + 2
            )),
        };
        let container = Container {
            id: id.clone(),
            spec: spec.clone(),
            image_id: image.id().to_owned(),
            play: None,
            started: None,
            ports: Vec::new(),
            address,
            checked: image.checked,
        };
        self.containers.insert(id.clone(), container);
        Ok(Done::changed(id, &spec.name, &spec.image))
    }

    /// Starts the main process of a container that does not run.
    fn start(
        &mut self,
        call: &Call,
        id: &str,
        mut play: Play,
    ) -> Result<(u64, String), EngineError> {
        let taken: Vec<String> = self
            .containers
            .values()
            .filter(|other| self.is_running(other))
            .flat_map(|other| other.ports.iter().map(|(_, host)| host.clone()))
            .collect();
        let spec = &self.containers[id].spec;
        let name = spec.name.clone();
        let mut ports = Vec::new();
        let mut free = 49_152_u16;
        for publish in spec.publish.iter().filter_map(|text| Publish::parse(text)) {
            let at = |port: u16| format!("{}:{port}", publish.address);
            let host = match publish.host {
                Some(port) if taken.contains(&at(port)) => {
                    return Err(refused(
                        call,
                        format!("port {} is already allocated", at(port)),
                    ));
                }
                Some(port) => port,
                None => {
                    while taken.contains(&at(free)) {
                        free += 1;
                    }
                    free += 1;
                    free - 1
                }
            };
            ports.push((publish.container.clone(), at(host)));
        }
        // A container that runs again goes on writing the same log.
        let before = self.containers[id]
            .play
            .and_then(|play| self.plays.remove(&play));
        if let Some(before) = before {
            play.log = before.log;
        }
        let play = self.begin(play);
        let container = self
            .containers
            .get_mut(id)
            .expect("the caller looked it up");
        container.play = Some(play);
        container.started = Some(Instant::now());
        container.ports = ports;
        Ok((play, name))
    }

    pub(super) fn discard(&mut self, id: &str) -> Option<String> {
        let container = self.containers.remove(id)?;
        if let Some(play) = container.play {
            self.plays.remove(&play);
        }
        self.removed.insert(container.spec.name.clone());
        self.removed.insert(container.id);
        Some(container.spec.name)
    }
}

impl Life {
    pub(super) fn check(&self) -> Duration {
        self.shared.latency().scaled(CHECK)
    }

    /// A call on a container: its name, id, image and labels can be matched.
    async fn on_container(&self, name: &'static str, container: &str) -> Call {
        self.look(|state| {
            let found = state.find(container);
            let more = found.into_iter().flat_map(|c| {
                let labels = c
                    .spec
                    .labels
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"));
                [c.spec.name.clone(), c.id.clone(), c.spec.image.clone()]
                    .into_iter()
                    .chain(labels)
            });
            let mut subjects: Vec<String> = more.collect();
            if subjects.is_empty() {
                subjects.push(container.to_owned());
            }
            Call::new(name, subjects)
        })
        .await
    }

    pub(super) async fn create_container(
        &self,
        spec: &ContainerSpec,
    ) -> Result<String, EngineError> {
        let labels = spec
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let subjects = [spec.name.clone(), spec.image.clone()]
            .into_iter()
            .chain(labels);
        let call = Call::new("engine.create", subjects);
        let mut ticket = self.enter::<EngineError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| state.create(&call, spec))
            .await
    }

    /// The play of a container's main process.
    fn play_of(&self, container: &Container, stdin: Option<&str>, exit: Option<i64>) -> Play {
        let spec = &container.spec;
        let stdin = stdin.or(spec.stdin.as_deref());
        let words: Vec<String> = [&spec.entrypoint, &spec.command]
            .into_iter()
            .flatten()
            .flatten()
            .cloned()
            .collect();
        let env = spec
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect();
        let server = words.is_empty() && stdin.is_none();
        let acts = match exit {
            Some(code) => VecDeque::from([Act::Work, Act::Exit(code)]),
            None if server => {
                VecDeque::from([Act::Print(format!("simulated: {} serves\n", spec.image))])
            }
            None => acts(&script_of(&words, stdin), &env),
        };
        let place = Place::Container {
            workdir: spec.workdir.clone().unwrap_or_else(|| "/".to_owned()),
            mounts: spec.mounts.clone(),
            own: BTreeMap::new(),
        };
        let latency = self.shared.latency();
        let work = self
            .shared
            .vary(latency.work, &format!("work {}", spec.name));
        let stays = server || spec.restart;
        Play::new(acts, Instant::now(), place, latency, work, stays)
    }

    pub(super) async fn start_container(&self, id: &str) -> Result<(), EngineError> {
        let call = self.on_container("engine.start", id).await;
        let mut ticket = self.enter::<EngineError>(&call, None).await?;
        self.wait(self.start_time(&call), None).await;
        self.act(&call, &mut ticket, |state| {
            let id = state.known(&call, id)?;
            let container = state.containers[&id].clone();
            if state.is_running(&container) {
                return Ok(Done::nothing(()));
            }
            let play = self.play_of(&container, None, None);
            let (_, name) = state.start(&call, &id, play)?;
            Ok(Done::changed((), name, "started"))
        })
        .await
    }

    fn start_time(&self, call: &Call) -> Duration {
        let start = self.shared.latency().start;
        self.shared
            .vary(start, &format!("start {}", call.subject()))
    }

    pub(super) async fn run_container(
        &self,
        id: &str,
        stdin: Option<&str>,
        output: &dyn Output,
        grace: Duration,
        cancel: &CancellationToken,
    ) -> Result<i64, EngineError> {
        let call = self.on_container("engine.run", id).await;
        self.tracked(&call, async {
            let mut ticket = self.enter::<EngineError>(&call, Some(cancel)).await?;
            if self.wait(self.start_time(&call), Some(cancel)).await {
                return Err(EngineError::Cancelled);
            }
            let exit = ticket.exit;
            let play = self
                .act(&call, &mut ticket, |state| {
                    let id = state.known(&call, id)?;
                    let container = state.containers[&id].clone();
                    if container.play.is_some() {
                        let message = "it was started before; attach to it";
                        state.violate(Rule::RunTwice, &call, message);
                        return Err(refused(&call, message));
                    }
                    let play = self.play_of(&container, stdin, exit);
                    let (play, name) = state.start(&call, &id, play)?;
                    Ok(Done::changed(play, name, "started"))
                })
                .await?;
            self.follow(play, output, grace, Some(cancel))
                .await
                .ok_or(EngineError::Cancelled)
        })
        .await
    }

    pub(super) async fn attach_container(
        &self,
        id: &str,
        output: &dyn Output,
        grace: Duration,
        cancel: &CancellationToken,
    ) -> Result<i64, EngineError> {
        let call = self.on_container("engine.attach", id).await;
        self.tracked(&call, async {
            self.pass::<EngineError>(&call, Some(cancel)).await?;
            let play = self
                .look(|state| {
                    let id = state.known(&call, id)?;
                    let play = state.containers[&id].play;
                    play.ok_or_else(|| refused(&call, "it was never started"))
                })
                .await?;
            self.follow(play, output, grace, Some(cancel))
                .await
                .ok_or(EngineError::Cancelled)
        })
        .await
    }

    pub(super) async fn exec_in(
        &self,
        id: &str,
        command: &[String],
        output: &dyn Output,
    ) -> Result<i64, EngineError> {
        let mut call = self.on_container("engine.exec", id).await;
        call.subjects.push(command.join(" "));
        let mut ticket = self.enter::<EngineError>(&call, None).await?;
        let play = self
            .act(&call, &mut ticket, |state| {
                let id = state.known(&call, id)?;
                let container = state.containers[&id].clone();
                if !state.is_running(&container) {
                    state.violate(Rule::NotRunning, &call, "it does not run");
                    return Err(refused(&call, "the container does not run"));
                }
                let mut inner = container;
                inner.spec.entrypoint = None;
                inner.spec.command = Some(command.to_vec());
                inner.spec.restart = false;
                inner.spec.stdin = Some(String::new());
                let play = state.begin(self.play_of(&inner, None, None));
                Ok(Done::changed(play, &inner.spec.name, command.join(" ")))
            })
            .await?;
        let status = self.follow(play, output, Duration::ZERO, None).await;
        self.look(|state| state.plays.remove(&play)).await;
        Ok(status.unwrap_or(KILLED))
    }

    pub(super) async fn tail_of(&self, id: &str, lines: usize) -> Result<String, EngineError> {
        let call = self.on_container("engine.tail", id).await;
        self.pass::<EngineError>(&call, None).await?;
        self.look(|state| {
            let id = state.known(&call, id)?;
            let play = state.containers[&id]
                .play
                .and_then(|play| state.plays.get(&play));
            let log = play.map_or(&[][..], |play| &play.log);
            let text = String::from_utf8_lossy(log);
            let all: Vec<&str> = text.lines().collect();
            Ok(all[all.len().saturating_sub(lines)..].join("\n"))
        })
        .await
    }

    pub(super) async fn stop_container(
        &self,
        id: &str,
        grace: Duration,
    ) -> Result<(), EngineError> {
        let call = self.on_container("engine.stop", id).await;
        let mut ticket = self.enter::<EngineError>(&call, None).await?;
        let deaf = self
            .look(|state| {
                let play = state.find(id).and_then(|container| container.play);
                let play = play.and_then(|play| state.plays.get(&play));
                play.is_some_and(|play| play.is_deaf() && play.status.is_none())
            })
            .await;
        if deaf {
            self.wait(self.shared.latency().scaled(grace), None).await;
        }
        self.act(&call, &mut ticket, |state| {
            let Some(container) = state.find(id).cloned() else {
                return Ok(Done::nothing(()));
            };
            if !state.is_running(&container) {
                return Ok(Done::nothing(()));
            }
            if let Some(play) = container.play.and_then(|play| state.plays.get_mut(&play)) {
                play.end(if deaf { KILLED } else { TERMINATED });
            }
            Ok(Done::changed((), &container.spec.name, "stopped"))
        })
        .await
    }

    pub(super) async fn rename_container(&self, id: &str, name: &str) -> Result<(), EngineError> {
        let call = self.on_container("engine.rename", id).await;
        let mut ticket = self.enter::<EngineError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let id = state.known(&call, id)?;
            let before = state.containers[&id].spec.name.clone();
            if !is_name(name) {
                let message = format!("{name:?} is not a name of a container");
                state.violate(Rule::BadName, &call, message.clone());
                return Err(refused(&call, message));
            }
            if state.find(name).is_some() {
                let message = format!("the name {name} is in use");
                state.violate(Rule::NameInUse, &call, message.clone());
                return Err(refused(&call, message));
            }
            let container = state.containers.get_mut(&id).expect("it was just found");
            name.clone_into(&mut container.spec.name);
            Ok(Done::changed((), before, name))
        })
        .await
    }

    pub(super) async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        let call = self.on_container("engine.remove", id).await;
        let mut ticket = self.enter::<EngineError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let removed = state.id_of(id).and_then(|id| state.discard(&id));
            Ok(match removed {
                Some(name) => Done::changed((), name, "removed"),
                None => Done::nothing(()),
            })
        })
        .await
    }
}
