//! What deploying to ECS has to be allowed to do, for the policies that are printed.

use crate::lang::Template;
use crate::stage::grant::{Arns, Grant};

/// What a deployment to ECS touches.
#[derive(Debug)]
pub(super) struct EcsNeeds {
    /// The cluster.
    pub(super) cluster: Template,
    /// The service.
    pub(super) service: Template,
    /// `s3://bucket/key` of the base task definition.
    pub(super) object: Option<Template>,
    /// A task runs before the update.
    pub(super) before: bool,
}

impl EcsNeeds {
    /// The statements, in an account by its declaration.
    pub(super) fn grants(&self, account: &str, arns: &Arns<'_>) -> Vec<Grant> {
        let (cluster, service) = (arns.text(&self.cluster), arns.text(&self.service));
        let arn = |rest: String| arns.arn(account, "ecs", &rest);
        let in_cluster = || {
            let cluster = arn(format!("cluster/{cluster}"));
            Some(("ArnEquals", "ecs:cluster", cluster))
        };
        let grant = |sid, actions, resources: Vec<String>| Grant {
            account: account.to_owned(),
            sid,
            actions,
            resources,
            condition: None,
        };
        let any = || vec!["*".to_owned()];
        let mut all = vec![
            grant(
                "EcsService",
                &[
                    "ecs:DescribeServices",
                    "ecs:ListServiceDeployments",
                    "ecs:UpdateService",
                ],
                vec![arn(format!("service/{cluster}/{service}"))],
            ),
            grant(
                "EcsServiceDeployments",
                &["ecs:DescribeServiceDeployments"],
                vec![arn(format!("service-deployment/{cluster}/{service}/*"))],
            ),
            grant(
                "EcsTaskDefinitions",
                &["ecs:DescribeTaskDefinition", "ecs:RegisterTaskDefinition"],
                any(),
            ),
            Grant {
                condition: in_cluster(),
                ..grant("EcsTasks", &["ecs:DescribeTasks", "ecs:ListTasks"], any())
            },
            Grant {
                condition: Some((
                    "StringEquals",
                    "iam:PassedToService",
                    "ecs-tasks.amazonaws.com".to_owned(),
                )),
                ..grant("EcsPassRole", &["iam:PassRole"], any())
            },
        ];
        if self.before {
            all.push(Grant {
                condition: in_cluster(),
                ..grant("EcsRunTask", &["ecs:RunTask", "ecs:StopTask"], any())
            });
            let groups = arns.arn(account, "logs", "log-group:*");
            all.push(grant("TaskLogs", &["logs:GetLogEvents"], vec![groups]));
        }
        if let Some(object) = &self.object {
            let object = arns.text(object);
            let object = object.strip_prefix("s3://").unwrap_or(&object);
            let object = arns.object(account, object);
            all.push(grant("S3TaskDefinition", &["s3:GetObject"], vec![object]));
        }
        all
    }
}
