//! The register of diagnostic codes and what each means.

/// A diagnostic code.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// `PW` and four digits; never reused.
    pub code: &'static str,
    /// One line.
    pub title: &'static str,
}

/// Every code, in order.
pub const CODES: &[Code] = &[
    Code {
        code: "PW0001",
        title: "the file is not valid KDL",
    },
    Code {
        code: "PW0002",
        title: "the file is written in KDL 1",
    },
    Code {
        code: "PW0003",
        title: "nested too deeply",
    },
    Code {
        code: "PW0004",
        title: "file too large",
    },
    Code {
        code: "PW0005",
        title: "file cannot be read",
    },
    Code {
        code: "PW0010",
        title: "unknown node",
    },
    Code {
        code: "PW0011",
        title: "unknown property",
    },
    Code {
        code: "PW0012",
        title: "property given twice",
    },
    Code {
        code: "PW0013",
        title: "missing argument",
    },
    Code {
        code: "PW0014",
        title: "surplus argument",
    },
    Code {
        code: "PW0015",
        title: "value of the wrong type",
    },
    Code {
        code: "PW0016",
        title: "node given twice",
    },
    Code {
        code: "PW0017",
        title: "missing node",
    },
    Code {
        code: "PW0018",
        title: "missing property",
    },
    Code {
        code: "PW0019",
        title: "fields that exclude each other",
    },
    Code {
        code: "PW0030",
        title: "`${` that is never closed",
    },
    Code {
        code: "PW0031",
        title: "`${…}` that names nothing known",
    },
    Code {
        code: "PW0032",
        title: "secret in a field that is shown or stored",
    },
    Code {
        code: "PW0033",
        title: "`${…}` in a script",
    },
    Code {
        code: "PW0040",
        title: "name declared twice",
    },
    Code {
        code: "PW0041",
        title: "name that is not declared",
    },
    Code {
        code: "PW0042",
        title: "stage that does not exist",
    },
    Code {
        code: "PW0043",
        title: "output that does not exist",
    },
    Code {
        code: "PW0044",
        title: "value that not every trigger gives",
    },
    Code {
        code: "PW0045",
        title: "pipeline that does not exist",
    },
    Code {
        code: "PW0046",
        title: "input that is not declared",
    },
    Code {
        code: "PW0047",
        title: "value that cannot be read here",
    },
    Code {
        code: "PW0050",
        title: "cycle of stages",
    },
    Code {
        code: "PW0051",
        title: "cycle of chained pipelines",
    },
    Code {
        code: "PW0052",
        title: "concurrency group on a pipeline and on one of its stages",
    },
    Code {
        code: "PW0053",
        title: "same trigger twice",
    },
    Code {
        code: "PW0054",
        title: "image without exactly one tag",
    },
    Code {
        code: "PW0055",
        title: "scanner that is not pinned",
    },
    Code {
        code: "PW0130",
        title: "expression that cannot be read",
    },
    Code {
        code: "PW0131",
        title: "expression too long or too deep",
    },
    Code {
        code: "PW0132",
        title: "expression with an unknown name",
    },
    Code {
        code: "PW0133",
        title: "expression that compares what cannot be compared",
    },
    Code {
        code: "PW0134",
        title: "expression that is no condition",
    },
    Code {
        code: "PW0135",
        title: "secret in an expression",
    },
    Code {
        code: "PW0136",
        title: "literal that is not of the type beside it",
    },
    Code {
        code: "PW0137",
        title: "regular expression that cannot be used",
    },
    Code {
        code: "PW0138",
        title: "unknown method",
    },
    Code {
        code: "PW0139",
        title: "list of mixed types",
    },
];

/// What a code means.
pub fn explain(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|known| known.code == code)
}
