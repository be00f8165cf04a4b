// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout, softmax, sums and transposition.

use super::linear::store;
use super::Lowering;
use crate::backend::cuda::abi::*;
use crate::backend::cuda::geometry::{column_sum_grid, divider, transpose_grid, vector};
use crate::backend::cuda::launch::{Grid, Launch};
use crate::backend::cuda::memory::Address;
use crate::op::{Dropout, Softmax, Store};
use crate::philox::{round_keys, DROP_ALL, ELEMENTS_PER_BLOCK};
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
        &self,
        dropout: Dropout,
        shape: &Shape,
        dtype: DType,
        [y, x]: [Address; 2],
    ) -> Launch {
        let (samples, elements) = (shape.samples(), shape.sample_elements());
        let blocks = elements.div_ceil(ELEMENTS_PER_BLOCK as usize);
        let whole = elements % ELEMENTS_PER_BLOCK as usize == 0;
        let variant = if whole { "" } else { "_ragged" };
        let params = KilnDropoutParams {
            y,
            x,
            scalars: self.scratch.scalars(),
            samples: samples as u32,
            elements: elements as u32,
            blocks: divider(blocks),
            mask: self.mask(dropout),
        };
        Launch::new(format!("dropout{variant}_{dtype}"), Grid::over(samples * blocks), params)
    }

    /// A site's mask function.
    pub(super) fn mask(&self, dropout: Dropout) -> KilnMask {
        let seed = self.places.seed;
        let keys = round_keys([seed as u32, (seed >> 32) as u32]);
        let mut mask = KilnMask {
            site: dropout.site,
            threshold: u32::from(DROP_ALL - dropout.drop15.min(DROP_ALL)) * 0x0001_0001,
            scale: dropout.scale() as f32,
            ..Default::default()
        };
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
            rows: rows as u32,
            columns: columns as u32,
            logarithm: u32::from(kind == Softmax::Log),
        };
        Ok(vec![Launch::new(format!("{kernel}{variant}_{dtype}"), Grid::over_rows(rows), params)])
    }

    /// Rows become columns in each matrix of a batch.
    pub(super) fn transpose(&mut self, extents: [usize; 3]) -> Result<Vec<Launch>> {
        let dtype = self.element_type();
        let [_, rows, columns] = extents;
        let params = KilnTransposeParams {
            y: self.write_as(0, dtype)?,
            x: self.read_as(0, dtype)?,
            rows: rows as u32,
            columns: columns as u32,
        };
        let kernel = format!("transpose_{}", 8 * dtype.bytes());
        Ok(vec![Launch::new(kernel, transpose_grid(extents), params)])
    }

    pub(super) fn sum(&mut self) -> Result<Vec<Launch>> {
        let count = self.input_shape(0).elements();
        let params = self.reduce_params([1, count, 1])?;
        Ok(vec![Launch::new(format!("sum_rows_{}", self.stored_type(0)), Grid::of(1), params)])
    }

    pub(super) fn column_sum(&mut self) -> Result<Vec<Launch>> {
        let [rows, columns] = self.plan.graph.node(self.step.inputs[0]).matrix();
        let dtype = self.stored_type(0);
        let (grid, splits) = column_sum_grid([rows, columns], dtype, self.machine);
        let mut params = self.reduce_params([1, rows, columns])?;
        params.splits = splits as u32;
        if splits > 1 {
            params.partials = self.scratch.numbers(splits * columns);
            params.tickets = self.scratch.numbers(grid.blocks[0] as usize);
        }
        let variant = if columns.is_multiple_of(vector(dtype)) { "" } else { "_ragged" };
        Ok(vec![Launch::new(format!("sum_middle{variant}_{dtype}"), grid, params)])
    }

    fn reduce_params(&mut self, [outer, reduced, inner]: [usize; 3]) -> Result<KilnReduceParams> {
        Ok(KilnReduceParams {
            y: self.write_as(0, DType::F32)?,
            x: self.read(0)?,
            outer: outer as u32,
            reduced: reduced as u32,
            inner: inner as u32,
            splits: 1,
            scale: 1.0,
            store: store(Store::Overwrite),
            ..Default::default()
        })
    }
}

/// The variant of a kernel that gives each row a warp: held in registers by vectors, or strided.
pub(super) fn row_variant(columns: usize, longest: usize, dtype: DType) -> &'static str {
    match columns.is_multiple_of(vector(dtype)) && columns <= longest {
        true => "",
        false => "_strided",
    }
}
