//! What a `run` keeps in a bucket: caches, which may fail without harm, and files, which may not.
//!
//! A cache is fetched where this machine has none of it, and stored if it changed. What runs for a
//! pull request reads what others stored, but leaves its own to that pull request alone.

use std::collections::BTreeMap;

use super::{Cache, Run, StageContext};
use crate::base::{Digest, Secret, StageId};
use crate::ports::archive::{Archive, Kept};
use crate::ports::bucket::{BucketError, Object};
use crate::ports::cloud::ObjectPlace;
use crate::ports::workspace::Scratch;
use crate::stage::{Depot, Failure, Values};

/// How many versions of a cache are looked through for the newest.
const VERSIONS: usize = 5000;
/// Version of a cache that depends on no file.
const ONLY: &str = "any";
const ENDING: &str = ".tar.zst";
/// Notes of an object: the digest of its bytes, and of what it holds.
const DIGEST: &str = "sha256";
const CONTENT: &str = "content";
/// Output that says where the files of a stage are, and what digest they have.
pub(super) const ARCHIVE: &str = "archive";
pub(super) const ARCHIVE_DIGEST: &str = "archive-digest";

/// A cache that is to be stored if the stage succeeds.
pub(super) struct Stored {
    depot: Depot,
    kept: Kept,
    place: ObjectPlace,
    /// Whether the key names the content, so that what is there need not be replaced.
    exact: bool,
    name: String,
}

