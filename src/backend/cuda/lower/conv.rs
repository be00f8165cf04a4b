// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions and their gradients, as products of operands that kernels find where they lie.

use super::fused_images::dropout_of;
use super::linear::store;
use super::{internal, unary, Lowering};
use crate::backend::cuda::abi::*;
use crate::backend::cuda::abi_images::*;
use crate::backend::cuda::gather::{
    column_tiles, conv_grid, grid_of, partials, weight_splits, Gradients, Images,
};
use crate::backend::cuda::geometry::{divider, Extents};
use crate::backend::cuda::launch::{Grid, Launch};
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::{signed, single, word};
use crate::backend::cuda::thin::{thin_grid, Sums};
use crate::graph::{MemoryFormat, ParamRole};
use crate::kernel::{Bias, BiasGradient, ConvGradient, LinearTail, Sink};
use crate::op::{Conv, Dropout, Store};
use crate::philox::ELEMENTS_PER_BLOCK;
use crate::plan::Place;
use crate::{DType, Result};

/// Most numbers that a thread finds of its eight columns.
const COLUMN_NUMBERS: u32 = 17;
/// Shared memory where the threads of a block meet with them.
const COLUMNS_BYTES: u32 = 4 * KILN_GEMM_THREADS * COLUMN_NUMBERS;

