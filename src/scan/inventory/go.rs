//! Go: what the linker writes into every program about the modules it is made of.

use object::{Object as _, ObjectSegment as _, ReadRef};

use super::contents::{Contents, Item};
use crate::scan::PackageKind;

/// What the information begins with; what follows is at a multiple of 16 in the file.
pub(super) const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Length of the header that begins with [`MAGIC`].
const HEADER: usize = 32;
/// Longest information that is read, in bytes.
pub(super) const LONGEST: usize = 4 << 20;
const WHAT: &str = "Go modules";

/// What the bytes from the magic on tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Info {
    /// The version of Go, and the modules as the linker listed them.
    Inline(String, String),
    /// Go before 1.18 wrote pointers to the two texts instead.
    Pointers {
        version: u64,
        modules: u64,
        wide: bool,
        big: bool,
    },
}

/// Reads the bytes from the magic on. None if it is only the text of the magic, as programs have
/// it that look for it themselves.
pub(super) fn parse(bytes: &[u8]) -> Option<Info> {
    let header = bytes
        .get(..HEADER)
        .filter(|header| header.starts_with(MAGIC))?;
    let (size, flags) = (header[14], header[15]);
    if flags & 2 != 0 {
        let mut rest = &bytes[HEADER..];
        let version = take_text(&mut rest)?;
        let known = version.starts_with("go") || version.starts_with("devel");
        if !known || version.len() > 200 {
            return None;
        }
        let modules = take_text(&mut rest).unwrap_or_default();
        return Some(Info::Inline(version, modules));
    }
    let big = flags & 1 != 0;
    let wide = match size {
        8 => true,
        4 => false,
        _ => return None,
    };
    let (version, modules) = match wide {
        true => (number(&header[16..24], big), number(&header[24..32], big)),
        false => (number(&header[16..20], big), number(&header[20..24], big)),
    };
    (version != 0).then_some(Info::Pointers {
        version,
        modules,
        wide,
        big,
    })
}

/// A text with its length before it, as a variable number of bytes of seven bits each.
fn take_text(rest: &mut &[u8]) -> Option<String> {
    let mut length = 0_usize;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (text, after) = rest.split_at_checked(length)?;
            *rest = after;
            return Some(String::from_utf8_lossy(strip(text)).into_owned());
        }
    }
    None
}

/// The list of modules stands between two marks of 16 bytes.
fn strip(text: &[u8]) -> &[u8] {
    let marked = text.len() >= 33 && text[text.len() - 17] == b'\n';
    if marked {
        &text[16..text.len() - 16]
    } else {
        text
    }
}

fn number(bytes: &[u8], big: bool) -> u64 {
    let digits = bytes.iter().copied();
    let add = |sum: u64, byte: u8| sum << 8 | u64::from(byte);
    match big {
        true => digits.fold(0, add),
        false => digits.rev().fold(0, add),
    }
}

/// Follows the pointers of an older program.
pub(super) fn follow<'data, R: ReadRef<'data>>(
    file: &object::File<'data, R>,
    (version, modules): (u64, u64),
    wide: bool,
    big: bool,
) -> Option<(String, String)> {
    let version = text_at(file, version, wide, big)?;
    let modules = text_at(file, modules, wide, big).unwrap_or_default();
    version.starts_with("go").then_some((version, modules))
}

/// The text whose address and length stand at an address.
fn text_at<'data, R: ReadRef<'data>>(
    file: &object::File<'data, R>,
    address: u64,
    wide: bool,
    big: bool,
) -> Option<String> {
    let width = if wide { 8 } else { 4 };
    let header = bytes_at(file, address, 2 * width)?;
    let (start, length) = header.split_at(usize::try_from(width).ok()?);
    let (start, length) = (number(start, big), number(length, big));
    let text = bytes_at(file, start, length.min(LONGEST as u64))?;
    Some(String::from_utf8_lossy(strip(text)).into_owned())
}

fn bytes_at<'data, R: ReadRef<'data>>(
    file: &object::File<'data, R>,
    address: u64,
    length: u64,
) -> Option<&'data [u8]> {
    let mut segments = file.segments();
    segments.find_map(|segment| segment.data_range(address, length).ok().flatten())
}

