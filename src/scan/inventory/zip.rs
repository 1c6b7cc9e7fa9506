//! Zip archives, as far as reading some of their files takes.
//!
//! The directory at the end is walked, never collected: an archive may claim millions of entries.

use std::borrow::Cow;
use std::io::Read as _;

/// A zip archive.
#[derive(Clone, Copy)]
pub(super) struct Zip<'a> {
    bytes: &'a [u8],
    /// The directory and what follows.
    directory: &'a [u8],
    entries: u64,
    /// Where the archive begins: programs may stand before it.
    base: usize,
}

/// One file of an archive.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: Cow<'a, str>,
    method: u16,
    encrypted: bool,
    compressed: u64,
    /// Its length, as the directory says.
    pub(super) length: u64,
    header: u64,
}

pub(super) type Damage = &'static str;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

impl<'a> Zip<'a> {
    /// Finds the directory.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, Damage> {
        // It is followed by a comment of at most 64 KiB.
        let from = bytes.len().saturating_sub(22 + 0xffff);
        let end =
            memchr::memmem::rfind(&bytes[from..], b"PK\x05\x06").ok_or("it has no directory")?;
        let end = from + end;
        let mut entries = number(bytes, end + 10, 2)?;
        let mut size = number(bytes, end + 12, 4)?;
        let mut offset = number(bytes, end + 16, 4)?;
        let mut last = end;
        if entries == 0xffff || size == 0xffff_ffff || offset == 0xffff_ffff {
            // A large archive has a second form of it before.
            let locator = end.checked_sub(20).ok_or("it has no directory")?;
            if bytes[locator..].starts_with(b"PK\x06\x07") {
                let at = place(number(bytes, locator + 8, 8)?)?;
                if !bytes
                    .get(at..)
                    .is_some_and(|rest| rest.starts_with(b"PK\x06\x06"))
                {
                    return Err("its directory is not where it should be");
                }
                entries = number(bytes, at + 32, 8)?;
                size = number(bytes, at + 40, 8)?;
                offset = number(bytes, at + 48, 8)?;
                last = at;
            }
        }
        let start = last
            .checked_sub(place(size)?)
            .ok_or("its directory is longer than all of it")?;
        let base = start
            .checked_sub(place(offset)?)
            .ok_or("its directory is not where it should be")?;
        Ok(Self {
            bytes,
            directory: &bytes[start..last],
            entries,
            base,
        })
    }

    /// Its files, in the order of the directory. Ends with an error where that is damaged.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<Entry<'a>, Damage>> + use<'a> {
        let mut rest = self.directory;
        let mut left = self.entries;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            left -= 1;
            let entry = Entry::parse(&mut rest);
            if entry.is_err() {
                left = 0;
            }
            Some(entry)
        })
    }

    /// The content of a file, of at most `limit` bytes.
    pub(super) fn content(&self, entry: &Entry<'a>, limit: u64) -> Result<Cow<'a, [u8]>, Damage> {
        const LONG: Damage = "it is too large";
        if entry.encrypted {
            return Err("it is encrypted");
        }
        let header = self
            .base
            .checked_add(place(entry.header)?)
            .ok_or("it is cut off")?;
        let names = number(self.bytes, header + 26, 2)? + number(self.bytes, header + 28, 2)?;
        let start = header + 30 + place(names)?;
        let packed = place(entry.compressed)?;
        let packed = start
            .checked_add(packed)
            .and_then(|end| self.bytes.get(start..end))
            .ok_or("it is cut off")?;
        match entry.method {
            STORED if packed.len() as u64 > limit => Err(LONG),
            STORED => Ok(Cow::Borrowed(packed)),
            DEFLATED if entry.length > limit => Err(LONG),
            DEFLATED => {
                let mut content = Vec::new();
                let mut inflate = flate2::read::DeflateDecoder::new(packed).take(limit + 1);
                inflate
                    .read_to_end(&mut content)
                    .map_err(|_| "its content is damaged")?;
                match content.len() as u64 > limit {
                    true => Err(LONG),
                    false => Ok(Cow::Owned(content)),
                }
            }
            _ => Err("it is packed by a method that is not read"),
        }
    }
}

impl<'a> Entry<'a> {
    fn parse(rest: &mut &'a [u8]) -> Result<Self, Damage> {
        const CUT: Damage = "its directory is cut off";
        let header = *rest;
        if !header.starts_with(b"PK\x01\x02") {
            return Err(CUT);
        }
        let name = place(number(header, 28, 2)?)?;
        let extra = place(number(header, 30, 2)?)?;
        let comment = place(number(header, 32, 2)?)?;
        let mut entry = Self {
            name: String::from_utf8_lossy(header.get(46..46 + name).ok_or(CUT)?),
            encrypted: number(header, 8, 2)? & 1 != 0,
            method: number(header, 10, 2)? as u16,
            compressed: number(header, 20, 4)?,
            length: number(header, 24, 4)?,
            header: number(header, 42, 4)?,
        };
        let extras = header.get(46 + name..46 + name + extra).ok_or(CUT)?;
        entry.widen(extras);
        *rest = header.get(46 + name + extra + comment..).ok_or(CUT)?;
        Ok(entry)
    }

