//! Finds the name that a misspelt word was meant to be.

/// Longest word that is compared, in characters.
const MAX_WORD: usize = 64;

/// The candidate nearest to a word, if one is near enough to be worth saying. Case and the choice
/// between `-` and `_` do not count; of equally near ones the first wins.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().take(MAX_WORD + 1).count();
    if length == 0 || length > MAX_WORD {
        return None;
    }
    // A third of the letters may be wrong, so that short words do not suggest just anything.
    let limit = (length / 3).max(1);
    let plain = normal(word);
    candidates
        .into_iter()
        .filter(|candidate| {
            *candidate != word && candidate.chars().take(MAX_WORD + 1).count() <= MAX_WORD
        })
        .filter_map(|candidate| {
            let name = normal(candidate);
            let distance = strsim::damerau_levenshtein(&plain, &name);
            // With nothing in common it is no likeness but chance.
            let likely = distance <= limit && distance < length.max(2);
            likely.then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn normal(word: &str) -> String {
    word.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested() {
        let names = [
            "build",
            "push",
            "deploy",
            "short-sha",
            "branch",
            "git.sha",
            "値札",
        ];
        let cases = [
            ("biuld", Some("build")),
            ("pusch", Some("push")),
            ("Deploy", Some("deploy")),
            ("deplyo", Some("deploy")),
            ("short_sha", Some("short-sha")),
            ("shortsha", Some("short-sha")),
            ("brunch", Some("branch")),
            ("git.shaa", Some("git.sha")),
            ("値礼", Some("値札")),
            ("kubernetes", None),
            ("x", None),
            ("", None),
            ("build", None),
        ];
        for (word, expected) in cases {
            assert_eq!(suggest(word, names), expected, "{word}");
        }
        assert_eq!(suggest(&"x".repeat(100_000), ["x"]), None);
        assert_eq!(suggest("tab", ["tag", "tap"]), Some("tag"));
    }
}
