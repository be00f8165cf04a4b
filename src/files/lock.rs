// SPDX-License-Identifier: MIT OR Apache-2.0
//! One writer per directory.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use super::atomic::{leftover_of, remove_leftovers};
use crate::{Error, Result};

/// The sole right to write to a directory: no other process and no other part of this one gets it
/// until it is dropped. The system takes it back when the process ends, however it ends.
///
/// It binds those who ask for it, as the program does for its run directories; reading needs none.
///
/// ```
/// use kiln::checkpoint::DirectoryLock;
///
/// # let dir = std::env::temp_dir().join(format!("kiln-lock-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// let lock = DirectoryLock::acquire(&dir)?;
/// assert!(DirectoryLock::acquire(&dir).is_err());
/// drop(lock);
/// assert!(DirectoryLock::acquire(&dir).is_ok());
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug)]
pub struct DirectoryLock {
    _held: File,
}

/// Name of the file that is locked. It is empty, and stays: removing it would let a process that
/// has opened it and one that creates it anew both hold a lock.
pub(super) const LOCK_FILE: &str = ".kiln.lock";

impl DirectoryLock {
    /// Takes the right to a directory, and removes what killed saves left in it.
    ///
    /// # Errors
    /// [`Error::Io`] with the action "lock" if somebody else has it, or if the file system knows no
    /// locks.
    pub fn acquire(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        let file = open(&directory.join(LOCK_FILE)).map_err(Error::io("lock", directory))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let taken = io::Error::new(io::ErrorKind::WouldBlock, "another run writes to it");
                return Err(Error::io("lock", directory)(taken));
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", directory)(error)),
        }
        remove_leftovers(directory, |_| true);
        Ok(DirectoryLock { _held: file })
    }

    /// Whether a name is that of a lock, or of what a killed save left: a directory with nothing else
    /// holds nothing of value.
    pub fn is_trace(name: &std::ffi::OsStr) -> bool {
        name == LOCK_FILE || leftover_of(name).is_some()
    }
}

/// Opens the file to be locked, without following a link that somebody else has put there.
fn open(path: &Path) -> io::Result<File> {
    match File::options().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    if !fs::symlink_metadata(path)?.is_file() {
        let reason = format!("{LOCK_FILE} in it is no regular file");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    File::options().write(true).open(path)
}