    /// Takes the numbers that have no room in the entry itself from its extra fields.
    fn widen(&mut self, extras: &[u8]) {
        let mut at = 0;
        while let (Ok(kind), Ok(length)) = (number(extras, at, 2), number(extras, at + 2, 2)) {
            at += 4;
            if kind == 1 {
                let mut field = at;
                for value in [&mut self.length, &mut self.compressed, &mut self.header] {
                    if *value == 0xffff_ffff
                        && let Ok(wide) = number(extras, field, 8)
                    {
                        *value = wide;
                        field += 8;
                    }
                }
            }
            at += length as usize;
        }
    }
}

/// The little-endian number of some bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Result<u64, Damage> {
    let bytes = at.checked_add(length).and_then(|end| bytes.get(at..end));
    let bytes = bytes.ok_or("it is cut off")?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn place(number: u64) -> Result<usize, Damage> {
    // Above this, sums of a few could overflow.
    usize::try_from(number)
        .ok()
        .filter(|place| *place < usize::MAX / 8)
        .ok_or("it has sizes that cannot be")
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;

    use super::*;

    /// A zip archive of some files, every second one stored.
    pub(in crate::scan::inventory) fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        let mut directory = Vec::new();
        for (index, (name, content)) in files.iter().enumerate() {
            let header = archive.len() as u32;
            let method = if index % 2 == 0 { DEFLATED } else { STORED };
            let packed = match method {
                STORED => content.to_vec(),
                _ => {
                    let level = flate2::Compression::default();
                    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), level);
                    deflate
                        .write_all(content)
                        .and_then(|()| deflate.finish())
                        .expect("a vector takes all")
                }
            };
            let mut fields = Vec::new();
            fields.extend(20_u16.to_le_bytes());
            fields.extend(0_u16.to_le_bytes());
            fields.extend(method.to_le_bytes());
            fields.extend([0; 8]);
            fields.extend((packed.len() as u32).to_le_bytes());
            fields.extend((content.len() as u32).to_le_bytes());
            fields.extend((name.len() as u16).to_le_bytes());
            fields.extend([0; 2]);
            archive.extend_from_slice(b"PK\x03\x04");
            archive.extend_from_slice(&fields);
            archive.extend_from_slice(name.as_bytes());
            archive.extend_from_slice(&packed);
            directory.extend_from_slice(b"PK\x01\x02\x14\0");
            directory.extend_from_slice(&fields);
            directory.extend([0; 10]);
            directory.extend(header.to_le_bytes());
            directory.extend_from_slice(name.as_bytes());
        }
        let (start, count) = (archive.len() as u32, files.len() as u16);
        archive.extend_from_slice(&directory);
        archive.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        archive.extend(count.to_le_bytes());
        archive.extend(count.to_le_bytes());
        archive.extend((directory.len() as u32).to_le_bytes());
        archive.extend(start.to_le_bytes());
        archive.extend([0; 2]);
        archive
    }

    #[test]
    fn files_are_found_and_unpacked_also_behind_a_program() {
        let bytes = zip(&[("a/b", b"hello"), ("c", b"world"), ("d", b"")]);
        for bytes in [
            bytes.clone(),
            [b"#!/bin/sh\nexec java\n".as_slice(), &bytes].concat(),
        ] {
            let zip = Zip::open(&bytes).expect("it is one");
            let found: Vec<(String, Vec<u8>)> = zip
                .entries()
                .map(|entry| {
                    let entry = entry.expect("it is whole");
                    let content = zip.content(&entry, 5).expect("it is short");
                    (entry.name.into_owned(), content.into_owned())
                })
                .collect();
            let expected = [("a/b", "hello"), ("c", "world"), ("d", "")];
            assert_eq!(
                found,
                expected.map(|(name, content)| (name.to_owned(), content.into()))
            );
        }
    }

    #[test]
    fn damage_and_bombs_are_told() {
        assert!(Zip::open(b"PK\x05\x06").is_err());
        assert!(Zip::open(b"nothing").is_err());
        let bomb = zip(&[("a", &[0; 1 << 20]), ("b", &[0; 1000])]);
        let archive = Zip::open(&bomb).expect("it is one");
        for entry in archive.entries() {
            let entry = entry.expect("it is whole");
            assert_eq!(
                archive.content(&entry, 999).map(|content| content.len()),
                Err("it is too large")
            );
            // A directory that lies about the length is found out while unpacking.
            let lie = Entry { length: 1, ..entry };
            assert_eq!(
                archive.content(&lie, 999).map(|content| content.len()),
                Err("it is too large")
            );
        }
        let mut cut = bomb.clone();
        let at = memchr::memmem::find(&cut, b"PK\x01\x02").expect("it has a directory");
        cut[at] = b'X';
        let archive = Zip::open(&cut).expect("its end is whole");
        assert!(archive.entries().next().is_some_and(|entry| entry.is_err()));
        assert_eq!(archive.entries().count(), 1);
    }
}
