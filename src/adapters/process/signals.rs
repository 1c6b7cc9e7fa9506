//! The signals that ask this process to stop.

use std::io;
use std::task::{Context, Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for `SIGINT` and `SIGTERM`, and keeps one of each that nobody waited for.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on the signals do not end the process any more.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The name of the next that arrives; none if there will be none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        let named = |name: &str, arrived: Option<()>| arrived.map(|()| name.to_owned());
        if let Poll::Ready(arrived) = self.interrupt.poll_recv(cx) {
            return Poll::Ready(named("SIGINT", arrived));
        }
        self.terminate
            .poll_recv(cx)
            .map(|arrived| named("SIGTERM", arrived))
    }
}
