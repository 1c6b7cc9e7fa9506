//! Turns errors of the system and of SQLite into the store's own.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::ports::store::StoreError;

/// An error of a file operation on `path`.
pub(super) fn io(path: &Path, error: &io::Error) -> StoreError {
    let message = format!("{}: {error}", path.display());
    if is_full(error) {
        StoreError::Full(message)
    } else {
        StoreError::Broken(message)
    }
}

/// Whether there is no room: on the disk, in the quota, or under the process's file size limit.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// An error of SQLite on the database at `path`.
pub(super) fn sql(path: &Path, error: &rusqlite::Error) -> StoreError {
    let name = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(format!("{name}: {error}")),
        // A write that ends short of a file size limit, or a shared-memory file that cannot
        // grow, is reported as a plain input/output error; the disk tells them apart.
        Some(ErrorCode::SystemIoFailure) if cannot_grow(path, error) => {
            StoreError::Full(format!("{name}: {error}"))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Held(format!(
            "{name} has been written by another process for {} seconds; try again, and look for a \
             hung pipewright process if it stays",
            super::db::BUSY.as_secs()
        )),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Broken(format!(
            "{name} is damaged ({error}); move it away to start with an empty history"
        )),
        _ => StoreError::Broken(format!("{name}: {error}")),
    }
}

fn cannot_grow(path: &Path, error: &rusqlite::Error) -> bool {
    use rusqlite::ffi;
    let code = error.sqlite_error().map(|error| error.extended_code);
    if !matches!(
        code,
        Some(ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_TRUNCATE)
    ) {
        return false;
    }
    let no_room = rustix::fs::statvfs(path).is_ok_and(|stat| stat.f_bavail < 16);
    let limited = rustix::process::getrlimit(rustix::process::Resource::Fsize)
        .current
        .is_some();
    no_room || limited
}
