//! Following commands on their way, and stopping them.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::call::Life;
use super::play::{KILLED, Play, TERMINATED};
use super::state::State;
use crate::ports::Output;

impl Life {
    /// Passes on what a command prints, from its first byte, until it ends; stops it if the
    /// caller cancels, and then returns `None`.
    pub(super) async fn follow(
        &self,
        play: u64,
        output: &dyn Output,
        grace: Duration,
        cancel: Option<&CancellationToken>,
    ) -> Option<i64> {
        let mut from = 0;
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (bytes, status, wake) = self
                .look(|state| match state.plays.get(&play) {
                    Some(play) => (play.log[from..].to_vec(), play.status, play.wake()),
                    None => (Vec::new(), Some(KILLED), None),
                })
                .await;
            if !bytes.is_empty() {
                from += bytes.len();
                output.log(&bytes);
            }
            if status.is_some() {
                return status;
            }
            let due = async {
                match wake {
                    Some(wake) => tokio::time::sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            let cancelled = async {
                match cancel {
                    Some(cancel) => cancel.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = cancelled => {
                    self.terminate(play, grace).await;
                    return None;
                }
                () = due => {}
                () = changed => {}
            }
        }
    }

    /// `SIGTERM`, the grace time if that does nothing, `SIGKILL`.
    async fn terminate(&self, play: u64, grace: Duration) {
        let deaf = |state: &mut State| state.plays.get(&play).is_some_and(Play::is_deaf);
        let status = if self.look(deaf).await {
            self.wait(self.shared.latency().scaled(grace), None).await;
            KILLED
        } else {
            TERMINATED
        };
        self.look(|state| {
            if let Some(play) = state.plays.get_mut(&play) {
                play.end(status);
            }
        })
        .await;
        self.shared.changed.notify_waiters();
    }
}
