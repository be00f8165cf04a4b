// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replacing a file so that there is always either the old one or the new one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::rename::replace;
use crate::{Error, Result};

/// Replaces the file at `path`, or creates it: the bytes go to a hidden file beside it, are synced
/// to the disk and renamed into place, and then the directory is synced. Whatever fails, an old
/// file stays as it was.
///
/// # Errors
/// [`Error::Io`] with the step that failed.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("kiln-atomic-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// let path = dir.join("result.json");
/// kiln::checkpoint::write_atomically(&path, b"{}")?;
/// assert_eq!(std::fs::read(&path).unwrap(), b"{}");
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let Some(name) = path.file_name() else {
        return Err(Error::argument("path", "the path of a file", path.display()));
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".tmp");
    let beside = path.with_file_name(hidden);
    write_synced(&beside, bytes)
        .and_then(|()| replace(&beside, path).map_err(Error::io("replace", path)))
        .inspect_err(|_| {
            // The error to report is the first one; what is left behind is overwritten next time.
            let _ = fs::remove_file(&beside);
        })?;
    sync_directory(path)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("write", path))
}

/// Makes the renaming last. Only Unix can open a directory for that.
fn sync_directory(path: &Path) -> Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let directory: PathBuf = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.into(),
        _ => ".".into(),
    };
    let synced = File::open(&directory).and_then(|file| file.sync_all());
    synced.map_err(Error::io("sync", directory))
}
