//! `aws policy`: what a pipeline has to be allowed.

use std::collections::BTreeMap;

use super::app::{App, Exit, Failure};
use super::args::Policy;
use super::project;
use crate::base::{Commit, RunId};
use crate::event::Trigger;
use crate::formats::web_token::Claims;
use crate::plan::policy::{accounts, policy as least, trust};
use crate::plan::{Origin, Plan, build};
use crate::ports::cloud::WebIdentity;
use crate::stage::Values;

/// Largest token file, in bytes.
const TOKEN: u64 = 64 << 10;

/// Prints the least policy, or who must be trusted. Asks nobody: it reads the working tree and
/// variables only.
pub(super) async fn policy(app: &App<'_>, args: &Policy) -> Result<Exit, Failure> {
    let project = project::sound(app)?;
    let world = app.worlds.real(&app.root(), &app.state_dir())?;
    let origin = Origin {
        commit: Commit::default(),
        dirty: true,
        cause: Trigger::Manual,
        inputs: BTreeMap::new(),
        vars: BTreeMap::new(),
        watched: BTreeMap::new(),
        upstream: None,
        only: Vec::new(),
    };
    let mut plan = build(&project, &args.pipeline, origin)?;
    // The working tree stands for the commits to come, which will push and deploy.
    plan.left_out.clear();
    let account = chosen(&plan, args.account.as_deref())?;
    let readers = &world.readers;
    let vars = plan.vars(readers).await;
    let values = plan.values(RunId::new(0, 0), readers, vars, BTreeMap::new(), true);
    let document = if args.trust {
        let claims = claims(app, args, &values, &account).await?;
        trust(&plan, &values, &account, claims.as_ref())?
    } else {
        least(&plan, &values, &account).await?
    };
    app.print(&format!("{document:#}\n"))
}

fn chosen(plan: &Plan, asked: Option<&str>) -> Result<String, Failure> {
    let there = accounts(plan);
    let names = || there.iter().cloned().collect::<Vec<_>>().join(", ");
    match (asked, there.len()) {
        (Some(asked), _) if there.contains(asked) => Ok(asked.to_owned()),
        (_, 0) => Err(Failure::usage(
            format!("pipeline `{}` works in no AWS account", plan.pipeline),
            "name one that pushes to an ECR, deploys to ECS or reads secrets from an account",
        )),
        (Some(asked), _) => Err(Failure::usage(
            format!(
                "pipeline `{}` does not work in aws `{asked}`",
                plan.pipeline
            ),
            format!("it works in {}", names()),
        )),
        (None, 1) => Ok(there.into_iter().next().unwrap_or_default()),
        (None, _) => Err(Failure::usage(
            format!(
                "pipeline `{}` works in several accounts: {}",
                plan.pipeline,
                names()
            ),
            "choose one with `--account NAME`; each has a policy of its own",
        )),
    }
}

/// What the tokens claim that the role is to trust: as asked for, else as the declared file says.
async fn claims(
    app: &App<'_>,
    args: &Policy,
    values: &Values,
    account: &str,
) -> Result<Option<Claims>, Failure> {
    if let (Some(issuer), Some(subject)) = (&args.issuer, &args.subject) {
        return Ok(Some(Claims {
            issuer: issuer.clone(),
            subject: subject.clone(),
            audience: args.audience.clone(),
        }));
    }
    // Whatever else of it is not known here does not matter.
    let Ok(account) = values.account(account).await else {
        return Ok(None);
    };
    let Some(WebIdentity::File(path)) = &account.web_identity else {
        return Ok(None);
    };
    let token = app.files.read(path, TOKEN)?;
    Claims::of(&token).map(Some).ok_or_else(|| {
        Failure::usage(
            format!("{} holds no JSON Web Token", path.display()),
            "say what tokens claim with `--issuer URL --subject SUBJECT`",
        )
    })
}
