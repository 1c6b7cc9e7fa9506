//! The least IAM policy a pipeline needs in an account, and the trust policy of its role. Derived
//! from the stages; asks nobody.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::build::{Plan, PlanError};
use crate::decl::{AwsDecl, KeptIn, RegistryDecl, VarSource};
use crate::formats::web_token::Claims;
use crate::lang::Reference;
use crate::stage::grant::{Arns, Grant};
use crate::stage::{Values, Want};

/// What reading images takes.
const PULL: &[&str] = &["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
/// What pushing them takes beside.
const PUSH: &[&str] = &[
    "ecr:BatchCheckLayerAvailability",
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];
const PUSH_PUBLIC: &[&str] = &[
    "ecr-public:BatchCheckLayerAvailability",
    "ecr-public:CompleteLayerUpload",
    "ecr-public:InitiateLayerUpload",
    "ecr-public:PutImage",
    "ecr-public:UploadLayerPart",
];

/// The accounts a plan's stages and secrets are in.
pub fn accounts(plan: &Plan) -> BTreeSet<String> {
    let mut accounts = BTreeSet::new();
    for stage in &plan.stages {
        accounts.extend(stage.body.accounts());
    }
    for (image, _) in images(plan) {
        let registry = registry_of(plan, &image);
        accounts.extend(registry.and_then(|registry| Some(registry.aws.as_ref()?.value.clone())));
    }
    for name in plan.secrets() {
        let secret = plan.decls.secrets.get(&name);
        accounts.extend(secret.and_then(|secret| Some(secret.value.aws.as_ref()?.value.clone())));
    }
    accounts
}

/// What whoever works in the account has to be allowed, as a policy document.
pub async fn policy(plan: &Plan, values: &Values, account: &str) -> Result<Value, PlanError> {
    let arns = Arns {
        decls: &plan.decls,
        vars: &values.vars,
    };
    let mut grants = Vec::new();
    for (image, pushed) in images(plan) {
        grants.extend(of_image(plan, values, &arns, &image, pushed).await?);
    }
    for stage in &plan.stages {
        grants.extend(stage.body.grants(&arns));
    }
    for name in plan.secrets() {
        grants.extend(of_secret(plan, &arns, &name));
    }
    grants.retain(|grant| grant.account == account);
    Ok(document(&grants))
}

/// Images the stages touch, and whether they push them.
fn images(plan: &Plan) -> BTreeMap<String, bool> {
    let mut images: BTreeMap<String, bool> = BTreeMap::new();
    for stage in &plan.stages {
        let mut note = |image: &str, pushed: bool| {
            if plan.decls.images.contains_key(image) {
                *images.entry(image.to_owned()).or_default() |= pushed;
            }
        };
        match stage.kind.name() {
            "push" => note(stage.id.name(), true),
            "build" | "scan" => note(stage.id.name(), false),
            _ => {}
        }
        for read in stage.body.reads() {
            if let Want::Image(image) = &read.what {
                note(image, false);
            }
        }
        for template in stage.body.templates() {
            for reference in template.references() {
                if let Reference::Image(image, _) = &reference.value {
                    note(image, false);
                }
            }
        }
    }
    images
}

fn registry_of<'a>(plan: &'a Plan, image: &str) -> Option<&'a RegistryDecl> {
    let image = &plan.decls.images.get(image)?.value;
    let registry = image.registry.as_ref()?;
    Some(&plan.decls.registries.get(&registry.value)?.value)
}

