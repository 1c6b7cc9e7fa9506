//! Reads a stretch of a log from any offset.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::error;
use super::frame::{self, HEADER, Header, LARGEST};
use crate::ports::store::StoreError;

/// Reads at most `limit` bytes from `offset` of the uncompressed log on; empty at its present
/// end, also if there is no log.
pub(super) fn read(log: &Path, offset: u64, limit: usize) -> Result<Vec<u8>, StoreError> {
    let path = frame::data_path(log);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(error::io(&path, &cause)),
    };
    let mut out = Vec::new();
    match read_frames(log, file, offset, limit, &mut out) {
        Ok(()) => Ok(out),
        // What was read before the damage is worth having; the next call reports it.
        Err(cause) if out.is_empty() => Err(StoreError::Broken(format!(
            "the log {} cannot be read from byte {offset} on: {cause}",
            path.display()
        ))),
        Err(_) => Ok(out),
    }
}

fn read_frames(
    log: &Path,
    file: File,
    offset: u64,
    limit: usize,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let length = file.metadata()?.len();
    let from = frame::nearest(log, &file, length, offset);
    let mut place = from.place;
    let mut reader = BufReader::with_capacity(64 << 10, file);
    reader.seek(SeekFrom::Start(place))?;
    let mut unpack = zstd::bulk::Decompressor::new()?;
    let mut packed = Vec::new();
    let mut plain = Vec::new();
    while out.len() < limit && place + HEADER as u64 <= length {
        let mut bytes = [0; HEADER];
        reader.read_exact(&mut bytes)?;
        let Some(header) = Header::decode(&bytes) else {
            // The torn end of a crashed writer.
            return Ok(());
        };
        place += header.whole();
        if place > length {
            return Ok(());
        }
        let wanted = offset + out.len() as u64;
        if header.end() <= wanted {
            reader.seek_relative(i64::from(header.packed))?;
            continue;
        }
        packed.resize(header.packed as usize, 0);
        reader.read_exact(&mut packed)?;
        plain.clear();
        plain.reserve(LARGEST);
        unpack.decompress_to_buffer(&packed, &mut plain)?;
        let skip = wanted
            .checked_sub(header.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|_| plain.len() == header.size as usize)
            .ok_or_else(|| io::Error::other("a frame is not what its header says"))?;
        let rest = &plain[skip..];
        out.extend_from_slice(&rest[..rest.len().min(limit - out.len())]);
    }
    Ok(())
}
