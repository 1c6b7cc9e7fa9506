//! The engines that a pipeline names: which one is meant, and how it is found.

use std::fmt;
use std::sync::Arc;

use super::engine::{Engine, EngineError, EngineReader};
use super::{Readers, World};

/// Which engine is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EngineSite {
    /// The one of this machine, or wherever the environment says.
    Local,
    /// One that is declared.
    Declared {
        /// Its name in the pipeline.
        name: String,
        /// Where it listens: `unix:///path`, `tcp://host:port` or `https://host:port`.
        address: String,
    },
}

impl fmt::Display for EngineSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("the local engine"),
            Self::Declared { name, address } => write!(f, "engine `{name}` ({address})"),
        }
    }
}

/// Finds declared engines, to look at them. Finding connects to nothing.
pub trait EngineReaders: Send + Sync {
    /// The engine of a name at an address; an error if the address is none.
    fn reader(&self, name: &str, address: &str) -> Result<Arc<dyn EngineReader>, EngineError>;
}

/// Finds declared engines, to change them.
pub trait Engines: EngineReaders {
    /// The engine of a name at an address; an error if the address is none.
    fn engine(&self, name: &str, address: &str) -> Result<Arc<dyn Engine>, EngineError>;
}

impl Readers {
    /// The engine that is meant, to look at it.
    pub fn engine_at(&self, site: &EngineSite) -> Result<Arc<dyn EngineReader>, EngineError> {
        match site {
            EngineSite::Local => Ok(self.engine.clone()),
            EngineSite::Declared { name, address } => self.engines.reader(name, address),
        }
    }
}

impl World {
    /// The engine that is meant.
    pub fn engine_at(&self, site: &EngineSite) -> Result<Arc<dyn Engine>, EngineError> {
        match site {
            EngineSite::Local => Ok(self.engine.clone()),
            EngineSite::Declared { name, address } => self.engines.engine(name, address),
        }
    }
}
