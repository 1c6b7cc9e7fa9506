//! `aws policy`: what the pipelines of the articles have to be allowed, no more and no less.

use serde_json::{Value, json};

use crate::support::files::root;
use crate::support::moto::token;
use crate::support::program::Program;

/// A repository with the pipelines of an example, and other declarations if the example's are to
/// be replaced.
fn example(name: &str, replace: &[(&str, &str)], more: &[(&str, &str)]) -> Program {
    let directory = root().join("pipelines").join(name);
    let mut files: Vec<(String, String)> = Vec::new();
    for path in crate::support::files::below(&directory, "kdl") {
        let mut text = std::fs::read_to_string(&path).expect("a readable file");
        for (from, to) in replace {
            text = text.replace(from, to);
        }
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        files.push((format!("pipelines/{name}"), text));
    }
    let mut all: Vec<(&str, &str)> = files
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    all.extend(more);
    all.push((".gitignore", ".pipewright/\n"));
    Program::with_files(&all)
}

fn print(program: &Program, args: &[&str]) -> Value {
    let answer = program.expect(args, 0);
    serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {}", answer.out))
}

fn statement<'a>(policy: &'a Value, sid: &str) -> &'a Value {
    let all = policy["Statement"].as_array().expect("statements");
    let found = all.iter().find(|statement| statement["Sid"] == sid);
    found.unwrap_or_else(|| panic!("no {sid} in {policy:#}"))
}

fn sids(policy: &Value) -> Vec<&str> {
    let all = policy["Statement"].as_array().expect("statements");
    all.iter()
        .filter_map(|statement| statement["Sid"].as_str())
        .collect()
}

#[test]
fn article_four_may_push_and_deploy() {
    let program = example("ecs-codepipeline-vs-actions", &[], &[]);
    let policy = print(&program, &["aws", "policy", "deploy"]);
    assert_eq!(policy["Version"], "2012-10-17");
    assert_eq!(
        sids(&policy),
        [
            "EcrLogin",
            "EcrPull",
            "EcrPush",
            "EcsService",
            "EcsServiceDeployments",
            "EcsTaskDefinitions",
            "EcsTasks",
            "EcsPassRole",
            "EcsPreflight",
            "S3TaskDefinition"
        ]
    );
    assert_eq!(
        statement(&policy, "EcrPush"),
        &json!({
            "Sid": "EcrPush",
            "Effect": "Allow",
            "Action": [
                "ecr:BatchCheckLayerAvailability", "ecr:CompleteLayerUpload",
                "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
            ],
            "Resource": ["arn:aws:ecr:ap-northeast-1:*:repository/my-repository"],
        })
    );
    assert_eq!(
        statement(&policy, "EcsService")["Resource"],
        json!(["arn:aws:ecs:ap-northeast-1:*:service/ecs-cluster/ecs-service"])
    );
    assert_eq!(
        statement(&policy, "S3TaskDefinition")["Resource"],
        json!(["arn:aws:s3:::bucket-of-task-definition/task-definition.json"])
    );
    assert_eq!(
        statement(&policy, "EcsPassRole")["Condition"],
        json!({ "StringEquals": { "iam:PassedToService": "ecs-tasks.amazonaws.com" } })
    );
}

#[test]
fn article_five_builds_in_one_pipeline_and_deploys_in_another() {
    let files = [("deploy/images.env", "SAMPLE_IMAGE=team/sample:1.4.2\n")];
    let role = "aws prod region=ap-northeast-1 { role \"arn:aws:iam::123456789012:role/ci\"; web-identity issuer }";
    let replace = [("aws prod region=ap-northeast-1", role)];
    let program = example("ecs-two-stage-build-deploy", &replace, &files);
    let build = print(&program, &["aws", "policy", "build-stage"]);
    assert_eq!(sids(&build), ["EcrLogin", "EcrPull", "EcrPush"]);
    let repository = "arn:aws:ecr:ap-northeast-1:123456789012:repository/team/sample";
    assert_eq!(
        statement(&build, "EcrPush")["Resource"],
        json!([repository])
    );
    let deploy = print(&program, &["aws", "policy", "deploy-stage"]);
    assert!(!sids(&deploy).contains(&"EcrPush") && !sids(&deploy).contains(&"S3TaskDefinition"));
    assert_eq!(
        statement(&deploy, "EcsTasks")["Condition"],
        json!({ "ArnEquals": {
            "ecs:cluster": "arn:aws:ecs:ap-northeast-1:123456789012:cluster/main"
        }})
    );

    // Whom the role trusts depends on who makes the tokens.
    let trust = ["aws", "policy", "build-stage", "--trust"];
    let answer = program.expect(&trust, 2);
    assert!(
        answer.err.contains("--issuer URL --subject SUBJECT"),
        "{answer:?}"
    );
    let who = [
        "--issuer",
        "https://token.example.com",
        "--subject",
        "repo:acme/shop:*",
    ];
    let trust = print(&program, &[&trust[..], &who[..]].concat());
    assert_eq!(
        trust["Statement"],
        json!([{
            "Effect": "Allow",
            "Principal": { "Federated": "arn:aws:iam::123456789012:oidc-provider/token.example.com" },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": { "token.example.com:aud": "sts.amazonaws.com" },
                "StringLike": { "token.example.com:sub": "repo:acme/shop:*" },
            },
        }])
    );
}

