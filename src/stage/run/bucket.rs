//! What a `run` that keeps something in a bucket has to be allowed, and whether it would work.

use super::Run;
use crate::stage::grant::{Arns, Grant};
use crate::stage::{Forecast, PlanContext, Verdict};

/// What keeping something in a bucket has to be allowed.
pub(super) fn grants(name: &str, arns: &Arns<'_>) -> Option<[Grant; 2]> {
    let bucket = &arns.decls.buckets.get(name)?.value;
    let account = bucket.aws.value.clone();
    let address = arns.text(bucket.address.as_ref()?);
    let rest = address.strip_prefix("s3://").unwrap_or("*");
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let below = match prefix.trim_end_matches('/') {
        "" => "*".to_owned(),
        prefix => format!("{prefix}/*"),
    };
    Some([
        Grant {
            account: account.clone(),
            sid: "KeptObjects",
            actions: &["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"],
            resources: vec![arns.object(&account, &format!("{bucket}/{below}"))],
            condition: None,
        },
        Grant {
            sid: "KeptList",
            actions: &["s3:ListBucket"],
            resources: vec![arns.object(&account, bucket)],
            condition: Some(("StringLike", "s3:prefix", below)),
            account,
        },
    ])
}

impl Run {
    /// Whether the bucket of its files can be entered.
    pub(super) async fn forecast_bucket(
        &self,
        name: &str,
        mut forecast: Forecast,
        cx: &PlanContext<'_>,
    ) -> Forecast {
        let depot = match cx.values.depot(name).await {
            Ok(depot) => depot,
            Err(missing) => return Forecast::missing(&missing),
        };
        forecast = forecast.effect(format!(
            "keeps {} in s3://{}/{}",
            self.produces.join(" "),
            depot.bucket,
            depot.prefix
        ));
        let Ok(place) = depot.place("files/") else {
            return forecast;
        };
        if cx.offline {
            return forecast;
        }
        match cx.readers.buckets.list(&depot.account, &place, 1).await {
            Ok(_) => forecast,
            Err(error) => {
                forecast.verdict = Verdict::Fail;
                forecast.reason = error.to_string();
                forecast
            }
        }
    }
}
