//! The format of a log file: independent zstd frames, each behind a small header.
//!
//! The header is itself a *skippable* zstd frame, so `zstd -dc STAGE.zst` prints a log. It says
//! where the frame stands in the uncompressed log, so a reader can tell a good place from a bad
//! one. A file may end in the middle of a frame after a crash; what follows the last whole frame
//! does not count.
//!
//! A long log gets an index file beside it, a hint only: pairs of numbers, one about each
//! mebibyte, that say at which byte of the file a frame begins and where it stands in the log.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Most uncompressed bytes in a frame.
pub(super) const LARGEST: usize = 256 << 10;

/// Bytes of a header.
pub(super) const HEADER: usize = 32;

/// Bytes of an index entry.
pub(super) const ENTRY: u64 = 16;

/// First of the sixteen magic numbers of skippable frames that zstd leaves to applications, plus
/// a number of our choice.
const MAGIC: u32 = 0x184D_2A50 + 11;

/// What stands before each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Offset of the frame's first byte in the uncompressed log.
    pub(super) start: u64,
    /// Uncompressed bytes, 1 to [`LARGEST`].
    pub(super) size: u32,
    /// Compressed bytes.
    pub(super) packed: u32,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&(HEADER as u32 - 8).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.start.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.size.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.packed.to_le_bytes());
        let check = check(&bytes[..24]);
        bytes[24..32].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads a header; `None` if these bytes are none.
    pub(super) fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let header = Self {
            start: long(8)?,
            size: word(16)?,
            packed: word(20)?,
        };
        let good = word(0)? == MAGIC
            && word(4)? == HEADER as u32 - 8
            && long(24)? == check(&bytes[..24])
            && (1..=LARGEST).contains(&(header.size as usize))
            && header.packed as usize <= zstd::zstd_safe::compress_bound(LARGEST);
        good.then_some(header)
    }

    /// The header at a place of a file of `length` bytes, if it and its frame are complete.
    pub(super) fn at(file: &File, place: u64, length: u64) -> io::Result<Option<Self>> {
        if place + HEADER as u64 > length {
            return Ok(None);
        }
        let mut bytes = [0; HEADER];
        file.read_exact_at(&mut bytes, place)?;
        Ok(Self::decode(&bytes).filter(|header| place + header.whole() <= length))
    }

    /// Bytes of the header and its frame in the file.
    pub(super) fn whole(self) -> u64 {
        HEADER as u64 + u64::from(self.packed)
    }

    /// Offset of the first byte after the frame in the uncompressed log.
    pub(super) fn end(self) -> u64 {
        self.start + u64::from(self.size)
    }
}

/// Most bytes of a block in a zstd frame.
const BLOCK: usize = 128 << 10;

/// A zstd frame of uncompressed blocks, in pieces to be written one after another: the bytes
/// themselves are not copied.
pub(super) fn store(plain: &[u8]) -> Vec<Cow<'_, [u8]>> {
    debug_assert!(
        (1..=LARGEST).contains(&plain.len()),
        "the size fits four bytes"
    );
    // Magic number; one segment, its size in four bytes, no checksum; the size.
    let mut head = vec![0x28, 0xB5, 0x2F, 0xFD, 0xA0];
    head.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    let mut pieces = Vec::with_capacity(2 * plain.len().div_ceil(BLOCK));
    let mut blocks = plain.chunks(BLOCK).peekable();
    while let Some(block) = blocks.next() {
        // Three bytes: whether it is the last one, type 0 (raw), its size.
        let last = u32::from(blocks.peek().is_none());
        head.extend_from_slice(&((block.len() as u32) << 3 | last).to_le_bytes()[..3]);
        pieces.push(Cow::Owned(std::mem::take(&mut head)));
        pieces.push(Cow::Borrowed(block));
    }
    pieces
}

/// FNV-1a: enough to tell a header from rubbish.
fn check(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The file of a log.
pub(super) fn data_path(log: &Path) -> PathBuf {
    with_extension(log, ".zst")
}

/// The index of a log.
pub(super) fn index_path(log: &Path) -> PathBuf {
    with_extension(log, ".idx")
}

/// Appends, where `Path::with_extension` would replace what follows a dot of the name.
fn with_extension(log: &Path, extension: &str) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(extension);
    path.into()
}

/// One entry of an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Offset in the uncompressed log.
    pub(super) start: u64,
    /// Offset in the file.
    pub(super) place: u64,
}

impl Place {
    pub(super) fn encode(self) -> [u8; ENTRY as usize] {
        (u128::from(self.place) << 64 | u128::from(self.start)).to_le_bytes()
    }

    fn read(index: &File, number: u64) -> io::Result<Self> {
        let mut bytes = [0; ENTRY as usize];
        index.read_exact_at(&mut bytes, number * ENTRY)?;
        let both = u128::from_le_bytes(bytes);
        Ok(Self {
            start: both as u64,
            place: (both >> 64) as u64,
        })
    }
}

/// The last place the index knows at or before `offset` that is confirmed by the log file
/// itself; the beginning if there is none.
pub(super) fn nearest(log: &Path, data: &File, length: u64, offset: u64) -> Place {
    let search = || -> io::Result<Option<Place>> {
        let index = File::open(index_path(log))?;
        let (mut low, mut high) = (0, index.metadata()?.len() / ENTRY);
        while low < high {
            let middle = low + (high - low) / 2;
            if Place::read(&index, middle)?.start <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        // Entries past the end were written before a crash that lost the frames they point to.
        while low > 0 {
            low -= 1;
            let place = Place::read(&index, low)?;
            let header = match place.place.checked_add(HEADER as u64) {
                Some(end) if end <= length => Header::at(data, place.place, length)?,
                _ => None,
            };
            if header.is_some_and(|header| header.start == place.start) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    };
    search().ok().flatten().unwrap_or_default()
}

/// Opens the index of a log for appending; drops what comes after its last confirmed place.
pub(super) fn open_index(log: &Path, confirmed: Place) -> io::Result<File> {
    let mut index = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(index_path(log))?;
    let mut entries = index.metadata()?.len() / ENTRY;
    while entries > 0 && Place::read(&index, entries - 1)?.start > confirmed.start {
        entries -= 1;
    }
    index.set_len(entries * ENTRY)?;
    index.seek(SeekFrom::End(0))?;
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_and_rubbish_does_not() {
        let header = Header {
            start: 1 << 40,
            size: 1234,
            packed: 77,
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        for at in 0..32 {
            let mut broken = bytes;
            broken[at] ^= 1;
            assert_eq!(Header::decode(&broken), None, "byte {at}");
        }
        assert_eq!(Header::decode(&[0; HEADER]), None);
    }

    #[test]
    fn stored_frames_are_zstd() {
        for size in [1, 255, 256, BLOCK, BLOCK + 1, LARGEST] {
            let plain: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let stored = store(&plain).concat();
            assert_eq!(zstd::bulk::decompress(&stored, size).unwrap(), plain);
        }
    }

    #[test]
    fn log_names_keep_their_dots() {
        assert_eq!(
            data_path(Path::new("a/run.test")),
            Path::new("a/run.test.zst")
        );
    }
}
