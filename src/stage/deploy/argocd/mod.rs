//! `deploy argocd`: has applications of Argo CD come to a revision, and waits until they really are
//! there.
//!
//! An application that syncs itself is only waited for; any other is synced, once. `spec` is how it is
//! written, `judge` the decision about how it stands, `watch` the wait for it, `advance` the changes,
//! `changes` what a plan shows.

mod advance;
mod changes;
mod judge;
mod spec;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::{Diagnostic, Spanned};
use crate::decl;
use crate::event::Outcome;
use crate::lang::Template;
use crate::ports::Readers;
use crate::ports::gitops::{
    Access, AppName, AppState, Filter, GitOpsError, Refresh, Server, SyncRequest,
};
use crate::stage::{
    CheckContext, Done, Failure, Forecast, Lowering, Missing, PlanContext, Stage, StageContext,
    Values, Verdict,
};

use judge::{Goal, Kin, is_there, same};
pub(super) use spec::SPEC;

#[derive(Debug)]
struct Argo {
    server: Spanned<String>,
    apps: Vec<Template>,
    revision: Option<Template>,
    namespace: Option<Template>,
    project: Option<Template>,
    parallel: bool,
    children: bool,
    prune: bool,
    force: bool,
    replace: bool,
    server_side: bool,
    options: Vec<Template>,
    hard: bool,
    resources: Vec<Template>,
    window_fails: bool,
    terminates: bool,
    healthy_within: Duration,
}

pub(super) fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    Arc::new(Argo::lower(cx))
}

/// `[GROUP/]KIND/NAME`.
fn filter(text: &str) -> Option<Filter> {
    let parts: Vec<&str> = text.split('/').collect();
    let (group, kind, name) = match parts.as_slice() {
        [kind, name] => ("", *kind, *name),
        [group, kind, name] => (*group, *kind, *name),
        _ => return None,
    };
    (!kind.is_empty() && !name.is_empty()).then(|| Filter {
        group: group.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    })
}

/// What is wanted of a server, its values known.
struct Wanted {
    server: Server,
    apps: Vec<AppName>,
    revision: Option<String>,
    request: SyncRequest,
    /// The revision of each application that is gone back to.
    back: Option<Vec<Option<String>>>,
}

impl Wanted {
    /// The revision an application must come to.
    fn revision_of(&self, at: usize) -> Option<String> {
        match &self.back {
            Some(back) => back.get(at).cloned().flatten(),
            None => self.revision.clone(),
        }
    }

    fn url(&self) -> String {
        let base = self.server.url.trim_end_matches('/');
        match self.apps.as_slice() {
            [app] => format!("{base}/applications/{app}"),
            _ => format!("{base}/applications"),
        }
    }

    /// What is left as `revision`: one for all, or one for each.
    fn left(&self, revisions: &[String]) -> String {
        match revisions {
            [first, rest @ ..] if rest.iter().all(|one| one == first) => first.clone(),
            _ => {
                let pairs = self.apps.iter().zip(revisions);
                let pairs: Vec<String> = pairs.map(|(app, one)| format!("{app}={one}")).collect();
                pairs.join(" ")
            }
        }
    }

    /// Takes apart what was left.
    fn taken(apps: &[AppName], left: &str) -> Vec<Option<String>> {
        let of = |app: &AppName| {
            let key = format!("{app}=");
            let mut pairs = left.split(' ').filter(|pair| pair.contains('=')).peekable();
            match pairs.peek() {
                None => Some(left.to_owned()),
                Some(_) => pairs.find_map(|pair| pair.strip_prefix(&key).map(str::to_owned)),
            }
        };
        apps.iter().map(of).collect()
    }
}

impl Argo {
    async fn wanted(&self, values: &Values, back: Option<&String>) -> Result<Wanted, Missing> {
        let name = &self.server.value;
        let decl = values.decls.argocd.get(name);
        let decl =
            decl.ok_or_else(|| Missing::Absent(format!("argocd `{name}` is not declared")))?;
        let decl = &decl.value;
        let url = match &decl.address {
            Some(address) => values.plain(address).await?,
            None => return Err(Missing::Absent(format!("argocd `{name}` has no address"))),
        };
        if !(url.starts_with("https://") || decl.plain_http && url.starts_with("http://")) {
            return Err(Missing::Absent(format!(
                "the address of argocd `{name}` does not begin with https://"
            )));
        }
        let access = match (&decl.token, &decl.login) {
            (Some(token), _) => Access::Token(values.text(token).await?.into_secret()),
            (None, Some((user, password))) => Access::Login {
                user: values.text(user).await?.into_secret(),
                password: values.text(password).await?.into_secret(),
            },
            (None, None) => Access::Anonymous,
        };
        let optional = async |template: &Option<Template>| match template {
            Some(template) => values.plain(template).await.map(Some),
            None => Ok(None),
        };
        let namespace = optional(&self.namespace).await?;
        let project = optional(&self.project).await?;
        let mut apps = Vec::new();
        for app in &self.apps {
            let name = values.plain(app).await?;
            if name.is_empty() || name.len() > 253 {
                return Err(Missing::Absent(format!(
                    "\"{name}\" is no application's name"
                )));
            }
            apps.push(AppName {
                name,
                namespace: namespace.clone(),
                project: project.clone(),
            });
        }
        let mut request = SyncRequest {
            prune: self.prune,
            force: self.force,
            ..SyncRequest::default()
        };
        if self.replace {
            request.options.push("Replace=true".to_owned());
        }
        if self.server_side {
            request.options.push("ServerSideApply=true".to_owned());
        }
        for option in &self.options {
            request.options.push(values.plain(option).await?);
        }
        for resource in &self.resources {
            let text = values.plain(resource).await?;
            let one = filter(&text)
                .ok_or_else(|| Missing::Absent(format!("\"{text}\" names no resource")))?;
            request.only.push(one);
        }
        Ok(Wanted {
            server: Server {
                name: name.clone(),
                url,
                access,
            },
            // Who goes back needs nothing of what the other stages make.
            revision: match back {
                Some(_) => None,
                None => optional(&self.revision)
                    .await?
                    .filter(|text| !text.is_empty()),
            },
            back: back.map(|left| Wanted::taken(&apps, left)),
            apps,
            request,
        })
    }

