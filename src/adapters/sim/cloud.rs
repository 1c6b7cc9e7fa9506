//! Simulated accounts: whoever asks is let in, and finds in buckets what a test put there, or what a
//! lenient world makes up.

use async_trait::async_trait;

use super::call::{Call, Life};
use crate::ports::cloud::{Account, Caller, CloudError, CloudReader, ObjectPlace};
use crate::ports::registry::Ecr;

/// The account of whoever declares none.
const ACCOUNT: &str = "123456789012";

/// The account id that a declaration lets one guess.
fn id_of(account: &Account) -> String {
    let role = account.roles.last().and_then(|role| role.split(':').nth(4));
    let id = account.allowed.first().map(String::as_str).or(role);
    id.unwrap_or(ACCOUNT).to_owned()
}

#[async_trait]
impl CloudReader for Life {
    async fn caller(&self, account: &Account) -> Result<Caller, CloudError> {
        let id = id_of(account);
        Ok(Caller {
            arn: format!(
                "arn:aws:sts::{id}:assumed-role/simulated/pipewright-{}",
                account.name
            ),
            account: id,
        })
    }

    async fn registry_host(&self, registry: &Ecr) -> Result<String, CloudError> {
        if registry.public {
            return Ok("public.ecr.aws".to_owned());
        }
        let account = &registry.account;
        let owner = registry.owner.clone().unwrap_or_else(|| id_of(account));
        let region = registry.region.as_ref().or(account.region.as_ref());
        let region = region.map_or("us-east-1", String::as_str);
        Ok(format!("{owner}.dkr.ecr.{region}.amazonaws.com"))
    }

    async fn object(
        &self,
        account: &Account,
        place: &ObjectPlace,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, CloudError> {
        let address = place.to_string();
        let call = Call::one("cloud.object", &address);
        self.pass::<CloudError>(&call, None).await?;
        let lenient = self.shared.options.lenient_buckets;
        let object = self
            .look(|state| match state.buckets.read(account, place) {
                // Objects are read for task definitions, and for nothing else.
                Ok(None) if lenient => {
                    let name = place.key.rsplit('/').next().unwrap_or_default();
                    let name = name.split('.').next().unwrap_or_default();
                    let text = state.cloud.made_up(name).to_string();
                    Ok(Some(text.into_bytes().into()))
                }
                found => found,
            })
            .await?;
        if object
            .as_ref()
            .is_some_and(|object| object.len() as u64 > limit)
        {
            return Err(CloudError::TooLarge {
                account: account.name.clone(),
                object: address,
                limit,
            });
        }
        Ok(object.map(|object| object.to_vec()))
    }
}
