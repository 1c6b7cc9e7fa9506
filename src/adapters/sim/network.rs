//! Networks of the simulated engine, and the reaper.

use std::collections::BTreeMap;

use super::call::{Call, Done, Life};
use super::container::refused;
use super::ledger::Rule;
use super::reference::is_name;
use super::state::State;
use crate::base::Digest;
use crate::ports::engine::{EngineError, Network};

/// A network.
#[derive(Clone, Debug)]
pub(super) struct Net {
    pub(super) id: String,
    pub(super) labels: BTreeMap<String, String>,
}

impl State {
    pub(super) fn network(&self, name: &str) -> Option<&str> {
        self.networks
            .iter()
            .find(|(known, net)| *known == name || net.id == name)
            .map(|(known, _)| known.as_str())
    }

    fn on_network(&self, container: &super::container::Container, network: &str) -> bool {
        match &container.spec.network {
            Some(Network::Named { name, .. }) => self.network(name) == Some(network),
            _ => false,
        }
    }
}

impl Life {
    pub(super) async fn make_network(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        let call = Call::one("engine.create-network", name);
        let mut ticket = self.enter::<EngineError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            if !is_name(name) {
                let message = format!("{name:?} is not a name of a network");
                state.violate(Rule::BadName, &call, message.clone());
                return Err(refused(&call, message));
            }
            if let Some(net) = state.networks.get(name) {
                return Ok(Done::nothing(net.id.clone()));
            }
            let number = state.count();
            let id = Digest::of(format!("network {number} {name}").as_bytes())
                .hex()
                .to_owned();
            let net = Net {
                id: id.clone(),
                labels: labels.clone(),
            };
            state.networks.insert(name.to_owned(), net);
            Ok(Done::changed(id, name, "created"))
        })
        .await
    }

    pub(super) async fn drop_network(&self, name: &str) -> Result<(), EngineError> {
        let call = Call::one("engine.remove-network", name);
        let mut ticket = self.enter::<EngineError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let Some(known) = state.network(name).map(str::to_owned) else {
                return Ok(Done::nothing(()));
            };
            let mut members = state.containers.values();
            if let Some(member) = members.find(|member| state.on_network(member, &known)) {
                let message = format!("container {} is on it", member.spec.name);
                state.violate(Rule::NetworkInUse, &call, message.clone());
                return Err(refused(&call, message));
            }
            state.networks.remove(&known);
            Ok(Done::changed((), known, "removed"))
        })
        .await
    }

    pub(super) async fn reap_labelled(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<String>, EngineError> {
        let call = Call::one("engine.reap", &format!("{label}={value}"));
        let mut ticket = self.enter::<EngineError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            if label.is_empty() || value.is_empty() {
                let message = "it would remove what is not ours";
                state.violate(Rule::BroadReap, &call, message);
                return Err(refused(&call, message));
            }
            let has = |labels: &BTreeMap<String, String>| {
                labels.get(label).is_some_and(|found| found == value)
            };
            let ids: Vec<String> = state
                .containers
                .values()
                .filter(|container| has(&container.spec.labels))
                .map(|container| container.id.clone())
                .collect();
            let mut reaped: Vec<String> = ids
                .iter()
                .filter_map(|id| state.discard(id))
                .map(|name| format!("container {name}"))
                .collect();
            state.networks.retain(|name, net| {
                let goes = has(&net.labels);
                if goes {
                    reaped.push(format!("network {name}"));
                }
                !goes
            });
            if reaped.is_empty() {
                return Ok(Done::nothing(reaped));
            }
            let detail = reaped.join(", ");
            Ok(Done::changed(reaped, call.subject(), detail))
        })
        .await
    }
}
