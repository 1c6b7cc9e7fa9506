//! What is wrong with a text, where, why, and what to do about it.

use super::{Source, Span};

/// How much a diagnostic matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Likely a mistake; does not stop a run.
    Warning,
    /// Certainly a mistake; nothing runs.
    Error,
}

impl Severity {
    /// The word used in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A finding in a text. Problems in pipeline files are always diagnostics, never plain errors,
/// so that every problem of every file can be reported at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code, `PW0001` and up.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// One lowercase phrase that names the thing.
    pub message: String,
    /// The text it is about.
    pub source: Source,
    /// The primary place.
    pub span: Span,
    /// What to print at the primary place, if more than the message is worth saying.
    pub note: Option<String>,
    /// Related places, possibly in other sources.
    pub labels: Vec<Label>,
    /// One action that mends it.
    pub help: Option<String>,
    /// Edits that would mend it.
    pub fixes: Vec<Fix>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(
        code: &'static str,
        message: impl Into<String>,
        source: &Source,
        span: Span,
    ) -> Self {
        Self::new(code, Severity::Error, message, source, span)
    }

    /// A warning at a place.
    pub fn warning(
        code: &'static str,
        message: impl Into<String>,
        source: &Source,
        span: Span,
    ) -> Self {
        Self::new(code, Severity::Warning, message, source, span)
    }

    fn new(
        code: &'static str,
        severity: Severity,
        message: impl Into<String>,
        source: &Source,
        span: Span,
    ) -> Self {
        Self {
            code,
            severity,
            message: message.into(),
            source: source.clone(),
            span,
            note: None,
            labels: Vec::new(),
            help: None,
            fixes: Vec::new(),
        }
    }

    /// Adds the action that mends it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the text printed at the primary place.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Adds a related place.
    #[must_use]
    pub fn label(mut self, source: &Source, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label {
            source: source.clone(),
            span,
            text: text.into(),
        });
        self
    }

    /// Adds a fix that replaces one span of the primary source.
    #[must_use]
    pub fn fix(
        mut self,
        title: impl Into<String>,
        applicability: Applicability,
        span: Span,
        replacement: impl Into<String>,
    ) -> Self {
        self.fixes.push(Fix {
            title: title.into(),
            applicability,
            edits: vec![Edit {
                source: self.source.clone(),
                span,
                replacement: replacement.into(),
            }],
        });
        self
    }

    /// Whether it stops a run.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// A related place of a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The text it points into.
    pub source: Source,
    /// The place.
    pub span: Span,
    /// What is there.
    pub text: String,
}

/// Edits that mend a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// What the fix does, as an imperative phrase.
    pub title: String,
    /// Whether it may be applied without a look.
    pub applicability: Applicability,
    /// The edits, not overlapping.
    pub edits: Vec<Edit>,
}

/// How safe a fix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applicability {
    /// Keeps the meaning the author intended; applied by `--fix`.
    Safe,
    /// May change the meaning; applied only when asked for by name.
    Unsafe,
    /// Never applied, only shown.
    DisplayOnly,
}

/// One replacement in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The text to edit.
    pub source: Source,
    /// What is replaced.
    pub span: Span,
    /// What stands there afterwards.
    pub replacement: String,
}
