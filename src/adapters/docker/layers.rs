//! Layers on their way to registries, so that no two pushes at one time send the same one.
//!
//! The engine mounts a layer from another repository once it is there. Images that are pushed to
//! an empty registry together mostly stand on the same base: without this each would send it. The
//! first push that has a layer owns it; others that need it too wait until it has arrived, or
//! until that push has ended in any way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Characters by which the engine tells of a layer.
const SHORT: usize = 12;

/// A layer on its way: the registry and the layer, as the engine tells of it.
type Key = (String, String);

/// Which layers are being sent by whom.
#[derive(Clone, Debug, Default)]
pub(super) struct LayersUnderWay {
    /// Each with a token that is cancelled once the layer needs no waiting any more.
    owned: Arc<Mutex<HashMap<Key, CancellationToken>>>,
}

/// The layers that one push owns. Gives up what is left when it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    all: LayersUnderWay,
    registry: String,
    own: HashMap<String, CancellationToken>,
    others: Vec<CancellationToken>,
}

impl LayersUnderWay {
    /// Claims those of an image's layers (`sha256:…`, uncompressed) that nobody sends yet.
    pub(super) fn claim(&self, registry: &str, layers: &[String]) -> Claim {
        let mut claim = Claim {
            all: self.clone(),
            registry: registry.to_owned(),
            own: HashMap::new(),
            others: Vec::new(),
        };
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        for layer in layers {
            let layer = short(layer);
            // An image may have the same layer twice.
            if claim.own.contains_key(layer) {
                continue;
            }
            let key = (registry.to_owned(), layer.to_owned());
            match owned.get(&key) {
                Some(theirs) => claim.others.push(theirs.clone()),
                None => {
                    let token = CancellationToken::new();
                    owned.insert(key, token.clone());
                    claim.own.insert(layer.to_owned(), token);
                }
            }
        }
        drop(owned);
        claim
    }
}

impl Claim {
    /// Waits until nobody else sends a layer that was asked for.
    pub(super) async fn others_are_done(&self) {
        for layer in &self.others {
            layer.cancelled().await;
        }
    }

    /// A layer, as the engine tells of it, has arrived.
    pub(super) fn arrived(&mut self, layer: &str) {
        if let Some(token) = self.own.remove(layer) {
            self.give_up(layer, &token);
        }
    }

    fn give_up(&self, layer: &str, token: &CancellationToken) {
        let key = (self.registry.clone(), layer.to_owned());
        let owned = self.all.owned.lock();
        owned.unwrap_or_else(PoisonError::into_inner).remove(&key);
        token.cancel();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        for (layer, token) in std::mem::take(&mut self.own) {
            self.give_up(&layer, &token);
        }
    }
}

fn short(layer: &str) -> &str {
    let hex = layer.strip_prefix("sha256:").unwrap_or(layer);
    hex.get(..SHORT).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn layers(names: &[char]) -> Vec<String> {
        let layer = |name: &char| format!("sha256:{}", name.to_string().repeat(64));
        names.iter().map(layer).collect()
    }

    fn waits(claim: &Claim) -> bool {
        claim.others_are_done().now_or_never().is_none()
    }

    #[test]
    fn a_shared_layer_is_waited_for_until_it_has_arrived() {
        let all = LayersUnderWay::default();
        let mut first = all.claim("a.example", &layers(&['a', 'b']));
        let second = all.claim("a.example", &layers(&['a', 'c', 'c']));
        assert!(!waits(&first) && waits(&second));
        first.arrived("bbbbbbbbbbbb");
        assert!(waits(&second));
        first.arrived("aaaaaaaaaaaa");
        assert!(!waits(&second));
        assert!(!waits(&all.claim("a.example", &layers(&['a', 'b']))));
    }

    #[test]
    fn a_push_that_fails_holds_nobody_up() {
        let all = LayersUnderWay::default();
        let first = all.claim("a.example", &layers(&['a']));
        let second = all.claim("a.example", &layers(&['a']));
        assert!(waits(&second));
        drop(first);
        assert!(!waits(&second));
        drop(second);
        assert!(all.owned.lock().unwrap().is_empty());
    }

    #[test]
    fn registries_are_apart() {
        let all = LayersUnderWay::default();
        let _first = all.claim("a.example", &layers(&['a']));
        assert!(!waits(&all.claim("b.example", &layers(&['a']))));
    }
}
