//! The engines that a pipeline declares, by their addresses.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::{Address, Docker, certificates};
use crate::ports::engine::{Engine, EngineError, EngineReader};
use crate::ports::engines::{EngineReaders, Engines};

/// Declared engines. Each is opened once, so that its stages share connections and contexts.
pub struct DeclaredEngines {
    certificates: Option<PathBuf>,
    open: Mutex<BTreeMap<(String, String), Docker>>,
}

impl DeclaredEngines {
    /// With certificates from where the `docker` command looks for them: `DOCKER_CERT_PATH`, or
    /// `~/.docker` if `DOCKER_TLS_VERIFY` is set.
    pub fn from_env() -> Self {
        Self::new(certificates())
    }

    /// With the directory of certificates for addresses that begin with `https://`.
    pub fn new(certificates: Option<PathBuf>) -> Self {
        Self {
            certificates,
            open: Mutex::default(),
        }
    }

    fn at(&self, name: &str, address: &str) -> Result<Docker, EngineError> {
        let mut open = self.open.lock().expect("no holder of this lock panics");
        if let Some(engine) = open.get(&(name.to_owned(), address.to_owned())) {
            return Ok(engine.clone());
        }
        // The pipeline says whether it is encrypted; the environment says so of its own engine only.
        let certificates = match address.starts_with("https://") {
            true => self.certificates.as_deref(),
            false => None,
        };
        let parsed =
            Address::parse(address, certificates).map_err(|error| EngineError::BadAddress {
                name: name.to_owned(),
                address: address.chars().take(200).collect(),
                message: error.message.to_owned(),
            })?;
        let engine = Docker::new(parsed.of_engine(name));
        open.insert((name.to_owned(), address.to_owned()), engine.clone());
        Ok(engine)
    }
}

impl EngineReaders for DeclaredEngines {
    fn reader(&self, name: &str, address: &str) -> Result<Arc<dyn EngineReader>, EngineError> {
        Ok(Arc::new(self.at(name, address)?))
    }
}

impl Engines for DeclaredEngines {
    fn engine(&self, name: &str, address: &str) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(Arc::new(self.at(name, address)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(address: &str) -> String {
        match DeclaredEngines::new(None).reader("far", address) {
            Ok(_) => panic!("{address} leads nowhere"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_address_that_leads_nowhere_names_the_engine() {
        let error = wrong("tcp://host:port");
        assert!(
            error.contains("`far`") && error.contains("no number"),
            "{error}"
        );
        let error = wrong("https://host");
        assert!(error.contains("DOCKER_CERT_PATH"), "{error}");
    }

    #[tokio::test]
    async fn an_engine_that_does_not_answer_is_told_by_its_name() {
        let engines = DeclaredEngines::new(Some("/nowhere".into()));
        // An engine that is not encrypted does not ask for certificates.
        let engine = engines.engine("far", "tcp://127.0.0.1:1").expect("valid");
        match engine.container("x").await {
            Err(EngineError::Unreachable { name, address, .. }) => {
                assert_eq!(name.as_deref(), Some("far"));
                assert_eq!(address, "tcp://127.0.0.1:1");
            }
            other => panic!("{other:?}"),
        }
    }
}
