//! Names of images: as a file gives them, in pieces, and what they may consist of.

/// The image a file names: its only line, or the value of a key.
pub(super) fn image_in_file(text: &str, key: Option<&str>) -> Result<String, String> {
    let lines = || {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
    };
    let clean = |value: &str| value.trim().trim_matches(['"', '\'']).to_owned();
    match key {
        None => {
            let mut lines = lines();
            match (lines.next(), lines.next()) {
                (Some(line), None) => Ok(clean(line)),
                (None, _) => Err("it is empty".to_owned()),
                _ => Err("it has several lines; name one with `key=`".to_owned()),
            }
        }
        Some(key) => {
            let found: Vec<&str> = lines()
                .filter_map(|line| line.strip_prefix("export ").unwrap_or(line).split_once('='))
                .filter(|(name, _)| name.trim() == key)
                .map(|(_, value)| value)
                .collect();
            match found.as_slice() {
                [value] => Ok(clean(value)),
                [] => Err(format!("it has no key {key}")),
                _ => Err(format!("it has the key {key} several times")),
            }
        }
    }
}

/// Repository and tag of a full reference; its registry, if it names one, must be ours.
pub(super) fn split_reference(full: &str, host: Option<&str>) -> Result<(String, String), String> {
    let rest = match full.split_once('/') {
        Some((first, rest))
            if first.contains('.') || first.contains(':') || first == "localhost" =>
        {
            if let Some(host) = host
                && first != host
            {
                return Err(format!("\"{full}\" is in another registry than {host}"));
            }
            rest
        }
        _ => full,
    };
    match rest.rsplit_once(':') {
        Some((repository, tag))
            if !repository.is_empty() && !tag.is_empty() && !tag.contains('/') =>
        {
            Ok((repository.to_owned(), tag.to_owned()))
        }
        _ => Err(format!("\"{full}\" names no tag")),
    }
}

/// The grammar of the OCI distribution specification.
pub(super) fn check_name(repository: &str, tag: &str) -> Result<(), String> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.chars().all(|c| {
                c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
            })
    };
    if repository.len() > 255 || !repository.split('/').all(part) {
        return Err(format!(
            "\"{repository}\" is not a repository: lowercase letters, digits, `.`, `_`, `-`, parts joined by `/`"
        ));
    }
    let first = tag
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let rest = tag
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if !first || !rest || tag.len() > 128 {
        return Err(format!(
            "\"{tag}\" is not a tag: up to 128 letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_in_files() {
        let text = "# names\nSAMPLE_IMAGE=\"sample:v1\"\nexport OTHER='reg.example.com/x:2'\n";
        assert_eq!(
            image_in_file(text, Some("SAMPLE_IMAGE")),
            Ok("sample:v1".to_owned())
        );
        assert_eq!(
            image_in_file(text, Some("OTHER")),
            Ok("reg.example.com/x:2".to_owned())
        );
        assert!(image_in_file(text, Some("NONE")).is_err());
        assert!(image_in_file(text, None).is_err());
        assert_eq!(image_in_file("a/b:1\n", None), Ok("a/b:1".to_owned()));
    }

    #[test]
    fn full_references_must_be_in_our_registry() {
        let ok = |text: &str| split_reference(text, Some("localhost:5000"));
        assert_eq!(
            ok("localhost:5000/a/b:1"),
            Ok(("a/b".to_owned(), "1".to_owned()))
        );
        assert_eq!(ok("a/b:1"), Ok(("a/b".to_owned(), "1".to_owned())));
        assert!(ok("evil.example.com/a:1").is_err());
        assert!(ok("a/b").is_err());
    }

    #[test]
    fn names_follow_the_grammar() {
        assert!(check_name("shop/app", "v1.2").is_ok());
        assert!(check_name("Shop", "v1").is_err());
        assert!(check_name("a//b", "v1").is_err());
        assert!(check_name("a", "-x").is_err());
        assert!(check_name("a", &"x".repeat(129)).is_err());
    }
}