    async fn foresee(&self, cx: &PlanContext<'_>, wanted: &Wanted) -> Result<Forecast, Failure> {
        let mut forecast = Forecast::new(Verdict::UpToDate, String::new());
        let (mut notes, mut revisions, mut diff) = (Vec::new(), Vec::new(), String::new());
        for (at, name) in wanted.apps.iter().enumerate() {
            let look = cx.readers.gitops.app(&wanted.server, name, Refresh::None);
            let app = match look.await {
                Ok(app) => app,
                Err(error) => return Err(explained(cx.readers, &wanted.server, name, error).await),
            };
            let revision = wanted.revision_of(at);
            let goal = Goal {
                revision: revision.clone(),
                only: wanted.request.only.clone(),
                ..Goal::default()
            };
            let kin = kin(cx.readers, cx.values, revision.as_deref(), &app).await;
            let now = app.revisions.join(", ");
            let short = crate::ports::services::short_revision;
            if is_there(&goal, &app, kin) {
                notes.push(format!("{name} is at {} and healthy", short(&now)));
                revisions.push(revision.unwrap_or(now));
                continue;
            }
            forecast.verdict = Verdict::Run;
            notes.push(format!(
                "{name} is at {}, {} and {}",
                short(&now),
                app.sync,
                app.health
            ));
            let to = revision.clone().unwrap_or_else(|| app.targets.join(", "));
            forecast.effects.push(match app.auto {
                true => format!("wait until {name} has synced itself to {to}"),
                false => format!("sync {name} to {to}"),
            });
            if let Ok(windows) = cx.readers.gitops.windows(&wanted.server, name).await
                && !windows.can_sync
            {
                notes.push(format!(
                    "a sync window is closed now: {}",
                    windows.active.join("; ")
                ));
            }
            changes::show(
                cx.readers,
                wanted,
                name,
                revision.as_deref(),
                &mut forecast,
                &mut diff,
            )
            .await;
        }
        forecast.reason = notes.join("; ");
        forecast.diff = (!diff.is_empty()).then_some(diff);
        if forecast.verdict == Verdict::UpToDate {
            forecast = forecast
                .output("revision", wanted.left(&revisions))
                .output("url", wanted.url());
        }
        Ok(forecast)
    }

    /// Brings all applications there.
    async fn advance(&self, cx: &StageContext<'_>, wanted: &Wanted) -> Result<Done, Failure> {
        let mut reached = Vec::new();
        if self.parallel {
            let all = (0..wanted.apps.len()).map(|at| self.bring(cx, wanted, at));
            let mut failures = Vec::new();
            for one in futures_util::future::join_all(all).await {
                match one {
                    Ok(one) => reached.push(one),
                    Err(failure) => failures.push(failure),
                }
            }
            // All have come to their end: whoever fails does not leave the others unwatched.
            let mut failures = failures.into_iter();
            if let Some(mut first) = failures.next() {
                for failure in failures {
                    first.message.push_str("; ");
                    first.message.push_str(&failure.message);
                }
                return Err(first);
            }
        } else {
            for at in 0..wanted.apps.len() {
                reached.push(self.bring(cx, wanted, at).await?);
            }
        }
        let changed = reached.iter().any(|one| one.changed);
        let revisions: Vec<String> = reached.into_iter().map(|one| one.revision).collect();
        let left = wanted.left(&revisions);
        let names: Vec<String> = wanted.apps.iter().map(ToString::to_string).collect();
        let note = format!("{} at {left}, synced and healthy", names.join(", "));
        let done = match changed {
            true => Done::succeeded(note),
            false => Done::up_to_date(note),
        };
        Ok(done.output("revision", left).output("url", wanted.url()))
    }
}

