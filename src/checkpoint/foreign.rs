// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that people take for safetensors files, called what they are.

use std::ffi::OsStr;
use std::path::Path;

/// What a file is by its first bytes, if it is something known that is no safetensors file, and what
/// to do about it.
pub(super) fn recognise(path: &Path, head: &[u8]) -> Option<String> {
    // Behind its length, the header of a safetensors file begins with a brace.
    if head.get(8) == Some(&b'{') {
        return None;
    }
    let starts = |magic: &[u8]| head.starts_with(magic);
    let lower: Vec<u8> = head.iter().map(u8::to_ascii_lowercase).collect();
    Some(match head {
        _ if starts(b"PK\x03\x04") => match first_entry(head) {
            Some(name) if name.ends_with(b"/data.pkl") => pytorch(path),
            Some(name) if name.ends_with(b".npy") => "arrays of numpy.savez".into(),
            _ if ["pt", "pth", "bin", "ckpt"]
                .iter()
                .any(|e| path.extension() == Some(OsStr::new(e))) =>
            {
                pytorch(path)
            }
            _ => "a zip archive".into(),
        },
        [0x80, 2..=5, ..] => pytorch(path),
        _ if starts(b"\x89HDF\r\n\x1a\n") => "an HDF5 file".into(),
        _ if starts(b"\x93NUMPY") => "an array of numpy.save".into(),
        _ if starts(b"GGUF") => "a GGUF file".into(),
        _ if starts(&[0x1f, 0x8b]) => "a gzip file, to be unpacked first".into(),
        _ if starts(b"version https://git-lfs") => {
            "a pointer of Git LFS; \"git lfs pull\" fetches the file itself".into()
        }
        _ if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") => {
            "an HTML page".into()
        }
        [b'{', ..] => "a JSON text; if it lists the parts of a network, load those".into(),
        _ => return None,
    })
}

/// Bytes of a file's beginning that [`recognise`] wants to see.
pub(super) const HEAD: usize = 128;

/// The name of a zip archive's first entry, as far as it is there.
fn first_entry(head: &[u8]) -> Option<&[u8]> {
    let length = u16::from_le_bytes([*head.get(26)?, *head.get(27)?]);
    head.get(30..30 + usize::from(length))
}

/// The name of the file with the line that converts it.
fn pytorch(path: &Path) -> String {
    let safe =
        |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
    let from = path.to_str().filter(safe).unwrap_or("model.pt");
    let to = Path::new(from).with_extension("safetensors");
    format!(
        "a file of torch.save, which only Python can read; this line converts it: python -c \
         \"import torch, safetensors.torch as s; s.save_file({{k: v.clone().contiguous() for k, v \
         in torch.load('{from}', map_location='cpu', weights_only=True).items()}}, '{}')\"",
        to.display()
    )
}
