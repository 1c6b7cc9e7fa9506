//! `engine`: a container engine that is not the local one.

use super::DeclContext;
use crate::base::Diagnostic;
use crate::lang::spec::{Args, NodeSpec, Type};

pub(super) const ENGINE: NodeSpec = NodeSpec {
    args: Args::some(Type::Literal, "name"),
    many: true,
    ..NodeSpec::new(
        "engine",
        "A container engine by its address, `unix:///path`, `tcp://host:port`, or `https://host:port` with the \
         certificates of `DOCKER_CERT_PATH`. `local` is there without being declared: the engine of `DOCKER_HOST`, \
         or the default socket.",
    )
};

/// The name of the engine that needs no declaration.
const LOCAL: &str = "local";

/// A container engine.
#[derive(Clone, Debug)]
pub struct EngineAddress {
    /// Its address; the local engine if absent.
    pub address: Option<String>,
}

impl EngineAddress {
    pub(super) fn lower(
        cx: &DeclContext<'_>,
        broken: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut wrong = |message: String, span, help: &str| {
            if !broken {
                let source = &cx.node.source;
                diagnostics.push(Diagnostic::error("PW0015", message, source, span).help(help));
            }
        };
        if cx.name == LOCAL {
            wrong(
                "`local` is the engine of this machine".to_owned(),
                cx.node.head(),
                "choose another name; DOCKER_HOST decides where `local` is",
            );
        }
        let address = cx
            .rest
            .and_then(|value| Some((value.as_str()?, value.span)));
        if let Some((address, span)) = address
            && !leads_somewhere(address)
        {
            wrong(
                format!("\"{address}\" is no engine's address"),
                span,
                "write `unix:///path`, `tcp://host:port` or `https://host:port`",
            );
        }
        Self {
            address: address.map(|(address, _)| address.to_owned()),
        }
    }
}

fn leads_somewhere(address: &str) -> bool {
    match address.split_once("://") {
        Some(("unix", path)) => path.starts_with('/'),
        Some(("tcp" | "https", place)) => {
            let place = place.trim_end_matches('/');
            let port = place
                .rsplit_once(':')
                .filter(|(_, port)| !port.contains(']'))
                .map(|(_, port)| port);
            !place.is_empty()
                && !place.contains(['/', '?', '#', '@'])
                && port.is_none_or(|port| port.parse::<u16>().is_ok())
        }
        _ => false,
    }
}
