//! The gate every call goes through: faults, latency, crashes, and the ledger.
//!
//! A crashed process makes no call and no effect any more: its calls never return. A new life
//! gets handles of its own.

use std::fmt;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fault::{Failure, Fault, PortError};
use super::ledger::{Effect, Rule};
use super::options::{Latency, SimOptions};
use super::state::State;
use crate::base::Digest;

/// A call at hand and the names of what it is about, the main one first.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) subjects: Vec<String>,
}

impl Call {
    pub(super) fn new(name: &'static str, subjects: impl IntoIterator<Item = String>) -> Self {
        Self {
            name,
            subjects: subjects.into_iter().collect(),
        }
    }

    pub(super) fn one(name: &'static str, subject: &str) -> Self {
        Self::new(name, [subject.to_owned()])
    }

    pub(super) fn subject(&self) -> &str {
        self.subjects.first().map_or("", String::as_str)
    }

    /// The part of the subject before the first slash.
    pub(super) fn host(&self) -> String {
        let subject = self.subject();
        subject.split('/').next().unwrap_or(subject).to_owned()
    }

    /// The part of the subject before the last `#`.
    pub(super) fn url(&self) -> String {
        let subject = self.subject();
        subject
            .rsplit_once('#')
            .map_or(subject, |(url, _)| url)
            .to_owned()
    }

    /// The part of the subject after the last `#`.
    pub(super) fn branch(&self) -> String {
        let subject = self.subject();
        subject
            .rsplit_once('#')
            .map_or("", |(_, branch)| branch)
            .to_owned()
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = self
            .name
            .split_once('.')
            .map_or(self.name, |(_, verb)| verb);
        write!(f, "{verb} {}", self.subject())
    }
}

/// What all handles of one world share.
pub(super) struct Shared {
    pub(super) options: SimOptions,
    pub(super) origin: Instant,
    state: Mutex<State>,
    /// Woken whenever a process or container may have ended.
    pub(super) changed: Notify,
    /// Whether the process at hand has crashed.
    pub(super) crash: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(options: SimOptions, state: State) -> Self {
        Self {
            options,
            origin: Instant::now(),
            state: Mutex::new(state),
            changed: Notify::new(),
            crash: watch::Sender::new(false),
        }
    }

    /// The state, brought up to now.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(Instant::now());
        state
    }

    pub(super) fn latency(&self) -> &Latency {
        &self.options.latency
    }

    /// A duration of its own for the thing at hand, the same in every world with this seed.
    pub(super) fn vary(&self, base: Duration, key: &str) -> Duration {
        let digest = Digest::of(format!("{} {key}", self.options.seed).as_bytes());
        let dice = u32::from_str_radix(&digest.hex()[..6], 16).unwrap_or(0);
        base * (50 + dice % 101) / 100
    }
}

/// One life of the process that lives in a simulated world: the handle behind every port.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u32,
    /// Address of the engine it speaks with; none for the local one.
    pub(super) engine: Option<Arc<str>>,
}

/// What a call that got through the gate still has ahead of it.
#[derive(Debug, Default)]
pub(super) struct Ticket {
    lose: Option<Failure>,
    crash_after: bool,
    /// The process or container at hand is to end with this status.
    pub(super) exit: Option<i64>,
    /// Somebody else is to move the branch first.
    pub(super) raced: bool,
}

/// The result of a call's work: its value, and what it changed, if it did.
pub(super) struct Done<T> {
    value: T,
    changed: Option<(String, String)>,
}

impl<T> Done<T> {
    /// Changed nothing.
    pub(super) fn nothing(value: T) -> Self {
        Self {
            value,
            changed: None,
        }
    }

    /// Changed `subject`, making `detail` of it.
    pub(super) fn changed(value: T, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            value,
            changed: Some((subject.into(), detail.into())),
        }
    }
}

impl Life {
    /// Whether this life is over.
    pub(super) fn is_dead(&self, state: &State) -> bool {
        state.crashed || state.life != self.number
    }

