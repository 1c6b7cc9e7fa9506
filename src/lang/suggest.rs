//! Nearest names.

/// The candidate nearest to a word, if one is near.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .find(|c| c.starts_with(word.get(..2).unwrap_or(word)))
}