/// The packages that a version of Go and a list of modules stand for.
pub(super) fn packages(version: &str, modules: &str) -> Contents {
    let mut contents = Contents::default();
    let mut found: Vec<(String, String)> = Vec::new();
    let mut replaceable = false;
    for line in modules.lines() {
        let mut fields = line.split('\t');
        let kind = fields.next().unwrap_or_default();
        let mut next = || fields.next().unwrap_or_default().to_owned();
        match kind {
            "mod" | "dep" => {
                found.push((next(), next()));
                replaceable = true;
            }
            "=>" if replaceable => {
                let (name, version) = (next(), next());
                // A path that begins with a dot or a slash is that of a directory.
                let directory = version.is_empty() || name.starts_with(['.', '/']);
                match (found.last_mut(), directory) {
                    // Still that module, in a version nobody else has.
                    (Some(replaced), true) => replaced.1.clear(),
                    (Some(replaced), false) => *replaced = (name, version),
                    (None, _) => {}
                }
                replaceable = false;
            }
            _ => replaceable = false,
        }
    }
    // A program of GOPATH's times, or one that was built from a list of files.
    if found.is_empty() && !modules.lines().any(|line| line.starts_with("path\t")) {
        contents.note(WHAT, "the program does not say which modules it is made of");
    }
    let mut broken = 0_u64;
    for (name, version) in found {
        let version = match version.is_empty() {
            true => "(devel)".to_owned(),
            false => version,
        };
        broken += u64::from(!contents.add(Item::new(PackageKind::Golang, name, version)));
    }
    let number = version.split_whitespace().next().unwrap_or_default();
    let number = number.strip_prefix("go").unwrap_or(number);
    broken += u64::from(!contents.add(Item::new(PackageKind::Golang, "stdlib", number)));
    if broken > 0 {
        let why = format!("{broken} entries of the list in the program make no sense");
        contents.note(WHAT, why);
    }
    contents
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::scan::inventory) fn inline(version: &str, modules: &str) -> Vec<u8> {
        let mut bytes = [MAGIC, &[8, 2]].concat();
        bytes.resize(HEADER, 0);
        let marked = format!("{}{modules}{}", "0".repeat(16), "1".repeat(16));
        for text in [version, &marked] {
            let mut length = text.len();
            while length >= 0x80 {
                bytes.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            bytes.push(length as u8);
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    fn shown(version: &str, modules: &str) -> Vec<String> {
        let items = packages(version, modules).items.into_iter();
        items
            .map(|item| format!("{} {}", item.name, item.version))
            .collect()
    }

    #[test]
    fn modules_and_their_replacements() {
        let modules = "path\texample.com/app\nmod\texample.com/app\t(devel)\t\n\
            dep\tgolang.org/x/net\tv0.1.0\th1:abc=\n=>\tgithub.com/fork/net\tv0.2.0\th1:def=\n\
            dep\texample.com/lib\tv1.0.0\n=>\t../lib\t(devel)\t\nbuild\t-compiler=gc\n";
        assert_eq!(
            shown("go1.22.1 X:nocoverageredesign", modules),
            [
                "example.com/app (devel)",
                "github.com/fork/net v0.2.0",
                "example.com/lib (devel)",
                "stdlib 1.22.1"
            ]
        );
        assert_eq!(shown("go1.19.8", "path\tcmd/go\n"), ["stdlib 1.19.8"]);
        assert_eq!(packages("go1.10", "").unread.len(), 1);
    }

    #[test]
    fn the_form_since_1_18() {
        let modules = format!("path\tx\n{}", "dep\ta\tv1.0.0\n".repeat(30));
        let bytes = inline("go1.22.1", &modules);
        assert_eq!(
            parse(&bytes),
            Some(Info::Inline("go1.22.1".to_owned(), modules))
        );
        // What is cut off keeps the version.
        assert_eq!(
            parse(&bytes[..60]),
            Some(Info::Inline("go1.22.1".to_owned(), String::new()))
        );
        assert_eq!(parse(&bytes[..35]), None);
    }

    #[test]
    fn the_mere_text_is_no_information() {
        let text = [MAGIC, b"not a Go executable: go1.22 and more"].concat();
        assert_eq!(parse(&text), None);
        let endless = [MAGIC, &[8, 2], &[0; 16], &[0xff; 40]].concat();
        assert_eq!(parse(&endless), None);
    }

    #[test]
    fn the_form_before_1_18() {
        let mut bytes = [MAGIC, &[8, 0]].concat();
        bytes.extend(0x1000_u64.to_le_bytes());
        bytes.extend(0x2000_u64.to_le_bytes());
        let expected = Info::Pointers {
            version: 0x1000,
            modules: 0x2000,
            wide: true,
            big: false,
        };
        assert_eq!(parse(&bytes), Some(expected));
    }
}
