//! Looks at registries for a watch: lists tags, reads what a choice asks for, and remembers what never
//! changes. Asks for as little as it can: a digest by HEAD, which registries do not count as a pull,
//! and an image's own words once for each digest.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use super::choose::{Choice, Group, Past, Reading, Readings, Step, Stop, Wanted, choose};
use super::facts::{Cache, facts};
use super::policy::Policy;
use crate::base::Digest;
use crate::event::Chosen;
use crate::pipeline::Watch;
use crate::ports::Retry;
use crate::ports::registry::{RegistryError, RegistryReader, Target};
use crate::stage::Values;

/// Requests at a time.
const AT_ONCE: usize = 8;
/// Steps of one choice; each reads at least one tag.
const STEPS: usize = 256;
/// The last pulls that a registry allows are left to those who deploy.
const LEFT: u64 = 5;
/// How long they are left alone at a time: a window slides, and pulls come back within it.
const REST: Duration = Duration::from_secs(3600);

/// An image and where it is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name in the pipeline.
    pub image: String,
    /// Its registry.
    pub target: Target,
    /// Its repository there.
    pub repository: String,
}

impl Place {
    /// Registry and repository.
    pub fn name(&self) -> String {
        format!("{}/{}", self.target.host, self.repository)
    }
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Sight {
    /// One choice for each image, or one for all of them if they must have the same tag.
    pub choices: Vec<(Vec<String>, Choice)>,
    /// What was read on the way.
    pub readings: Readings,
}

/// Why nothing was seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LookError {
    /// What went wrong.
    pub message: String,
    /// How long the registry asked us to wait.
    pub after: Option<Duration>,
}

impl From<RegistryError> for LookError {
    fn from(error: RegistryError) -> Self {
        let after = match error.retry() {
            Retry::After(after) => after,
            Retry::Never => None,
        };
        let mut message = error.to_string();
        if let (RegistryError::Throttled { .. }, Some(after)) = (&error, after) {
            message.push_str(&format!("; it asked for {} s of rest", after.as_secs()));
        }
        Self { message, after }
    }
}

impl Sight {
    /// The set that was chosen, or why there is none: the first fault, else the first lack.
    pub fn set(&self) -> Result<BTreeMap<String, Chosen>, Stop> {
        let mut set = BTreeMap::new();
        let mut nothing = None;
        for (_, choice) in &self.choices {
            match &choice.chosen {
                Ok(chosen) => set.extend(chosen.clone()),
                Err(stop @ Stop::Blocked(_)) => return Err(stop.clone()),
                Err(stop) => {
                    nothing.get_or_insert(stop.clone());
                }
            }
        }
        nothing.map_or(Ok(set), Err)
    }
}

/// Where the images of a watch are.
pub async fn places(watch: &Watch, values: &Values) -> Result<Vec<Place>, LookError> {
    let mut places = Vec::new();
    for image in watch.names() {
        let place = values.image_place(image).await;
        let (target, repository) = place.map_err(|missing| LookError {
            message: missing.to_string(),
            after: None,
        })?;
        places.push(Place {
            image: image.to_owned(),
            target,
            repository,
        });
    }
    Ok(places)
}

