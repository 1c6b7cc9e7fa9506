//! Chooses tags: which of those a registry has would be taken, and why not each other. Pure: what has
//! to be read first is asked for, and whoever can read comes back with it.
//!
//! Fails closed. A tag that stands above all others and cannot be read stops the choice; it never
//! lets an older one win.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::policy::{Policy, Rank};
use crate::base::{RunId, Timestamp};
use crate::event::Chosen;

/// Tags whose build times are compared; each costs a request when it is seen first.
pub const MOST_BUILDS: usize = 2_000;
/// Tags that are read, from the best down, in search of one that has all platforms.
pub const MOST_READ: usize = 100;

/// What was read of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is there.
    Found {
        /// The digest it stands for.
        digest: String,
        /// What its image is, if that was asked for.
        facts: Option<Facts>,
    },
    /// It is listed, and the registry has nothing under it.
    Gone,
    /// It could not be read.
    Unreadable(String),
}

/// What an image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Facts {
    /// When it was built.
    pub created: Option<Timestamp>,
    /// What it runs on.
    pub platforms: Vec<String>,
}

/// What has been read, by image and tag.
pub type Readings = HashMap<(String, String), Reading>;

/// A tag that must be read before a choice can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The image.
    pub image: String,
    /// The tag.
    pub tag: String,
    /// More than its digest.
    pub facts: bool,
}

/// What was delivered before, and what must not be delivered again by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// What runs now, by image.
    pub current: BTreeMap<String, Chosen>,
    /// What somebody rolled back: image, tag, digest, and the run that did.
    pub held: Vec<(String, String, String, RunId)>,
}

/// Why a tag was chosen or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one.
    Chosen,
    /// It fits, and another one stands above it.
    Older(String),
    /// It does not fit.
    Unfit(String),
    /// These images do not have it yet.
    Waits(Vec<String>),
    /// It was rolled back by a run.
    Held(RunId),
    /// It is older than what was delivered.
    Behind(String),
    /// It could not be read, which stops the choice.
    Unread(String),
    /// It was not looked at because the choice had stopped.
    NotReached,
}

impl Verdict {
    /// One word, for programs.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::Older(_) => "older",
            Self::Unfit(_) => "unfit",
            Self::Waits(_) => "waits",
            Self::Held(_) => "held",
            Self::Behind(_) => "behind",
            Self::Unread(_) => "unread",
            Self::NotReached => "not-reached",
        }
    }

    /// In a sentence.
    pub fn reason(&self) -> String {
        match self {
            Self::Chosen => "would be chosen".to_owned(),
            Self::Older(than) => format!("fits, and {than} stands above it"),
            Self::Unfit(why) => why.clone(),
            Self::Waits(images) => format!("not there yet for {}", images.join(", ")),
            Self::Held(run) => {
                format!("rolled back by run {run}; waits for something newer")
            }
            Self::Behind(than) => format!("older than {than}, which was delivered"),
            Self::Unread(why) => format!("{why}; nothing older is chosen instead"),
            Self::NotReached => "not looked at".to_owned(),
        }
    }
}

/// One tag and what is thought of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The tag.
    pub tag: String,
    /// Why it was chosen or not.
    pub verdict: Verdict,
}

/// The next step of a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read these, then ask again.
    Read(Vec<Wanted>),
    /// It is made.
    Done(Choice),
}

/// What came of a choice among the tags of images that are chosen together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What was chosen, or why nothing was.
    pub chosen: Result<BTreeMap<String, Chosen>, Stop>,
    /// Every tag, the best first.
    pub rows: Vec<Row>,
}

/// Why nothing is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// There is nothing to choose, which is no fault.
    Nothing(String),
    /// Something is wrong, and choosing on would be wrong too.
    Blocked(String),
}

impl Stop {
    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Self::Nothing(why) | Self::Blocked(why) => why,
        }
    }
}

/// Images among whose tags one is chosen: several if they have to have the same.
pub struct Group<'a> {
    /// Names of the images.
    pub images: Vec<&'a str>,
    /// The tags each of them has.
    pub tags: Vec<&'a [String]>,
}

