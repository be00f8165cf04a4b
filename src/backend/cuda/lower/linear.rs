// SPDX-License-Identifier: MIT OR Apache-2.0
//! Matrix products: linear layers forward and backward.

use super::elements::transposes;
use super::{internal, unary, Lowering};
use crate::backend::cuda::abi::*;
use crate::backend::cuda::geometry::{
    bias_parts, divider, is_guarded, Extents, Form, Tile, Tiling,
};
use crate::backend::cuda::launch::{Launch, Params};
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::{signed, single, word};
use crate::kernel::Bias;
use crate::kernel::{BiasGradient, LayerGradient, LinearTail, Sink};
use crate::op::{DropRate, MatMul, Order, Store, Unary};
use crate::{DType, Result, Shape};

/// Most pairs of matrices that one launch multiplies: grids are no longer along z.
const MOST_PAIRS: usize = 65_535;

impl Lowering<'_> {
    /// One launch. The special tail of ReLU and dropout knows a row as a sample and a rate as a constant; the
    /// general one also rows of a sequence and rates that change.
    pub(super) fn linear(&mut self, tail: &LinearTail) -> Result<Vec<Launch>> {
        let extents = self.forward_extents();
        let mut params = self.linear_params(extents)?;
        if tail.bias == Bias::Added {
            params.tail.bias = self.read_as(2, DType::F32)?;
        }
        if let Some(activation) = tail.activation {
            let (function, [parameter, _]) = unary(activation);
            (params.tail.activation, params.tail.activation_parameter) = (function, parameter);
        }
        let mut is_special = tail.bias == Bias::Added && tail.activation == Some(Unary::Relu);
        match tail.dropout {
            Some(dropout) => {
                let rows = self.output_shape(0).sample_elements() / extents.n.max(1);
                params.tail.dropout = match dropout.rate {
                    DropRate::Constant(_) => KILN_RATE_CONSTANT,
                    DropRate::Changing { .. } => KILN_RATE_SCHEDULED,
                };
                params.tail.rows = divider(rows);
                params.tail.columns = word(extents.n);
                params.tail.scalars = self.scratch.scalars();
                params.tail.mask = self.mask(dropout);
                is_special &= rows == 1 && params.tail.dropout == KILN_RATE_CONSTANT;
            }
            None => is_special = false,
        }
        Ok(vec![self.nt(extents, params, is_special)])
    }

    pub(super) fn input_gradient(&mut self, mask: Option<f64>) -> Result<Vec<Launch>> {
        let weight = self.input_shape(1);
        let (n, k) = (weight.last(), weight.rows());
        let extents = Extents { m: self.input_shape(0).elements() / k.max(1), n, k };
        let mut params = self.input_gradient_params(extents)?;
        if let Some(scale) = mask {
            params.tail.mask_source = self.read_as(2, self.product_type())?;
            params.tail.mask_scale = single(scale);
        }
        Ok(vec![self.nn(extents, params)])
    }

    /// The gradients of several layers in as few launches as their number allows.
    pub(super) fn weight_gradients(&mut self, layers: &[LayerGradient]) -> Result<Vec<Launch>> {
        let mut products = Vec::with_capacity(layers.len());
        let mut written = 0;
        for (index, layer) in layers.iter().enumerate() {
            let Sink::Store(store) = layer.sink else {
                return Err(internal("an optimiser in a weight gradient's tail"));
            };
            let weight = self.output_shape(written);
            let (m, n) = (weight.rows(), weight.last());
            let extents = Extents { m, n, k: self.input_shape(2 * index).rows() };
            let d = self.write(written)?;
            let d_bias = match layer.bias {
                BiasGradient::Computed => self.write(written + 1)?,
                BiasGradient::Absent => Address::NONE,
            };
            written += if layer.bias == BiasGradient::Computed { 2 } else { 1 };
            let factors = self.product_type();
            let a = self.read_as(2 * index, factors)?;
            let b = self.read_as(2 * index + 1, factors)?;
            products.push(Product { extents, d, d_bias, a, b, store });
        }
        // Kernels that guard every element are left to those that need it.
        let precision = self.precision;
        let is_guarded = |product: &Product| is_guarded(Form::Tn, product.extents, precision);
        let (guarded, inside): (Vec<Product>, Vec<Product>) =
            products.into_iter().partition(is_guarded);
        let groups = [&inside, &guarded].into_iter();
        let groups = groups.flat_map(|products| products.chunks(KILN_GEMM_GROUP as usize));
        Ok(groups.map(|group| self.tn(group)).collect())
    }

    /// A product of two matrices. Where both are transposed, one is turned first.
    pub(super) fn matmul(&mut self, product: MatMul) -> Result<Vec<Launch>> {
        let output = self.output_shape(0);
        let (m, n) = (output.rows(), output.last());
        let left = self.input_shape(0);
        let k = match product.left {
            Order::Plain => left.last(),
            Order::Transposed => left.rows(),
        };
        let extents = Extents { m, n, k };
        let launch = match (product.left, product.right) {
            (Order::Plain, Order::Transposed) => {
                let params = self.linear_params(extents)?;
                self.nt(extents, params, false)
            }
            (Order::Plain, Order::Plain) => {
                let params = self.input_gradient_params(extents)?;
                self.nn(extents, params)
            }
            (Order::Transposed, right) => {
                let (a, b) = self.factors()?;
                let b = self.turned(right, b, [1, n, k]);
                let (d, store) = (self.write_as(0, DType::F32)?, Store::Overwrite);
                self.tn(&[Product { extents, d, d_bias: Address::NONE, a, b, store }])
            }
        };
        Ok(vec![launch])
    }

    /// A right factor as it is where it is not transposed, else a copy of its matrices that is not.
    fn turned(&mut self, order: Order, x: Address, extents: [usize; 3]) -> Address {
        if order == Order::Plain {
            return x;
        }
        let bytes = self.product_type().bytes();
        let y = self.scratch.take(bytes * extents.iter().product::<usize>());
        self.before.extend(transposes([y, x], extents, bytes));
        y
    }

    /// Products of two batches of matrices, as [`matmul`](Lowering::matmul).
    pub(super) fn batch_matmul(&mut self, product: MatMul) -> Result<Vec<Launch>> {
        let matrix = |shape: &Shape| [shape.dims()[1], shape.dims()[2]];
        let [m, n] = matrix(self.output_shape(0));
        let left = matrix(self.input_shape(0));
        let k = match product.left {
            Order::Plain => left[1],
            Order::Transposed => left[0],
        };
        let (extents, pairs) = (Extents { m, n, k }, self.output_shape(0).samples());
        let batch = KilnBatch { a: (m * k) as u64, b: (k * n) as u64, d: (m * n) as u64 };
        let form = match (product.left, product.right) {
            (Order::Plain, Order::Transposed) => Form::Nt,
            (Order::Plain, Order::Plain) => Form::Nn,
            (Order::Transposed, _) => Form::Tn,
        };
        let tiling = Tiling::of_batch(form, extents, self.precision);
        let split = KilnSplitK { splits: 1, ..Default::default() };
        let mut launch = match form {
            Form::Nt => {
                let params = KilnLinearParams { split, batch, ..self.linear_params(extents)? };
                let grid = tiling.grid(tiles(&tiling, extents), self.machine);
                Launch::new(tiling.kernel(form, ""), grid, params)
            }
            Form::Nn => {
                let params = KilnInputGradientParams {
                    split,
                    batch,
                    ..self.input_gradient_params(extents)?
                };
                let grid = tiling.grid(tiles(&tiling, extents), self.machine);
                Launch::new(tiling.kernel(form, ""), grid, params)
            }
            Form::Tn => {
                let (a, b) = self.factors()?;
                let b = self.turned(product.right, b, [pairs, n, k]);
                let (d, store) = (self.write_as(0, DType::F32)?, Store::Overwrite);
                let only = Product { extents, d, d_bias: Address::NONE, a, b, store };
                let mut params =
                    KilnWeightGradientParams { split, batch, count: 1, ..Default::default() };
                params.products[0] = only.params();
                let grid = tiling.grid([word(tiling.tile.count(extents)), 1], self.machine);
                Launch::new(tiling.kernel(form, ""), grid, params)
            }
        };
        let mut launches = Vec::new();
        for first in (0..pairs).step_by(MOST_PAIRS) {
            launch.grid.blocks[2] = word(MOST_PAIRS.min(pairs - first));
            launches.push(self.of_pair(&launch, first));
        }
        Ok(launches)
    }

    /// A launch of products as it begins with a later pair of the batch.
    fn of_pair(&self, launch: &Launch, first: usize) -> Launch {
        let factor = self.product_type().bytes();
        let plus = |at: Address, distance: u64, bytes: usize| {
            Address(at.0 + (first * bytes) as u64 * distance)
        };
        let mut launch = launch.clone();
        match &mut launch.params {
            Params::Linear(params) => {
                params.a = plus(params.a, params.batch.a, factor);
                params.b = plus(params.b, params.batch.b, factor);
                params.d = plus(params.d, params.batch.d, factor);
            }
            Params::InputGradient(params) => {
                params.a = plus(params.a, params.batch.a, factor);
                params.b = plus(params.b, params.batch.b, factor);
                params.d = plus(params.d, params.batch.d, factor);
            }
            Params::WeightGradients(params) => {
                let batch = params.batch;
                let product = &mut params.products[0];
                product.a = plus(product.a, batch.a, factor);
                product.b = plus(product.b, batch.b, factor);
                product.d = plus(product.d, batch.d, DType::F32.bytes());
            }
            _ => {}
        }
        launch
    }

    /// Rows, outputs and inputs of a linear layer whose input and weight the step reads first.
    pub(super) fn forward_extents(&self) -> Extents {
        let weight = self.input_shape(1);
        let (n, k) = (weight.rows(), weight.last());
        Extents { m: self.input_shape(0).elements() / k.max(1), n, k }
    }

    /// Where the two factors of the step's product lie.
    fn factors(&mut self) -> Result<(Address, Address)> {
        let dtype = self.product_type();
        Ok((self.read_as(0, dtype)?, self.read_as(1, dtype)?))
    }

    fn linear_params(&mut self, Extents { m, n, k }: Extents) -> Result<KilnLinearParams> {
        let (m, n, k) = (signed(m), signed(n), signed(k));
        let ((a, b), d) = (self.factors()?, self.write_as(0, self.product_type())?);
        Ok(KilnLinearParams { d, a, b, m, n, k, lda: k, ldb: k, ldd: n, ..Default::default() })
    }

    fn input_gradient_params(
        &mut self,
        Extents { m, n, k }: Extents,
    ) -> Result<KilnInputGradientParams> {
        let (m, n, k) = (signed(m), signed(n), signed(k));
        let ((a, b), d) = (self.factors()?, self.write_as(0, self.product_type())?);
        let (lda, ldb, ldd) = (k, n, n);
        Ok(KilnInputGradientParams { d, a, b, m, n, k, lda, ldb, ldd, ..Default::default() })
    }

    fn nt(&mut self, extents: Extents, mut params: KilnLinearParams, relu_dropout: bool) -> Launch {
        let tiling = Tiling::choose(Form::Nt, &[extents], self.precision, self.machine);
        params.split = self.split(&tiling, &[extents], [0, 0]);
        let has_special = tiling.precision != super::Precision::F32 && tiling.tile != Tile::Guarded;
        let tail = if relu_dropout && has_special { "_relu_dropout" } else { "" };
        let grid = tiling.grid(tiles(&tiling, extents), self.machine);
        Launch::new(tiling.kernel(Form::Nt, tail), grid, params)
    }

    fn nn(&mut self, extents: Extents, mut params: KilnInputGradientParams) -> Launch {
        let tiling = Tiling::choose(Form::Nn, &[extents], self.precision, self.machine);
        params.split = self.split(&tiling, &[extents], [0, 0]);
        let grid = tiling.grid(tiles(&tiling, extents), self.machine);
        Launch::new(tiling.kernel(Form::Nn, ""), grid, params)
    }

    fn tn(&mut self, products: &[Product]) -> Launch {
        let extents: Vec<Extents> = products.iter().map(|product| product.extents).collect();
        let tiling = Tiling::choose(Form::Tn, &extents, self.precision, self.machine);
        let mut params =
            KilnWeightGradientParams { count: signed(products.len()), ..Default::default() };
        let (mut blocks, mut tickets, mut partials) = (0, 0, 0);
        for (product, entry) in products.iter().zip(&mut params.products) {
            let (tiles, bias) = (tiling.tile.count(product.extents), product.bias());
            *entry = KilnWeightGradient {
                first_block: word(blocks),
                ticket: signed(tickets),
                partials: partials as u64,
                ..product.params()
            };
            blocks += tiles + bias.runs * bias.parts;
            tickets += tiles;
            partials += tiling.partials(product.extents);
        }
        // Behind those of the tiles.
        let of_tiles = [partials, tickets];
        for (product, entry) in products.iter().zip(&mut params.products) {
            let bias = product.bias();
            entry.bias_parts = word(bias.parts);
            if bias.parts > 1 {
                (entry.bias_partials, entry.bias_ticket) = (partials as u64, signed(tickets));
                partials += bias.runs * bias.parts * KILN_GEMM_BIAS_COLUMNS as usize;
                tickets += bias.runs;
            }
        }
        let of_biases = [partials - of_tiles[0], tickets - of_tiles[1]];
        params.split = self.split(&tiling, &extents, of_biases);
        let grid = tiling.grid([word(blocks), 1], self.machine);
        Launch::new(tiling.kernel(Form::Tn, ""), grid, params)
    }

    /// Memory for the parts of products that are split along `k`, and for partial sums and tickets of biases.
    fn split(
        &mut self,
        tiling: &Tiling,
        products: &[Extents],
        [of_biases, of_runs]: [usize; 2],
    ) -> KilnSplitK {
        let splits = signed(tiling.splits);
        if splits == 1 && of_runs == 0 {
            return KilnSplitK { splits, ..Default::default() };
        }
        let tiles: usize = products.iter().map(|product| tiling.tile.count(*product)).sum();
        let partials: usize = products.iter().map(|product| tiling.partials(*product)).sum();
        KilnSplitK {
            partials: self.scratch.numbers(partials + of_biases),
            tickets: self.scratch.numbers(tiles + of_runs),
            splits,
        }
    }
}

