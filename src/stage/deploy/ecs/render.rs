//! What should run, with everything resolved, beside what runs now. Looks only.

use serde_json::{Map, Value, json};

use super::Ecs;
use super::spec::{Base, Strategy};
use crate::formats::task_definition::{ContainerChange, FieldChange, TaskDefinition};
use crate::ports::Readers;
use crate::ports::cloud::{Account, CloudError, ObjectPlace};
use crate::ports::services::{
    CapacityProvider, Controller, Deployment, DeploymentState, Place, Revision, Schedule,
    ScheduledTask, ServiceChange, ServiceState, short_revision,
};
use crate::stage::{Failure, Missing, Values};

/// Largest base that is read from a bucket, in bytes: many times what ECS takes.
const LARGEST_BASE: u64 = 1 << 20;

/// What should run, with everything resolved.
pub(super) struct Wanted {
    pub(super) account: Account,
    pub(super) cluster: String,
    pub(super) place: Option<Place>,
    pub(super) changes: Vec<(String, ContainerChange)>,
    pub(super) base: BaseText,
    pub(super) schedules: Vec<(Schedule, Option<String>)>,
}

/// Where the base is, with everything resolved.
pub(super) enum BaseText {
    Current,
    File { path: String, text: String },
    Object(String),
}

/// What there is, and what would be there.
pub(super) struct Found {
    /// The service, if it is about one.
    pub(super) service: Option<ServiceState>,
    /// Tasks that rules start.
    pub(super) scheduled: Vec<(Schedule, ScheduledTask)>,
    /// What runs now.
    pub(super) current: Option<Revision>,
    /// What should run.
    pub(super) rendered: TaskDefinition,
    /// A revision that means the same as what should run.
    pub(super) registered: Option<Revision>,
}

impl Ecs {
    /// Resolves everything that is written.
    pub(super) async fn wanted(&self, values: &Values) -> Result<Wanted, Missing> {
        let account = values.account(&self.aws.value).await?;
        let cluster = match &self.cluster {
            Some(cluster) => values.plain(cluster).await?,
            None => String::new(),
        };
        let place = match &self.service {
            Some(service) => Some(Place {
                cluster: cluster.clone(),
                service: values.plain(service).await?,
            }),
            None => None,
        };
        let mut changes = Vec::new();
        for container in &self.containers {
            let image = match &container.image {
                Some(image) => {
                    let facts = values.image(&image.value).await?;
                    let (digest, _) = values.digest(&image.value).await?;
                    Some(facts.pinned(&digest))
                }
                None => None,
            };
            let command = texts(values, &container.command).await?;
            let change = ContainerChange {
                image,
                env: pairs(values, &container.env).await?,
                secrets: pairs(values, &container.secrets).await?,
                labels: pairs(values, &container.labels).await?,
                command: (!command.is_empty()).then_some(command),
                log_options: pairs(values, &container.log_options).await?,
            };
            changes.push((container.name.value.clone(), change));
        }
        let base = match &self.base {
            Base::Current => BaseText::Current,
            Base::File(path) => {
                let path = values.plain(path).await?;
                let text = values.file(&path).await?;
                BaseText::File { path, text }
            }
            Base::Object(object) => BaseText::Object(values.plain(object).await?),
        };
        let mut schedules = Vec::new();
        for rule in &self.schedules {
            let schedule = Schedule {
                rule: values.plain(&rule.rule).await?,
                bus: optional(values, rule.bus.as_ref()).await?,
            };
            schedules.push((schedule, optional(values, rule.target.as_ref()).await?));
        }
        Ok(Wanted {
            account,
            cluster,
            place,
            changes,
            base,
            schedules,
        })
    }

    /// Looks at what there is, and renders what should be.
    pub(super) async fn look(&self, readers: &Readers, wanted: &Wanted) -> Result<Found, Failure> {
        let services = &*readers.services;
        let account = &wanted.account;
        let service = match &wanted.place {
            Some(place) => Some(
                services
                    .service(account, place)
                    .await
                    .map_err(|error| no_cluster(error, &wanted.cluster))?
                    .ok_or_else(|| {
                        Failure::failed(format!(
                            "cluster {} has no service {}",
                            place.cluster, place.service
                        ))
                    })?,
            ),
            None => None,
        };
        let scheduled = self.scheduled(readers, wanted).await?;
        let running = service
            .as_ref()
            .map(|service| service.task_definition.clone())
            .or_else(|| Some(scheduled.first()?.1.task_definition.clone()))
            .filter(|arn| !arn.is_empty());
        let current = match &running {
            Some(arn) => services.revision(account, arn).await?,
            None => None,
        };
        let mut rendered = self
            .base_definition(readers, wanted, current.as_ref())
            .await?;
        for (container, change) in &wanted.changes {
            rendered
                .set(container, change)
                .map_err(|error| Failure::failed(format!("task definition: {error}")))?;
        }
        let mut registered = current.clone().filter(|there| same(&rendered, there));
        if registered.is_none() {
            registered = latest(readers, account, &rendered).await?;
        }
        Ok(Found {
            service,
            scheduled,
            current,
            rendered,
            registered,
        })
    }

