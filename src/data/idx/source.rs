// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes of an IDX file: header first, then as much of the body as is asked for, and never more
//! than the header announces.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::{signature, Amount};
use crate::files::regular;
use crate::{allocate, Error, Result};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Deflate's limit: the shortest code for its longest match (258 bytes) takes two bits, 1032 : 1.
const DEFLATE_RATIO: u64 = 1032;
/// No data set in this format comes near it (EMNIST: 0.6 GB); a gzip bomb would.
const MAX_UNPACKED: u64 = 4 << 30;
/// Bytes that are unpacked before more memory is asked for.
const PORTION: usize = 1 << 20;

/// An open IDX file, plain or gzip.
pub(super) struct Source {
    path: PathBuf,
    reader: Box<dyn BufRead>,
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
        let (mut file, stored) = regular::open(path)?;
        let mut start = Vec::new();
        (&mut file).take(2).read_to_end(&mut start).map_err(Error::io("read", path))?;
        file.seek(SeekFrom::Start(0)).map_err(Error::io("read", path))?;

        let file = BufReader::new(file);
        let (reader, length): (Box<dyn BufRead>, _) = if start == GZIP_MAGIC {
            let unpacked = stored.saturating_mul(DEFLATE_RATIO).min(MAX_UNPACKED);
            (Box::new(BufReader::new(MultiGzDecoder::new(file))), Length::AtMost(unpacked))
        } else {
            (Box::new(file), Length::Exactly(stored))
        };
        Ok(Self { path: path.to_path_buf(), reader, length, offset: 0 })
    }

    /// Reads the magic number and `N` sizes, none of them 0.
    pub(super) fn header<const N: usize>(&mut self, magic: u32) -> Result<[u32; N]> {
        let known = match self.reader.fill_buf() {
            Ok(start) => signature::name(start),
            Err(error) => return Err(self.unreadable(error)),
        };
        let found = self.word("the magic number")?;
        if found != magic {
            let expected =
                format!("the magic number {magic:#010x} of unsigned bytes in {N} dimensions");
            let got = known.map_or_else(|| format!("{found:#010x}"), String::from);
            return Err(self.wrong(0, expected, got));
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

    /// Reads the items that are asked for of a body of `sizes`, the first of which counts them.
    /// Behind a body that is read as a whole the file must end.
    pub(super) fn body<const N: usize>(
        mut self,
        sizes: [u32; N],
        amount: Amount,
    ) -> Result<Vec<u8>> {
        let whole = self.body_length(sizes)?;
        let (wanted, count) = match amount {
            Amount::All => (whole, sizes[0] as usize),
            Amount::First(count) if count <= sizes[0] as usize => {
                (whole / sizes[0] as usize * count, count)
            }
            Amount::First(count) => {
                let expected = format!("at most {}, all of {}", sizes[0], self.path.display());
                return Err(Error::argument("count", expected, count));
            }
        };
        let header = self.offset;
        let body = self.bytes(wanted)?;
        if body.len() < wanted {
            let end = "the end of the file".into();
            return Err(self.wrong(self.offset, total(header, whole), end));
        }
        if count == sizes[0] as usize {
            let end = self.offset;
            if !self.bytes(1)?.is_empty() {
                return Err(self.wrong(end, "the end of the file".into(), "more bytes".into()));
            }
        }
        Ok(body)
    }

    /// Reads up to `wanted` bytes; fewer where the file ends.
    fn bytes(&mut self, wanted: usize) -> Result<Vec<u8>> {
        let what = self.path.display().to_string();
        let mut bytes = match self.length {
            Length::Exactly(_) => allocate::room(wanted, &what)?, // the file is known to hold them
            Length::AtMost(_) => Vec::new(),
        };
        while bytes.len() < wanted {
            // Memory grows with what comes out, not with what the header promises.
            let portion = bytes.len().max(PORTION).min(wanted - bytes.len());
            let known = bytes.len();
            let refused = |_| allocate::refused::<u8>(known + portion, &what);
            bytes.try_reserve_exact(portion).map_err(refused)?;
            let read = (&mut self.reader).take(portion as u64).read_to_end(&mut bytes);
            self.offset += (bytes.len() - known) as u64;
            read.map_err(|error| self.unreadable(error))?;
            if bytes.len() < known + portion {
                break;
            }
        }
        Ok(bytes)
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
