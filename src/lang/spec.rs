//! The language as data: which nodes there are, what they take, and what that means.
//!
//! Decoding errors, completion, hover, the schema and the reference pages are all derived from
//! these tables. Nothing about the surface of the language is written anywhere else.

/// A node of the language.
#[derive(Debug)]
pub struct NodeSpec {
    /// Its name.
    pub name: &'static str,
    /// What it is for: one or more sentences.
    pub doc: &'static str,
    /// Its arguments.
    pub args: Args,
    /// Its properties.
    pub props: &'static [PropSpec],
    /// Its children.
    pub children: &'static [&'static NodeSpec],
    /// Children whose names are the user's: each must fit this specification but for its name.
    pub any_child: Option<&'static NodeSpec>,
    /// Whether it may stand several times under one parent.
    pub many: bool,
    /// Whether it must be there.
    pub required: bool,
}

impl NodeSpec {
    /// A specification with nothing but a name and a text: a flag. The other parts are set with
    /// struct update syntax.
    pub const fn new(name: &'static str, doc: &'static str) -> Self {
        Self {
            name,
            doc,
            args: Args::NONE,
            props: &[],
            children: &[],
            any_child: None,
            many: false,
            required: false,
        }
    }

    /// A child with one argument.
    pub const fn field(name: &'static str, ty: Type, doc: &'static str) -> Self {
        let mut spec = Self::new(name, doc);
        spec.args = Args::one(ty, "value");
        spec
    }

    /// The specification of a child.
    pub fn child(&self, name: &str) -> Option<&'static NodeSpec> {
        self.children
            .iter()
            .copied()
            .find(|child| child.name == name)
    }
}

/// The arguments a node takes: the fixed ones in order, then any number of `rest`.
#[derive(Clone, Copy, Debug)]
pub struct Args {
    /// Arguments in order; those after `required` may be left out.
    pub fixed: &'static [ArgSpec],
    /// How many of `fixed` must be there.
    pub required: usize,
    /// Type of further arguments.
    pub rest: Option<ArgSpec>,
    /// How many of `rest` must be there.
    pub rest_min: usize,
}

impl Args {
    /// No argument.
    pub const NONE: Self = Self {
        fixed: &[],
        required: 0,
        rest: None,
        rest_min: 0,
    };

    /// Exactly one.
    pub const fn one(ty: Type, name: &'static str) -> Self {
        Self {
            fixed: &[],
            required: 0,
            rest: Some(ArgSpec {
                name,
                ty,
                single: true,
            }),
            rest_min: 1,
        }
    }

    /// None or one.
    pub const fn maybe(ty: Type, name: &'static str) -> Self {
        Self {
            rest_min: 0,
            ..Self::one(ty, name)
        }
    }

    /// One or more.
    pub const fn some(ty: Type, name: &'static str) -> Self {
        Self {
            fixed: &[],
            required: 0,
            rest: Some(ArgSpec {
                name,
                ty,
                single: false,
            }),
            rest_min: 1,
        }
    }

    /// Any number.
    pub const fn any(ty: Type, name: &'static str) -> Self {
        Self {
            rest_min: 0,
            ..Self::some(ty, name)
        }
    }

    /// Exactly these.
    pub const fn fixed(fixed: &'static [ArgSpec]) -> Self {
        Self {
            fixed,
            required: fixed.len(),
            rest: None,
            rest_min: 0,
        }
    }

    /// These, of which the last may be left out.
    pub const fn fixed_but_last(fixed: &'static [ArgSpec]) -> Self {
        Self {
            fixed,
            required: fixed.len() - 1,
            rest: None,
            rest_min: 0,
        }
    }

