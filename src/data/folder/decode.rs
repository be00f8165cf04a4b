// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pixels of a file, in the size of a sample.

use std::io::{Cursor, Read};
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{ImageFormat, ImageReader, Limits, RgbImage};

use super::{ending, Fit, Pictures};
use crate::data::idx::signature;
use crate::files::regular;
use crate::{allocate, Error, Result};

/// Memory that decoding one file may take; the largest pictures of cameras take less.
const MOST_BYTES: u64 = 512 << 20;
/// Bytes of a file. What holds more is no picture to learn from.
const LONGEST_FILE: u64 = 256 << 20;

/// Red, green and blue of each pixel, row-major.
pub(super) fn picture(path: &Path, wanted: Pictures) -> Result<Vec<u8>> {
    let bytes = contents(path)?;
    let wrong = |offset, expected: String, got: String| Error::Data {
        path: path.to_path_buf(),
        offset,
        expected,
        got,
    };
    let format = match image::guess_format(&bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        other => {
            let format = other.ok().map(|format| format!("{format:?}"));
            let got = format.unwrap_or_else(|| described(&bytes).into());
            return Err(wrong(0, "a PNG or JPEG image".into(), got));
        }
    };
    // Decoders make up what is missing.
    if let Some(missing) = ending::missing(format, &bytes) {
        return Err(wrong(missing.offset, missing.expected.into(), missing.got.into()));
    }
    let mut reader = ImageReader::with_format(Cursor::new(&bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let decoded = reader
        .decode()
        .map_err(|error| wrong(0, format!("an intact {format:?} image"), error.to_string()))?;
    let fitted = fitted(decoded.into_rgb8(), wanted);
    let (height, width) = (wanted.height, wanted.width);
    fitted.map(RgbImage::into_raw).map_err(|(rows, columns)| {
        wrong(0, format!("{width} x {height} pixels"), format!("{columns} x {rows}"))
    })
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    let (file, length) = regular::open(path)?;
    if length > LONGEST_FILE {
        let expected = format!("at most {LONGEST_FILE} bytes of an image");
        let (path, got) = (path.to_path_buf(), format!("{length} bytes"));
        return Err(Error::Data { path, offset: LONGEST_FILE, expected, got });
    }
    let mut bytes = allocate::room(length as usize, "an image file")?;
    file.take(length).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// In the wanted size, or the rows and columns that it has instead.
fn fitted(picture: RgbImage, wanted: Pictures) -> Result<RgbImage, (u32, u32)> {
    let (columns, rows) = picture.dimensions();
    let (width, height) = (wanted.width as u32, wanted.height as u32);
    if (columns, rows) == (width, height) {
        return Ok(picture);
    }
    if wanted.fit == Fit::Exact || columns == 0 || rows == 0 {
        return Err((rows, columns));
    }
    let part = |of: u32, numerator: u32, denominator: u32| {
        let part = u64::from(of) * u64::from(numerator) / u64::from(denominator);
        u32::try_from(part).unwrap_or(u32::MAX).max(1)
    };
    let kept_columns = part(rows, width, height).min(columns);
    let kept_rows = part(columns, height, width).min(rows);
    let (left, top) = ((columns - kept_columns) / 2, (rows - kept_rows) / 2);
    let middle = imageops::crop_imm(&picture, left, top, kept_columns, kept_rows);
    Ok(imageops::resize(&*middle, width, height, FilterType::Triangle))
}

/// What is no picture.
fn described(bytes: &[u8]) -> &'static str {
    let start = &bytes[..bytes.len().min(64)];
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    match signature::name(start) {
        Some(name) => name,
        None if start.is_empty() => "an empty file",
        None if start.iter().all(is_text) => "text",
        None => "something else",
    }
}
