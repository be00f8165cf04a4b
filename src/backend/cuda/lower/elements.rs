// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout, softmax, sums and transposition.

use super::linear::store;
use super::Lowering;
use crate::backend::cuda::abi::*;
use crate::backend::cuda::abi_images::KilnChannelDropoutParams;
use crate::backend::cuda::geometry::{column_sum_grid, divider, transpose_grid, vector};
use crate::backend::cuda::launch::{Grid, Launch};
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::{halves, single, word};
use crate::op::{DropRate, Dropout, Drops, Softmax, Store};
use crate::philox::{round_keys, scale_of, DROP_ALL, ELEMENTS_PER_BLOCK};
use crate::{DType, Result, Shape};

impl Lowering<'_> {
    pub(super) fn dropout(&mut self, dropout: Dropout) -> Result<Vec<Launch>> {
        let shape = self.output_shape(0).clone();
        let dtype = self.element_type();
        let (y, x) = (self.write_as(0, dtype)?, self.read_as(0, dtype)?);
        Ok(vec![self.dropout_of(dropout, &shape, dtype, [y, x])])
    }

    /// Dropout of a tensor `[samples, ...]`; `y` may be `x`.
    pub(super) fn dropout_of(
        &mut self,
        dropout: Dropout,
        shape: &Shape,
        dtype: DType,
        [y, x]: [Address; 2],
    ) -> Launch {
        let per_sample = shape.sample_elements();
        let Some(channels) = dropout.drops.columns(shape) else {
            return self.dropout_of_elements(dropout, shape, dtype, [y, x]);
        };
        let (samples, positions) = (shape.samples(), per_sample / channels);
        let blocks = channels.div_ceil(ELEMENTS_PER_BLOCK as usize);
        let params = KilnChannelDropoutParams {
            y,
            x,
            scalars: self.scratch.scalars(),
            samples: word(samples),
            positions: word(positions),
            channels: word(channels),
            blocks: divider(blocks),
            rows: divider(positions.max(1)),
            mask: self.mask(dropout),
        };
        let grid = Grid::over(samples * positions * blocks);
        let family = match dropout.rate {
            DropRate::Constant(_) => "dropout_channels",
            DropRate::Changing { .. } => "scheduled_dropout_channels",
        };
        Launch::new(format!("{family}_{dtype}"), grid, params)
    }

    fn dropout_of_elements(
        &mut self,
        dropout: Dropout,
        shape: &Shape,
        dtype: DType,
        [y, x]: [Address; 2],
    ) -> Launch {
        let (samples, elements) = (shape.samples(), shape.sample_elements());
        let blocks = elements.div_ceil(ELEMENTS_PER_BLOCK as usize);
        let whole = elements % ELEMENTS_PER_BLOCK as usize == 0;
        let family = match dropout.rate {
            DropRate::Constant(_) if whole => "dropout",
            DropRate::Constant(_) => "dropout_ragged",
            DropRate::Changing { .. } => "scheduled_dropout",
        };
        let params = KilnDropoutParams {
            y,
            x,
            scalars: self.scratch.scalars(),
            samples: word(samples),
            elements: word(elements),
            blocks: divider(blocks),
            // All runs of a pass have the same weights.
            offset_factor: u32::from(dropout.drops != Drops::Weights),
            mask: self.mask(dropout),
        };
        Launch::new(format!("{family}_{dtype}"), Grid::over(samples * blocks), params)
    }

    /// A site's mask function. Where its rate changes, kernels of a product's tail do not know it.
    pub(super) fn mask(&mut self, dropout: Dropout) -> KilnMask {
        let seed = self.places.seed;
        let keys = round_keys(halves(seed));
        let (threshold, scale) = match dropout.rate {
            DropRate::Constant(drop15) => (keep_threshold(drop15), single(scale_of(drop15))),
            DropRate::Changing { slot, .. } => (self.scratch.rate(slot), 0.0),
        };
        let mut mask = KilnMask { site: dropout.site, threshold, scale, ..Default::default() };
        for (place, key) in mask.round_keys.iter_mut().zip(keys.iter().flatten()) {
            *place = *key;
        }
        mask
    }

    pub(super) fn softmax(&mut self, kind: Softmax) -> Result<Vec<Launch>> {
        let dtype = self.element_type();
        let operands = [self.read_as(0, dtype)?, Address::NONE];
        self.softmax_launch(("softmax", dtype), kind, operands, KILN_ROW_REGISTERS as usize)
    }

    pub(super) fn softmax_gradient(&mut self, kind: Softmax) -> Result<Vec<Launch>> {
        let dtype = self.element_type();
        let operands = [self.read_as(0, dtype)?, self.read_as(1, dtype)?];
        self.softmax_launch(("softmax_gradient", dtype), kind, operands, usize::MAX)
    }

    /// Vectors where every row begins at 16 bytes and is no longer than `longest`.
    fn softmax_launch(
        &mut self,
        (kernel, dtype): (&str, DType),
        kind: Softmax,
        [a, dy]: [Address; 2],
        longest: usize,
    ) -> Result<Vec<Launch>> {
        let shape = self.output_shape(0);
        let columns = shape.last();
        let rows = shape.elements() / columns.max(1);
        let variant = row_variant(columns, longest, dtype);
        let params = KilnSoftmaxParams {
            out: self.write_as(0, dtype)?,
            a,
            dy,
            rows: word(rows),
            columns: word(columns),
            logarithm: u32::from(kind == Softmax::Log),
        };
        Ok(vec![Launch::new(format!("{kernel}{variant}_{dtype}"), Grid::over_rows(rows), params)])
    }

    /// Rows become columns in each matrix of a batch.
    pub(super) fn transpose(&mut self, extents: [usize; 3]) -> Result<Vec<Launch>> {
        let is_integer = self.plan.graph.node(self.step.outputs[0]).ty.dtype == DType::I32;
        let dtype = if is_integer { DType::I32 } else { self.element_type() };
        let (y, x) = match is_integer {
            true => (self.write(0)?, self.read(0)?),
            false => (self.write_as(0, dtype)?, self.read_as(0, dtype)?),
        };
        Ok(transposes([y, x], extents, dtype.bytes()))
    }

    pub(super) fn column_sum(&mut self) -> Result<Vec<Launch>> {
        let [rows, columns] = self.plan.graph.node(self.step.inputs[0]).matrix();
        let dtype = self.stored_type(0);
        let (grid, splits) = column_sum_grid([rows, columns], dtype, self.machine);
        let mut params = self.reduce_params([1, rows, columns])?;
        params.splits = word(splits);
        if splits > 1 {
            params.partials = self.scratch.numbers(splits * columns);
            params.tickets = self.scratch.numbers(grid.blocks[0] as usize);
        }
        let variant = if columns.is_multiple_of(vector(dtype)) { "" } else { "_ragged" };
        Ok(vec![Launch::new(format!("sum_middle{variant}_{dtype}"), grid, params)])
    }

    pub(super) fn reduce_params(
        &mut self,
        [outer, reduced, inner]: [usize; 3],
    ) -> Result<KilnReduceParams> {
        Ok(KilnReduceParams {
            y: self.write_as(0, DType::F32)?,
            x: self.read(0)?,
            outer: word(outer),
            reduced: word(reduced),
            inner: word(inner),
            splits: 1,
            scale: 1.0,
            store: store(Store::Overwrite),
            ..Default::default()
        })
    }
}

