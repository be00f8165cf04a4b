// SPDX-License-Identifier: MIT OR Apache-2.0
//! TensorBoard's event files: records with check sums, each an `Event` of `event.proto`.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Histogram;
use crate::{Error, Result};

/// A file of curves and histograms that TensorBoard shows.
///
/// ```
/// use kiln::watch::{EventFile, Histogram};
///
/// # let dir = std::env::temp_dir().join(format!("kiln-events-doc-{}", std::process::id()));
/// let mut events = EventFile::create(&dir, 0)?;
/// for step in 1..=3 {
///     events.scalar("loss", step, 1.0 / step as f64)?;
/// }
/// let mut weights = Histogram::default();
/// weights.add(&[-0.5, 0.0, 0.25]);
/// events.histogram("weights/fc1", 3, &weights)?;
/// events.flush()?; // tensorboard --logdir DIR
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug)]
pub struct EventFile {
    file: BufWriter<File>,
    path: PathBuf,
}

/// The version of the contents, in a file's first record.
const VERSION: &str = "brain.Event:2";

/// `SessionLog.START`: what earlier files say of this step and later ones no longer counts.
const START: u64 = 1;

impl EventFile {
    /// A new file in a directory, which is made if it is not there. A training that goes on says which
    /// step comes first: TensorBoard then leaves out what earlier files in the directory have of that step
    /// and of later ones. 0 leaves out nothing.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be made.
    pub fn create(directory: impl AsRef<Path>, first_step: u64) -> Result<Self> {
        let directory = directory.as_ref();
        fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
        let seconds = now().floor();
        let mut number = 0;
        let (file, path) = loop {
            let id = std::process::id();
            let path =
                directory.join(format!("events.out.tfevents.{seconds:010}.kiln.{id}.{number}"));
            match File::create_new(&path) {
                Ok(file) => break (file, path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(Error::io("create", path)(error)),
            }
        };
        let mut events = EventFile { file: BufWriter::new(file), path };
        events.event(0, |event| event.text(3, VERSION))?;
        if first_step > 0 {
            events
                .event(first_step, |event| event.message(7, |session| session.number(1, START)))?;
        }
        events.flush()?;
        Ok(events)
    }

    /// Adds a point to a curve.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        self.event(step, |event| {
            event.message(5, |summary| {
                summary.message(1, |point| {
                    point.text(1, tag);
                    point.float(2, value as f32);
                });
            });
        })
    }

    /// Adds a histogram.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn histogram(&mut self, tag: &str, step: u64, histogram: &Histogram) -> Result<()> {
        let (edges, counts): (Vec<f64>, Vec<f64>) =
            histogram.buckets().map(|(edge, count)| (edge, count as f64)).unzip();
        let (min, max) = match histogram.count() {
            0 => (0.0, 0.0),
            _ => (histogram.min(), histogram.max()),
        };
        self.event(step, |event| {
            event.message(5, |summary| {
                summary.message(1, |value| {
                    value.text(1, tag);
                    value.message(5, |proto| {
                        proto.double(1, min);
                        proto.double(2, max);
                        proto.double(3, histogram.count() as f64);
                        proto.double(4, histogram.sum());
                        proto.double(5, histogram.sum_of_squares());
                        proto.doubles(6, &edges);
                        proto.doubles(7, &counts);
                    });
                });
            });
        })
    }

    /// Writes out what is still in memory.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(Error::io("write", &self.path))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn event(&mut self, step: u64, fill: impl FnOnce(&mut Message)) -> Result<()> {
        let mut event = Message::default();
        event.double(1, now());
        event.number(2, step);
        fill(&mut event);
        self.record(&event.bytes).map_err(Error::io("write", &self.path))
    }

    fn record(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let length = (bytes.len() as u64).to_le_bytes();
        self.file.write_all(&length)?;
        self.file.write_all(&masked_sum(&length).to_le_bytes())?;
        self.file.write_all(bytes)?;
        self.file.write_all(&masked_sum(bytes).to_le_bytes())
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A message of Protocol Buffers.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

/// How the value of a field is written.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Eight = 1,
    Length = 2,
    Four = 5,
}

impl Message {
    fn number(&mut self, field: u32, value: u64) {
        self.key(field, Wire::Varint);
        self.varint(value);
    }

    fn double(&mut self, field: u32, value: f64) {
        self.key(field, Wire::Eight);
        self.bytes.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u32, value: f32) {
        self.key(field, Wire::Four);
        self.bytes.extend(value.to_le_bytes());
    }

    fn text(&mut self, field: u32, text: &str) {
        self.bounded(field, text.as_bytes());
    }

    fn doubles(&mut self, field: u32, values: &[f64]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bounded(field, &bytes);
    }

    fn message(&mut self, field: u32, fill: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        fill(&mut inner);
        self.bounded(field, &inner.bytes);
    }

    fn bounded(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, Wire::Length);
        self.varint(bytes.len() as u64);
        self.bytes.extend(bytes);
    }

    fn key(&mut self, field: u32, wire: Wire) {
        self.varint(u64::from(field << 3 | wire as u32));
    }

    /// Seven bits at a time, the lowest first.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// Remainders of CRC-32C (Castagnoli) by byte.
const REMAINDERS: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = (rest >> 1) ^ if rest & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

fn sum(bytes: &[u8]) -> u32 {
    let step = |rest: u32, byte: &u8| REMAINDERS[usize::from(rest as u8 ^ byte)] ^ (rest >> 8);
    !bytes.iter().fold(!0, step)
}

/// The sum, changed so that a record may hold records.
fn masked_sum(bytes: &[u8]) -> u32 {
    sum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::sum;

    /// Known answers of RFC 3720, appendix B.4.
    #[test]
    fn sums_are_those_of_castagnoli() {
        assert_eq!(sum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(sum(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(sum(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(sum(b"123456789"), 0xe306_9283);
    }
}
