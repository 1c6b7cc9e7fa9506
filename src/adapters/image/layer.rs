//! One layer: its entries go by, what is worth reading is read, the rest is passed over.

use std::io;

use super::bytes::{Buffered, Skip, unpacked};
use super::error::{ImageError, through};
use super::limits::Shared;
use super::tar::{Entry, Kind, Tar};
use crate::scan::inventory::{
    Contents, FileKind, LayerContents, Program, clean, read as read_file, recognise,
};

/// From this size on, one file at a time is held in memory.
const LARGE: u64 = 8 << 20;
/// Bytes that tell a program.
const MAGIC: usize = 8;
/// What the name of a whiteout begins with, and that of a mark for a whole directory.
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// Reads a layer, compressed or not.
pub(super) fn read(
    source: impl Skip,
    name: &str,
    shared: &Shared,
) -> Result<LayerContents, ImageError> {
    let what = || format!("the layer {name}");
    let read = || -> io::Result<LayerContents> {
        let source = unpacked(source, shared)?;
        let mut tar = Tar::new(Buffered::new(source, shared));
        let mut layer = LayerContents::default();
        while let Some(entry) = tar.next()? {
            shared.entry(entry.size).map_err(through)?;
            take(&entry, &mut tar, &mut layer, shared)?;
        }
        layer.seal();
        Ok(layer)
    };
    read().map_err(|error| ImageError::reading(&what(), error))
}

fn take<R: Skip>(
    entry: &Entry,
    tar: &mut Tar<'_, R>,
    layer: &mut LayerContents,
    shared: &Shared,
) -> io::Result<()> {
    let hasher = shared.hasher();
    let path = path(&entry.path)?;
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
    if name == OPAQUE {
        layer.opaque(directory, hasher);
        return Ok(());
    }
    if let Some(hidden) = name.strip_prefix(WHITEOUT) {
        // Others of these names are notes of old storage drivers to themselves.
        if !hidden.starts_with(WHITEOUT) && !hidden.is_empty() {
            let hidden = match directory {
                "" => hidden.to_owned(),
                directory => format!("{directory}/{hidden}"),
            };
            layer.whiteout(&hidden, hasher);
        }
        return Ok(());
    }
    match &entry.kind {
        // The root itself hides nothing.
        Kind::Directory if path.is_empty() => {}
        Kind::Directory => layer.directory(&path, hasher),
        Kind::Link(target) => layer.link(&path, &String::from_utf8_lossy(target), hasher),
        Kind::HardLink(target) => {
            layer.hard_link(&path, &self::path(target)?, hasher);
        }
        Kind::Other => layer.other(&path, hasher),
        Kind::File => {
            layer.other(&path, hasher);
            if let Some(contents) = contents(&path, entry.size, tar, shared)? {
                let kept =
                    contents.items.len() + contents.unread.len() + contents.owned.len() / 64 + 1;
                shared.keep(kept as u64).map_err(through)?;
                layer.read(&path, contents);
            }
        }
    }
    Ok(())
}

/// A path of the archive, if it stays within the image.
fn path(bytes: &[u8]) -> io::Result<std::borrow::Cow<'_, str>> {
    clean(bytes).ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(bytes).chars().take(200).collect();
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("an entry leads out of the image: {shown:?}"),
        )
    })
}

/// What the file at hand tells, if it is one that tells something.
fn contents<R: Skip>(
    path: &str,
    size: u64,
    tar: &mut Tar<'_, R>,
    shared: &Shared,
) -> io::Result<Option<Contents>> {
    if size == 0 {
        return Ok(None);
    }
    let Some(kind) = recognise(path) else {
        let program = Program::begins(tar.peek(MAGIC)?, size);
        let Some(mut program) = program else {
            return Ok(None);
        };
        tar.each(|piece| program.take(piece))?;
        return Ok(program.finish());
    };
    if matches!(kind, FileKind::Unread { .. }) {
        return Ok(Some(read_file(kind, path, &[], shared.hasher())));
    }
    if size > kind.limit() {
        return Ok(Some(Contents::too_large(kind)));
    }
    let _guard = (size > LARGE).then(|| shared.large());
    let bytes = tar.large_content()?;
    Ok(Some(read_file(kind, path, &bytes, shared.hasher())))
}