impl Lowering<'_> {
    /// One launch, or two: dropout decides about eight channels at a time, so what is not divided into
    /// such runs on its own.
    pub(super) fn conv(&mut self, conv: &Conv, tail: &LinearTail) -> Result<Vec<Launch>> {
        let y = self.output_shape(0).clone();
        let images = Images::new(conv, self.input_shape(0), &y).lying(self.input_format(0));
        let sums = Sums::of(&images);
        let [_, outputs] = images.of_group();
        let columns = if sums == Sums::Thin { images.outputs } else { outputs };
        let whole = columns.is_multiple_of(ELEMENTS_PER_BLOCK as usize);
        let is_constant = |dropout: &Dropout| dropout.rate.constant_scale().is_some();
        let fused = tail.dropout.filter(|dropout| whole && is_constant(dropout));
        let mut params = self.conv_params(images.forward(), images.outputs, sums)?;
        params.places = divider(images.sample_places());
        self.add_tail(&mut params, &LinearTail { dropout: fused, ..*tail })?;
        let d = params.d;
        let mut launches = vec![self.conv_launch("conv", params, images.groups(), sums)];
        if let Some(dropout) = tail.dropout.filter(|_| fused.is_none()) {
            launches.push(self.dropout_of(dropout, &y, self.product_type(), [d, d]));
        }
        Ok(launches)
    }

    /// Tells a convolution of the bias, the step's third input, activation and dropout.
    pub(super) fn add_tail(
        &mut self,
        params: &mut KilnConvParams,
        tail: &LinearTail,
    ) -> Result<()> {
        if tail.bias == Bias::Added {
            params.bias = self.read_as(2, DType::F32)?;
        }
        if let Some(activation) = tail.activation {
            let (function, [parameter, _]) = unary(activation);
            (params.activation, params.activation_parameter) = (function, parameter);
        }
        if let Some(dropout) = tail.dropout {
            params.dropout = dropout_of(dropout);
            params.scalars = self.scratch.scalars();
            params.mask = self.mask(dropout);
        }
        Ok(())
    }

    pub(super) fn conv_input_gradient(
        &mut self,
        conv: &Conv,
        mask: Option<f64>,
    ) -> Result<Vec<Launch>> {
        let images = Images::new(conv, self.output_shape(0), self.input_shape(0));
        let sums = Sums::of_input_gradient(&images);
        let mut params = self.conv_params(images.input_gradient(), images.inputs, sums)?;
        if let Some(scale) = mask {
            params.mask_source = self.read_as(2, self.product_type())?;
            params.mask_scale = single(scale);
        }
        Ok(vec![self.conv_launch("conv_input_gradient", params, images.groups(), sums)])
    }

    /// A layer's gradients, where they are stored or a value like others.
    pub(super) fn conv_weight_gradient(
        &mut self,
        conv: &Conv,
        sink: Option<Sink>,
        bias: BiasGradient,
    ) -> Result<Vec<Launch>> {
        let store = match sink {
            Some(Sink::Store(store)) => store,
            None => Store::Overwrite,
            Some(Sink::Update(_)) => {
                return Err(internal("an optimiser in a weight gradient's tail"))
            }
        };
        self.conv_weight_gradients(&[ConvGradient { conv: *conv, store, bias, line: None }])
    }

    /// The gradients of several layers in as few launches as their number allows.
    pub(super) fn conv_weight_gradients(&mut self, layers: &[ConvGradient]) -> Result<Vec<Launch>> {
        let factors = self.product_type();
        let (mut read, mut written) = (0, 0);
        let mut prepared = Vec::with_capacity(layers.len());
        for layer in layers {
            let (dy, x) = (read, read + 1);
            read += 2 + layer.line.map_or(0, |line| line.inputs);
            let images = Images::new(&layer.conv, self.input_shape(x), self.input_shape(dy));
            let images = images.lying(self.input_format(x));
            let (extents, gather) = images.weight_gradient();
            let Extents { m, n, k } = extents;
            let has_bias = layer.bias == BiasGradient::Computed;
            let sums = Sums::of(&images);
            let params = KilnConvWeightGradient {
                d: self.write_as(written, DType::F32)?,
                d_bias: if has_bias { self.write(written + 1)? } else { Address::NONE },
                a: self.read_as(dy, factors)?,
                b: self.read_as(x, factors)?,
                line: self.batch_line_before(layer, x + 1, sums)?,
                gather,
                m: signed(m),
                n: signed(n),
                k: signed(k),
                ld: signed(images.outputs),
                groups: word(images.groups()),
                thin: u32::from(sums == Sums::Thin),
                store: store(layer.store),
                ..Default::default()
            };
            written += if has_bias { 2 } else { 1 };
            let (groups, bias) = (images.groups(), layer.bias);
            prepared.push((Gradients { extents, groups, bias, sums }, params));
        }
        let group = KILN_CONV_GROUP as usize;
        Ok(prepared.chunks(group).map(|layers| self.weight_launch(layers)).collect())
    }

    /// The batch norm whose gradient is worked out along, of inputs from `first` on.
    fn batch_line_before(
        &mut self,
        layer: &ConvGradient,
        first: usize,
        sums: Sums,
    ) -> Result<KilnBatchLine> {
        let Some(line) = layer.line else { return Ok(KilnBatchLine::default()) };
        if sums != Sums::Thin {
            return Err(internal("the gradient of a batch norm before a product in tiles"));
        }
        let end = first + line.inputs;
        Ok(KilnBatchLine {
            x: self.read_as(first, self.product_type())?,
            mean: self.read_as(first + 1, DType::F32)?,
            variance: self.read_as(first + 2, DType::F32)?,
            gamma: match line.inputs {
                5 => Address::NONE,
                _ => self.read_as(first + 3, DType::F32)?,
            },
            d_mean: self.read_as(end - 2, DType::F32)?,
            d_variance: self.read_as(end - 1, DType::F32)?,
            eps: single(line.normalize.eps),
        })
    }

    fn weight_launch(&mut self, layers: &[(Gradients, KilnConvWeightGradient)]) -> Launch {
        let shapes: Vec<Gradients> = layers.iter().map(|(shape, _)| *shape).collect();
        let splits = weight_splits(&shapes, self.machine);
        let mut params =
            KilnConvWeightGradientParams { count: word(layers.len()), ..Default::default() };
        let (mut blocks, mut tickets, mut partials) = (0, 0, 0);
        for (place, ((shape, layer), splits)) in
            params.layers.iter_mut().zip(layers.iter().zip(splits))
        {
            *place = KilnConvWeightGradient {
                splits: word(splits),
                first_block: word(blocks),
                ticket: word(tickets),
                partials: partials as u64,
                ..*layer
            };
            blocks += shape.units() * splits;
            tickets += shape.units();
            partials += shape.partials(splits);
        }
        if partials > 0 {
            params.partials = self.scratch.numbers(partials);
            params.tickets = self.scratch.numbers(tickets);
        }
        let grid = grid_of(blocks, self.precision, self.machine);
        let kernel = match shapes.iter().any(|layer| layer.sums == Sums::Thin) {
            true => "conv_weight_gradient_thin",
            false => "conv_weight_gradient",
        };
        Launch::new(format!("{kernel}_{}", self.precision), grid, params)
    }

    /// How an input lies in memory.
    pub(super) fn input_format(&self, index: usize) -> MemoryFormat {
        let node = self.plan.graph.node(self.step.inputs[index]);
        match MemoryFormat::coincides(&node.ty.shape) {
            true => MemoryFormat::ChannelsLast,
            false => node.format,
        }
    }

    pub(super) fn conv_params(
        &mut self,
        (Extents { m, n, k }, gather): (Extents, KilnGather),
        ld: usize,
        sums: Sums,
    ) -> Result<KilnConvParams> {
        let factors = self.product_type();
        Ok(KilnConvParams {
            d: self.write_as(0, factors)?,
            a: self.read_as(0, factors)?,
            b: match sums {
                Sums::Tiles => self.packed_weights(1, factors)?,
                Sums::Thin => self.read_as(1, factors)?,
            },
            gather,
            m: signed(m),
            n: signed(n),
            k: signed(k),
            ld: signed(ld),
            column_tiles: column_tiles(n),
            ..Default::default()
        })
    }

    pub(super) fn conv_launch(
        &mut self,
        family: &str,
        mut params: KilnConvParams,
        groups: usize,
        sums: Sums,
    ) -> Launch {
        let [m, n, k] = [params.m, params.n, params.k].map(|extent| extent as usize);
        let sums_columns = matches!(family, "conv_statistics" | "conv_input_gradient_sums");
        if sums == Sums::Thin {
            let row = params.gather.positions[2].divisor as usize;
            params.strips = divider(row.div_ceil(KILN_THIN_STRIP as usize));
            let strips = match family {
                "conv_pool" => m >> params.windows.shifts.iter().sum::<u32>(),
                _ => m / row * params.strips.divisor as usize,
            };
            let mut grid = thin_grid(strips, params.ld as usize, k, self.machine);
            if sums_columns {
                grid.shared = grid.shared.max(COLUMNS_BYTES);
                self.add_column_parts(&mut params, &grid);
            }
            return Launch::new(format!("{family}_thin_{}", self.precision), grid, params);
        }
        let (grid, _) = conv_grid(Extents { m, n, k }, groups, self.precision, self.machine);
        params.split = self.conv_split(&grid);
        if sums_columns {
            self.add_column_parts(&mut params, &grid);
        }
        Launch::new(format!("{family}_{}", self.precision), grid, params)
    }

    /// Memory where blocks meet with what they found of their columns.
    fn add_column_parts(&mut self, params: &mut KilnConvParams, grid: &Grid) {
        let [rows, columns, _] = grid.blocks.map(|blocks| blocks as usize);
        let groups = rows.div_ceil(KILN_PARTS_TOGETHER as usize);
        let of_part = COLUMN_NUMBERS as usize * KILN_THIN_COLUMNS as usize / 8;
        params.columns.partials = self.scratch.numbers(columns * (rows + groups) * of_part);
        params.columns.tickets = self.scratch.numbers(columns * (groups + 1));
    }

    /// Memory for the parts of products that are split along `k`.
    fn conv_split(&mut self, grid: &Grid) -> KilnSplitK {
        let [rows, columns, splits] = grid.blocks;
        if splits == 1 {
            return KilnSplitK { splits: 1, ..Default::default() };
        }
        let tickets = self.scratch.numbers((rows * columns) as usize);
        let partials = self.scratch.numbers(partials(grid));
        KilnSplitK { partials, tickets, splits: signed(splits as usize) }
    }

    /// Weights `[outputs, inputs of a group, taps]` as `[outputs, taps, inputs of a group]`: a copy, which
    /// updates keep if it is of a parameter, unless either extent is one.
    fn packed_weights(&mut self, index: usize, dtype: DType) -> Result<Address> {
        let at = self.read_as(index, dtype)?;
        let dims = self.input_shape(index).dims();
        let extents = [dims[0], dims[1], dims[2..].iter().product()];
        if extents[1] == 1 || extents[2] == 1 {
            return Ok(at);
        }
        let place = self.step.reads[index].map(|id| self.plan.buffer(id).place);
        match place {
            Some(Place::Parameter(id))
                if self.places.slots[id.index()].role == ParamRole::Trained =>
            {
                Ok(self.scratch.turned(id, at, extents, dtype))
            }
            _ => {
                let copy = self.scratch.take(dtype.bytes() * extents.iter().product::<usize>());
                self.before.push(super::scratch::turn([copy, at], extents, dtype));
                Ok(copy)
            }
        }
    }
}