/// An application that has come to where it should be.
struct Reached {
    revision: String,
    changed: bool,
}

/// How what an application is at relates to a revision: asks the declared repository whose address is
/// that of a source.
async fn kin(readers: &Readers, values: &Values, wanted: Option<&str>, app: &AppState) -> Kin {
    let Some(wanted) = wanted else {
        return Kin::Same;
    };
    if app.revisions.iter().any(|found| same(wanted, found)) {
        return Kin::Same;
    }
    for (url, found) in app.repositories.iter().zip(&app.revisions) {
        for repo in values.decls.repos.values() {
            let Ok(remote) = values.remote(&repo.value).await else {
                continue;
            };
            if plain(&remote.url) != plain(url) {
                continue;
            }
            // The tip of the branch descends from all that the branch contains.
            let Ok(tip) = readers.vcs.snapshot(&remote, &[]).await else {
                continue;
            };
            if same(found, &tip.commit)
                && matches!(readers.vcs.contains(&remote, wanted).await, Ok(true))
            {
                return Kin::Descendant;
            }
        }
    }
    Kin::Other
}

/// An address without what does not matter.
fn plain(url: &str) -> String {
    let url = url.trim_end_matches('/');
    url.strip_suffix(".git").unwrap_or(url).to_lowercase()
}

/// An error with what to do about it.
async fn explained(
    readers: &Readers,
    server: &Server,
    app: &AppName,
    error: GitOpsError,
) -> Failure {
    let text = error.to_string();
    let rule = |action: &str| {
        let project = app.project.as_deref().unwrap_or("PROJECT");
        format!("`p, ROLE, applications, {action}, {project}/{app}, allow`")
    };
    match error {
        GitOpsError::Broken { .. } => Failure::errored(text),
        GitOpsError::Unknown { .. } => Failure::failed(format!(
            "{text}; check the `token` or `login` of argocd `{}`, which may have run out",
            server.name
        )),
        GitOpsError::Denied { action, .. } => {
            let action = match action.as_str() {
                "get" => "get",
                _ => "sync",
            };
            let known = known(readers, server).await;
            Failure::failed(format!(
                "{text}; its access rules need {}. Argo CD says the same if there is no such application{known}",
                rule(action)
            ))
        }
        GitOpsError::NotFound { .. } => {
            let known = known(readers, server).await;
            Failure::failed(format!("{text}{known}"))
        }
        _ => Failure::failed(text),
    }
}

/// The applications that we may see, in a few words.
async fn known(readers: &Readers, server: &Server) -> String {
    match readers.gitops.names(server).await {
        Ok(names) if names.is_empty() => "; we may see no application at all".to_owned(),
        Ok(names) => format!("; we may see {}", names.join(", ")),
        Err(_) => String::new(),
    }
}

#[async_trait]
impl Stage for Argo {
    fn templates(&self) -> Vec<&Template> {
        let optional = [&self.revision, &self.namespace, &self.project];
        self.apps
            .iter()
            .chain(optional.into_iter().flatten())
            .chain(&self.options)
            .chain(&self.resources)
            .collect()
    }

    fn keys<'d>(&self, decls: &'d decl::Decls) -> Vec<&'d Template> {
        let server = decls.argocd.get(&self.server.value);
        server.map_or_else(Vec::new, |server| server.value.templates())
    }

    fn variant(&self) -> Option<&'static str> {
        Some("argocd")
    }

    fn goes_back(&self) -> bool {
        true
    }

    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        decl::require(
            &cx.decls.argocd,
            "argocd",
            &self.server,
            cx.source,
            diagnostics,
        );
    }

    async fn forecast(&self, cx: &PlanContext<'_>) -> Forecast {
        let wanted = match self.wanted(cx.values, cx.values.back.get(cx.stage)).await {
            Ok(wanted) => wanted,
            Err(missing) => {
                let apps: Vec<String> = self.apps.iter().map(ToString::to_string).collect();
                let effect = format!("bring {} there and wait", apps.join(", "));
                return Forecast::missing(&missing).effect(effect);
            }
        };
        if cx.offline {
            return Forecast::new(Verdict::Unknown, "Argo CD is not asked offline");
        }
        match self.foresee(cx, &wanted).await {
            Ok(forecast) => forecast,
            Err(failure) if failure.outcome == Outcome::Failed => {
                Forecast::new(Verdict::Fail, failure.message)
            }
            Err(failure) => Forecast::new(Verdict::Unknown, failure.message),
        }
    }

    async fn run(&self, cx: &StageContext<'_>) -> Result<Done, Failure> {
        let wanted = self.wanted(cx.values, cx.values.back.get(cx.stage)).await?;
        self.advance(cx, &wanted).await
    }

    /// `bring` adopts what was begun by its mark, so running again begins nothing twice.
    async fn examine(&self, cx: &StageContext<'_>) -> Result<Option<Done>, Failure> {
        let wanted = self.wanted(cx.values, cx.values.back.get(cx.stage)).await?;
        self.advance(cx, &wanted).await.map(Some)
    }
}