/// Looks once. `lists` asks for the lists of tags even where only one tag matters.
pub async fn look(
    watch: &Watch,
    places: &[Place],
    registry: &dyn RegistryReader,
    cache: &Cache,
    past: &Past,
    lists: bool,
) -> Result<Sight, LookError> {
    let policy = Policy::of(watch);
    let mut tags: Vec<Vec<String>> = Vec::new();
    for (at, place) in places.iter().enumerate() {
        if policy.followed().is_some() && !lists {
            tags.push(Vec::new());
            continue;
        }
        let same =
            |other: &Place| other.target == place.target && other.repository == place.repository;
        let list = match places[..at].iter().position(same) {
            Some(earlier) => tags[earlier].clone(),
            None => registry.tags(&place.target, &place.repository).await?,
        };
        tags.push(list);
    }
    let whole = |ats: Vec<usize>| Group {
        images: ats.iter().map(|at| places[*at].image.as_str()).collect(),
        tags: ats.iter().map(|at| tags[*at].as_slice()).collect(),
    };
    let groups: Vec<Group<'_>> = if watch.same_tag {
        vec![whole((0..places.len()).collect())]
    } else {
        (0..places.len()).map(|at| whole(vec![at])).collect()
    };
    let mut readings = Readings::new();
    let mut choices = Vec::new();
    for group in groups {
        let choice = decide(
            &policy,
            &group,
            places,
            registry,
            cache,
            past,
            &mut readings,
        )
        .await?;
        let images = group.images.iter().map(|image| (*image).to_owned());
        choices.push((images.collect(), choice));
    }
    Ok(Sight { choices, readings })
}

async fn decide(
    policy: &Policy,
    group: &Group<'_>,
    places: &[Place],
    registry: &dyn RegistryReader,
    cache: &Cache,
    past: &Past,
    readings: &mut Readings,
) -> Result<Choice, LookError> {
    for _ in 0..STEPS {
        match choose(policy, group, readings, past) {
            Step::Done(choice) => return Ok(choice),
            Step::Read(wanted) => {
                // A followed tag that nobody has is no fault of the registry's.
                read(&wanted, places, registry, cache, readings).await?;
            }
        }
    }
    Err(LookError {
        message: format!(
            "the tags of {} cannot be chosen from",
            group.images.join(", ")
        ),
        after: None,
    })
}

/// Reads tags, several at a time. A registry that limits our rate ends the look; any other fault is
/// a fault of the tag.
pub async fn read(
    wanted: &[Wanted],
    places: &[Place],
    registry: &dyn RegistryReader,
    cache: &Cache,
    readings: &mut Readings,
) -> Result<(), LookError> {
    let jobs = wanted.iter().filter_map(|wanted| {
        let place = places.iter().find(|place| place.image == wanted.image)?;
        Some(async move { (wanted, one(wanted, place, registry, cache).await) })
    });
    let mut answers = stream::iter(jobs).buffer_unordered(AT_ONCE);
    while let Some((wanted, answer)) = answers.next().await {
        let reading = match answer {
            Ok(reading) => reading,
            Err(error @ RegistryError::Throttled { .. }) => return Err(error.into()),
            Err(error) => Reading::Unreadable(error.to_string()),
        };
        readings.insert((wanted.image.clone(), wanted.tag.clone()), reading);
    }
    Ok(())
}

async fn one(
    wanted: &Wanted,
    place: &Place,
    registry: &dyn RegistryReader,
    cache: &Cache,
) -> Result<Reading, RegistryError> {
    let Place {
        target, repository, ..
    } = place;
    let Some(digest) = registry.digest(target, repository, &wanted.tag).await? else {
        return Ok(Reading::Gone);
    };
    let facts = match (wanted.facts, cache.get(&digest)) {
        (_, Some(facts)) => Some(facts),
        (false, None) => None,
        (true, None) => match fresh(place, &digest, registry).await? {
            Some(facts) => {
                cache.put(&digest, facts.clone());
                Some(facts)
            }
            None => return Ok(Reading::Gone),
        },
    };
    Ok(Reading::Found {
        digest: digest.to_string(),
        facts,
    })
}

async fn fresh(
    place: &Place,
    digest: &Digest,
    registry: &dyn RegistryReader,
) -> Result<Option<super::choose::Facts>, RegistryError> {
    if let Some(allowance) = registry.allowance(&place.target).await
        && allowance.remaining <= LEFT
    {
        return Err(RegistryError::Throttled {
            host: place.target.host.clone(),
            what: format!(
                "{} (it allows {} more pulls, which are left to those who deploy)",
                place.repository, allowance.remaining
            ),
            after: allowance.window.map(|window| window.min(REST)),
        });
    }
    facts(&place.target, &place.repository, digest, registry).await
}
