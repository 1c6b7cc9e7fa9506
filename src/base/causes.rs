//! Errors in words.

/// An error with those behind it, outermost first. What an error repeats of the one behind it is said
/// once.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Told(String, #[source] Option<Box<Told>>);

    fn told(texts: &[&str]) -> Told {
        let (first, rest) = texts.split_first().expect("a text");
        let source = (!rest.is_empty()).then(|| Box::new(told(rest)));
        Told((*first).to_owned(), source)
    }

    #[test]
    fn every_cause_is_said_once() {
        for (texts, said) in [
            (&["refused"][..], "refused"),
            (&["a", "b", "c"], "a: b: c"),
            (&["lost: reset", "reset", "by peer"], "lost: reset: by peer"),
        ] {
            assert_eq!(causes(&told(texts)), said);
        }
    }
}