    async fn base_definition(
        &self,
        readers: &Readers,
        wanted: &Wanted,
        current: Option<&Revision>,
    ) -> Result<TaskDefinition, Failure> {
        let unusable = |what: &str, error: &dyn std::fmt::Display| {
            Failure::failed(format!("{what} is no usable task definition: {error}"))
        };
        let current_definition = || match current {
            Some(there) => TaskDefinition::from_value(there.definition.clone())
                .map_err(|error| unusable(short_revision(&there.arn), &error)),
            None => Err(Failure::failed(
                "nothing runs yet whose task definition could be taken as the base; name one by `task-definition`",
            )),
        };
        let (what, base) = match &wanted.base {
            BaseText::Current => return current_definition(),
            BaseText::File { path, text } => (path.clone(), TaskDefinition::parse(text)),
            BaseText::Object(address) => {
                let text = object(readers, &wanted.account, address).await?;
                (address.clone(), TaskDefinition::parse(&text))
            }
        };
        let base = base.map_err(|error| unusable(&what, &error))?;
        if base.family().is_some() {
            return Ok(base);
        }
        // A base without a family is meant for the one that runs.
        let family = current_definition()
            .ok()
            .and_then(|there| there.family().map(str::to_owned));
        let Some(family) = family else {
            return Err(unusable(&what, &"it names no `family`"));
        };
        let mut object = base.as_json().clone();
        object.insert("family".to_owned(), json!(family));
        TaskDefinition::from_value(Value::Object(object)).map_err(|error| unusable(&what, &error))
    }

    async fn scheduled(
        &self,
        readers: &Readers,
        wanted: &Wanted,
    ) -> Result<Vec<(Schedule, ScheduledTask)>, Failure> {
        let mut all = Vec::new();
        for (schedule, id) in &wanted.schedules {
            let rule = &schedule.rule;
            let tasks = readers
                .services
                .scheduled(&wanted.account, schedule)
                .await?
                .ok_or_else(|| Failure::failed(format!("there is no rule {rule}")))?;
            let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
            let ids = ids.join(", ");
            let fitting: Vec<&ScheduledTask> = tasks
                .iter()
                .filter(|task| id.as_ref().is_none_or(|id| *id == task.id))
                .collect();
            let task = match (fitting.as_slice(), id) {
                ([task], _) => ScheduledTask::clone(task),
                ([], None) => {
                    return Err(Failure::failed(format!("rule {rule} starts no task")));
                }
                ([], Some(id)) => {
                    return Err(Failure::failed(format!(
                        "rule {rule} has no target {id} that starts a task; it has {ids}"
                    )));
                }
                _ => {
                    return Err(Failure::failed(format!(
                        "rule {rule} starts several tasks: name one by `target=`: {ids}"
                    )));
                }
            };
            all.push((schedule.clone(), task));
        }
        Ok(all)
    }

    /// What has to be changed in the service, so that it runs a revision the way it is asked to.
    /// `forced` tells that new tasks are to be started anyway.
    pub(super) fn change(&self, service: &ServiceState, arn: &str, forced: bool) -> ServiceChange {
        let sorted = |providers: &[CapacityProvider]| {
            let mut providers = providers.to_vec();
            providers.sort_by(|a, b| a.name.cmp(&b.name));
            providers
        };
        let moves = !self.providers.is_empty()
            && sorted(&self.providers) != sorted(&service.capacity_providers);
        let strategy = match &self.strategy {
            Some(Strategy::Own(word)) if *word != own_strategy(service) => Some(*word),
            _ => None,
        };
        let given_up = primary(service).is_some_and(|primary| {
            primary.state == Some(DeploymentState::Failed) && primary.task_definition == arn
        });
        ServiceChange {
            task_definition: (service.task_definition != arn).then(|| arn.to_owned()),
            desired: self.desired.filter(|wanted| *wanted != service.desired),
            capacity_providers: if moves {
                self.providers.clone()
            } else {
                Vec::new()
            },
            propagate_tags: self
                .propagate
                .clone()
                .filter(|wanted| *wanted != service.propagate_tags.as_deref().unwrap_or("NONE")),
            deployment_configuration: strategy.map(|word| {
                let mut whole: Map<String, Value> = service.deployment_configuration.clone();
                whole.insert("strategy".to_owned(), json!(word));
                whole
            }),
            // The service moves tasks to other places, and tries again what it gave up, only if it
            // must start new ones.
            force: forced || moves || given_up,
        }
    }
}