/// Chooses, or says what has to be read first.
pub fn choose(policy: &Policy, group: &Group<'_>, readings: &Readings, past: &Past) -> Step {
    let mut owners: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (at, tags) in group.tags.iter().enumerate() {
        for tag in *tags {
            owners.entry(tag).or_default().insert(at);
        }
    }
    // What is followed may be missing from the list, or the list may not have been asked for.
    if let Some(tag) = policy.followed() {
        owners.insert(tag, (0..group.images.len()).collect());
    }
    let mut rows = Vec::new();
    let mut candidates: Vec<Candidate<'_>> = Vec::new();
    for (tag, owners) in owners {
        match policy.rank(tag) {
            Ok(rank) => candidates.push(Candidate {
                tag,
                rank,
                missing: (0..group.images.len())
                    .filter(|at| !owners.contains(at))
                    .map(|at| group.images[at].to_owned())
                    .collect(),
            }),
            Err(why) => rows.push(Row {
                tag: tag.to_owned(),
                verdict: Verdict::Unfit(why),
            }),
        }
    }
    let mut walk = Walk {
        policy,
        group,
        readings,
        past,
        rows: Vec::new(),
    };
    if policy.by_build()
        && let Some(step) = walk.date(&mut candidates)
    {
        return finish(step, rows);
    }
    candidates.sort_by(|a, b| b.cmp(a));
    let step = walk.go(&candidates);
    finish(step, rows)
}

/// Tags that do not fit stand below those that do.
fn finish(step: Step, unfit: Vec<Row>) -> Step {
    match step {
        Step::Done(mut choice) => {
            choice.rows.extend(unfit);
            Step::Done(choice)
        }
        read => read,
    }
}

struct Candidate<'a> {
    tag: &'a str,
    rank: Rank,
    missing: Vec<String>,
}

impl Candidate<'_> {
    /// By rank; equal ones (`1.0.0` and `v1.0.0`) by their text, so that it is always the same.
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank
            .cmp(&other.rank)
            .then_with(|| self.tag.cmp(other.tag))
    }
}

struct Walk<'a> {
    policy: &'a Policy,
    group: &'a Group<'a>,
    readings: &'a Readings,
    past: &'a Past,
    rows: Vec<Row>,
}

/// What is known of a candidate in every image.
enum Known<'a> {
    All(Vec<(&'a str, Option<&'a Facts>)>),
    Wanted(Vec<Wanted>),
    Broken(String),
}

