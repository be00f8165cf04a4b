// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a file that is no IDX file is instead, told by its first bytes.

const SIGNATURES: [(&[u8], &str); 11] = [
    (b"PK\x03\x04", "a ZIP archive, whose contents are wanted"),
    (b"\x1f\x8b", "a gzip file inside a gzip file"),
    (b"\xfd7zXZ\0", "an xz file, which has to be unpacked first"),
    (b"BZh", "a bzip2 file, which has to be unpacked first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file, which has to be unpacked first"),
    (b"7z\xbc\xaf", "a 7z archive, whose contents are wanted"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file it stands for"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x89PNG", "a PNG image"),
    (b"{", "a JSON text, such as a server sends instead of a file"),
];

/// A name for what begins like this, if it is known.
pub(in crate::data) fn name(start: &[u8]) -> Option<&'static str> {
    let known = SIGNATURES.iter().find(|(signature, _)| start.starts_with(signature));
    known.map(|(_, name)| *name).or_else(|| {
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
        let is = |tag: &str| {
            text.len() >= tag.len() && text[..tag.len()].eq_ignore_ascii_case(tag.as_bytes())
        };
        match () {
            () if ["<!doctype html", "<html", "<head", "<!--"].iter().any(|tag| is(tag)) => {
                Some("an HTML page, such as a server sends instead of a file")
            }
            () if is("<?xml") => Some("an XML text, such as a server sends instead of a file"),
            () => None,
        }
    })
}
