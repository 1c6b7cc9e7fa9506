//! CloudWatch Logs: what a container printed.

use serde_json::json;

use super::{Api, Ask, AwsServices, read};
use crate::ports::cloud::{Account, CloudError};
use crate::ports::services::{LogPage, LogStream};

impl AwsServices {
    /// `GetLogEvents`: a stream that is not there yet is empty.
    pub(super) async fn get_log_events(
        &self,
        account: &Account,
        stream: &LogStream,
        from: Option<&str>,
    ) -> Result<LogPage, CloudError> {
        let mut body = json!({
            "logGroupName": stream.group,
            "logStreamName": stream.stream,
            "startFromHead": true,
        });
        if let Some(from) = from {
            body["nextToken"] = json!(from);
        }
        let ask = Ask::new(Api::Logs, "GetLogEvents", &stream.group, body);
        let answer = match self
            .calls
            .call(account, ask.at(stream.region.as_deref()))
            .await
        {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("ResourceNotFoundException") => {
                return Ok(LogPage::default());
            }
            Err(error) => return Err(error),
        };
        Ok(LogPage {
            lines: read::list(&answer, "events")
                .map(|event| read::text(event, "message"))
                .collect(),
            next: read::optional(&answer, "nextForwardToken"),
        })
    }
}