    /// The specification of the argument at a place.
    pub fn at(&self, index: usize) -> Option<&ArgSpec> {
        match self.fixed.get(index) {
            Some(arg) => Some(arg),
            None => self
                .rest
                .as_ref()
                .filter(|rest| !rest.single || index == self.fixed.len()),
        }
    }
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub struct ArgSpec {
    /// What it is called in the reference.
    pub name: &'static str,
    /// What it may be.
    pub ty: Type,
    /// As `rest`: at most one.
    pub single: bool,
}

impl ArgSpec {
    /// A fixed argument.
    pub const fn new(name: &'static str, ty: Type) -> Self {
        Self {
            name,
            ty,
            single: true,
        }
    }
}

/// A property.
#[derive(Clone, Copy, Debug)]
pub struct PropSpec {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub ty: Type,
    /// What it is for.
    pub doc: &'static str,
    /// Whether it must be there.
    pub required: bool,
}

impl PropSpec {
    /// A property that may be left out.
    pub const fn new(name: &'static str, ty: Type, doc: &'static str) -> Self {
        Self {
            name,
            ty,
            doc,
            required: false,
        }
    }

    /// A property that must be there.
    pub const fn required(name: &'static str, ty: Type, doc: &'static str) -> Self {
        Self {
            required: true,
            ..Self::new(name, ty, doc)
        }
    }
}

/// What an argument or a property may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A new name: letters, digits, `-` and `_`.
    Name,
    /// A string without `${…}`.
    Literal,
    /// A string in which `${…}` is replaced; may not hold a secret.
    Text,
    /// A string in which `${…}` is replaced; may hold a secret.
    SecretText,
    /// A shell script; taken as it is.
    Script,
    /// A path relative to the repository root, in which `${…}` is replaced.
    Path,
    /// `"30s"`, `"10m"`, `"1h30m"`.
    Duration,
    /// `"512MiB"`.
    Size,
    /// A whole number from 0 to this.
    Int(u32),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `kind.name`, or a kind for all of it.
    Stage,
    /// The name of a declaration of this kind.
    Decl(&'static str),
    /// A glob pattern.
    Glob,
    /// A regular expression.
    Regex,
    /// An expression (see the language reference).
    Expr,
    /// A date, `2027-01-31`.
    Date,
    /// A semantic version constraint.
    Constraint,
}

impl Type {
    /// What it is called in the reference and in messages.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Name => "a name",
            Self::Literal => "a string",
            Self::Text => "a text",
            Self::SecretText => "a text that may hold a secret",
            Self::Script => "a script",
            Self::Path => "a path",
            Self::Duration => "a duration",
            Self::Size => "a size",
            Self::Int(_) => "a whole number",
            Self::OneOf(_) => "one of a few words",
            Self::Stage => "a stage",
            Self::Decl(_) => "the name of a declaration",
            Self::Glob => "a glob pattern",
            Self::Regex => "a regular expression",
            Self::Expr => "an expression",
            Self::Date => "a date",
            Self::Constraint => "a version constraint",
        }
    }

    /// How it is written, for the reference.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Name => "Letters, digits, `-` and `_`.",
            Self::Literal => "Taken as it is; `${…}` is not replaced.",
            Self::Text => {
                "`${…}` is replaced, `$${` stands for `${`. It is shown and stored, so it cannot mention a secret."
            }
            Self::SecretText => {
                "`${…}` is replaced. It may mention secrets; then the whole of it is one."
            }
            Self::Script => "Taken as it is: `${…}` is the shell's own.",
            Self::Path => {
                "Relative to the repository's root, with `/`; `${…}` is replaced. It cannot lead outside."
            }
            Self::Duration => "A number and a unit: `500ms`, `30s`, `10m`, `1h30m`, `2d`.",
            Self::Size => "A number and a unit: `100B`, `64KiB`, `512MiB`, `10GB`.",
            Self::Int(_) => "Written without quotes.",
            Self::OneOf(_) => "One of the words given.",
            Self::Stage => "`kind.name`, such as `push.app`; in `needs` also a kind for all of it.",
            Self::Decl(_) => "The name of something declared.",
            Self::Glob => {
                "`*` within a part, `**` over parts, `?`, `[a-z]`, `{a,b}`. Where paths are listed, `!` in front excludes."
            }
            Self::Regex => "A regular expression of bounded size; best written as a raw string.",
            Self::Expr => "See [Expressions](language.md#expressions).",
            Self::Date => "`2027-01-31`.",
            Self::Constraint => {
                "A constraint on versions: `1.2`, `^1.2.3`, `>=1.0, <2.0`, `~1.4 || *`."
            }
        }
    }
}
