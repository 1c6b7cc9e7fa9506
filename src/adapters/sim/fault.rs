//! What goes wrong on purpose: faults by call, and how each port says them.

use std::io;
use std::time::Duration;

use super::call::Call;
use crate::base::Digest;
use crate::ports::engine::EngineError;
use crate::ports::forge::ForgeError;
use crate::ports::notifier::NotifyError;
use crate::ports::process::ProcessError;
use crate::ports::registry::RegistryError;
use crate::ports::scanner::ScanError;
use crate::ports::secrets::SecretError;
use crate::ports::store::StoreError;
use crate::ports::vcs::VcsError;
use crate::ports::workspace::WorkspaceError;

/// Every call that can be scripted.
pub const CALLS: &[&str] = &[
    "engine.version",
    "engine.image",
    "engine.images-labelled",
    "engine.container",
    "engine.containers-labelled",
    "engine.context",
    "engine.build",
    "engine.push",
    "engine.pull",
    "engine.untag",
    "engine.create",
    "engine.start",
    "engine.run",
    "engine.attach",
    "engine.exec",
    "engine.tail",
    "engine.stop",
    "engine.rename",
    "engine.remove",
    "engine.create-network",
    "engine.remove-network",
    "engine.reap",
    "cloud.object",
    "buckets.find",
    "buckets.list",
    "buckets.fetch",
    "buckets.store",
    "registry.digest",
    "registry.manifest",
    "registry.blob",
    "registry.referrers",
    "registry.tags",
    "registry.resolve",
    "registry.put-manifest",
    "registry.put-blob",
    "vcs.snapshot",
    "vcs.contains",
    "vcs.commit",
    "vcs.push",
    "vcs.tip",
    "vcs.put-branch",
    "vcs.remove-branch",
    "forge.find",
    "forge.open",
    "forge.pull-request",
    "forge.checks",
    "forge.has-comment",
    "forge.create",
    "forge.update",
    "forge.label",
    "forge.ask",
    "forge.auto-merge",
    "forge.comment",
    "forge.close",
    "workspace.commit",
    "workspace.is-dirty",
    "workspace.changed",
    "workspace.read",
    "workspace.entries",
    "workspace.tree",
    "workspace.scratch",
    "workspace.collect",
    "workspace.restore",
    "workspace.cache",
    "workspace.is-kept",
    "workspace.pack",
    "workspace.unpack",
    "workspace.fingerprint",
    "workspace.read-below",
    "workspace.discard",
    "workspace.sweep",
    "process.run",
    "process.reap",
    "notifier.send",
    "scanner.inventory",
    "scanner.scan",
    "secrets.read",
    "services.service",
    "services.revision",
    "services.tasks",
    "services.exists",
    "services.scheduled",
    "services.shift",
    "services.shifts",
    "services.register",
    "services.update",
    "services.run-task",
    "services.stop-task",
    "services.reschedule",
    "services.begin-shift",
    "gitops.app",
    "gitops.names",
    "gitops.windows",
    "gitops.managed",
    "gitops.manifests",
    "gitops.log",
    "gitops.sync",
    "gitops.rollback",
    "gitops.terminate",
    "clusters.namespace",
    "clusters.get",
    "clusters.list",
    "clusters.log",
    "clusters.rehearse",
    "clusters.patch",
    "clusters.apply",
    "clusters.create",
    "clusters.delete",
    "store.append",
];

/// Something that goes wrong with calls that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next `times` calls fail and change nothing.
    Fail {
        /// How many calls.
        times: u32,
        /// In which way.
        with: Failure,
    },
    /// The next `times` calls do their work, but their caller is told that they failed.
    LoseAnswer {
        /// How many calls.
        times: u32,
        /// What the caller is told.
        with: Failure,
    },
    /// Every call takes this much longer.
    Delay(Duration),
    /// Every call waits until it is cancelled; for ever, if it takes no token.
    Hang,
    /// The process dies at the next call, before it does anything.
    CrashBefore,
    /// The process dies at the next call, after its work and before it hears of it.
    CrashAfter,
}

/// The way a call fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The other side broke off; another try may help.
    Broken,
    /// No engine answers.
    Unreachable,
    /// Access denied.
    Denied,
    /// Refused for good.
    Refused,
    /// Too many requests; how long to wait, if that is said.
    Throttled(Option<Duration>),
    /// The thing is not there.
    NotFound,
    /// The build said no.
    BuildFailed,
    /// Content with another digest than asked for.
    Corrupt,
    /// No room left.
    Full,
    /// The tool is not there.
    Unavailable,
    /// Somebody else moves the branch right before the push.
    Raced,
    /// The process or container ends with this status.
    Exit(i64),
}

/// A fault and the calls it is meant for.
#[derive(Clone, Debug)]
pub(super) struct FaultRule {
    pub(super) pattern: Pattern,
    pub(super) fault: Fault,
    /// How many calls are left for it; `None` for every call.
    pub(super) left: Option<u32>,
    pub(super) met: bool,
}