impl Run {
    /// Fetches the caches this machine has nothing of, and says which are to be stored later.
    pub(super) async fn fetch_caches(
        &self,
        cx: &StageContext<'_>,
        scratch: &Scratch,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Stored>, Failure> {
        let mut stored = Vec::new();
        for cache in &self.caches {
            let Some(bucket) = &cache.bucket else {
                continue;
            };
            let name = cx.values.plain(&cache.key).await?;
            match fetch_cache(cache, &bucket.value, &name, cx, scratch).await {
                Ok(cache) => stored.push(cache),
                Err(failure) if cx.cancel.is_cancelled() => return Err(failure),
                Err(failure) => {
                    let warning = format!("cache {name} was not fetched: {failure}");
                    cx.say(&warning);
                    warnings.push(warning);
                }
            }
        }
        Ok(stored)
    }

    /// Stores what files the stage left. Their place and digest are outputs, so that whoever
    /// fetches them knows that they are the same.
    pub(super) async fn store_files(
        &self,
        bucket: &str,
        cx: &StageContext<'_>,
    ) -> Result<(String, String), Failure> {
        let depot = cx.values.depot(bucket).await?;
        let stage = cx.stage.file_name();
        let kept = Kept::Files {
            run: cx.run.to_string(),
            stage: stage.clone(),
        };
        let pipeline = StageId::from(cx.values.pipeline.as_str()).file_name();
        let place = depot.place(&format!("files/{pipeline}/{}/{stage}{ENDING}", cx.run))?;
        let archive = pack(&depot, &kept, cx).await?;
        let archive = archive.ok_or_else(|| Failure::errored("the files it kept are gone"))?;
        let sent = send(&depot, &place, &archive, cx).await;
        cx.world.workspace.drop_archive(&archive.path).await;
        sent?;
        cx.say(format!("stored {place}"));
        Ok((place.to_string(), archive.digest.to_string()))
    }
}

/// Stores caches; what goes wrong is a warning.
pub(super) async fn store_caches(
    caches: Vec<Stored>,
    cx: &StageContext<'_>,
    warnings: &mut Vec<String>,
) {
    for cache in caches {
        if let Err(failure) = store_cache(&cache, cx).await {
            let warning = format!("cache {} was not stored: {failure}", cache.name);
            cx.say(&warning);
            warnings.push(warning);
        }
    }
}

async fn fetch_cache(
    cache: &Cache,
    bucket: &str,
    name: &str,
    cx: &StageContext<'_>,
    scratch: &Scratch,
) -> Result<Stored, Failure> {
    let workspace = &cx.world.workspace;
    let depot = cx.values.depot(bucket).await?;
    let version = match cache.hash.as_slice() {
        [] => ONLY.to_owned(),
        patterns => {
            let print = workspace.fingerprint(scratch, patterns).await?;
            let print = print.ok_or_else(|| {
                Failure::failed(format!("no file fits hash {}", patterns.join(" ")))
            })?;
            print.hex()[..40].to_owned()
        }
    };
    let own = scope(cx.values);
    let key = |scope: &str, name: &str| {
        let of = |text: &str| StageId::from(text).file_name();
        format!("caches/{}/{scope}/{}/", of(&cx.values.pipeline), of(name))
    };
    let stored = Stored {
        kept: Kept::Cache(super::cache_key(cx.values, name)),
        place: depot.place(&format!("{}{version}{ENDING}", key(&own, name)))?,
        exact: version != ONLY,
        name: name.to_owned(),
        depot,
    };
    if workspace.is_kept(&stored.kept).await? {
        return Ok(stored);
    }
    let mut names = vec![name.to_owned()];
    for other in &cache.fallback {
        names.push(cx.values.plain(other).await?);
    }
    let scopes = match own.as_str() {
        SHARED => vec![SHARED],
        own => vec![own, SHARED],
    };
    let depot = &stored.depot;
    for name in &names {
        for scope in &scopes {
            let exact = depot.place(&format!("{}{version}{ENDING}", key(scope, name)))?;
            let prefix = depot.place(&key(scope, name))?;
            if let Some(object) = newest(depot, &exact, &prefix, cx).await? {
                receive(depot, &object, None, &stored.kept, cx).await?;
                cx.say(format!("cache {name} came from {}", object.place));
                return Ok(stored);
            }
        }
    }
    cx.say(format!("cache {name} begins empty"));
    Ok(stored)
}

/// Whose caches are written: those of pull requests are not to be trusted by others.
fn scope(values: &Values) -> String {
    match values.pull_request {
        Some(number) => format!("pull-{number}"),
        None => SHARED.to_owned(),
    }
}

const SHARED: &str = "shared";

/// The very version that is wanted, else the one that was stored last.
async fn newest(
    depot: &Depot,
    exact: &ObjectPlace,
    prefix: &ObjectPlace,
    cx: &StageContext<'_>,
) -> Result<Option<Object>, Failure> {
    let buckets = &cx.world.buckets;
    let listed = buckets.list(&depot.account, prefix, VERSIONS).await?;
    let found = listed.iter().find(|object| object.place == *exact);
    let found = found.or_else(|| listed.iter().max_by(|a, b| a.stored.cmp(&b.stored)));
    match found {
        Some(object) => Ok(buckets.find(&depot.account, &object.place).await?),
        None => Ok(None),
    }
}

/// An object, if it is there. Listed first: of one that is not there S3 says `AccessDenied` to
/// whoever may list only below a prefix.
async fn stored(
    depot: &Depot,
    place: &ObjectPlace,
    cx: &StageContext<'_>,
) -> Result<Option<Object>, Failure> {
    let buckets = &cx.world.buckets;
    let listed = buckets.list(&depot.account, place, 1).await?;
    // Keys are listed in order, and the one that is the prefix comes first.
    if listed.iter().all(|object| object.place != *place) {
        return Ok(None);
    }
    Ok(buckets.find(&depot.account, place).await?)
}

async fn store_cache(cache: &Stored, cx: &StageContext<'_>) -> Result<(), Failure> {
    let there = stored(&cache.depot, &cache.place, cx).await?;
    if there.is_some() && cache.exact {
        return Ok(());
    }
    let Some(archive) = pack(&cache.depot, &cache.kept, cx).await? else {
        return Ok(());
    };
    let same = there.is_some_and(|there| {
        there.notes.get(CONTENT).map(String::as_str) == Some(archive.content.as_str())
    });
    let sent = match same {
        true => Ok(()),
        false => send(&cache.depot, &cache.place, &archive, cx).await,
    };
    cx.world.workspace.drop_archive(&archive.path).await;
    if !same && sent.is_ok() {
        let size = crate::base::human_bytes(archive.size);
        cx.say(format!(
            "cache {} stored: {}, {size}",
            cache.name, cache.place
        ));
    }
    sent
}

async fn pack(
    depot: &Depot,
    kept: &Kept,
    cx: &StageContext<'_>,
) -> Result<Option<Archive>, Failure> {
    let (_, late) = cx.world.readers.late.all();
    let late = late
        .into_iter()
        .map(|secret| ("of an account".to_owned(), secret));
    let secrets: Vec<(String, Secret)> =
        cx.values.secrets.clone().into_iter().chain(late).collect();
    let archive = cx
        .world
        .workspace
        .pack(kept, depot.largest, secrets)
        .await?;
    if let Some(archive) = archive.as_ref().filter(|archive| archive.left_out > 0) {
        let count = archive.left_out;
        cx.say(format!("{count} links lead elsewhere and are left out"));
    }
    Ok(archive)
}

async fn send(
    depot: &Depot,
    place: &ObjectPlace,
    archive: &Archive,
    cx: &StageContext<'_>,
) -> Result<(), Failure> {
    let notes = BTreeMap::from([
        (DIGEST.to_owned(), archive.digest.to_string()),
        (CONTENT.to_owned(), archive.content.to_string()),
    ]);
    let account = &depot.account;
    let buckets = &cx.world.buckets;
    let sent = buckets.store(account, place, &archive.path, &notes, cx.output, &cx.cancel);
    Ok(sent.await?)
}

/// Brings an object here. The digest is the one it must have, else the one it says of itself.
async fn receive(
    depot: &Depot,
    object: &Object,
    wanted: Option<&Digest>,
    kept: &Kept,
    cx: &StageContext<'_>,
) -> Result<(), Failure> {
    let place = &object.place;
    if object.size > depot.largest {
        let largest = crate::base::human_bytes(depot.largest);
        return Err(Failure::failed(format!("{place} is larger than {largest}")));
    }
    let said = object.notes.get(DIGEST);
    let said = said.and_then(|said| said.parse::<Digest>().ok());
    let Some(wanted) = wanted.cloned().or(said) else {
        return Err(Failure::failed(format!(
            "{place} says no digest of itself: it was not stored by a stage"
        )));
    };
    let workspace = &cx.world.workspace;
    let path = workspace.arrival().await?;
    let account = &depot.account;
    let buckets = &cx.world.buckets;
    let fetched = buckets.fetch(account, object, &wanted, &path, cx.output, &cx.cancel);
    let unpacked: Result<u64, Failure> = match fetched.await {
        Ok(()) => {
            let unpacked = workspace.unpack(&path, kept, depot.largest).await;
            unpacked.map_err(|error| Failure::failed(format!("{place} is not used: {error}")))
        }
        Err(error) => Err(error.into()),
    };
    workspace.drop_archive(&path).await;
    unpacked.map(drop)
}

/// Brings files of a stage here that a bucket keeps, if this machine does not have them.
pub(in crate::stage) async fn fetch_files(
    stage: &StageId,
    cx: &StageContext<'_>,
) -> Result<(), Failure> {
    let kept = Kept::Files {
        run: cx.run.to_string(),
        stage: stage.file_name(),
    };
    let Some((_, outputs)) = cx.values.ended(stage) else {
        return Ok(());
    };
    let (Some(address), Some(digest)) = (outputs.get(ARCHIVE), outputs.get(ARCHIVE_DIGEST)) else {
        return Ok(());
    };
    if cx.world.workspace.is_kept(&kept).await? {
        return Ok(());
    }
    let place: ObjectPlace = address.parse().map_err(Failure::failed)?;
    let digest: Digest = digest
        .parse()
        .map_err(|_| Failure::failed(format!("{digest} is no digest")))?;
    for name in cx.values.decls.buckets.keys() {
        let depot = cx.values.depot(name).await?;
        if !depot.holds(&place) {
            continue;
        }
        let found = cx.world.buckets.find(&depot.account, &place).await?;
        let Some(object) = found else {
            return Err(Failure::failed(format!(
                "the files of {stage} are neither on this machine nor at {place} any more; `pipewright rerun` makes \
                 them anew"
            )));
        };
        cx.say(format!("fetching the files of {stage} from {place}"));
        return receive(&depot, &object, Some(&digest), &kept, cx).await;
    }
    Ok(())
}

impl From<BucketError> for Failure {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Cloud(error) => error.into(),
            BucketError::Cancelled => Self::cancelled("cancelled"),
            BucketError::File { .. } => Self::errored(error.to_string()),
            BucketError::Tampered { .. } => Self::failed(error.to_string()),
        }
    }
}
