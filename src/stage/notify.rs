//! `notify`: tells people or programs how the run went. Always, unless `when` says otherwise.

use std::sync::Arc;

use async_trait::async_trait;

use super::push::backoff;
use super::{
    CheckContext, Done, Failure, Forecast, Kind, Lowering, PlanContext, Stage, StageContext,
    Verdict,
};
use crate::base::{Diagnostic, Spanned, Text};
use crate::decl::{self, Channel};
use crate::event::Outcome;
use crate::lang::Template;
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};
use crate::ports::Retry;
use crate::ports::notifier::Message;
use crate::stage_children;

const TITLE: NodeSpec = NodeSpec::field(
    "title",
    Type::Text,
    "First line; pipeline and outcome if absent.",
);
const MESSAGE: NodeSpec = NodeSpec::field("message", Type::Text, "Further text.");

/// The kind.
pub const KIND: Kind = Kind {
    spec: &NodeSpec {
        args: Args::some(Type::Name, "name"),
        many: true,
        props: &[PropSpec::required(
            "to",
            Type::Decl("slack or webhook"),
            "channel to post to",
        )],
        children: stage_children![&TITLE, &MESSAGE],
        ..NodeSpec::new(
            "notify",
            "Posts to a declared `slack` or `webhook` once everything else has ended. Its own failure is a warning.",
        )
    },
    effect: false,
    outputs: &[],
    lower,
};

const TRIES: u32 = 4;

#[derive(Debug)]
struct Notify {
    to: Spanned<String>,
    channel: Option<Channel>,
    title: Option<Template>,
    message: Option<Template>,
}

fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    let node = cx.node;
    let to = node.prop("to").and_then(|value| cx.name(value));
    let to = to.unwrap_or_else(|| Spanned::new(String::new(), node.head()));
    Arc::new(Notify {
        channel: cx
            .decls
            .channels
            .get(&to.value)
            .map(|decl| decl.value.clone()),
        to,
        title: cx.child_template(node, "title"),
        message: cx.child_template(node, "message"),
    })
}

#[async_trait]
impl Stage for Notify {
    fn templates(&self) -> Vec<&Template> {
        let channel = self.channel.iter().flat_map(Channel::templates);
        self.title
            .iter()
            .chain(&self.message)
            .chain(channel)
            .collect()
    }

    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        decl::require(
            &cx.decls.channels,
            "slack or webhook",
            &self.to,
            cx.source,
            diagnostics,
        );
    }

    async fn forecast(&self, _cx: &PlanContext<'_>) -> Forecast {
        Forecast::new(
            Verdict::Run,
            format!("posts the outcome to {}", self.to.value),
        )
        .effect(format!("notify {}", self.to.value))
    }

    async fn run(&self, cx: &StageContext<'_>) -> Result<Done, Failure> {
        let values = cx.values;
        let outcome = *values
            .outcome
            .read()
            .expect("no holder of this lock panics");
        let outcome = outcome.unwrap_or(Outcome::Skipped);
        let title = match &self.title {
            Some(title) => values.plain(title).await?,
            None => values.pipeline.clone(),
        };
        let extra = match &self.message {
            Some(message) => values.plain(message).await?,
            None => String::new(),
        };
        let facts = Facts {
            title,
            extra,
            outcome,
            cx,
        };
        let message = match &self.channel {
            None => {
                return Err(Failure::failed(format!(
                    "channel `{}` is not declared",
                    self.to.value
                )));
            }
            Some(Channel::Slack(slack)) => {
                let channel = match &slack.channel {
                    Some(channel) => Some(values.plain(channel).await?),
                    None => None,
                };
                Message {
                    url: values.text(&slack.webhook).await?.into_secret(),
                    headers: Vec::new(),
                    body: facts.slack(channel).to_string(),
                }
            }
            Some(Channel::Webhook(hook)) => {
                let mut headers = Vec::new();
                for (name, value) in &hook.headers {
                    headers.push((name.clone(), values.text(value).await?));
                }
                // Lets a receiver drop the second of two equal messages: posting is at-least-once.
                headers.push((
                    "Idempotency-Key".to_owned(),
                    Text::Plain(format!("{}-{}", cx.run, cx.stage)),
                ));
                Message {
                    url: values.text(&hook.url).await?.into_secret(),
                    headers,
                    body: facts.generic().to_string(),
                }
            }
        };
        self.send(cx, &message).await
    }
}

impl Notify {
    async fn send(&self, cx: &StageContext<'_>, message: &Message) -> Result<Done, Failure> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match cx.world.notifier.send(message).await {
                Ok(()) => return Ok(Done::succeeded(format!("told {}", self.to.value))),
                Err(error) => match error.retry() {
                    Retry::After(wait) if attempt < TRIES => {
                        cx.say(format!("{error}; trying again"));
                        let wait = wait
                            .unwrap_or_else(|| backoff(attempt, cx.world.readers.clock.random()));
                        tokio::select! {
                            () = tokio::time::sleep(wait) => {}
                            () = cx.cancel.cancelled() => return Err(Failure::cancelled("cancelled: not sent")),
                        }
                    }
                    _ => return Err(error.into()),
                },
            }
        }
    }
}

struct Facts<'a> {
    title: String,
    extra: String,
    outcome: Outcome,
    cx: &'a StageContext<'a>,
}

impl Facts<'_> {
    fn slack(&self, channel: Option<String>) -> serde_json::Value {
        let commit = &self.cx.values.commit;
        let colour = match self.outcome {
            outcome if outcome.is_success() => "good",
            Outcome::Skipped | Outcome::Cancelled => "warning",
            _ => "danger",
        };
        let mut text = format!(
            "{} `{}` at `{}`",
            self.outcome,
            self.cx.values.pipeline,
            commit.short_sha()
        );
        if !commit.message.is_empty() {
            text.push_str(&format!(" {}", slack_text(&commit.message)));
        }
        if !self.extra.is_empty() {
            text.push_str(&format!("\n{}", slack_text(&self.extra)));
        }
        let title = slack_text(&self.title);
        let mut body = serde_json::json!({
            "text": format!("{title}: {}", self.outcome),
            "attachments": [{ "color": colour, "title": title, "text": text, "fallback": format!("{title}: {}", self.outcome) }],
        });
        if let Some(channel) = channel {
            body["channel"] = channel.into();
        }
        body
    }

    fn generic(&self) -> serde_json::Value {
        let values = self.cx.values;
        let stages: serde_json::Map<String, serde_json::Value> = values
            .ended
            .read()
            .expect("no holder of this lock panics")
            .iter()
            .map(|(stage, (outcome, _))| (stage.to_string(), outcome.as_str().into()))
            .collect();
        serde_json::json!({
            "title": self.title,
            "message": self.extra,
            "outcome": self.outcome.as_str(),
            "pipeline": values.pipeline,
            "run": self.cx.run.as_str(),
            "commit": values.commit.sha,
            "ref": values.commit.reference,
            "stages": stages,
        })
    }
}

/// Slack reads `&`, `<` and `>` as markup.
fn slack_text(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
