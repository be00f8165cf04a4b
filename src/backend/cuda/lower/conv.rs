// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions and their gradients, as products of operands that kernels find where they lie.

use super::linear::store;
use super::{internal, unary, Lowering};
use crate::backend::cuda::abi::*;
use crate::backend::cuda::gather::{column_tiles, conv_grid, partials, Images};
use crate::backend::cuda::geometry::{column_sum_grid, divider, vector, Extents};
use crate::backend::cuda::launch::{Grid, Launch};
use crate::backend::cuda::memory::Address;
use crate::graph::ParamRole;
use crate::kernel::{Bias, BiasGradient, LinearTail, Sink};
use crate::op::{Conv, Dropout, Drops, Store};
use crate::philox::ELEMENTS_PER_BLOCK;
use crate::plan::Place;
use crate::{DType, Result};

impl Lowering<'_> {
    /// One launch, or two: dropout decides about eight channels at a time, so what is not divided into
    /// such runs on its own.
    pub(super) fn conv(&mut self, conv: &Conv, tail: &LinearTail) -> Result<Vec<Launch>> {
        let y = self.output_shape(0).clone();
        let images = Images::new(conv, self.input_shape(0), &y);
        let [_, outputs] = images.of_group();
        let whole = outputs.is_multiple_of(ELEMENTS_PER_BLOCK as usize);
        let is_constant = |dropout: &Dropout| dropout.rate.constant_scale().is_some();
        let fused = tail.dropout.filter(|dropout| whole && is_constant(dropout));
        let mut params = self.conv_params(images.forward(), images.outputs)?;
        params.places = divider(images.sample_places());
        if tail.bias == Bias::Added {
            params.bias = self.read_as(2, DType::F32)?;
        }
        if let Some(activation) = tail.activation {
            let (function, [parameter, _]) = unary(activation);
            (params.activation, params.activation_parameter) = (function, parameter);
        }
        if let Some(dropout) = fused {
            params.dropout = match dropout.drops {
                Drops::Channels => 2,
                Drops::Elements | Drops::Samples => 1,
            };
            params.scalars = self.scratch.scalars();
            params.mask = self.mask(dropout);
        }
        let d = params.d;
        let mut launches = vec![self.conv_launch("conv", params, images.groups())];
        if let Some(dropout) = tail.dropout.filter(|_| fused.is_none()) {
            launches.push(self.dropout_of(dropout, &y, self.product_type(), [d, d]));
        }
        Ok(launches)
    }

    pub(super) fn conv_input_gradient(
        &mut self,
        conv: &Conv,
        mask: Option<f64>,
    ) -> Result<Vec<Launch>> {
        let images = Images::new(conv, self.output_shape(0), self.input_shape(0));
        let mut params = self.conv_params(images.input_gradient(), images.inputs)?;
        if let Some(scale) = mask {
            params.mask_source = self.read_as(2, self.product_type())?;
            params.mask_scale = scale as f32;
        }
        Ok(vec![self.conv_launch("conv_input_gradient", params, images.groups())])
    }

    /// The weights' gradient, and that of the bias in a launch of its own.
    pub(super) fn conv_weight_gradient(
        &mut self,
        conv: &Conv,
        sink: Option<Sink>,
        bias: BiasGradient,
    ) -> Result<Vec<Launch>> {
        let images = Images::new(conv, self.input_shape(1), self.input_shape(0));
        let (d, stored) = match sink {
            Some(Sink::Store(stored)) => (self.write(0)?, stored),
            None => (self.write_as(0, DType::F32)?, Store::Overwrite),
            Some(Sink::Update(_)) => {
                return Err(internal("an optimiser in a weight gradient's tail"))
            }
        };
        let factors = self.product_type();
        let (Extents { m, n, k }, gather) = images.weight_gradient();
        let groups = images.groups();
        let (grid, _) = conv_grid(Extents { m, n, k }, groups, self.precision, self.machine);
        let params = KilnConvParams {
            d,
            a: self.read_as(0, factors)?,
            b: self.read_as(1, factors)?,
            gather,
            m: m as i32,
            n: n as i32,
            k: k as i32,
            ld: images.outputs as i32,
            column_tiles: column_tiles(n),
            split: self.conv_split(&grid),
            store: store(stored),
            ..Default::default()
        };
        let kernel = format!("conv_weight_gradient_{}", self.precision);
        let mut launches = vec![Launch::new(kernel, grid, params)];
        if bias == BiasGradient::Computed {
            launches.push(self.channel_sums([k, images.outputs], stored)?);
        }
        Ok(launches)
    }

    /// The sums of the channels of a result's gradient, to where the step's second output goes.
    fn channel_sums(&mut self, [rows, columns]: [usize; 2], stored: Store) -> Result<Launch> {
        let dtype = self.stored_type(0);
        let (grid, splits) = column_sum_grid([rows, columns], dtype, self.machine);
        let mut params = KilnReduceParams {
            y: self.write(1)?,
            x: self.read(0)?,
            outer: 1,
            reduced: rows as u32,
            inner: columns as u32,
            splits: splits as u32,
            scale: 1.0,
            store: store(stored),
            ..Default::default()
        };
        if splits > 1 {
            params.partials = self.scratch.numbers(splits * columns);
            params.tickets = self.scratch.numbers(grid.blocks[0] as usize);
        }
        let variant = if columns.is_multiple_of(vector(dtype)) { "" } else { "_ragged" };
        Ok(Launch::new(format!("sum_middle{variant}_{dtype}"), grid, params))
    }

    fn conv_params(
        &mut self,
        (Extents { m, n, k }, gather): (Extents, KilnGather),
        ld: usize,
    ) -> Result<KilnConvParams> {
        let factors = self.product_type();
        Ok(KilnConvParams {
            d: self.write_as(0, factors)?,
            a: self.read_as(0, factors)?,
            b: self.packed_weights(1, factors)?,
            gather,
            m: m as i32,
            n: n as i32,
            k: k as i32,
            ld: ld as i32,
            column_tiles: column_tiles(n),
            ..Default::default()
        })
    }

    fn conv_launch(&mut self, family: &str, mut params: KilnConvParams, groups: usize) -> Launch {
        let [m, n, k] = [params.m, params.n, params.k].map(|extent| extent as usize);
        let (grid, _) = conv_grid(Extents { m, n, k }, groups, self.precision, self.machine);
        params.split = self.conv_split(&grid);
        Launch::new(format!("{family}_{}", self.precision), grid, params)
    }

    /// Memory for the parts of products that are split along `k`.
    fn conv_split(&mut self, grid: &Grid) -> KilnSplitK {
        let [rows, columns, splits] = grid.blocks;
        if splits == 1 {
            return KilnSplitK { splits: 1, ..Default::default() };
        }
        let tickets = self.scratch.numbers((rows * columns) as usize);
        let partials = self.scratch.numbers(partials(grid));
        KilnSplitK { partials, tickets, splits: splits as i32 }
    }

    /// Weights `[outputs, inputs of a group, taps]` as `[outputs, taps, inputs of a group]`: a copy, made
    /// once per run of parameters, unless either extent is one.
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
                Ok(self.scratch.turned(at, extents, dtype))
            }
            _ => {
                let copy = self.scratch.take(dtype.bytes() * extents.iter().product::<usize>());
                self.before.push(super::scratch::turn([copy, at], extents, dtype));
                Ok(copy)
            }
        }
    }
}
