//! What a simulated world starts from.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{Commit, Timestamp};

/// What a simulated world starts from.
#[derive(Clone, Debug, Default)]
pub struct SimOptions {
    /// Decides every random number and every variation of a duration.
    pub seed: u64,
    /// The commit at the head of the source repository; empty fields are filled in.
    pub commit: Commit,
    /// Files of that commit, by path relative to the root.
    pub files: BTreeMap<String, String>,
    /// Objects of buckets, by address: `s3://BUCKET/KEY`.
    pub objects: BTreeMap<String, Vec<u8>>,
    /// Containers of task definitions that the world makes up; one named like its family if empty.
    pub containers: Vec<String>,
    /// What files of manifest repositories that the world makes up hold: a file, and a path in it.
    pub keys: Vec<(String, String)>,
    /// How long things take.
    pub latency: Latency,
    /// What the clock shows at first; the commit's time if absent.
    pub start: Option<Timestamp>,
    /// Whether a manifest repository that nobody declared springs up when it is first used, with
    /// a placeholder for every file asked for. Otherwise it denies access.
    pub lenient_remotes: bool,
    /// Whether an image of a repository that nobody pushed to can be pulled all the same.
    pub lenient_images: bool,
    /// Whether a bucket that nobody declared exists, and holds a made-up task definition where one
    /// is read.
    pub lenient_buckets: bool,
    /// Whether a secret that nobody declared has the value `simulated-name`.
    pub lenient_secrets: bool,
}

impl SimOptions {
    /// For showing the flow of a pipeline to a person: brief, and lenient about everything that
    /// lies outside the repository.
    pub fn for_show() -> Self {
        Self {
            latency: Latency::brief(),
            lenient_remotes: true,
            lenient_images: true,
            lenient_buckets: true,
            lenient_secrets: true,
            ..Self::default()
        }
    }
}

/// How long things take. Each single duration varies between half and one and a half times
/// what stands here, decided by the seed and the thing at hand, never by order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Any call at all.
    pub call: Duration,
    /// One instruction of a Dockerfile that is not cached.
    pub step: Duration,
    /// One layer on its way, up or down; also a git push.
    pub transfer: Duration,
    /// A container until its process runs.
    pub start: Duration,
    /// A command that is not in the sim's vocabulary; also a scan.
    pub work: Duration,
    /// How much of a `sleep` in a script, a health check or a grace time passes, in percent.
    pub sleep_percent: u32,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            call: Duration::from_millis(10),
            step: Duration::from_millis(1500),
            transfer: Duration::from_millis(800),
            start: Duration::from_millis(300),
            work: Duration::from_secs(2),
            sleep_percent: 100,
        }
    }
}

impl Latency {
    /// Short enough to watch.
    pub fn brief() -> Self {
        Self {
            call: Duration::from_millis(2),
            step: Duration::from_millis(120),
            transfer: Duration::from_millis(150),
            start: Duration::from_millis(50),
            work: Duration::from_millis(300),
            sleep_percent: 5,
        }
    }

    /// Nothing takes time but what a script sleeps.
    pub fn none() -> Self {
        Self {
            call: Duration::ZERO,
            step: Duration::ZERO,
            transfer: Duration::ZERO,
            start: Duration::ZERO,
            work: Duration::ZERO,
            sleep_percent: 100,
        }
    }

    /// A time that a script or a caller asked for, scaled.
    pub(super) fn scaled(&self, asked: Duration) -> Duration {
        let millis = asked
            .as_millis()
            .saturating_mul(u128::from(self.sleep_percent))
            / 100;
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}