/// What masks add to the lanes of a word: it carries into the upper bit of those that are kept.
pub(super) fn keep_threshold(drop15: u16) -> u32 {
    u32::from(DROP_ALL.saturating_sub(drop15)) * 0x0001_0001
}

/// `y = x^T` for each matrix of a batch, whose elements have so many bytes.
pub(super) fn transposes(
    [y, x]: [Address; 2],
    [matrices, rows, columns]: [usize; 3],
    bytes: usize,
) -> Vec<Launch> {
    let transpose = |first: usize| {
        let skipped = first * rows * columns * bytes;
        let params = KilnTransposeParams {
            y: y.plus(skipped),
            x: x.plus(skipped),
            rows: word(rows),
            columns: word(columns),
        };
        let grid = transpose_grid([MOST_MATRICES.min(matrices - first), rows, columns]);
        Launch::new(format!("transpose_{}", 8 * bytes), grid, params)
    };
    (0..matrices).step_by(MOST_MATRICES).map(transpose).collect()
}

/// Most matrices that one launch transposes: grids are no longer along z.
const MOST_MATRICES: usize = 65_535;

/// The variant of a kernel that gives each row a warp: held in registers by vectors, or strided.
pub(super) fn row_variant(columns: usize, longest: usize, dtype: DType) -> &'static str {
    match columns.is_multiple_of(vector(dtype)) && columns <= longest {
        true => "",
        false => "_strided",
    }
}
