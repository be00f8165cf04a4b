// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiled kernels on disk. A file that is empty, cut off or changed, or that another version of NVRTC
//! wrote, counts as missing.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::files::{regular, write_atomically};
use crate::{Error, Result};

/// How a file begins; what follows are lines with the version of NVRTC and a check sum, and then the code.
const HEAD: &str = "kiln kernels 1";

/// No compiled source is nearly as large.
const MOST_BYTES: u64 = 256 << 20;

type Version = (i32, i32);

/// The code in a file, if this version of NVRTC wrote it; any version will do where there is none.
pub(super) fn read(file: &Path, version: Option<Version>) -> Option<Vec<u8>> {
    let (mut opened, length) =
        regular::open(file).ok().filter(|(_, length)| *length < MOST_BYTES)?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut opened, &mut bytes).ok().filter(|_| length > 0)?;
    unpacked(&bytes, version).map(<[u8]>::to_vec)
}

/// Keeps the code that a version of NVRTC made; that it cannot be kept is no error.
pub(super) fn keep(file: &Path, version: Version, code: &[u8]) {
    let folder = file
        .parent()
        .map_or(Ok(()), |folder| fs::create_dir_all(folder).map_err(Error::io("create", folder)));
    let kept: Result<()> = folder.and_then(|()| write_atomically(file, &packed(version, code)));
    if let Err(error) = kept {
        tracing::debug!(%error, file = %file.display(), "compiled kernels were not kept");
    }
}

fn packed((major, minor): Version, code: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{HEAD}\n{major}.{minor}\n{}\n", checksum(code)).into_bytes();
    bytes.extend_from_slice(code);
    bytes
}

fn unpacked(bytes: &[u8], version: Option<Version>) -> Option<&[u8]> {
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
    let mut line = || std::str::from_utf8(parts.next()?).ok();
    let (head, written_by, sum) = (line()?, line()?, line()?);
    let code = parts.next()?;
    let is_right = |(major, minor): Version| written_by == format!("{major}.{minor}");
    let is_whole = head == HEAD && !code.is_empty() && sum == checksum(code);
    (is_whole && version.is_none_or(is_right)).then_some(code)
}

fn checksum(code: &[u8]) -> String {
    Sha256::digest(code).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_and_anything_else_is_missing() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = folder.path().join("below").join("a.kernels");
        assert_eq!(read(&file, None), None);
        keep(&file, (13, 0), b"one\ntwo\n\0");
        assert_eq!(read(&file, Some((13, 0))).as_deref(), Some(&b"one\ntwo\n\0"[..]));
        assert_eq!(read(&file, None).as_deref(), Some(&b"one\ntwo\n\0"[..]), "without NVRTC");
        assert_eq!(read(&file, Some((12, 4))), None, "another version");

        let whole = fs::read(&file).expect("it was written");
        for length in 0..whole.len() {
            assert_eq!(unpacked(&whole[..length], None), None, "cut off at {length}");
        }
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            assert_eq!(unpacked(&changed, Some((13, 0))), None, "byte {place} changed");
        }
        keep(&file, (13, 1), b"new");
        assert_eq!(read(&file, Some((13, 1))).as_deref(), Some(&b"new"[..]), "replaced");
    }
}
