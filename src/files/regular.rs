// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files to read: regular ones only. A pipe or a device may never end, and opening a pipe may wait
//! for ever.

use std::fs::{self, File, FileType};
use std::io;
use std::path::Path;

use crate::{Error, Result};

/// Opens a regular file and tells its length.
///
/// # Errors
/// [`Error::Io`] if it cannot be opened or is something else.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let refused = |kind: FileType| {
        let got = io::Error::new(io::ErrorKind::InvalidInput, format!("it is {}", name(kind)));
        Error::io("read", path)(got)
    };
    // Asked before it is opened, for the sake of pipes, and after, for the sake of truth.
    let before = fs::metadata(path).map_err(Error::io("read", path))?;
    if !before.is_file() {
        return Err(refused(before.file_type()));
    }
    let file = File::open(path).map_err(Error::io("open", path))?;
    let known = file.metadata().map_err(Error::io("read", path))?;
    match known.is_file() {
        true => Ok((file, known.len())),
        false => Err(refused(known.file_type())),
    }
}

#[cfg(unix)]
fn name(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;

    match kind {
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a pipe, not a regular file",
        _ if kind.is_socket() => "a socket, not a regular file",
        _ => "a device, not a regular file",
    }
}

#[cfg(not(unix))]
fn name(kind: FileType) -> &'static str {
    match kind.is_dir() {
        true => "a directory",
        false => "not a regular file",
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_may_never_end_is_refused() {
        let dir = tempfile::TempDir::new().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (path, kind) in [
            (pipe.as_path(), "a pipe, not a regular file"),
            (Path::new("/dev/zero"), "a device, not a regular file"),
            (dir.path(), "a directory"),
        ] {
            let error = open(path).unwrap_err().to_string();
            assert_eq!(error, format!("cannot read {}: it is {kind}", path.display()));
        }
        let file = dir.path().join("file");
        fs::write(&file, b"bytes").unwrap();
        assert_eq!(open(&file).unwrap().1, 5);
    }
}
