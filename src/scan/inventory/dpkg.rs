//! dpkg: `status`, the files of distroless' `status.d`, and the lists of installed files.

use super::contents::{Contents, Item, lines, text};
use super::paths::{PathHasher, clean};
use crate::scan::{PackageKind, Source};

/// The fields we want of one package.
#[derive(Default)]
struct Paragraph {
    name: String,
    version: String,
    arch: String,
    source: String,
    status: String,
}

/// Reads paragraphs of `Field: value` lines.
pub(super) fn read_status(bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    let mut paragraph = Paragraph::default();
    let mut any = false;
    let mut broken = 0_u64;
    for line in lines(bytes).chain(std::iter::once(&b""[..])) {
        if line.is_empty() {
            if std::mem::take(&mut any) && !take(std::mem::take(&mut paragraph), &mut contents) {
                broken += 1;
            }
            continue;
        }
        any = true;
        // What a field goes on with; none of ours has more than one line.
        if matches!(line[0], b' ' | b'\t') {
            continue;
        }
        let Some(colon) = memchr::memchr(b':', &line[..line.len().min(64)]) else {
            continue;
        };
        let (field, value) = (&line[..colon], &line[colon + 1..]);
        let field = match field.to_ascii_lowercase().as_slice() {
            b"package" => &mut paragraph.name,
            b"version" => &mut paragraph.version,
            b"architecture" => &mut paragraph.arch,
            b"source" => &mut paragraph.source,
            b"status" => &mut paragraph.status,
            _ => continue,
        };
        *field = text(value);
    }
    if broken > 0 {
        let why = format!("{broken} entries lack a name or a version that can be one");
        contents.note("packages of dpkg", why);
    }
    contents
}

/// Adds a package if it is there; false if its paragraph makes no sense.
fn take(paragraph: Paragraph, contents: &mut Contents) -> bool {
    // `want flag state`; distroless images leave the field out.
    let state = paragraph.status.rsplit(' ').next().unwrap_or_default();
    if matches!(state, "not-installed" | "config-files") {
        return true;
    }
    let source = match paragraph.source.split_once('(') {
        Some((name, version)) => Some((name.trim(), version.trim_end_matches(')').trim())),
        None if paragraph.source.is_empty() => None,
        None => Some((paragraph.source.as_str(), paragraph.version.as_str())),
    };
    let source = source
        .filter(|(name, version)| (*name, *version) != (&*paragraph.name, &*paragraph.version))
        .map(|(name, version)| Source {
            name: name.to_owned(),
            version: version.to_owned(),
        });
    contents.add(Item {
        arch: Some(paragraph.arch).filter(|arch| !arch.is_empty()),
        source,
        ..Item::new(PackageKind::Deb, paragraph.name, paragraph.version)
    })
}

/// Reads the paths of `info/NAME[:ARCH].list`, or of `status.d/NAME.md5sums` behind the sums.
pub(super) fn read_files(path: &str, bytes: &[u8], hasher: &PathHasher) -> Contents {
    let name = path.rsplit('/').next().unwrap_or(path);
    let (owner, sums) = match name.strip_suffix(".md5sums") {
        Some(owner) => (owner, true),
        None => (name.trim_end_matches(".list"), false),
    };
    let owner = owner.split(':').next().unwrap_or(owner);
    let paths = lines(bytes).filter_map(|line| match sums {
        true => line.split(|byte| *byte == b' ').next_back(),
        false => Some(line),
    });
    Contents {
        owned: paths
            .filter_map(clean)
            .filter(|path| !path.is_empty())
            .map(|path| (hasher.hash(&path), 0))
            .collect(),
        owners: vec![owner.to_owned()],
        ..Contents::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: &[u8]) -> Vec<String> {
        read_status(status)
            .items
            .into_iter()
            .map(|item| {
                let source = item.source.map_or(String::new(), |source| {
                    format!(" < {} {}", source.name, source.version)
                });
                let arch = item.arch.unwrap_or_default();
                format!("{} {} {arch}{source}", item.name, item.version)
            })
            .collect()
    }

    #[test]
    fn sources_are_told_where_they_differ() {
        let status = b"Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\n\
            Source: zlib\nVersion: 1:1.2.13.dfsg-1\nDescription: x\n Version: no field\n\n\
            Package: gcc-12-base\nStatus: install ok installed\nSource: gcc-12 (12.2.0-14)\n\
            Version: 12.2.0-14+b1\n\n\n\nPackage: bash\nVersion: 5.2.15-2\nArchitecture: amd64\n";
        assert_eq!(
            shown(status),
            [
                "zlib1g 1:1.2.13.dfsg-1 amd64 < zlib 1:1.2.13.dfsg-1",
                "gcc-12-base 12.2.0-14+b1  < gcc-12 12.2.0-14",
                "bash 5.2.15-2 amd64"
            ]
        );
    }

    #[test]
    fn what_was_removed_is_not_there() {
        let status = b"Package: a\nStatus: deinstall ok config-files\nVersion: 1\n\n\
            Package: b\nStatus: install ok half-configured\nVersion: 1\n\n\
            Package: c\nStatus: purge ok not-installed\n\n\
            Package: d\nStatus: hold ok installed\nVersion: 2\n";
        assert_eq!(shown(status), ["b 1 ", "d 2 "]);
    }

    #[test]
    fn nonsense_is_told() {
        let long = format!("Package: {}\nVersion: 1\n", "x".repeat(1 << 20));
        for status in [
            &b"Package: a\nStatus: install ok installed\n"[..],
            b"\x00\x01\x02",
            b"Package: a\x1b[31m\nVersion: 1\n",
            long.as_bytes(),
        ] {
            let contents = read_status(status);
            assert!(contents.items.is_empty());
            let [unread] = contents.unread.as_slice() else {
                panic!("{contents:?}");
            };
            assert!(unread.why.starts_with("1 entries lack"), "{unread:?}");
        }
    }

    #[test]
    fn lists_tell_whose_a_file_is() {
        let hasher = PathHasher::default();
        let expected = [(hasher.hash("usr/bin"), 0), (hasher.hash("usr/bin/x y"), 0)];
        let list = read_files(
            "var/lib/dpkg/info/x:amd64.list",
            b"/.\n/usr/bin\n/usr/bin/x y\n",
            &hasher,
        );
        assert_eq!(list.owned, expected);
        assert_eq!(list.owners, ["x"]);
        let sums = read_files("var/lib/dpkg/status.d/x.md5sums", b"00  usr/bin\n", &hasher);
        assert_eq!(sums.owned, expected[..1]);
        assert_eq!(sums.owners, ["x"]);
    }
}
