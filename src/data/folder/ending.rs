// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a picture goes on to its end. Decoders fill what is missing of a JPEG with grey.

use image::ImageFormat;

/// Where a picture breaks off.
pub(super) struct Missing {
    pub(super) offset: u64,
    pub(super) expected: &'static str,
    pub(super) got: &'static str,
}

/// What is missing of a picture, if anything.
pub(super) fn missing(format: ImageFormat, bytes: &[u8]) -> Option<Missing> {
    let (end, expected) = match format {
        ImageFormat::Jpeg => (jpeg(bytes), "the marker at the end of a JPEG image"),
        _ => (png(bytes), "the chunk at the end of a PNG image"),
    };
    let offset = end.err()? as u64;
    let got = match offset < bytes.len() as u64 {
        true => "something else",
        false => "the end of the file",
    };
    Some(Missing { offset, expected, got })
}

/// Goes from marker to marker; an error is where there is none.
fn jpeg(bytes: &[u8]) -> Result<(), usize> {
    let mut at = 2;
    loop {
        let marker = match bytes.get(at..) {
            Some([0xff, marker, ..]) => *marker,
            Some([] | [0xff]) | None => return Err(bytes.len()),
            Some(_) => return Err(at),
        };
        match marker {
            END => return Ok(()),
            // Padding before a marker.
            0xff => at += 1,
            0x01 | RESTARTS_FIRST..=RESTARTS_LAST => at += 2,
            _ => {
                let Some([high, low]) = bytes.get(at + 2..at + 4) else { return Err(bytes.len()) };
                at += 2 + usize::from(u16::from_be_bytes([*high, *low])).max(2);
                if marker == SCAN {
                    at = after_scan(bytes, at).ok_or(bytes.len())?;
                }
            }
        }
    }
}

const END: u8 = 0xd9;
const SCAN: u8 = 0xda;
const RESTARTS_FIRST: u8 = 0xd0;
const RESTARTS_LAST: u8 = 0xd7;

/// The marker behind compressed data, in which 0xff is followed by 0 or the number of a restart.
fn after_scan(bytes: &[u8], from: usize) -> Option<usize> {
    let mut pairs = bytes.get(from..)?.windows(2);
    let is_marker =
        |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | RESTARTS_FIRST..=RESTARTS_LAST);
    pairs.position(is_marker).map(|place| from + place)
}

/// Goes from chunk to chunk: a length, a name, so many bytes and a checksum.
fn png(bytes: &[u8]) -> Result<(), usize> {
    let mut at = 8;
    loop {
        let Some([a, b, c, d, name @ ..]) = bytes.get(at..at + 8) else { return Err(bytes.len()) };
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some(next) = at.checked_add(length).and_then(|at| at.checked_add(12)) else {
            return Err(at);
        };
        if next > bytes.len() {
            return Err(bytes.len());
        }
        if name == b"IEND" {
            return Ok(());
        }
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_ends_with_its_marker() {
        // A thumbnail within a segment has an end of its own, and compressed data a stuffed 0xff.
        let whole = [
            &[0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, END, 1, 2][..],
            &[0xff, SCAN, 0, 4, 1, 2, 7, 0xff, 0, 0xff, 0xd0, 9, 0xff, 0xff, END],
        ]
        .concat();
        assert_eq!(jpeg(&whole), Ok(()));
        for end in 2..whole.len() {
            assert_eq!(jpeg(&whole[..end]), Err(end), "{end}");
        }
        assert_eq!(jpeg(&[0xff, 0xd8, 7, 0xff, END]), Err(2));
    }

    #[test]
    fn a_png_ends_with_its_chunk() {
        let signature = b"\x89PNG\r\n\x1a\n";
        let chunks = [&signature[..], b"\0\0\0\x02IDATab1234", b"\0\0\0\0IEND5678"].concat();
        assert_eq!(png(&chunks), Ok(()));
        for end in 8..chunks.len() {
            assert_eq!(png(&chunks[..end]), Err(end), "{end}");
        }
    }
}
