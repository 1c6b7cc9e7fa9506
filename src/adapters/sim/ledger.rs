//! What happened in a simulated world: effects in order, and what nobody should have done.

use std::fmt;
use std::time::Duration;

/// One change that was made to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Position in the ledger, from 1. Crash points count in these.
    pub number: usize,
    /// Which process life made it; the first is 1, every restart adds one.
    pub life: u32,
    /// When, since the world began.
    pub at: Duration,
    /// The call that made it: `engine.push`.
    pub call: &'static str,
    /// What it was made on: `localhost:5000/app:1`.
    pub subject: String,
    /// What it made: a digest, a commit.
    pub detail: String,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {}",
            self.number, self.call, self.subject, self.detail
        )
    }
}

/// A breach of a [`Rule`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The call that broke it.
    pub call: String,
    /// What the call was about.
    pub subject: String,
    /// What exactly is wrong.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}: {} {}: {}",
            self.rule, self.call, self.subject, self.message
        )
    }
}

/// What a well-behaved caller never does, whether the real world would notice or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// One sync of an application asked for twice.
    SyncedTwice,
    /// An image reference, host, repository, digest or platform that breaks its grammar.
    BadReference,
    /// A tag that breaks the OCI grammar.
    BadTag,
    /// An image used by an id that the engine does not have.
    NeverBuilt,
    /// A tag pushed or moved to the digest it already stands at.
    DoublePush,
    /// A container, or a rename, that takes a name in use.
    NameInUse,
    /// A container or network name that breaks the engine's grammar.
    BadName,
    /// A container of an image that was neither built nor pulled.
    NoImage,
    /// A container that joins a network that does not exist.
    NoNetwork,
    /// A mount whose source or target cannot be.
    BadMount,
    /// A published port that cannot be read.
    BadPort,
    /// An environment variable without a proper name.
    BadEnv,
    /// A call on a container that never was.
    UnknownContainer,
    /// A call on a container that was removed.
    RemovedContainer,
    /// A command in a container that does not run.
    NotRunning,
    /// A container run to its end that was started before.
    RunTwice,
    /// A container made although one of the very same specification runs.
    DoubleContainer,
    /// A network removed under the containers on it.
    NetworkInUse,
    /// A sweep without a label, a value or a marker: it would take everything.
    BroadReap,
    /// A manifest whose blobs are not there.
    MissingBlob,
    /// A manifest that is not what it is said to be.
    BadManifest,
    /// A commit on a parent that the remote does not have.
    UnknownParent,
    /// A push of a commit that was never made.
    UnknownCommit,
    /// A push of a commit that the branch has.
    PushedTwice,
    /// A push that is no fast-forward, although the caller could have known.
    NotFastForward,
    /// A task definition registered although the latest revision means the same.
    SameRevision,
    /// A patch or a manifest that changes nothing in a cluster.
    IdleChange,
    /// A commit that changes nothing.
    EmptyCommit,
    /// A pull request opened twice, without a branch or without a change.
    BadPullRequest,
    /// A change of a pull request that changes nothing, or is made twice.
    SamePullRequest,
    /// A commit without a message or an identity.
    BadCommit,
    /// A path in a commit that git would not take, or that leaves its directory.
    BadPath,
    /// A remote address that holds a credential.
    CredentialInUrl,
    /// Work in, or a write to, the shared read-only files of a commit.
    TreeWritten,
    /// A directory used that does not exist (any more).
    UnknownDirectory,
    /// Artifacts asked for that no stage left.
    NothingCollected,
    /// A process whose marker is empty, or in use by another that runs.
    BadMarker,
    /// A secret in a place that is stored or shown.
    SecretLeak,
    /// A message without an HTTP address or a JSON body.
    BadMessage,
    /// A call that takes a cancellation token dropped in its middle instead of being awaited.
    Dropped,
    /// A fault scripted for a call that does not exist, or that the call cannot express.
    BadFault,
}
