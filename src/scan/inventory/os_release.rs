//! `os-release`: which distribution an image is.

use super::contents::{Contents, lines, text};
use crate::scan::Distro;

/// Reads `KEY=value` lines, with the quotes of a shell.
pub(super) fn read(bytes: &[u8]) -> Contents {
    let mut distro = Distro::default();
    for line in lines(bytes) {
        let line = text(line);
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = unquoted(value.trim());
        match key.trim() {
            "ID" => distro.id = value.to_lowercase(),
            "VERSION_ID" => distro.version = value,
            "VERSION_CODENAME" => distro.codename = Some(value).filter(|name| !name.is_empty()),
            "ID_LIKE" => distro.like = value.split_whitespace().map(str::to_lowercase).collect(),
            "PRETTY_NAME" => distro.name = value,
            _ => {}
        }
    }
    if distro.name.is_empty() {
        distro.name = format!("{} {}", distro.id, distro.version)
            .trim()
            .to_owned();
    }
    Contents {
        distro: (!distro.id.is_empty()).then_some(distro),
        ..Contents::default()
    }
}

/// A value without its quotes and escapes, and without control characters.
fn unquoted(value: &str) -> String {
    let (quote, inner) = match value.as_bytes() {
        [quote @ (b'"' | b'\''), .., last] if quote == last => {
            (Some(*quote), &value[1..value.len() - 1])
        }
        _ => (None, value),
    };
    let mut plain = String::new();
    let mut letters = inner.chars().filter(|letter| !letter.is_control());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if quote != Some(b'\'') => plain.extend(letters.next()),
            letter => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_are_those_of_a_shell() {
        let file =
            b"# comment\nNAME='Red \"Hat\"'\nPRETTY_NAME=\"The \\\"X\\\" \\$1\"\r\nID=\"rhel\"\n\
            ID_LIKE=\"fedora  centos\"\nVERSION_ID='9.4'\nVERSION_CODENAME=\nnonsense\n\xff=\xff\n";
        let distro = read(file).distro.expect("it has an ID");
        assert_eq!(distro.id, "rhel");
        assert_eq!(distro.version, "9.4");
        assert_eq!(distro.codename, None);
        assert_eq!(distro.like, ["fedora", "centos"]);
        assert_eq!(distro.name, "The \"X\" $1");
    }

    #[test]
    fn without_an_id_there_is_no_distribution() {
        assert_eq!(read(b"NAME=x\n"), Contents::default());
        let rolling = read(b"ID=arch").distro.expect("it has an ID");
        assert_eq!(
            (rolling.name.as_str(), rolling.version.as_str()),
            ("arch", "")
        );
    }
}