/// One product of a weight-gradient launch.
struct Product {
    extents: Extents,
    d: Address,
    d_bias: Address,
    a: Address,
    b: Address,
    store: Store,
}

/// Blocks of a bias gradient: runs of columns, each in parts of the rows.
struct BiasBlocks {
    runs: usize,
    parts: usize,
}

impl Product {
    fn bias(&self) -> BiasBlocks {
        match self.d_bias {
            Address::NONE => BiasBlocks { runs: 0, parts: 1 },
            _ => BiasBlocks {
                runs: self.extents.m.div_ceil(KILN_GEMM_BIAS_COLUMNS as usize),
                parts: bias_parts(self.extents.k),
            },
        }
    }

    /// The product as the first of a launch.
    fn params(&self) -> KilnWeightGradient {
        let Extents { m, n, k } = self.extents;
        KilnWeightGradient {
            d: self.d,
            d_bias: self.d_bias,
            a: self.a,
            b: self.b,
            m: signed(m),
            n: signed(n),
            k: signed(k),
            lda: signed(m),
            ldb: signed(n),
            store: store(self.store),
            ..Default::default()
        }
    }
}

fn tiles(tiling: &Tiling, extents: Extents) -> [u32; 2] {
    tiling.tile.across(extents).map(word)
}

pub(super) fn store(store: Store) -> KilnStore {
    match store {
        Store::Overwrite => KILN_STORE_OVERWRITE,
        Store::Accumulate => KILN_STORE_ACCUMULATE,
    }
}