async fn of_image(
    plan: &Plan,
    values: &Values,
    arns: &Arns<'_>,
    name: &str,
    pushed: bool,
) -> Result<Vec<Grant>, PlanError> {
    let Some(registry) = registry_of(plan, name) else {
        return Ok(Vec::new());
    };
    let (Some(aws), Some(image)) = (&registry.aws, plan.decls.images.get(name)) else {
        return Ok(Vec::new());
    };
    let image = &image.value;
    let repository = match &image.tag {
        crate::decl::ImageTag::Tag(_) => arns.text(&image.repository),
        // Its name is in a file, which is there.
        crate::decl::ImageTag::File { .. } => {
            let named = values.named(name, image, None).await.map_err(|missing| {
                PlanError::new(missing.to_string(), "run this where the file is")
            })?;
            named.0
        }
    };
    let account = aws.value.as_str();
    let grant = |sid, actions, resources: Vec<String>| Grant {
        account: account.to_owned(),
        sid,
        actions,
        resources,
        condition: None,
    };
    let any = || vec!["*".to_owned()];
    if registry.public.is_some() {
        if !pushed {
            return Ok(Vec::new());
        }
        let arn = format!(
            "arn:aws:ecr-public::{}:repository/{repository}",
            arns.id(account)
        );
        let mut grants = vec![
            grant(
                "EcrPublicLogin",
                &[
                    "ecr-public:GetAuthorizationToken",
                    "sts:GetServiceBearerToken",
                ],
                any(),
            ),
            grant("EcrPublicPush", PUSH_PUBLIC, vec![arn.clone()]),
        ];
        if registry.create.is_some() {
            grants.push(grant(
                "EcrPublicCreate",
                &["ecr-public:CreateRepository"],
                vec![arn],
            ));
        }
        return Ok(grants);
    }
    let known = |template: &Option<crate::lang::Template>| template.as_ref().map(|t| arns.text(t));
    let region = known(&registry.region).unwrap_or_else(|| arns.region(account));
    let owner = known(&registry.account).unwrap_or_else(|| arns.id(account));
    let partition = Arns::partition(&region);
    let arn = format!("arn:{partition}:ecr:{region}:{owner}:repository/{repository}");
    let mut grants = vec![
        grant("EcrLogin", &["ecr:GetAuthorizationToken"], any()),
        grant("EcrPull", PULL, vec![arn.clone()]),
    ];
    if pushed {
        grants.push(grant("EcrPush", PUSH, vec![arn.clone()]));
        if registry.create.is_some() {
            grants.push(grant("EcrCreate", &["ecr:CreateRepository"], vec![arn]));
        }
    }
    Ok(grants)
}

fn of_secret(plan: &Plan, arns: &Arns<'_>, name: &str) -> Option<Grant> {
    let secret = &plan.decls.secrets.get(name)?.value;
    let account = secret.aws.as_ref()?.value.clone();
    let VarSource::Kept(kept) = &secret.from else {
        return None;
    };
    let (sid, actions, arn): (_, &[&str], _) = match kept.store {
        _ if kept.name.starts_with("arn:") => (
            if kept.store == KeptIn::Ssm {
                "ReadParameters"
            } else {
                "ReadSecrets"
            },
            if kept.store == KeptIn::Ssm {
                &["ssm:GetParameter"]
            } else {
                &["secretsmanager:GetSecretValue"]
            },
            kept.name.clone(),
        ),
        // Its ARN ends in six characters nobody can know.
        KeptIn::SecretsManager => (
            "ReadSecrets",
            &["secretsmanager:GetSecretValue"],
            arns.arn(
                &account,
                "secretsmanager",
                &format!("secret:{}-??????", kept.name),
            ),
        ),
        KeptIn::Ssm => {
            let name = kept.name.trim_start_matches('/');
            (
                "ReadParameters",
                &["ssm:GetParameter"],
                arns.arn(&account, "ssm", &format!("parameter/{name}")),
            )
        }
    };
    Some(Grant {
        account,
        sid,
        actions,
        resources: vec![arn],
        condition: None,
    })
}

