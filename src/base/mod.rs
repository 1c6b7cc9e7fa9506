//! The vocabulary every other module shares: text with positions, diagnostics, ids, secrets.
//!
//! Imports nothing of this crate, performs no effect and knows nothing about pipelines.

mod causes;
mod commit;
mod diagnostic;
pub mod harmless;
mod ids;
mod mask;
mod secret;
mod source;
mod time;

pub use causes::causes;
pub use commit::Commit;
pub use diagnostic::{Applicability, Diagnostic, Edit, Fix, Label, Severity};
pub use ids::{Digest, DigestError, RunId, RunIdError, StageId};
pub use mask::{LateSecrets, MaskStream, Masks};
pub use secret::{Secret, Text};
pub use source::{Source, Span, Spanned};
pub use time::{
    Timestamp, human_bytes, human_count, human_duration, human_number, parse_duration, parse_size,
};
