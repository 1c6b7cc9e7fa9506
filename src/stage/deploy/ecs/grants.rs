//! What deploying to ECS has to be allowed to do, for the policies that are printed.

use super::Ecs;
use super::spec::{Base, Strategy};
use crate::stage::grant::{Arns, Grant};

impl Ecs {
    /// The statements, in its account.
    pub(super) fn statements(&self, arns: &Arns<'_>) -> Vec<Grant> {
        let account = self.aws.value.as_str();
        let cluster = self
            .cluster
            .as_ref()
            .map_or("*".to_owned(), |cluster| arns.text(cluster));
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
        let mut all = Vec::new();
        if let Some(service) = &self.service {
            let service = arns.text(service);
            all.push(grant(
                "EcsService",
                &[
                    "ecs:DescribeServices",
                    "ecs:ListServiceDeployments",
                    "ecs:UpdateService",
                ],
                vec![arn(format!("service/{cluster}/{service}"))],
            ));
            all.push(grant(
                "EcsServiceDeployments",
                &[
                    "ecs:DescribeServiceDeployments",
                    "ecs:DescribeServiceRevisions",
                ],
                vec![
                    arn(format!("service-deployment/{cluster}/{service}/*")),
                    arn(format!("service-revision/{cluster}/{service}/*")),
                ],
            ));
        }
        all.push(grant(
            "EcsTaskDefinitions",
            &["ecs:DescribeTaskDefinition", "ecs:RegisterTaskDefinition"],
            any(),
        ));
        if self.service.is_some() {
            all.push(Grant {
                condition: in_cluster(),
                ..grant("EcsTasks", &["ecs:DescribeTasks", "ecs:ListTasks"], any())
            });
        }
        all.push(Grant {
            condition: Some((
                "StringEquals",
                "iam:PassedToService",
                "ecs-tasks.amazonaws.com".to_owned(),
            )),
            ..grant("EcsPassRole", &["iam:PassRole"], any())
        });
        // Without these it works as well, and what is missing is found only by the tasks that die.
        all.push(grant(
            "EcsPreflight",
            &[
                "ecs:DescribeClusters",
                "elasticloadbalancing:DescribeTargetGroups",
                "iam:GetRole",
                "logs:DescribeLogGroups",
                "secretsmanager:DescribeSecret",
                "ssm:GetParameters",
            ],
            any(),
        ));
        if !self.before.is_empty() {
            all.push(Grant {
                condition: in_cluster(),
                ..grant("EcsRunTask", &["ecs:RunTask", "ecs:StopTask"], any())
            });
            let groups = arns.arn(account, "logs", "log-group:*");
            all.push(grant("TaskLogs", &["logs:GetLogEvents"], vec![groups]));
        }
        if let Some(Strategy::CodeDeploy(code_deploy)) = &self.strategy {
            let application = arns.text(&code_deploy.application);
            let group = arns.text(&code_deploy.group);
            all.push(grant(
                "CodeDeploy",
                &[
                    "codedeploy:CreateDeployment",
                    "codedeploy:GetApplicationRevision",
                    "codedeploy:GetDeployment",
                    "codedeploy:GetDeploymentConfig",
                    "codedeploy:ListDeployments",
                    "codedeploy:RegisterApplicationRevision",
                ],
                vec![
                    arns.arn(account, "codedeploy", &format!("application:{application}")),
                    arns.arn(account, "codedeploy", "deploymentconfig:*"),
                    arns.arn(
                        account,
                        "codedeploy",
                        &format!("deploymentgroup:{application}/{group}"),
                    ),
                ],
            ));
        }
        if !self.schedules.is_empty() {
            let rules = self.schedules.iter().map(|rule| {
                let bus = rule.bus.as_ref().map(|bus| arns.text(bus) + "/");
                let name = format!("{}{}", bus.unwrap_or_default(), arns.text(&rule.rule));
                arns.arn(account, "events", &format!("rule/{name}"))
            });
            all.push(grant(
                "EventBridge",
                &["events:ListTargetsByRule", "events:PutTargets"],
                rules.collect(),
            ));
        }
        if let Base::Object(object) = &self.base {
            let object = arns.text(object);
            let object = object.strip_prefix("s3://").unwrap_or(&object);
            let object = arns.object(account, object);
            all.push(grant("S3TaskDefinition", &["s3:GetObject"], vec![object]));
        }
        all
    }
}
