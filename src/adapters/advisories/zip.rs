//! Reads zip archives of many small files: the directory is streamed, members are handed over
//! packed, and nothing is believed that the archive says of itself.
//!
//! Nothing is ever written under a member's name, so a name cannot lead anywhere.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

/// Most members that are read. OSV's archive of everything has some three million.
const MOST_MEMBERS: u64 = 5_000_000;
/// Longest name of a member that is kept.
const LONGEST_NAME: usize = 1024;

/// A member, still packed.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    packed: Vec<u8>,
    method: u16,
    crc: u32,
}

/// Opens an archive and hands its members to a function, until that wants no more.
pub(super) fn members(
    path: &Path,
    longest: usize,
    mut take: impl FnMut(Result<Member, (String, String)>) -> bool,
) -> Result<(), String> {
    let open = || File::open(path).map_err(|error| error.to_string());
    let mut file = open()?;
    let length = file
        .seek(SeekFrom::End(0))
        .map_err(|error| error.to_string())?;
    let end = end_of_directory(&mut file, length)?;
    if end.entries > MOST_MEMBERS {
        return Err(format!(
            "the archive says it has {} members; more than {MOST_MEMBERS} are not read",
            end.entries
        ));
    }
    file.seek(SeekFrom::Start(end.offset))
        .map_err(|error| error.to_string())?;
    let mut directory = BufReader::with_capacity(1 << 16, file.take(end.size));
    let mut data = BufReader::with_capacity(1 << 16, open()?);
    let mut at = 0_u64;
    let mut packed_in_all = 0_u64;
    for _ in 0..end.entries {
        let entry = entry(&mut directory).map_err(|error| broken(&error))?;
        packed_in_all = packed_in_all.saturating_add(entry.packed);
        if packed_in_all > length {
            return Err("its members overlap, as only an attack does".to_owned());
        }
        let is_record = entry.name.ends_with(".json") || entry.name.ends_with(".JSON");
        if !is_record || entry.name.split('/').any(|part| part == "__MACOSX") {
            continue;
        }
        let member = if entry.is_encrypted || !matches!(entry.method, 0 | 8) {
            Err((
                entry.name,
                "it is encrypted, or packed in a way we do not read".to_owned(),
            ))
        } else if entry.packed > longest as u64 || entry.size > longest as u64 {
            Err((entry.name, format!("it is longer than {longest} bytes")))
        } else {
            Ok(read(&mut data, &mut at, length, entry).map_err(|error| broken(&error))?)
        };
        if !take(member) {
            break;
        }
    }
    Ok(())
}

impl Member {
    /// A file that is not packed.
    pub(super) fn plain(name: String, bytes: Vec<u8>) -> Self {
        let mut crc = Crc::new();
        crc.update(&bytes);
        Self {
            name,
            crc: crc.sum(),
            packed: bytes,
            method: 0,
        }
    }

    /// Its content, of at most `longest` bytes, checked.
    pub(super) fn unpack(&self, longest: usize) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let limit = longest as u64 + 1;
        let read = match self.method {
            0 => self.packed.as_slice().take(limit).read_to_end(&mut bytes),
            _ => DeflateDecoder::new(self.packed.as_slice())
                .take(limit)
                .read_to_end(&mut bytes),
        };
        read.map_err(|error| format!("it cannot be unpacked: {error}"))?;
        if bytes.len() > longest {
            return Err(format!("it is longer than {longest} bytes"));
        }
        let mut crc = Crc::new();
        crc.update(&bytes);
        if crc.sum() != self.crc {
            return Err("its checksum is wrong".to_owned());
        }
        Ok(bytes)
    }
}

fn broken(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the archive is cut off or broken".to_owned(),
        _ => format!("the archive cannot be read: {error}"),
    }
}

/// Where the directory of an archive is.
struct End {
    entries: u64,
    size: u64,
    offset: u64,
}

