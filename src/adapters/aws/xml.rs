//! The few words that are wanted from answers in XML: errors, lists and receipts. Reads no
//! structure, so that nothing hostile in it can do anything.

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

/// The insides of all elements of this name, none of which holds another one of it.
pub(super) fn elements<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let begun = text.split(open.as_str()).skip(1);
    begun
        .filter_map(|rest| Some(rest.split_once(close.as_str())?.0))
        .collect()
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
        let list = "<L><C><K>a</K></C><C><K>b</K></C><C><K>cut";
        let found = super::elements(list, "C");
        let keys: Vec<_> = found.iter().filter_map(|one| element(one, "K")).collect();
        assert_eq!(keys, ["a", "b"]);
    }
}