impl FaultRule {
    pub(super) fn new(pattern: &str, fault: Fault) -> Self {
        let left = match &fault {
            Fault::Fail { times, .. } | Fault::LoseAnswer { times, .. } => Some(*times),
            Fault::CrashBefore | Fault::CrashAfter => Some(1),
            Fault::Delay(_) | Fault::Hang => None,
        };
        Self {
            pattern: Pattern::new(pattern),
            fault,
            left,
            met: false,
        }
    }
}

/// `port.call` or `port.call SUBJECT`; `*` stands for any run of characters in either.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    call: String,
    subject: Option<String>,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let (call, subject) = match text.split_once(' ') {
            Some((call, subject)) => (call, Some(subject.to_owned())),
            None => (text, None),
        };
        Self {
            call: call.to_owned(),
            subject,
        }
    }

    /// Whether there is a call that it could match.
    pub(super) fn is_possible(&self) -> bool {
        CALLS.iter().any(|call| matches(&self.call, call))
    }

    pub(super) fn matches(&self, call: &Call) -> bool {
        matches(&self.call, call.name)
            && self
                .subject
                .as_deref()
                .is_none_or(|subject| call.subjects.iter().any(|text| matches(subject, text)))
    }
}

/// Whether a text matches a pattern in which `*` stands for any run of characters.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// An error of a port, as the sim makes it.
pub(super) trait PortError: Sized {
    /// How the port says a failure; `None` if it cannot.
    fn of(failure: &Failure, call: &Call) -> Option<Self>;

    /// A transient failure.
    fn broken(call: &Call, message: String) -> Self;

    /// How the port says that the caller cancelled, if it can.
    fn cancelled() -> Option<Self> {
        None
    }
}

const SCRIPTED: &str = "a scripted fault";

impl PortError for EngineError {
    fn of(failure: &Failure, call: &Call) -> Option<Self> {
        let what = || call.to_string();
        Some(match failure {
            Failure::Broken => Self::broken(call, SCRIPTED.to_owned()),
            Failure::Unreachable => Self::Unreachable {
                address: "sim:engine".to_owned(),
                name: None,
                source: Box::new(io::Error::from(io::ErrorKind::ConnectionRefused)),
            },
            Failure::Denied | Failure::Refused => Self::Refused {
                what: what(),
                message: SCRIPTED.to_owned(),
            },
            Failure::Throttled(_) => Self::broken(call, "too many requests".to_owned()),
            Failure::Full => Self::broken(call, "no space left on device".to_owned()),
            Failure::NotFound => Self::NotFound { what: what() },
            Failure::BuildFailed => Self::BuildFailed {
                message: SCRIPTED.to_owned(),
            },
            _ => return None,
        })
    }

    fn broken(call: &Call, message: String) -> Self {
        Self::Broken {
            what: call.to_string(),
            message,
        }
    }

    fn cancelled() -> Option<Self> {
        Some(Self::Cancelled)
    }
}

impl PortError for RegistryError {
    fn of(failure: &Failure, call: &Call) -> Option<Self> {
        let host = || call.host();
        let what = || call.to_string();
        Some(match failure {
            Failure::Broken => Self::broken(call, SCRIPTED.to_owned()),
            Failure::Denied => Self::Denied {
                host: host(),
                what: what(),
                message: SCRIPTED.to_owned(),
            },
            Failure::Refused => Self::Refused {
                host: host(),
                what: what(),
                message: SCRIPTED.to_owned(),
            },
            Failure::Throttled(after) => Self::Throttled {
                host: host(),
                what: what(),
                after: *after,
            },
            Failure::Corrupt => Self::Corrupt {
                host: host(),
                what: what(),
                expected: Digest::of(b"expected"),
                found: Digest::of(b"found"),
            },
            _ => return None,
        })
    }

    fn broken(call: &Call, message: String) -> Self {
        Self::Broken {
            host: call.host(),
            what: call.to_string(),
            message,
        }
    }
}

impl PortError for VcsError {
    fn of(failure: &Failure, call: &Call) -> Option<Self> {
        let url = call.url();
        let message = SCRIPTED.to_owned();
        Some(match failure {
            Failure::Broken => Self::Broken { url, message },
            Failure::Denied => Self::Denied { url, message },
            Failure::Refused => Self::Refused { url, message },
            Failure::NotFound => Self::NoBranch {
                url,
                branch: call.branch(),
            },
            Failure::Corrupt => Self::Content { url, message },
            Failure::Unavailable => Self::Unsupported { url, message },
            _ => return None,
        })
    }

    fn broken(call: &Call, message: String) -> Self {
        Self::Broken {
            url: call.url(),
            message,
        }
    }
}