/// Statements of one name and condition are one.
fn document(grants: &[Grant]) -> Value {
    type Key<'a> = (&'a str, Option<&'a (&'static str, &'static str, String)>);
    let mut merged: Vec<(Key<'_>, BTreeSet<&str>, BTreeSet<&str>)> = Vec::new();
    for grant in grants {
        let key = (grant.sid, grant.condition.as_ref());
        let at = merged.iter().position(|(known, ..)| *known == key);
        let at = at.unwrap_or_else(|| {
            merged.push((key, BTreeSet::new(), BTreeSet::new()));
            merged.len() - 1
        });
        let (_, actions, resources) = &mut merged[at];
        actions.extend(grant.actions);
        resources.extend(grant.resources.iter().map(String::as_str));
    }
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let statements = merged
        .into_iter()
        .map(|((sid, condition), actions, resources)| {
            let number = numbers.entry(sid).or_default();
            *number += 1;
            // Names of statements are unique in a policy.
            let sid = match number {
                1 => sid.to_owned(),
                number => format!("{sid}{number}"),
            };
            let mut statement = Map::new();
            statement.insert("Sid".to_owned(), json!(sid));
            statement.insert("Effect".to_owned(), json!("Allow"));
            statement.insert("Action".to_owned(), json!(actions));
            statement.insert("Resource".to_owned(), json!(resources));
            if let Some((operator, key, value)) = condition {
                statement.insert(
                    "Condition".to_owned(),
                    json!({ *operator: { *key: value } }),
                );
            }
            Value::Object(statement)
        });
    let statements: Vec<Value> = statements.collect();
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// Who may assume the roles of an account: by role, in the order they are assumed.
///
/// `claims` are those of the token the first one is assumed with, if it is assumed with one.
pub fn trust(
    plan: &Plan,
    values: &Values,
    account: &str,
    claims: Option<&Claims>,
) -> Result<Value, PlanError> {
    let arns = Arns {
        decls: &plan.decls,
        vars: &values.vars,
    };
    let decl = plan.decls.aws.get(account).map(|decl| &decl.value);
    let Some(decl) = decl.filter(|decl| !decl.roles.is_empty()) else {
        return Err(PlanError::new(
            format!("aws `{account}` assumes no role, so nobody has to trust anybody"),
            "leave `--trust` out, or add a `role` to its declaration",
        ));
    };
    let mut documents = Map::new();
    let mut before: Option<String> = None;
    for role in &decl.roles {
        let role = arns.text(role);
        let statement = match (&before, &decl.web_identity) {
            (None, Some(_)) => of_token(&role, claims)?,
            (before, _) => {
                let root = || {
                    let mut parts = role.split(':');
                    let partition = parts.nth(1).unwrap_or("aws");
                    let id = parts.nth(2).unwrap_or("*");
                    format!("arn:{partition}:iam::{id}:root")
                };
                of_principal(&arns, decl, before.clone().unwrap_or_else(root))
            }
        };
        let document = json!({ "Version": "2012-10-17", "Statement": [statement] });
        documents.insert(role.clone(), document);
        before = Some(role);
    }
    if documents.len() == 1 {
        let only = documents.into_iter().next().map(|(_, document)| document);
        return Ok(only.unwrap_or_default());
    }
    Ok(Value::Object(documents))
}

fn of_token(role: &str, claims: Option<&Claims>) -> Result<Value, PlanError> {
    let Some(claims) = claims else {
        return Err(PlanError::new(
            "whose token the role would have to trust is not known here",
            "say it with `--issuer URL --subject SUBJECT`; `*` in the subject stands for any characters",
        ));
    };
    let host = claims.provider();
    let mut parts = role.split(':');
    let partition = parts.nth(1).unwrap_or("aws");
    let id = parts.nth(2).unwrap_or("*");
    let operator = if claims.subject.contains(['*', '?']) {
        "StringLike"
    } else {
        "StringEquals"
    };
    let mut condition = Map::new();
    let audience = json!({ format!("{host}:aud"): claims.audience });
    condition.insert("StringEquals".to_owned(), audience);
    let subject = condition.entry(operator).or_insert_with(|| json!({}));
    subject[format!("{host}:sub")] = json!(claims.subject);
    Ok(json!({
        "Effect": "Allow",
        "Principal": { "Federated": format!("arn:{partition}:iam::{id}:oidc-provider/{host}") },
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": condition,
    }))
}

fn of_principal(arns: &Arns<'_>, decl: &AwsDecl, principal: String) -> Value {
    let mut statement = json!({
        "Effect": "Allow",
        "Principal": { "AWS": principal },
        "Action": ["sts:AssumeRole"],
    });
    if !decl.tags.is_empty() {
        statement["Action"] = json!(["sts:AssumeRole", "sts:TagSession"]);
    }
    if let Some(id) = &decl.external_id {
        // One that is a secret stays one: AWS refuses a policy with this text, and says where.
        let id = match id.secret() {
            Some(secret) => format!("${{secret.{}}}", secret.value),
            None => arns.text(id),
        };
        statement["Condition"] = json!({ "StringEquals": { "sts:ExternalId": id } });
    }
    statement
}
