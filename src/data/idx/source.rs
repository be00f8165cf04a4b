// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes of an IDX file: header first, then a body no longer than the file can hold.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::{Error, Result};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Deflate's limit: the shortest code for its longest match (258 bytes) takes two bits, 1032 : 1.
const DEFLATE_RATIO: u64 = 1032;
/// No data set in this format comes near it (EMNIST: 0.6 GB); a gzip bomb would.
const MAX_UNPACKED: u64 = 4 << 30;

/// An open IDX file, plain or gzip.
pub(super) struct Source {
    path: PathBuf,
    reader: Box<dyn Read>,
    length: Length,
    /// Bytes read so far, after decompression.
    offset: u64,
}

/// What is known of the number of bytes before they are read.
#[derive(Debug, Clone, Copy)]
enum Length {
    Exactly(u64),
    AtMost(u64),
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let stored = file.metadata().map_err(Error::io("read", path))?.len();
        let mut start = Vec::new();
        (&mut file).take(2).read_to_end(&mut start).map_err(Error::io("read", path))?;
        file.seek(SeekFrom::Start(0)).map_err(Error::io("read", path))?;

        let (reader, length): (Box<dyn Read>, _) = if start == GZIP_MAGIC {
            let unpacked = stored.saturating_mul(DEFLATE_RATIO).min(MAX_UNPACKED);
            (Box::new(MultiGzDecoder::new(BufReader::new(file))), Length::AtMost(unpacked))
        } else {
            (Box::new(BufReader::new(file)), Length::Exactly(stored))
        };
        Ok(Self { path: path.to_path_buf(), reader, length, offset: 0 })
    }

    /// Reads the magic number and `N` sizes, none of them 0.
    pub(super) fn header<const N: usize>(&mut self, magic: u32) -> Result<[u32; N]> {
        let found = self.word("the magic number")?;
        if found != magic {
            let expected =
                format!("the magic number {magic:#010x} of unsigned bytes in {N} dimensions");
            return Err(self.wrong(0, expected, format!("{found:#010x}")));
        }
        let mut sizes = [0; N];
        for (dimension, size) in sizes.iter_mut().enumerate() {
            let at = self.offset;
            *size = self.word("a dimension")?;
            if *size == 0 {
                return Err(self.wrong(at, format!("dimension {dimension} above 0"), "0".into()));
            }
        }
        Ok(sizes)
    }

    /// Reads as many bytes as `sizes` ask for, and the end of the file behind them.
    pub(super) fn body<const N: usize>(mut self, sizes: [u32; N]) -> Result<Vec<u8>> {
        let wanted = self.body_length(sizes)?;
        let mut body = Vec::new();
        if let Length::Exactly(_) = self.length {
            body.reserve_exact(wanted); // the file is known to hold them
        }
        let result = (&mut self.reader).take(wanted as u64 + 1).read_to_end(&mut body);
        let header = self.offset;
        self.offset += body.len() as u64;
        result.map_err(|error| self.unreadable(error))?;
        if body.len() < wanted {
            return Err(self.wrong(
                self.offset,
                total(header, wanted),
                "the end of the file".into(),
            ));
        }
        if body.len() > wanted {
            let end = header + wanted as u64;
            return Err(self.wrong(end, "the end of the file".into(), "more bytes".into()));
        }
        Ok(body)
    }

    /// The length of a body of `sizes`, if the file can hold it.
    fn body_length<const N: usize>(&self, sizes: [u32; N]) -> Result<usize> {
        let header = self.offset;
        let product = sizes.iter().try_fold(1_u64, |all, &size| all.checked_mul(size.into()));
        let wanted = product.and_then(|all| usize::try_from(all).ok());
        let end = wanted.and_then(|wanted| header.checked_add(wanted as u64));
        let (Some(wanted), Some(end)) = (wanted, end) else {
            let expected = "dimensions whose product can be counted".into();
            return Err(self.wrong(4, expected, format!("{sizes:?}")));
        };
        match self.length {
            Length::Exactly(length) if end > length => {
                Err(self.wrong(length, total(header, wanted), format!("{length} bytes")))
            }
            Length::Exactly(length) if end < length => {
                let got = format!("{} more bytes", length - end);
                Err(self.wrong(end, "the end of the file".into(), got))
            }
            Length::AtMost(limit) if end > limit => {
                let expected =
                    format!("dimensions of at most {limit} bytes, all this file can hold");
                Err(self.wrong(4, expected, format!("{sizes:?}")))
            }
            _ => Ok(wanted),
        }
    }

    /// Reads a big-endian word of the header.
    fn word(&mut self, what: &str) -> Result<u32> {
        let mut bytes = Vec::with_capacity(4);
        let result = (&mut self.reader).take(4).read_to_end(&mut bytes);
        self.offset += bytes.len() as u64;
        result.map_err(|error| self.unreadable(error))?;
        let word = <[u8; 4]>::try_from(bytes.as_slice()).map_err(|_| {
            self.wrong(self.offset, format!("{what}, 4 bytes"), "the end of the file".into())
        })?;
        Ok(u32::from_be_bytes(word))
    }

    /// Tells a damaged gzip stream from a system that cannot read the file.
    fn unreadable(&self, error: io::Error) -> Error {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match error.kind() {
            InvalidData | InvalidInput | UnexpectedEof => {
                self.wrong(self.offset, "an intact gzip stream".into(), error.to_string())
            }
            _ => Error::io("read", &self.path)(error),
        }
    }

    fn wrong(&self, offset: u64, expected: String, got: String) -> Error {
        Error::Data { path: self.path.clone(), offset, expected, got }
    }
}

fn total(header: u64, body: usize) -> String {
    format!("{} bytes in all, as the header says", header.saturating_add(body as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The guard against allocation bombs: an accepted length is one that the file can hold.
        #[test]
        fn no_accepted_body_exceeds_the_file(
            sizes in any::<[u32; 3]>(), small in any::<[u8; 3]>(), limit in 0_u64..1 << 40,
        ) {
            for sizes in [sizes, small.map(u32::from)] {
                for length in [Length::Exactly(limit), Length::AtMost(limit)] {
                    let source = source(length);
                    if let Ok(wanted) = source.body_length(sizes) {
                        prop_assert!(wanted as u64 + 16 <= limit);
                    }
                }
            }
        }
    }

    #[test]
    fn a_body_that_fits_exactly_is_accepted() {
        assert_eq!(source(Length::Exactly(16 + 6)).body_length([1, 2, 3]).unwrap(), 6);
        assert_eq!(source(Length::AtMost(16 + 6)).body_length([1, 2, 3]).unwrap(), 6);
        assert!(source(Length::AtMost(16 + 5)).body_length([1, 2, 3]).is_err());
        assert!(source(Length::Exactly(u64::MAX)).body_length([u32::MAX; 3]).is_err());
    }

    fn source(length: Length) -> Source {
        Source { path: "images".into(), reader: Box::new(io::empty()), length, offset: 16 }
    }
}
