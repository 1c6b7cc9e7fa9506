//! What a stage has to be allowed to do in an AWS account, for the policies that are printed. Pure:
//! what is only known in a run is a `*` here.

use std::collections::BTreeMap;

use crate::decl::Decls;
use crate::lang::{Part, Reference, Template};

/// Actions on resources of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The account, by its declaration.
    pub account: String,
    /// What the statement is called.
    pub sid: &'static str,
    /// The actions.
    pub actions: &'static [&'static str],
    /// ARNs, `*` for what actions cannot be narrowed to.
    pub resources: Vec<String>,
    /// Operator, key and value.
    pub condition: Option<(&'static str, &'static str, String)>,
}

/// Spells ARNs.
pub struct Arns<'a> {
    /// What the pipeline can refer to.
    pub decls: &'a Decls,
    /// Variables that are known.
    pub vars: &'a BTreeMap<String, String>,
}

impl Arns<'_> {
    /// A text with `*` for what is known only in a run.
    pub fn text(&self, template: &Template) -> String {
        let mut text = String::new();
        for part in &template.parts {
            match part {
                Part::Text(piece) => text.push_str(piece),
                Part::Ref(reference) => match &reference.value {
                    Reference::Var(name) => {
                        text.push_str(self.vars.get(name).map_or("*", String::as_str));
                    }
                    _ => text.push('*'),
                },
            }
        }
        text
    }

    /// Region of an account.
    pub fn region(&self, account: &str) -> String {
        let decl = self.decls.aws.get(account);
        let region = decl.and_then(|decl| decl.value.region.as_ref());
        region.map_or_else(|| "*".to_owned(), |region| self.text(region))
    }

    /// Id of an account, as far as its declaration tells.
    pub fn id(&self, account: &str) -> String {
        let Some(decl) = self.decls.aws.get(account) else {
            return "*".to_owned();
        };
        if let [only] = decl.value.allowed.as_slice() {
            return self.text(only);
        }
        let role = decl.value.roles.last().map(|role| self.text(role));
        let id = role.as_deref().and_then(|role| role.split(':').nth(4));
        id.filter(|id| !id.is_empty()).unwrap_or("*").to_owned()
    }

    /// The partition regions of this name are in.
    pub fn partition(region: &str) -> &'static str {
        match region {
            china if china.starts_with("cn-") => "aws-cn",
            gov if gov.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    /// The ARN of something of an account's own region.
    pub fn arn(&self, account: &str, service: &str, rest: &str) -> String {
        let region = self.region(account);
        let partition = Self::partition(&region);
        format!(
            "arn:{partition}:{service}:{region}:{}:{rest}",
            self.id(account)
        )
    }

    /// The ARN of an object or a bucket: those have neither region nor account.
    pub fn object(&self, account: &str, rest: &str) -> String {
        format!("arn:{}:s3:::{rest}", Self::partition(&self.region(account)))
    }
}
