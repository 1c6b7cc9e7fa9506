//! What an image holds: readers that turn its files into packages, and the join of its layers.
//!
//! [`recognise`] says from a path alone whether a file is worth reading, [`read`] reads one,
//! [`Program`] looks into an executable as it streams by, [`join`] puts the layers on top of each other. One file
//! per kind of file. Everything here works on bytes that may have been made by an enemy: memory and
//! time are bounded by the size of what is given, nothing is trusted, and what cannot be read is
//! told as [`Unread`] instead of being passed over. Opens no file and no archive of an image.

mod apk;
mod cargo;
mod contents;
mod dpkg;
mod files;
mod go;
mod java;
mod layers;
mod npm;
mod npm_lock;
mod os_release;
mod paths;
mod program;
mod python;
mod rpm;
mod zip;

#[cfg(test)]
mod fuzz;

pub use contents::{Contents, Item, Unread};
pub use files::{FileKind, recognise};
pub use layers::{LayerContents, join};
pub use paths::{PathHasher, clean, follow};
pub use program::Program;

/// Reads a file of a kind from its bytes.
pub fn read(kind: FileKind, path: &str, bytes: &[u8], hasher: &PathHasher) -> Contents {
    match kind {
        FileKind::OsRelease => os_release::read(bytes),
        FileKind::DpkgStatus => dpkg::read_status(bytes),
        FileKind::DpkgFiles => dpkg::read_files(path, bytes, hasher),
        FileKind::Apk => apk::read(bytes, hasher),
        FileKind::RpmSqlite => rpm::read(bytes, hasher),
        FileKind::CargoLock => cargo::read_lock(bytes),
        FileKind::NpmPackage => npm::read(path, bytes),
        FileKind::NpmLock => npm_lock::read_npm(bytes),
        FileKind::YarnLock => npm_lock::read_yarn(bytes),
        FileKind::PnpmLock => npm_lock::read_pnpm(bytes),
        FileKind::PythonMetadata => python::read(bytes),
        FileKind::Java => java::read(path, bytes),
        FileKind::Unread { what, why } => Contents::unread(what, why),
    }
}
