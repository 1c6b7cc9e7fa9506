//! Explains what AWS said no to: who we are, what was asked, and what would have to be allowed.
//! Never quotes a token; of one only what it claims, which is no secret.

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::Aws;
use crate::base::Timestamp;
use crate::formats::web_token::{self, Claims};
use crate::ports::cloud::{Caller, CloudError};

/// A call that brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// `ecr:BatchGetImage`.
    pub(super) action: String,
    /// On what: a name or an ARN, `*` if on nothing in particular.
    pub(super) resource: String,
    /// What came back.
    pub(super) said: Said,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// An error of the service: status, code, message.
    No(u16, String, String),
    /// Nothing, or nothing that can be read.
    Nothing(String),
}

impl Problem {
    pub(super) fn new(action: impl Into<String>, resource: impl Into<String>, said: Said) -> Self {
        Self {
            action: action.into(),
            resource: resource.into(),
            said,
        }
    }

    /// What a typed client of the SDK reports.
    pub(super) fn of<E>(action: &str, resource: &str, error: SdkError<E, Response>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let said = match &error {
            // What it calls an error of the service may be a success that it could not read.
            SdkError::ServiceError(service) if !service.raw().status().is_success() => {
                let error = service.err();
                let code = error.code().unwrap_or("UnknownError").to_owned();
                let message = error.message().unwrap_or("").to_owned();
                Said::No(service.raw().status().as_u16(), code, message)
            }
            SdkError::TimeoutError(_) => Said::Nothing("no answer in time".to_owned()),
            SdkError::ResponseError(_) | SdkError::ServiceError(_) => {
                Said::Nothing("it sent an answer that makes no sense".to_owned())
            }
            other => {
                // The innermost cause is the one that says something.
                let mut text = other.to_string();
                let mut cause = std::error::Error::source(other);
                while let Some(next) = cause {
                    text = next.to_string();
                    cause = next.source();
                }
                Said::Nothing(text)
            }
        };
        Self::new(action, resource, said)
    }

    pub(super) fn is(&self, code: &str) -> bool {
        matches!(&self.said, Said::No(_, said, _) if said == code)
    }

    /// Whether the credentials are the trouble, so that new ones may help.
    pub(super) fn is_expired(&self) -> bool {
        [
            "ExpiredToken",
            "ExpiredTokenException",
            "RequestExpired",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "TokenRefreshRequired",
            "UnrecognizedClientException",
        ]
        .iter()
        .any(|code| self.is(code))
    }

    pub(super) fn is_denied(&self) -> bool {
        match &self.said {
            Said::No(_, code, _) => matches!(
                code.as_str(),
                "AccessDenied"
                    | "AccessDeniedException"
                    | "UnauthorizedOperation"
                    | "NotAuthorized"
                    | "AuthorizationError"
            ),
            Said::Nothing(_) => false,
        }
    }

    pub(super) fn is_throttled(&self) -> bool {
        match &self.said {
            Said::No(status, code, _) => *status == 429 || is_throttling(code),
            Said::Nothing(_) => false,
        }
    }
}

pub(super) fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "ProvisionedThroughputExceededException"
            | "BandwidthLimitExceeded"
            | "SlowDown"
            | "PriorRequestNotComplete"
            | "EC2ThrottledException"
    )
}

impl Aws {
    /// The error a problem is, with who we are if we were denied.
    pub(super) async fn explained(&self, problem: &Problem) -> CloudError {
        if !problem.is_denied() {
            return self.explain_plainly(problem);
        }
        let we = self.caller().await.ok();
        self.explain(problem, we.as_ref(), "")
    }

    /// The error a problem is. Asks nobody.
    pub(super) fn explain_plainly(&self, problem: &Problem) -> CloudError {
        self.explain(problem, None, "")
    }

