//! Tar archives: entries one after the other, with the extensions of POSIX and GNU.
//!
//! Names are kept short and lists of attributes small, whatever an archive claims.

use std::io;

use super::bytes::{Buffered, Skip, Within};

/// Size of a header, and what contents are filled up to.
const BLOCK: usize = 512;
/// Longest name and longest list of attributes of one entry.
const LONGEST: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    /// A symbolic link with its target.
    Link(Vec<u8>),
    /// A second name of a file of the archive.
    HardLink(Vec<u8>),
    /// A device, a pipe, or anything unknown.
    Other,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// Bytes of content that follow.
    pub(super) size: u64,
}

/// The entries of an archive.
pub(super) struct Tar<'a, R> {
    pub(super) bytes: Buffered<'a, R>,
    /// Content of the entry at hand that was not taken, and what fills it up.
    rest: u64,
    padding: u64,
    /// Bytes passed so far.
    position: u64,
    any: bool,
}

/// What comes before an entry and is about it.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<'a, R: Skip> Tar<'a, R> {
    pub(super) fn new(bytes: Buffered<'a, R>) -> Self {
        Self {
            bytes,
            rest: 0,
            padding: 0,
            position: 0,
            any: false,
        }
    }

    /// Where the content of the entry at hand begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next entry. What was not taken of the one before is passed over.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut extended = Extended::default();
        // Each is about one entry only; more than a few in a row mean mischief.
        for _ in 0..16 {
            let left = self.rest + self.padding;
            self.position += left;
            self.bytes.pass(left)?;
            (self.rest, self.padding) = (0, 0);
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = number(&header[124..136])?;
            self.begin(size);
            match header[156] {
                b'L' => extended.path = Some(until_zero(&self.content(size)?).to_vec()),
                b'K' => extended.link = Some(until_zero(&self.content(size)?).to_vec()),
                b'x' => {
                    let records = self.content(size)?;
                    attributes(&records, &mut extended)?;
                }
                // Defaults for all that follow; nobody keeps names there.
                b'g' => {}
                _ => return self.entry(&header, size, extended).map(Some),
            }
        }
        Err(invalid("an entry has too many extensions"))
    }

    fn begin(&mut self, size: u64) {
        self.rest = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// The next header; none at the end.
    fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut header = [0; BLOCK];
        let shown = self.bytes.peek(BLOCK)?;
        match shown.get(..BLOCK) {
            Some(block) => header.copy_from_slice(block),
            // Some writers leave out the empty blocks at the end, none the archive.
            None if shown.is_empty() && self.any => return Ok(None),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        self.bytes.consume(BLOCK);
        self.position += BLOCK as u64;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = number(&header[148..156])?;
        let sums = |add: fn(u8) -> i64| {
            let fields = header[..148].iter().chain(&header[156..]);
            fields.map(|byte| add(*byte)).sum::<i64>() + 8 * i64::from(b' ')
        };
        let signed = sums(|byte| i64::from(byte as i8));
        if i64::try_from(sum).is_ok_and(|sum| sum != sums(i64::from) && sum != signed) {
            return Err(invalid("it is no tar archive"));
        }
        self.any = true;
        Ok(Some(header))
    }

    fn entry(&mut self, header: &[u8; BLOCK], size: u64, extended: Extended) -> io::Result<Entry> {
        let path = extended.path.unwrap_or_else(|| {
            let name = until_zero(&header[..100]);
            let prefix = match &header[257..263] {
                b"ustar\0" => until_zero(&header[345..500]),
                _ => b"",
            };
            match prefix {
                [] => name.to_vec(),
                prefix => [prefix, b"/", name].concat(),
            }
        });
        let link = || {
            extended
                .link
                .clone()
                .unwrap_or_else(|| until_zero(&header[157..257]).to_vec())
        };
        let kind = match header[156] {
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink(link()),
            b'2' => Kind::Link(link()),
            b'5' => Kind::Directory,
            // Sparse files of GNU: what they hold is not what it is a file of. No package has any.
            _ => Kind::Other,
        };
        let size = extended.size.unwrap_or(size);
        // Links and directories may have a size that means nothing.
        let size = match kind {
            Kind::File | Kind::Other => size,
            Kind::Directory | Kind::Link(_) | Kind::HardLink(_) => 0,
        };
        self.begin(size);
        Ok(Entry { path, kind, size })
    }

    /// All the content of the entry at hand, which the caller found short enough.
    pub(super) fn content(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > LONGEST {
            return Err(invalid("a name or a list of attributes is too long"));
        }
        self.large_content()
    }

    /// All the content of the entry at hand, however long.
    pub(super) fn large_content(&mut self) -> io::Result<Vec<u8>> {
        // What is claimed may never come.
        let mut content = Vec::with_capacity(self.rest.min(1 << 20) as usize);
        self.each(|piece| content.extend_from_slice(piece))?;
        Ok(content)
    }

    /// At least so many of the first bytes of the content, without taking them; fewer only if it
    /// has fewer.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        let rest = usize::try_from(self.rest).unwrap_or(usize::MAX);
        let shown = self.bytes.peek(count.min(rest))?;
        Ok(&shown[..shown.len().min(rest)])
    }

    /// Takes the content of the entry at hand in pieces.
    pub(super) fn each(&mut self, take: impl FnMut(&[u8])) -> io::Result<()> {
        let size = std::mem::take(&mut self.rest);
        self.position += size;
        self.bytes.each(size, take)
    }

    /// Lends the content of the entry at hand as a source of its own, and passes over the rest.
    pub(super) fn lend<T>(
        &mut self,
        read: impl FnOnce(&mut Within<'_, 'a, R>) -> T,
    ) -> io::Result<T> {
        let size = std::mem::take(&mut self.rest);
        self.position += size;
        let mut content = Within::new(&mut self.bytes, size);
        let result = read(&mut content);
        let left = content.left;
        self.bytes.pass(left)?;
        Ok(result)
    }
}