impl Found {
    /// The family of what should run.
    pub(super) fn family(&self) -> &str {
        self.rendered.family().unwrap_or_default()
    }

    /// Fields in which what should run differs from what runs.
    pub(super) fn fields(&self) -> Vec<FieldChange> {
        self.current
            .as_ref()
            .and_then(|there| TaskDefinition::from_value(there.definition.clone()).ok())
            .map(|there| self.rendered.changes_from(&there))
            .unwrap_or_default()
    }

    /// The same as a diff, a line for what was and one for what will be.
    pub(super) fn diff(&self) -> Option<String> {
        let current = self.current.as_ref()?;
        let fields = self.fields();
        if fields.is_empty() {
            return None;
        }
        let before = short_revision(&current.arn);
        let after = match &self.registered {
            Some(there) => short_revision(&there.arn).to_owned(),
            None => format!("{} (new revision)", self.family()),
        };
        let mut text = format!("--- {before}\n+++ {after}\n");
        for field in fields {
            if let Some(before) = field.before {
                text.push_str(&format!("-{}: {before}\n", field.path));
            }
            if let Some(after) = field.after {
                text.push_str(&format!("+{}: {after}\n", field.path));
            }
        }
        Some(text)
    }
}

/// The primary deployment of a service.
pub(super) fn primary(service: &ServiceState) -> Option<&Deployment> {
    service.deployments.iter().find(|d| d.primary)
}

/// Whether a service runs a revision, as a whole and nothing else.
pub(super) fn runs(service: &ServiceState, arn: &str) -> bool {
    if service.controller != Controller::Own {
        let serving = service.task_sets.iter().find(|set| set.primary);
        return serving.is_some_and(|set| set.task_definition == arn && set.stable);
    }
    primary(service).is_some_and(|primary| {
        let calm = match primary.state {
            Some(state) => state == DeploymentState::Completed,
            None => service.deployments.len() == 1 && primary.running == primary.desired,
        };
        calm && primary.task_definition == arn && service.task_definition == arn
    })
}

/// How a service deploys if it does so by itself.
fn own_strategy(service: &ServiceState) -> &str {
    service
        .deployment_configuration
        .get("strategy")
        .and_then(Value::as_str)
        .unwrap_or("ROLLING")
}

/// The family's latest revision, if it means the same.
pub(super) async fn latest(
    readers: &Readers,
    account: &Account,
    rendered: &TaskDefinition,
) -> Result<Option<Revision>, Failure> {
    let Some(family) = rendered.family() else {
        return Ok(None);
    };
    let latest = readers.services.revision(account, family).await?;
    Ok(latest.filter(|there| same(rendered, there)))
}

fn same(rendered: &TaskDefinition, there: &Revision) -> bool {
    TaskDefinition::from_value(there.definition.clone())
        .is_ok_and(|there| rendered.means_the_same(&there))
}

fn no_cluster(error: CloudError, cluster: &str) -> Failure {
    match error.code() {
        Some("ClusterNotFoundException") => {
            Failure::failed(format!("there is no cluster {cluster}"))
        }
        _ => error.into(),
    }
}

/// The text of a base that is kept in a bucket.
async fn object(readers: &Readers, account: &Account, address: &str) -> Result<String, Failure> {
    let place: ObjectPlace = address.parse().map_err(Failure::failed)?;
    let bytes = readers.cloud.object(account, &place, LARGEST_BASE).await?;
    let bytes = bytes.ok_or_else(|| {
        Failure::failed(format!("{place} is not there: the bucket has no such key"))
    })?;
    String::from_utf8(bytes).map_err(|_| Failure::failed(format!("{place} is no UTF-8 text")))
}

async fn optional(
    values: &Values,
    template: Option<&crate::lang::Template>,
) -> Result<Option<String>, Missing> {
    match template {
        Some(template) => Ok(Some(values.plain(template).await?)),
        None => Ok(None),
    }
}

pub(super) async fn texts(
    values: &Values,
    templates: &[crate::lang::Template],
) -> Result<Vec<String>, Missing> {
    let mut texts = Vec::new();
    for template in templates {
        texts.push(values.plain(template).await?);
    }
    Ok(texts)
}

pub(super) async fn pairs(
    values: &Values,
    templates: &[(String, crate::lang::Template)],
) -> Result<Vec<(String, String)>, Missing> {
    let mut pairs = Vec::new();
    for (name, template) in templates {
        pairs.push((name.clone(), values.plain(template).await?));
    }
    Ok(pairs)
}