    pub(super) fn explain(&self, problem: &Problem, we: Option<&Caller>, hint: &str) -> CloudError {
        let account = self.account.name.clone();
        let action = self.clean(&problem.action);
        let (status, code, message) = match &problem.said {
            Said::Nothing(message) => {
                return CloudError::Broken {
                    account,
                    action,
                    message: format!("{}{hint}", self.clean(message)),
                };
            }
            Said::No(status, code, message) => (*status, self.clean(code), self.clean(message)),
        };
        if problem.is_throttled() {
            return CloudError::Throttled { account, action };
        }
        let said = match message.as_str() {
            "" => code.clone(),
            message => message.to_owned(),
        };
        if problem.is_denied() {
            let mut text = said;
            if let Some(we) = we {
                text = format!("{text}; we are {} in account {}", we.arn, we.account);
            }
            let resource = self.clean(&problem.resource);
            text = format!("{text}; asked for {action} on {resource}{hint}");
            return CloudError::Denied {
                account,
                action,
                message: text,
            };
        }
        if status >= 500 {
            return CloudError::Broken {
                account,
                action,
                message: format!("it answered {status}: {said}{hint}"),
            };
        }
        CloudError::Refused {
            account,
            action,
            code,
            message: format!("{message}{hint}"),
        }
    }
}

/// Why a token may not have been accepted, and what helps.
pub(super) fn about_token(
    problem: &Problem,
    token: &str,
    role: &str,
    now: Timestamp,
    ours: bool,
) -> String {
    let claims = Claims::of(token);
    // What was signed a moment ago can only be too old by a clock that is wrong.
    let anew = match ours {
        true => "it was signed here for this call",
        false => "whoever writes it has to write a new one",
    };
    match web_token::expiry(token) {
        Some(end) if end <= now => return format!("the token ran out at {end}: {anew}"),
        _ if problem.is("ExpiredTokenException") => {
            return format!(
                "the token ran out, by the clock of AWS: {anew}, and mind the clock of this machine"
            );
        }
        _ => {}
    }
    if let (true, Some(claims)) = (problem.is("IDPCommunicationError"), &claims) {
        return format!(
            "AWS could not fetch the keys of the token's issuer: https://{}/.well-known/openid-configuration and what \
             it names must answer AWS, soon and on the internet",
            claims.provider()
        );
    }
    let mut text = trust(claims.as_ref(), role);
    if ours && problem.is("InvalidIdentityToken") {
        text.push_str(
            "; the issuer's keys.json must hold the public half of PIPEWRIGHT_ISSUER_KEY, as `pipewright aws issuer` \
             writes it",
        );
    }
    text
}

/// What a role's trust policy must say for a token to be accepted.
pub(super) fn trust(claims: Option<&Claims>, role: &str) -> String {
    let Some(claims) = claims else {
        return "the token is no JSON Web Token, so no role will accept it".to_owned();
    };
    let Claims {
        issuer,
        subject,
        audience,
    } = claims;
    let host = claims.provider();
    let provider = match role.split(':').nth(4) {
        Some(account) => format!("arn:aws:iam::{account}:oidc-provider/{host}"),
        None => format!("oidc-provider/{host}"),
    };
    format!(
        "the token has iss {issuer}, sub {subject}, aud {audience}: the trust policy of {role} must allow \
         sts:AssumeRoleWithWebIdentity for the principal Federated {provider} where {host}:aud is {audience} and \
         {host}:sub matches {subject}, and that identity provider must exist with this audience"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_policy_is_spelled_out() {
        let claims = Claims {
            issuer: "https://token.example.com".to_owned(),
            subject: "repo:acme/app:ref:refs/heads/main".to_owned(),
            audience: "sts.amazonaws.com".to_owned(),
        };
        let text = trust(Some(&claims), "arn:aws:iam::123456789012:role/ci");
        for part in [
            "iss https://token.example.com, sub repo:acme/app:ref:refs/heads/main, aud",
            "arn:aws:iam::123456789012:oidc-provider/token.example.com",
            "token.example.com:sub matches repo:acme/app:ref:refs/heads/main",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(trust(None, "r").contains("no JSON Web Token"));
    }
}
