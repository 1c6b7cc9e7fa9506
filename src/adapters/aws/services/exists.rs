//! Whether what a task needs is there.

use serde_json::json;

use super::{Api, Ask, AwsServices, read};
use crate::ports::cloud::{Account, CloudError};
use crate::ports::services::Thing;

impl AwsServices {
    pub(super) async fn is_there(
        &self,
        account: &Account,
        thing: &Thing,
    ) -> Result<bool, CloudError> {
        match thing {
            Thing::Cluster(name) => self.is_cluster(account, name).await,
            Thing::Role(arn) => self.is_role(account, arn).await,
            Thing::Secret(name) => self.is_secret(account, name).await,
            Thing::LogGroup { region, name } => {
                self.is_log_group(account, region.as_deref(), name).await
            }
            Thing::TargetGroup(arn) => self.is_target_group(account, arn).await,
        }
    }

    /// `DescribeClusters`: a cluster that was deleted is told of for a while, as `INACTIVE`.
    async fn is_cluster(&self, account: &Account, name: &str) -> Result<bool, CloudError> {
        let body = json!({"clusters": [name]});
        let answer = self.ecs(account, "DescribeClusters", name, body).await?;
        Ok(read::list(&answer, "clusters").any(|cluster| {
            matches!(
                read::text(cluster, "status").as_str(),
                "ACTIVE" | "PROVISIONING"
            )
        }))
    }

    /// `GetRole` of IAM.
    async fn is_role(&self, account: &Account, arn: &str) -> Result<bool, CloudError> {
        // `arn:aws:iam::ACCOUNT:role/PATH/NAME`, or only the name.
        let name = arn.rsplit('/').next().unwrap_or(arn);
        let body = json!({"RoleName": name, "Version": "2010-05-08"});
        // Identities are kept in one region of a partition, whatever it is asked from.
        let region = match arn.split(':').nth(1) {
            Some("aws-cn") => "cn-north-1",
            Some("aws-us-gov") => "us-gov-west-1",
            _ => "us-east-1",
        };
        let ask = Ask::new(Api::Iam, "GetRole", arn, body).at(Some(region));
        absent_if(self.calls.call(account, ask).await, &["NoSuchEntity"])
    }

    /// `DescribeTargetGroups` of Elastic Load Balancing.
    async fn is_target_group(&self, account: &Account, arn: &str) -> Result<bool, CloudError> {
        let body = json!({"TargetGroupArns.member.1": arn, "Version": "2015-12-01"});
        let ask = Ask::new(Api::LoadBalancing, "DescribeTargetGroups", arn, body);
        absent_if(
            self.calls.call(account, ask.at(region_of(arn))).await,
            &["TargetGroupNotFound"],
        )
    }

    /// `DescribeSecret` of Secrets Manager for its ARNs, `GetParameters` of Systems Manager for
    /// anything else. No value is read of a secret; of a parameter none is decrypted.
    async fn is_secret(&self, account: &Account, name: &str) -> Result<bool, CloudError> {
        let parts: Vec<&str> = name.split(':').collect();
        if let ["arn", _, "secretsmanager", region, _, "secret", id, ..] = parts.as_slice() {
            // After the name may follow a JSON key, a version stage and a version id.
            let arn = parts[..6].join(":");
            let arn = format!("{arn}:{id}");
            let ask = Ask::new(
                Api::SecretsManager,
                "DescribeSecret",
                name,
                json!({"SecretId": arn}),
            );
            let answer = self.calls.call(account, ask.at(Some(region))).await;
            return absent_if(answer, &["ResourceNotFoundException"]);
        }
        // A parameter's ARN ends with its name, whose slashes begin after `parameter`.
        let (region, name) = match parts.as_slice() {
            ["arn", _, "ssm", region, _, resource] => {
                let name = resource.strip_prefix("parameter").unwrap_or(resource);
                let flat = name.strip_prefix('/').filter(|name| !name.contains('/'));
                (Some(*region), flat.unwrap_or(name))
            }
            _ => (None, name),
        };
        let body = json!({"Names": [name], "WithDecryption": false});
        let ask = Ask::new(Api::Ssm, "GetParameters", name, body);
        let answer = self.calls.call(account, ask.at(region)).await?;
        Ok(read::list(&answer, "Parameters").next().is_some())
    }

    /// `DescribeLogGroups` by prefix, as there is no other way.
    async fn is_log_group(
        &self,
        account: &Account,
        region: Option<&str>,
        name: &str,
    ) -> Result<bool, CloudError> {
        // The group itself sorts first among those it is a prefix of.
        let body = json!({"logGroupNamePrefix": name, "limit": 1});
        let ask = Ask::new(Api::Logs, "DescribeLogGroups", name, body).at(region);
        let answer = self.calls.call(account, ask).await?;
        Ok(read::list(&answer, "logGroups").any(|group| read::text(group, "logGroupName") == name))
    }
}

fn absent_if<T>(answer: Result<T, CloudError>, codes: &[&str]) -> Result<bool, CloudError> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.code().is_some_and(|code| codes.contains(&code)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn region_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(3).filter(|region| !region.is_empty())
}