impl PortError for ForgeError {
    fn of(failure: &Failure, call: &Call) -> Option<Self> {
        let (forge, what) = ("simulated forge".to_owned(), call.to_string());
        let message = SCRIPTED.to_owned();
        Some(match failure {
            Failure::Broken => Self::broken(call, message),
            Failure::Denied => Self::Denied {
                forge,
                what,
                message,
            },
            Failure::NotFound => Self::NotFound {
                forge,
                what,
                message,
            },
            Failure::Refused => Self::Refused {
                forge,
                what,
                message,
            },
            Failure::Throttled(after) => Self::Throttled {
                forge,
                what,
                message,
                after: *after,
            },
            _ => return None,
        })
    }

    fn broken(call: &Call, message: String) -> Self {
        Self::Broken {
            forge: "simulated forge".to_owned(),
            what: call.to_string(),
            message,
        }
    }
}

impl PortError for WorkspaceError {
    fn of(failure: &Failure, call: &Call) -> Option<Self> {
        Some(match failure {
            Failure::Broken => Self::broken(call, SCRIPTED.to_owned()),
            Failure::Full => Self::broken(call, "no space left on device".to_owned()),
            Failure::NotFound => Self::NoRevision {
                revision: call.subject().to_owned(),
            },
            _ => return None,
        })
    }

    fn broken(call: &Call, message: String) -> Self {
        Self::Broken {
            what: call.to_string(),
            message,
        }
    }
}

impl PortError for ProcessError {
    fn of(failure: &Failure, call: &Call) -> Option<Self> {
        let kind = match failure {
            Failure::Broken => return Some(Self::broken(call, SCRIPTED.to_owned())),
            Failure::NotFound => io::ErrorKind::NotFound,
            Failure::Denied | Failure::Refused => io::ErrorKind::PermissionDenied,
            Failure::Full => io::ErrorKind::StorageFull,
            _ => return None,
        };
        Some(Self::Start {
            program: call.subject().to_owned(),
            source: io::Error::from(kind),
        })
    }

    fn broken(call: &Call, message: String) -> Self {
        Self::Lost {
            program: call.subject().to_owned(),
            source: io::Error::other(message),
        }
    }

    fn cancelled() -> Option<Self> {
        Some(Self::Cancelled)
    }
}

impl PortError for NotifyError {
    fn of(failure: &Failure, _call: &Call) -> Option<Self> {
        Some(match failure {
            Failure::Broken => Self::Broken {
                message: SCRIPTED.to_owned(),
                after: None,
            },
            Failure::Throttled(after) => Self::Broken {
                message: "too many requests".to_owned(),
                after: *after,
            },
            Failure::Denied | Failure::Refused | Failure::NotFound => {
                Self::Refused(SCRIPTED.to_owned())
            }
            _ => return None,
        })
    }

    fn broken(_call: &Call, message: String) -> Self {
        Self::Broken {
            message,
            after: None,
        }
    }
}

impl PortError for ScanError {
    fn of(failure: &Failure, _call: &Call) -> Option<Self> {
        Some(match failure {
            Failure::Broken | Failure::Full => Self::Broken(SCRIPTED.to_owned()),
            Failure::Unavailable => Self::Unavailable(SCRIPTED.to_owned()),
            // What is not found is the database: the image is looked for apart.
            Failure::NotFound => Self::NoDatabase(SCRIPTED.to_owned()),
            _ => return None,
        })
    }

    fn broken(_call: &Call, message: String) -> Self {
        Self::Broken(message)
    }

    fn cancelled() -> Option<Self> {
        Some(Self::Cancelled)
    }
}

impl PortError for SecretError {
    fn of(failure: &Failure, call: &Call) -> Option<Self> {
        Some(match failure {
            Failure::Broken | Failure::Denied => Self::broken(call, SCRIPTED.to_owned()),
            Failure::NotFound => Self::Missing(call.subject().to_owned()),
            _ => return None,
        })
    }

    fn broken(call: &Call, message: String) -> Self {
        Self::Unreadable {
            what: call.subject().to_owned(),
            message,
        }
    }
}

impl PortError for StoreError {
    fn of(failure: &Failure, _call: &Call) -> Option<Self> {
        Some(match failure {
            Failure::Broken => Self::Broken(SCRIPTED.to_owned()),
            Failure::Full => Self::Full(SCRIPTED.to_owned()),
            _ => return None,
        })
    }

    fn broken(_call: &Call, message: String) -> Self {
        Self::Broken(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("*b", "bc", false),
            ("a*c", "abbc", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2", false),
            ("*", "", true),
            ("run.test[go=*]", "run.test[go=1.22]", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(Pattern::new("engine.*").is_possible());
        assert!(!Pattern::new("engine.fly").is_possible());
        let call = Call::new("engine.push", ["h/app:1".to_owned(), "sha256:x".to_owned()]);
        assert!(Pattern::new("engine.push").matches(&call));
        assert!(Pattern::new("engine.push h/*:1").matches(&call));
        assert!(Pattern::new("*.push sha256:*").matches(&call));
        assert!(!Pattern::new("engine.push h/web:*").matches(&call));
    }
}
