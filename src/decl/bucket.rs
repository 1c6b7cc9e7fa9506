//! `bucket`: a place in S3, or in what speaks like it, where stages keep caches and files.

use super::DeclContext;
use crate::base::{Diagnostic, Spanned, parse_size};
use crate::lang::Template;
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};

const LARGEST: NodeSpec = NodeSpec::field(
    "largest",
    Type::Size,
    "Most bytes of files that one cache or one stage keeps there; \"4GiB\" if absent.",
);

pub(super) const BUCKET: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "name"),
    many: true,
    props: &[PropSpec::required(
        "aws",
        Type::Decl("aws"),
        "account whose credentials, region and endpoint are used",
    )],
    children: &[&LARGEST],
    ..NodeSpec::new(
        "bucket",
        "Where caches and files of stages are kept away from this machine: a name and an address, \
         `s3://BUCKET[/PREFIX]`. Any endpoint that speaks S3 will do.",
    )
};

/// Bytes kept at most, if nothing is said.
const USUAL: u64 = 4 << 30;

/// A place in a bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Its address: `s3://BUCKET[/PREFIX]`.
    pub address: Option<Template>,
    /// The account it is entered by.
    pub aws: Spanned<String>,
    /// Most bytes of files that are kept at a time.
    pub largest: u64,
}

impl Bucket {
    pub(super) fn lower(
        cx: &DeclContext<'_>,
        broken: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let node = cx.node;
        let address = cx.rest.map(|value| cx.template(value));
        let span = cx.rest.map_or(node.head(), |value| value.span);
        let message = match &address {
            None => Some(("PW0013", format!("bucket `{}` lacks its address", cx.name))),
            Some(address) => {
                let text = address.to_string();
                let rest = text.strip_prefix("s3://").unwrap_or_default();
                let odd = rest.is_empty() || rest.starts_with('/');
                odd.then(|| ("PW0015", format!("\"{text}\" is no address of a bucket")))
            }
        };
        if let (Some((code, message)), false) = (message, broken) {
            diagnostics.push(
                Diagnostic::error(code, message, &node.source, span).help(format!(
                    "write `bucket {} \"s3://BUCKET/PREFIX\" aws=NAME`",
                    cx.name
                )),
            );
        }
        let aws = cx.prop("aws");
        Self {
            address,
            aws: aws.unwrap_or_else(|| Spanned::new(String::new(), node.head())),
            largest: node
                .child_arg("largest")
                .and_then(|value| parse_size(value.as_str()?))
                .unwrap_or(USUAL),
        }
    }

    /// Every template of the declaration.
    pub fn templates(&self) -> Vec<&Template> {
        self.address.iter().collect()
    }
}
