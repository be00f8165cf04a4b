// SPDX-License-Identifier: MIT OR Apache-2.0
//! Samples that lie on a device. A run takes some of them by their numbers.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::abi::KilnChoiceParams;
use super::abi_images::KilnTakeBytesParams;
use super::depot::Depot;
use super::geometry::divider;
use super::gpu::Gpu;
use super::launch::{Grid, Launch};
use super::memory::{Address, DeviceMemory};
use super::palette::{Palette, COLOURS};
use super::sizes::word;
use super::transfer::{bytes_of, write_now};
use crate::tensor::Elsewhere;
use crate::{Error, Result};

/// How many samples there are and what each has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableShape {
    /// Samples.
    pub(crate) rows: usize,
    /// Channels of a sample, each of which may have a palette of its own.
    pub(crate) channels: usize,
    /// Elements of a channel.
    pub(crate) plane: usize,
}

/// How elements lie on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// One byte each, which a palette of their channel translates.
    Bytes,
    /// As they are.
    Words,
}

/// Reads samples on the host, one after another.
pub(crate) type Reader = Box<dyn Fn(&[i32]) -> Result<Vec<f32>> + Send + Sync>;

/// Floating-point numbers of all samples of a data set on a device.
pub(crate) struct Table {
    shape: TableShape,
    cells: DeviceMemory,
    /// Of bytes.
    palette: Option<DeviceMemory>,
    read: Reader,
    gpu: Gpu,
}

/// A table that is being filled.
pub(crate) struct TableBuilder {
    shape: TableShape,
    cells: DeviceMemory,
    filled: usize,
    palette: Option<Palette>,
    depot: Depot,
}

/// Whether values could be added to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Yes,
    /// A channel has more numbers than a byte can tell.
    TooManyColours,
}

/// Some rows of a table, by their numbers.
#[derive(Debug)]
pub(crate) struct Rows {
    table: Arc<Table>,
    numbers: Arc<[i32]>,
    /// Which of the numbers.
    range: Range<usize>,
    /// Their elements, if the host asked for them.
    host: OnceLock<Vec<f32>>,
}

/// Channels that have palettes, at most: these are read by every thread, and must stay near it.
const MOST_CHANNELS: usize = 16;

impl TableShape {
    /// Elements of a sample.
    fn row(self) -> usize {
        self.channels * self.plane
    }

    /// The packing to try first.
    pub(crate) fn packing(self) -> Packing {
        if self.channels <= MOST_CHANNELS {
            Packing::Bytes
        } else {
            Packing::Words
        }
    }

    /// Bytes that a table takes.
    pub(crate) fn bytes(self, packing: Packing) -> usize {
        let elements = self.rows.saturating_mul(self.row());
        match packing {
            Packing::Bytes => elements.saturating_add(self.palette_bytes()),
            Packing::Words => elements.saturating_mul(size_of::<f32>()),
        }
    }

    fn palette_bytes(self) -> usize {
        COLOURS * size_of::<u32>() * self.channels
    }
}

impl TableBuilder {
    /// Reserves memory.
    ///
    /// # Errors
    /// [`Error::Device`] that says how much was needed and how much there was.
    pub(crate) fn new(depot: &Depot, shape: TableShape, packing: Packing) -> Result<Self> {
        let (bytes, palette) = match packing {
            Packing::Words => (shape.bytes(packing), None),
            Packing::Bytes => {
                let bytes = shape.bytes(packing) - shape.palette_bytes();
                (bytes, Some(Palette::new(shape.channels, shape.plane)))
            }
        };
        let cells = DeviceMemory::zeroed(&depot.gpu, &depot.stream, bytes)?;
        Ok(TableBuilder { shape, cells, filled: 0, palette, depot: depot.clone() })
    }

    /// Adds whole samples.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's message; [`Error::Internal`] for more samples than were told.
    pub(crate) fn push(&mut self, values: &[f32]) -> Result<Pushed> {
        let codes;
        let bytes = match &mut self.palette {
            None => bytes_of(values),
            Some(palette) => match palette.encode(values) {
                Some(encoded) => {
                    codes = encoded;
                    &codes[..]
                }
                None => return Ok(Pushed::TooManyColours),
            },
        };
        let end = self.filled + bytes.len();
        if end > self.cells.bytes() {
            return Err(super::lower::internal("more samples than a table has room for"));
        }
        let at = self.cells.address().plus(self.filled);
        write_now(&self.depot.gpu, &self.depot.stream, at, bytes)?;
        self.filled = end;
        Ok(Pushed::Yes)
    }