/// What stands before the first zero.
fn until_zero(field: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, field).unwrap_or(field.len());
    &field[..end]
}

/// A number: octal digits, or binary if the first bit is set.
fn number(field: &[u8]) -> io::Result<u64> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len() - 8);
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        let low = low.iter().fold(0, add);
        // The first bit is the mark. One for a number below zero is set, too.
        let high = high.iter().enumerate();
        let high = high.map(|(at, byte)| if at == 0 { byte & 0x7f } else { *byte });
        let high = high.fold(0, |any, byte| any | byte) != 0;
        // Sums of sizes must not overflow.
        if high || low > u64::MAX / 4 {
            return Err(invalid("an entry has a size that cannot be"));
        }
        return Ok(low);
    }
    let digits = field.iter().copied().skip_while(|byte| *byte == b' ');
    let mut digits = digits.take_while(|byte| !matches!(byte, 0 | b' '));
    digits.try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'7' => Ok(sum << 3 | u64::from(digit - b'0')),
        _ => Err(invalid("it is no tar archive")),
    })
}

/// Takes what matters of records `LENGTH KEY=VALUE\n`.
fn attributes(records: &[u8], to: &mut Extended) -> io::Result<()> {
    let broken = || invalid("an entry has broken attributes");
    let mut rest = records;
    while !rest.is_empty() && rest[0] != 0 {
        let space = memchr::memchr(b' ', &rest[..rest.len().min(20)]).ok_or_else(broken)?;
        let length = std::str::from_utf8(&rest[..space]).ok();
        let length = length.and_then(|length| length.parse::<usize>().ok());
        let length = length.filter(|length| *length > space + 1 && *length <= rest.len());
        let (record, after) = rest.split_at(length.ok_or_else(broken)?);
        rest = after;
        let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(broken)?;
        let equals = memchr::memchr(b'=', record).ok_or_else(broken)?;
        let value = &record[equals + 1..];
        match &record[..equals] {
            b"path" => to.path = Some(value.to_vec()),
            b"linkpath" => to.link = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value)
                    .ok()
                    .and_then(|size| size.parse().ok());
                to.size = Some(
                    size.filter(|size| *size <= u64::MAX / 4)
                        .ok_or_else(broken)?,
                );
            }
            _ => {}
        }
    }
    Ok(())
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