    /// The state, unless this life is over.
    pub(super) fn state(&self) -> Option<MutexGuard<'_, State>> {
        let mut state = self.shared.state();
        state.turn_to(self.engine.as_deref());
        (!self.is_dead(&state)).then_some(state)
    }

    /// Looks at the state.
    pub(super) async fn look<T>(&self, look: impl FnOnce(&mut State) -> T + Send) -> T {
        let seen = self.state().map(|mut state| look(&mut state));
        match seen {
            Some(value) => value,
            None => pending().await,
        }
    }

    /// Applies what is scripted for a call, and lets its latency pass.
    pub(super) async fn enter<E: PortError>(
        &self,
        call: &Call,
        cancel: Option<&CancellationToken>,
    ) -> Result<Ticket, E> {
        let faults = self.look(|state| state.meet(call)).await;
        if faults.contains(&Fault::CrashBefore) {
            return self.die().await;
        }
        let mut ticket = Ticket::default();
        let mut failure = None;
        let mut wait = self.shared.vary(
            self.shared.latency().call,
            &format!("{} {}", call.name, call.subject()),
        );
        for fault in &faults {
            match fault {
                Fault::Fail { with, .. } => match with {
                    Failure::Exit(code) if matches!(call.name, "engine.run" | "process.run") => {
                        ticket.exit = Some(*code);
                    }
                    Failure::Raced if call.name == "vcs.push" => ticket.raced = true,
                    with => failure = Some(with),
                },
                Fault::LoseAnswer { with, .. } => ticket.lose = Some(with.clone()),
                Fault::Delay(delay) => wait += *delay,
                Fault::CrashAfter => ticket.crash_after = true,
                Fault::Hang | Fault::CrashBefore => {}
            }
        }
        let hangs = faults.contains(&Fault::Hang);
        let cancelled = if hangs {
            match cancel {
                Some(cancel) => cancel.cancelled().await,
                None => pending().await,
            }
            true
        } else {
            self.wait(wait, cancel).await
        };
        if cancelled && let Some(error) = E::cancelled() {
            return Err(error);
        }
        self.look(|_| ()).await;
        match failure {
            Some(failure) => Err(self.failure(failure, call).await),
            None => Ok(ticket),
        }
    }

    /// The gate for a call that only looks: a lost answer is a failure like any other.
    pub(super) async fn pass<E: PortError>(
        &self,
        call: &Call,
        cancel: Option<&CancellationToken>,
    ) -> Result<(), E> {
        let ticket = self.enter::<E>(call, cancel).await?;
        if ticket.crash_after {
            return self.die().await;
        }
        match &ticket.lose {
            Some(failure) => Err(self.failure(failure, call).await),
            None => Ok(()),
        }
    }

    /// Lets time pass; whether the caller cancelled meanwhile.
    pub(super) async fn wait(&self, wait: Duration, cancel: Option<&CancellationToken>) -> bool {
        let cancelled = async {
            match cancel {
                Some(cancel) => cancel.cancelled().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = cancelled => true,
            () = tokio::time::sleep(wait), if !wait.is_zero() => false,
            () = std::future::ready(()), if wait.is_zero() => false,
        }
    }

    /// Does the work of a call in one step that cannot be cut, and enters what it changed into
    /// the ledger.
    pub(super) async fn act<T, E>(
        &self,
        call: &Call,
        ticket: &mut Ticket,
        work: impl FnOnce(&mut State) -> Result<Done<T>, E> + Send,
    ) -> Result<T, E>
    where
        T: Send,
        E: PortError + Send,
    {
        let result = self.settle(call, ticket, work);
        self.shared.changed.notify_waiters();
        let Some(result) = result else {
            return pending().await;
        };
        match ticket.lose.take() {
            Some(failure) if result.is_ok() => Err(self.failure(&failure, call).await),
            _ => result,
        }
    }

    /// `None` if the process is dead or died of this.
    fn settle<T, E>(
        &self,
        call: &Call,
        ticket: &Ticket,
        work: impl FnOnce(&mut State) -> Result<Done<T>, E>,
    ) -> Option<Result<T, E>> {
        let mut state = self.state()?;
        let number = state.ledger.len() + 1;
        let saved = (state.crash_before == Some(number)).then(|| state.clone());
        let result = work(&mut state);
        let mut dies = ticket.crash_after;
        let result = match result {
            Ok(Done { value, changed }) => {
                if let Some((subject, detail)) = changed {
                    if let Some(saved) = saved {
                        *state = saved;
                        state.crashed = true;
                        self.shared.crash.send_replace(true);
                        return None;
                    }
                    state.ledger.push(Effect {
                        number,
                        life: self.number,
                        at: self.shared.origin.elapsed(),
                        call: call.name,
                        subject,
                        detail,
                    });
                    dies |= state.crash_after == Some(number);
                }
                Ok(value)
            }
            Err(error) => Err(error),
        };
        if dies {
            state.crashed = true;
            self.shared.crash.send_replace(true);
            return None;
        }
        Some(result)
    }

    /// Awaits a call that takes a cancellation token, and notes if it is dropped in its middle.
    pub(super) async fn tracked<T>(&self, call: &Call, work: impl Future<Output = T>) -> T {
        let mut guard = DropGuard {
            life: self.clone(),
            call: Some(call.clone()),
        };
        let value = work.await;
        guard.call = None;
        value
    }

    /// The process dies here, if it lives.
    pub(super) fn kill(&self) {
        if let Some(mut state) = self.state() {
            state.crashed = true;
            self.shared.crash.send_replace(true);
        }
    }

    async fn die<T>(&self) -> T {
        self.kill();
        pending().await
    }

    async fn failure<E: PortError>(&self, failure: &Failure, call: &Call) -> E {
        if let Some(error) = E::of(failure, call) {
            return error;
        }
        let message = format!("{} cannot fail with {failure:?}", call.name);
        let recorded = message.clone();
        self.look(|state| state.violate(Rule::BadFault, call, recorded))
            .await;
        E::broken(call, message)
    }
}

struct DropGuard {
    life: Life,
    call: Option<Call>,
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(call) = self.call.take()
            && let Some(mut state) = self.life.state()
        {
            state.violate(
                Rule::Dropped,
                &call,
                "its future was dropped; cancel its token and await it",
            );
        }
    }
}
