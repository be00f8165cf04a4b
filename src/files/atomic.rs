// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replacing a file so that there is always either the old one or the new one.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::rename::replace;
use crate::{Error, Result};

/// Replaces the file at `path`, or creates it: the bytes go to a hidden file beside it, are synced
/// to the disk and renamed into place, and then the directory is synced. Whatever fails, an old
/// file stays as it was. A new file has the mode of the old one. What an earlier call left beside it
/// because its process was killed is removed.
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
    let mut replacement = Replacement::begin(path.as_ref())?;
    replacement.write(bytes)?;
    replacement.commit()
}

/// A file on its way to its place. It is removed if it does not get there.
pub(crate) struct Replacement {
    file: NamedTempFile,
    path: PathBuf,
    directory: PathBuf,
}

/// Ending of files that are not in their place yet.
const ENDING: &str = ".tmp";

/// Files that earlier versions wrote under one name each, which is no longer taken.
const EARLIER: [&str; 5] =
    ["model.safetensors", "training.safetensors", "metrics.jsonl", "curves.svg", "result.json"];

/// Letters and digits between a file's name and [`ENDING`].
const RANDOM: usize = 8;

/// How often another name is tried after one was taken away.
const ATTEMPTS: usize = 16;

impl Replacement {
    /// Begins a file that is to stand at `path`.
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(Error::argument("path", "the path of a file", path.display()));
        };
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.into(),
            _ => PathBuf::from("."),
        };
        remove_leftovers(&directory, |known| known == name);
        let file = exclusive(name, &directory).map_err(Error::io("create", path))?;
        Ok(Replacement { file, path: path.into(), directory })
    }

    /// Appends to it.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.as_file_mut().write_all(bytes).map_err(Error::io("write", &self.path))
    }

    /// Brings it to the disk and to its place.
    pub(crate) fn commit(self) -> Result<()> {
        let Replacement { mut file, path, directory } = self;
        if let Ok(old) = fs::symlink_metadata(&path) {
            if old.is_file() {
                let kept = file.as_file().set_permissions(old.permissions());
                kept.map_err(Error::io("set the mode of", &path))?;
            }
        }
        file.as_file().sync_all().map_err(Error::io("write", &path))?;
        replace(file.path(), &path).map_err(Error::io("replace", &path))?;
        file.disable_cleanup(true);
        sync(&directory)
    }
}

/// A new file under a name that nobody has. As long as it is open it is locked: that tells it from
/// what a killed process left.
fn exclusive(name: &OsStr, directory: &Path) -> io::Result<NamedTempFile> {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(ENDING).rand_bytes(RANDOM);
    // Opened as any new file is, with the mode that the process's mask leaves: a temporary file's would
    // be narrower, and Windows would go on to call it temporary, which backups pass over.
    let create = || {
        let open = |path: &Path| File::options().read(true).write(true).create_new(true).open(path);
        builder.make_in(directory, open)
    };
    for _ in 1..ATTEMPTS {
        let file = create()?;
        // Between the two calls another process may have taken it for a leftover.
        let taken = matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock));
        if !taken && file.path().exists() {
            return Ok(file);
        }
    }
    create()
}

/// Removes what killed processes left of files whose names pass. Nothing depends on its success.
pub(super) fn remove_leftovers(directory: &Path, passes: impl Fn(&OsStr) -> bool) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if leftover_of(&name).is_some_and(|name| passes(OsStr::new(name))) {
            remove_abandoned(&entry.path());
        }
    }
}

/// The name of the file that a leftover would have become: `NAME` of `.NAME.RANDOM.tmp`, or of
/// `.NAME.tmp` for the names that earlier versions wrote so.
pub(super) fn leftover_of(name: &OsStr) -> Option<&str> {
    let middle = name.to_str()?.strip_prefix('.')?.strip_suffix(ENDING)?;
    match middle.rsplit_once('.') {
        Some((name, random)) if is_random(random) => Some(name),
        _ => EARLIER.contains(&middle).then_some(middle),
    }
}

fn is_random(text: &str) -> bool {
    text.len() == RANDOM && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Removes a file unless a process is still at it.
fn remove_abandoned(path: &Path) {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return;
    }
    if let Ok(file) = File::options().write(true).open(path) {
        if file.try_lock().is_ok() {
            // Whoever may not remove it may not replace files here either, and hears so then.
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes a renaming last. Only Unix can open a directory for that.
fn sync(directory: &Path) -> Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let synced = File::open(directory).and_then(|file| file.sync_all());
    synced.map_err(Error::io("sync", directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_told_by_their_names() {
        let of = |name: &str| leftover_of(OsStr::new(name)).map(str::to_string);
        assert_eq!(of(".model.safetensors.a1B2c3D4.tmp").as_deref(), Some("model.safetensors"));
        assert_eq!(of(".model.safetensors.tmp").as_deref(), Some("model.safetensors"));
        assert_eq!(of("model.safetensors.a1B2c3D4.tmp"), None);
        assert_eq!(of(".model.safetensors"), None);
        assert_eq!(of(".notes.tmp"), None);
    }

    #[cfg(windows)]
    #[test]
    fn what_is_in_its_place_is_not_temporary() {
        use std::os::windows::fs::MetadataExt;
        const FILE_ATTRIBUTE_TEMPORARY: u32 = 0x100;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        write_atomically(&path, b"{}").unwrap();
        let attributes = fs::metadata(&path).unwrap().file_attributes();
        assert_eq!(attributes & FILE_ATTRIBUTE_TEMPORARY, 0);
    }

    #[test]
    fn a_file_in_use_is_no_leftover() -> Result<()> {
        let directory = tempfile::tempdir().map_err(Error::io("create", "a directory"))?;
        let path = directory.path().join("a.json");
        let first = Replacement::begin(&path)?;
        let second = Replacement::begin(&path)?;
        assert_ne!(first.file.path(), second.file.path());
        second.commit()?;
        first.commit()?;
        let names: Vec<_> = fs::read_dir(&directory).map_err(Error::io("read", &path))?.collect();
        assert_eq!(names.len(), 1);
        Ok(())
    }
}