#[test]
fn secrets_and_chained_roles_are_allowed_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = token(directory.path());
    let text = format!(
        r#"
        var account env=PIPEWRIGHT_TEST_ACCOUNT default="111111111111"
        aws prod region=eu-west-1 {{
            role "arn:aws:iam::222222222222:role/hub" "arn:aws:iam::${{var.account}}:role/spoke"
            web-identity file "{}"
            tag team shop
        }}
        aws other region=cn-north-1
        secret DB aws=prod secretsmanager="db/main" key=password
        secret TOKEN aws=prod ssm="/shop/token"
        secret FOREIGN aws=other ssm="x"
        pipeline p {{ run a {{ env DB "${{secret.DB}}"; env TOKEN "${{secret.TOKEN}}"; script "true" }} }}
        pipeline q {{ run a {{ env DB "${{secret.DB}}"; env F "${{secret.FOREIGN}}"; script "true" }} }}
        pipeline r {{ run a {{ script "true" }} }}
        "#,
        token.display()
    );
    let program = Program::new(&text);
    let policy = print(&program, &["aws", "policy", "p"]);
    assert_eq!(
        policy["Statement"],
        json!([
            {
                "Sid": "ReadSecrets", "Effect": "Allow",
                "Action": ["secretsmanager:GetSecretValue"],
                "Resource": ["arn:aws:secretsmanager:eu-west-1:111111111111:secret:db/main-??????"],
            },
            {
                "Sid": "ReadParameters", "Effect": "Allow",
                "Action": ["ssm:GetParameter"],
                "Resource": ["arn:aws:ssm:eu-west-1:111111111111:parameter/shop/token"],
            },
        ])
    );
    let trust = print(&program, &["aws", "policy", "p", "--trust"]);
    let hub = &trust["arn:aws:iam::222222222222:role/hub"]["Statement"][0];
    assert_eq!(
        hub["Condition"]["StringEquals"],
        json!({
            "issuer.example.com:aud": "sts.amazonaws.com",
            "issuer.example.com:sub": "repo:acme/shop:ref:refs/heads/main",
        })
    );
    let spoke = &trust["arn:aws:iam::111111111111:role/spoke"]["Statement"][0];
    assert_eq!(
        spoke["Principal"]["AWS"],
        "arn:aws:iam::222222222222:role/hub"
    );
    assert_eq!(spoke["Action"], json!(["sts:AssumeRole", "sts:TagSession"]));

    let several = program.expect(&["aws", "policy", "q"], 2);
    assert!(
        several.err.contains("several accounts: other, prod"),
        "{several:?}"
    );
    let other = print(&program, &["aws", "policy", "q", "--account", "other"]);
    assert_eq!(
        other["Statement"][0]["Resource"],
        json!(["arn:aws-cn:ssm:cn-north-1:*:parameter/x"])
    );
    assert!(
        program
            .expect(&["aws", "policy", "r"], 2)
            .err
            .contains("works in no AWS account")
    );
    let none = program.expect(&["aws", "policy", "q", "--account", "other", "--trust"], 2);
    assert!(none.err.contains("assumes no role"), "{none:?}");
}

/// Everything of a policy that is about S3.
fn of_s3(policy: &Value) -> Vec<&Value> {
    let all = policy["Statement"].as_array().expect("statements");
    all.iter()
        .filter(|statement| statement.to_string().contains("s3:"))
        .collect()
}

#[test]
fn buckets_are_allowed_for_and_nothing_beside() {
    let program = Program::new(
        r#"
        aws store region=eu-west-1
        registry ecr aws=store
        image app registry=ecr "shop/app" { tag "1" }
        bucket ci "s3://kept/pipewright/" aws=store
        bucket whole "s3://all" aws=store
        bucket unused "s3://never" aws=store
        pipeline kept { run a { cache "x" bucket=ci; script "true"; produces "dist" bucket=whole } }
        pipeline cached { run a { cache "x" bucket=ci; cache "y"; script "true" } }
        pipeline local { run a { cache "x"; script "true"; produces "dist" } }
        pipeline based {
            build app
            push app
            deploy web {
                ecs aws=store cluster=main service=web {
                    task-definition s3="s3://tasks/shop/web.json"
                    container web image=app
                }
            }
        }
        "#,
    );
    let kept = print(&program, &["aws", "policy", "kept"]);
    assert_eq!(
        kept["Statement"],
        json!([
            {
                "Sid": "KeptObjects", "Effect": "Allow",
                "Action": ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"],
                "Resource": ["arn:aws:s3:::all/*", "arn:aws:s3:::kept/pipewright/*"],
            },
            {
                "Sid": "KeptList", "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": ["arn:aws:s3:::kept"],
                "Condition": { "StringLike": { "s3:prefix": "pipewright/*" } },
            },
            {
                "Sid": "KeptList2", "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": ["arn:aws:s3:::all"],
                "Condition": { "StringLike": { "s3:prefix": "*" } },
            },
        ])
    );
    let cached = print(&program, &["aws", "policy", "cached"]);
    assert_eq!(sids(&cached), ["KeptObjects", "KeptList"]);
    assert_eq!(
        statement(&cached, "KeptObjects")["Resource"],
        json!(["arn:aws:s3:::kept/pipewright/*"])
    );
    let local = program.expect(&["aws", "policy", "local"], 2);
    assert!(local.err.contains("works in no AWS account"), "{local:?}");
    let based = print(&program, &["aws", "policy", "based"]);
    assert_eq!(
        of_s3(&based),
        [&json!({
            "Sid": "S3TaskDefinition", "Effect": "Allow",
            "Action": ["s3:GetObject"],
            "Resource": ["arn:aws:s3:::tasks/shop/web.json"],
        })]
    );
}