impl<'a> Walk<'a> {
    fn known(&self, tag: &str, facts: bool) -> Known<'a> {
        let mut all = Vec::new();
        let mut wanted = Vec::new();
        for image in &self.group.images {
            let key = ((*image).to_owned(), tag.to_owned());
            match self.readings.get(&key) {
                Some(Reading::Found {
                    digest,
                    facts: read,
                }) if read.is_some() || !facts => all.push((digest.as_str(), read.as_ref())),
                Some(Reading::Gone) => {
                    return Known::Broken(format!(
                        "image {image}: {tag} is listed, but the registry has no manifest under it"
                    ));
                }
                Some(Reading::Unreadable(why)) => {
                    return Known::Broken(format!("image {image}: {tag} cannot be read: {why}"));
                }
                _ => wanted.push(Wanted {
                    image: (*image).to_owned(),
                    tag: tag.to_owned(),
                    facts,
                }),
            }
        }
        if wanted.is_empty() {
            Known::All(all)
        } else {
            Known::Wanted(wanted)
        }
    }

    /// Finds out when each candidate was built.
    fn date(&mut self, candidates: &mut [Candidate<'_>]) -> Option<Step> {
        let whole = candidates.iter().filter(|one| one.missing.is_empty());
        let count = whole.count();
        if count > MOST_BUILDS {
            return Some(self.stop(
                candidates,
                Stop::Blocked(format!(
                    "{count} tags fit, and the build times of {MOST_BUILDS} at the most are compared; narrow them with `allow` or `ignore`"
                )),
            ));
        }
        let mut wanted = Vec::new();
        let mut broken = None;
        for (at, candidate) in candidates.iter_mut().enumerate() {
            if !candidate.missing.is_empty() {
                continue;
            }
            match self.known(candidate.tag, true) {
                Known::Wanted(more) => wanted.extend(more),
                Known::Broken(why) => {
                    broken.get_or_insert((at, why));
                }
                Known::All(all) => {
                    // Together they are as new as the last of them.
                    let times = all.iter().map(|(_, facts)| facts.and_then(|it| it.created));
                    match times.collect::<Option<Vec<Timestamp>>>() {
                        Some(times) => {
                            let last = times.into_iter().max().unwrap_or_default();
                            candidate.rank = Rank::Built(last);
                        }
                        None => {
                            let why = format!("{} does not say when it was built", candidate.tag);
                            broken.get_or_insert((at, why));
                        }
                    }
                }
            }
        }
        if !wanted.is_empty() {
            return Some(Step::Read(wanted));
        }
        let (at, why) = broken?;
        let tag = candidates[at].tag.to_owned();
        let step = self.stop(candidates, Stop::Blocked(why.clone()));
        let Step::Done(mut choice) = step else {
            return Some(step);
        };
        for row in choice.rows.iter_mut().filter(|row| row.tag == tag) {
            row.verdict = Verdict::Unread(why.clone());
        }
        Some(Step::Done(choice))
    }

    /// Nothing can be said of any candidate.
    fn stop(&mut self, candidates: &[Candidate<'_>], stop: Stop) -> Step {
        let rows = candidates.iter().map(|candidate| Row {
            tag: candidate.tag.to_owned(),
            verdict: Verdict::NotReached,
        });
        Step::Done(Choice {
            chosen: Err(stop),
            rows: rows.collect(),
        })
    }

    fn row(&mut self, tag: &str, verdict: Verdict) {
        self.rows.push(Row {
            tag: tag.to_owned(),
            verdict,
        });
    }

    /// From the best candidate down to the first that will do.
    fn go(&mut self, candidates: &[Candidate<'_>]) -> Step {
        let mut read = 0;
        for (at, candidate) in candidates.iter().enumerate() {
            let tag = candidate.tag;
            if !candidate.missing.is_empty() {
                self.row(tag, Verdict::Waits(candidate.missing.clone()));
                continue;
            }
            if read == MOST_READ {
                let why = format!(
                    "none of the {MOST_READ} best tags will do, and no more are read; narrow them with `allow` or `ignore`"
                );
                return self.end(&candidates[at..], Verdict::NotReached, Stop::Blocked(why));
            }
            read += 1;
            let all = match self.known(tag, self.policy.wants_facts()) {
                Known::Wanted(wanted) => return Step::Read(wanted),
                Known::Broken(why) => {
                    self.row(tag, Verdict::Unread(why.clone()));
                    let stop = Stop::Blocked(why);
                    return self.end(&candidates[at + 1..], Verdict::NotReached, stop);
                }
                Known::All(all) => all,
            };
            let lacks = self.group.images.iter().zip(&all).find_map(|(image, it)| {
                let why = self.policy.lacking(it.1?)?;
                Some(format!("image {image} {why}"))
            });
            if let Some(why) = lacks {
                self.row(tag, Verdict::Unfit(why));
                continue;
            }
            if let Some(run) = self.held(tag, &all) {
                self.row(tag, Verdict::Held(run));
                continue;
            }
            if let Some(than) = self.behind(candidate) {
                self.row(tag, Verdict::Behind(than.clone()));
                let stop = Stop::Nothing(format!(
                    "{tag} is the best there is, and older than {than}, which was delivered"
                ));
                let older = Verdict::Older(tag.to_owned());
                return self.end(&candidates[at + 1..], older, stop);
            }
            self.row(tag, Verdict::Chosen);
            for rest in &candidates[at + 1..] {
                self.row(rest.tag, Verdict::Older(tag.to_owned()));
            }
            let chosen = self.group.images.iter().zip(all).map(|(image, it)| {
                let chosen = Chosen {
                    tag: tag.to_owned(),
                    digest: it.0.to_owned(),
                    created: it.1.and_then(|facts| facts.created),
                };
                ((*image).to_owned(), chosen)
            });
            return Step::Done(Choice {
                chosen: Ok(chosen.collect()),
                rows: std::mem::take(&mut self.rows),
            });
        }
        let images = self.group.images.join(", ");
        let why = match self.rows.first() {
            Some(row) => format!(
                "no tag of {images} will do: {} {}",
                row.tag,
                row.verdict.reason()
            ),
            None => format!("no tag of {images} fits"),
        };
        self.end(&[], Verdict::NotReached, Stop::Nothing(why))
    }

    fn end(&mut self, rest: &[Candidate<'_>], verdict: Verdict, stop: Stop) -> Step {
        for candidate in rest {
            self.row(candidate.tag, verdict.clone());
        }
        Step::Done(Choice {
            chosen: Err(stop),
            rows: std::mem::take(&mut self.rows),
        })
    }

    fn held(&self, tag: &str, all: &[(&str, Option<&Facts>)]) -> Option<RunId> {
        self.group.images.iter().zip(all).find_map(|(image, it)| {
            let held =
                self.past.held.iter().find(|(whose, which, digest, _)| {
                    whose == image && which == tag && digest == it.0
                });
            held.map(|(_, _, _, run)| run.clone())
        })
    }

    fn behind(&self, candidate: &Candidate<'_>) -> Option<String> {
        self.group.images.iter().find_map(|image| {
            let current = self.past.current.get(*image)?;
            let rank = self.policy.rank_of(current)?;
            let older = candidate.rank.partial_cmp(&rank) == Some(Ordering::Less);
            older.then(|| current.tag.clone())
        })
    }
}
