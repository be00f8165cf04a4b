// SPDX-License-Identifier: MIT OR Apache-2.0
//! Renaming a file over another one that somebody may have open.

use std::fs;
use std::io::{Error, Result};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// The first pause before a rename is tried again; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause: all together they are a second.
const LAST_PAUSE: Duration = Duration::from_millis(512);

/// What Windows answers while somebody has the file open: access denied, a sharing violation, a lock
/// violation, a file that is mapped.
const HELD: [i32; 4] = [5, 32, 33, 1224];

/// Renames a file, in place of the one that is there.
///
/// Elsewhere whoever has the old file open keeps it. Windows refuses while somebody does who did not
/// allow that, often a scanner or an indexer that looks at a file just written, so there it is tried
/// again for a second.
pub(crate) fn replace(from: &Path, to: &Path) -> Result<()> {
    patiently(|| fs::rename(from, to), is_held)
}

fn is_held(error: &Error) -> bool {
    cfg!(windows) && error.raw_os_error().is_some_and(|code| HELD.contains(&code))
}

/// Tries as long as the error passes with time.
fn patiently(
    mut attempt: impl FnMut() -> Result<()>,
    passes: impl Fn(&Error) -> bool,
) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt() {
            Err(error) if passes(&error) && pause <= LAST_PAUSE => {
                sleep(pause);
                pause *= 2;
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use tempfile::TempDir;

    #[test]
    fn a_refusal_that_passes_is_waited_for_and_another_is_not() {
        let attempts = |codes: &[i32]| {
            let mut codes = codes.iter();
            let mut count = 0;
            let attempt = || {
                count += 1;
                codes.next().map_or(Ok(()), |code| Err(Error::from_raw_os_error(*code)))
            };
            let held =
                |error: &Error| error.raw_os_error().is_some_and(|code| HELD.contains(&code));
            let result = patiently(attempt, held);
            (count, result.err().and_then(|error| error.raw_os_error()))
        };
        assert_eq!(attempts(&[]), (1, None));
        assert_eq!(attempts(&[32, 5, 1224]), (4, None));
        assert_eq!(attempts(&[32, 112, 32]), (2, Some(112)), "112: the disk is full");
        assert_eq!(attempts(&[5; 99]), (11, Some(5)), "it ends");
    }

    #[test]
    fn a_reader_keeps_the_file_that_it_has_open() {
        let dir = TempDir::new().unwrap();
        let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
        fs::write(&old, "old").unwrap();
        fs::write(&new, "new").unwrap();
        let mut reader = fs::File::open(&old).unwrap();
        replace(&new, &old).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), fs::read_to_string(&old).unwrap()), ("old", "new".into()));
        assert!(!new.exists());
    }

    /// As a virus scanner opens files.
    #[cfg(windows)]
    #[test]
    fn whoever_lets_nobody_else_in_is_waited_for() {
        use std::os::windows::fs::OpenOptionsExt;
        let dir = TempDir::new().unwrap();
        let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
        fs::write(&old, "old").unwrap();
        fs::write(&new, "new").unwrap();
        let scanner = fs::OpenOptions::new().read(true).share_mode(0).open(&old).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sleep(Duration::from_millis(100));
                drop(scanner);
            });
            replace(&new, &old).unwrap();
        });
        assert_eq!(fs::read_to_string(&old).unwrap(), "new");
    }
}
