//! The few words that are wanted from answers in XML: errors. Reads no structure, so that nothing
//! hostile in it can do anything.

/// The text of the first element of this name that has no attributes.
pub(super) fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once('<')?;
    let mut plain = inner.to_owned();
    // The ampersand comes last: what it yields is no entity again.
    for (entity, sign) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&amp;", "&"),
    ] {
        plain = plain.replace(entity, sign);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements() {
        let text = "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>a &lt;b&gt; &amp;lt;</Message>\
                    <Key/><Resource></Resource></Error>";
        for (name, value) in [
            ("Code", Some("NoSuchKey")),
            ("Message", Some("a <b> &lt;")),
            ("Resource", Some("")),
            ("Key", None),
            ("Region", None),
        ] {
            assert_eq!(element(text, name).as_deref(), value, "{name}");
        }
        assert_eq!(element("<Code>cut", "Code"), None);
        assert_eq!(element("", "Code"), None);
    }
}