fn end_of_directory(file: &mut File, length: u64) -> Result<End, String> {
    const RECORD: usize = 22;
    let tail = length.min(RECORD as u64 + u64::from(u16::MAX));
    let mut bytes = vec![0; usize::try_from(tail).unwrap_or(0)];
    let start = length - tail;
    file.seek(SeekFrom::Start(start))
        .and_then(|_| file.read_exact(&mut bytes))
        .map_err(|error| broken(&error))?;
    let at = (0..=bytes.len().saturating_sub(RECORD))
        .rev()
        .find(|at| bytes[*at..].starts_with(b"PK\x05\x06"))
        .ok_or("the archive is cut off: its directory is missing")?;
    let record = &bytes[at..];
    let mut end = End {
        entries: u64::from(u16_at(record, 10)),
        size: u64::from(u32_at(record, 12)),
        offset: u64::from(u32_at(record, 16)),
    };
    let is_large = end.entries == u64::from(u16::MAX)
        || end.size == u64::from(u32::MAX)
        || end.offset == u64::from(u32::MAX);
    // The locator of the large form stands right before.
    if let Some(locator) = at.checked_sub(20).map(|at| &bytes[at..at + 20])
        && locator.starts_with(b"PK\x06\x07")
    {
        let mut large = [0; 56];
        file.seek(SeekFrom::Start(u64_at(locator, 8)))
            .and_then(|_| file.read_exact(&mut large))
            .map_err(|error| broken(&error))?;
        if !large.starts_with(b"PK\x06\x06") {
            return Err("the archive is broken: its directory cannot be found".to_owned());
        }
        end = End {
            entries: u64_at(&large, 32),
            size: u64_at(&large, 40),
            offset: u64_at(&large, 48),
        };
    } else if is_large {
        return Err("the archive is broken: its directory cannot be found".to_owned());
    }
    // Each entry takes 46 bytes at least, so a small directory cannot claim millions.
    let fits = end
        .offset
        .checked_add(end.size)
        .is_some_and(|end| end <= length);
    if !fits || end.entries.saturating_mul(46) > end.size {
        return Err("the archive is broken: its directory does not fit".to_owned());
    }
    Ok(end)
}

/// What the directory says of a member.
struct Entry {
    name: String,
    method: u16,
    is_encrypted: bool,
    crc: u32,
    packed: u64,
    size: u64,
    offset: u64,
}

fn entry(directory: &mut impl Read) -> io::Result<Entry> {
    let mut head = [0; 46];
    directory.read_exact(&mut head)?;
    if !head.starts_with(b"PK\x01\x02") {
        return Err(io::Error::other("an entry of its directory is broken"));
    }
    let mut name = vec![0; usize::from(u16_at(&head, 28))];
    directory.read_exact(&mut name)?;
    let mut extra = vec![0; usize::from(u16_at(&head, 30))];
    directory.read_exact(&mut extra)?;
    let comment = u64::from(u16_at(&head, 32));
    let skipped = io::copy(&mut directory.take(comment), &mut io::sink())?;
    if skipped != comment {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    name.truncate(LONGEST_NAME);
    let mut entry = Entry {
        name: String::from_utf8_lossy(&name).into_owned(),
        method: u16_at(&head, 10),
        is_encrypted: u16_at(&head, 8) & 1 != 0,
        crc: u32_at(&head, 16),
        packed: u64::from(u32_at(&head, 20)),
        size: u64::from(u32_at(&head, 24)),
        offset: u64::from(u32_at(&head, 42)),
    };
    widen(&mut entry, &extra);
    Ok(entry)
}

/// Numbers that do not fit stand in an extra field, in this order.
fn widen(entry: &mut Entry, mut extra: &[u8]) {
    while extra.len() >= 4 {
        let (kind, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let rest = &extra[4..];
        let field = &rest[..length.min(rest.len())];
        if kind == 1 {
            let mut numbers = field.chunks_exact(8).map(|bytes| u64_at(bytes, 0));
            for number in [&mut entry.size, &mut entry.packed, &mut entry.offset] {
                if *number == u64::from(u32::MAX) {
                    *number = numbers.next().unwrap_or(u64::MAX);
                }
            }
            return;
        }
        extra = &rest[length.min(rest.len())..];
    }
}

/// Reads a member. `at` is where the reader stands; members mostly follow one another.
fn read(data: &mut BufReader<File>, at: &mut u64, length: u64, entry: Entry) -> io::Result<Member> {
    let mut go = |data: &mut BufReader<File>, to: u64| -> io::Result<()> {
        if to > length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match (i64::try_from(to), i64::try_from(*at)) {
            (Ok(to), Ok(from)) => data.seek_relative(to - from)?,
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        *at = to;
        Ok(())
    };
    go(data, entry.offset)?;
    let mut head = [0; 30];
    data.read_exact(&mut head)?;
    if !head.starts_with(b"PK\x03\x04") {
        return Err(io::Error::other("a member is not where the directory says"));
    }
    let skip = u64::from(u16_at(&head, 26)) + u64::from(u16_at(&head, 28));
    let start = entry.offset.saturating_add(30);
    *at = start;
    let begin = start.saturating_add(skip);
    let end = begin.saturating_add(entry.packed);
    if end > length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let step = i64::try_from(skip).unwrap_or(0);
    data.seek_relative(step)?;
    // The caller has checked that this is little.
    let mut packed = vec![0; usize::try_from(entry.packed).unwrap_or(0)];
    data.read_exact(&mut packed)?;
    *at = end;
    Ok(Member {
        name: entry.name,
        packed,
        method: entry.method,
        crc: entry.crc,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let pair = bytes.get(at..at + 2).unwrap_or(&[0, 0]);
    u16::from_le_bytes([pair[0], pair[1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