    /// The table, and what reads the same samples on the host.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's message.
    pub(crate) fn finish(self, read: Reader) -> Result<Table> {
        let TableBuilder { shape, cells, palette, depot: Depot { gpu, stream, .. }, .. } = self;
        let palette = match palette {
            None => None,
            Some(palette) => {
                let memory = DeviceMemory::zeroed(&gpu, &stream, shape.palette_bytes())?;
                let words = palette.words();
                write_now(&gpu, &stream, memory.address(), bytemuck::cast_slice(&words))?;
                Some(memory)
            }
        };
        Ok(Table { shape, cells, palette, read, gpu })
    }
}

impl Table {
    /// The rows with these numbers, which are below the number of samples.
    pub(crate) fn rows(self: &Arc<Self>, numbers: Vec<i32>) -> Rows {
        let range = 0..numbers.len();
        let (table, numbers, host) = (Arc::clone(self), numbers.into(), OnceLock::new());
        Rows { table, numbers, range, host }
    }

    /// Elements that a thread takes: four where a sample, and each channel, is whole fours.
    fn vector(&self) -> usize {
        let TableShape { plane, .. } = self.shape;
        let length = if self.palette.is_some() { plane } else { self.shape.row() };
        if length.is_multiple_of(4) {
            4
        } else {
            1
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl Rows {
    /// Whether the table lies on a device.
    pub(super) fn are_on(&self, gpu: &Gpu) -> bool {
        self.table.gpu.is(gpu)
    }

    pub(super) fn numbers(&self) -> &[i32] {
        &self.numbers[self.range.clone()]
    }

    /// The kernel that takes rows.
    pub(super) fn kernel(&self) -> &'static str {
        match (&self.table.palette, self.table.vector()) {
            (Some(_), 1) => "take_bytes_ragged",
            (Some(_), _) => "take_bytes",
            (None, 1) => "take_32",
            (None, _) => "take_128",
        }
    }

    /// Its launch, with the rows' numbers at `index`.
    pub(super) fn taking(&self, index: Address, y: Address) -> Launch {
        let Table { shape, cells, palette, .. } = &*self.table;
        let vector = self.table.vector();
        let row = shape.row() / vector;
        let picks = self.range.len();
        let (x, count, rows) = (cells.address(), word(picks * row), word(shape.rows));
        let grid = Grid::over(picks * row);
        match palette {
            Some(palette) => {
                let (palette, plane) = (palette.address(), divider(shape.plane / vector));
                let row = divider(row);
                let params = KilnTakeBytesParams { y, x, palette, index, count, rows, row, plane };
                Launch::new(self.kernel(), grid, params)
            }
            None => {
                let (inner, picks, nan) = (divider(row), divider(picks), f32::NAN.to_bits());
                let params = KilnChoiceParams {
                    y,
                    x,
                    index,
                    count,
                    rows,
                    inner,
                    picks,
                    nan,
                    ..Default::default()
                };
                Launch::new(self.kernel(), grid, params)
            }
        }
    }
}

impl Elsewhere for Rows {
    fn values(&self) -> Result<&[f32]> {
        if let Some(values) = self.host.get() {
            return Ok(values);
        }
        let values = (self.table.read)(self.numbers())?;
        let expected = self.range.len() * self.table.shape.row();
        if values.len() != expected {
            let message = format!("{} elements of {expected} were read", values.len());
            return Err(Error::Internal { pass: "table", message });
        }
        Ok(self.host.get_or_init(|| values))
    }

    fn samples(&self, of: usize, range: Range<usize>) -> Option<Arc<dyn Elsewhere>> {
        if of != self.range.len() {
            return None;
        }
        let (start, end) = (self.range.start + range.start, self.range.start + range.end);
        let (table, numbers) = (self.table.clone(), self.numbers.clone());
        Some(Arc::new(Rows { table, numbers, range: start..end, host: OnceLock::new() }))
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
