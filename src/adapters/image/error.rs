//! What can go wrong while an image is read.

use std::path::Path;

use crate::ports::engine::EngineError;

/// Why an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The engine does not hand it out.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is no image, or none that is whole.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// What of the image.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such image, or more than one.
    #[error("{0}")]
    Choice(String),
    /// It is larger than anything we want to read.
    #[error("the image is larger than this scanner reads: {0}")]
    TooLarge(String),
    /// Something failed that never should.
    #[error("reading the image failed: {0}")]
    Broken(String),
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl ImageError {
    pub(super) fn damaged(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Damaged {
            what: what.into(),
            why: why.into(),
        }
    }

    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.display().to_string(),
            source,
        }
    }

    /// What an error of reading a part of the image means.
    pub(super) fn reading(what: &str, error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return Self::damaged(what, "it is cut off");
        }
        // Errors of our own come through readers as they were.
        let why = error.to_string();
        error
            .downcast::<Self>()
            .unwrap_or_else(|_| Self::damaged(what, why))
    }
}

/// An error of ours on its way through a reader.
pub(super) fn through(error: ImageError) -> std::io::Error {
    std::io::Error::other(error)
}
