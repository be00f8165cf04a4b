// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions of a value, each by itself: of elements, chains of them, other orders, choices, reductions
//! and batches of products.

use kiln::nn::{Keep, Module, Scope};
use kiln::plan::Plan;
use kiln::{Device, Mode, Net, Result, Seed, Tensor, Var};

use crate::common::random_values;

/// A function under measurement, and the extents of the value that it takes.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    shape: &'static [usize],
    function: fn(&Var) -> Var,
}

/// 16 MiB: beyond the second-level cache.
const MATRIX: &[usize] = &[1024, 4096];
const IMAGES: &[usize] = &[64, 64, 32, 32];
const BATCH: &[usize] = &[64, 256, 256];

pub(crate) const FUNCTIONS: &[Function] = &[
    of("relu", MATRIX, |x| x.relu()),
    of("leaky relu", MATRIX, |x| x.leaky_relu(0.1)),
    of("gelu", MATRIX, |x| x.gelu()),
    of("gelu by tanh", MATRIX, |x| x.gelu_tanh()),
    of("silu", MATRIX, |x| x.silu()),
    of("tanh", MATRIX, |x| x.tanh()),
    of("sigmoid", MATRIX, |x| x.sigmoid()),
    of("softplus", MATRIX, |x| x.softplus()),
    of("exp", MATRIX, |x| x.exp()),
    of("log", MATRIX, |x| x.log()),
    of("square", MATRIX, |x| x.square()),
    of("scale", MATRIX, |x| x.scale(2.0)),
    of("offset", MATRIX, |x| x + 1.0),
    of("abs", MATRIX, |x| x.abs()),
    of("sqrt", MATRIX, |x| x.sqrt()),
    of("rsqrt", MATRIX, |x| x.rsqrt()),
    of("reciprocal", MATRIX, |x| x.reciprocal()),
    of("sin", MATRIX, |x| x.sin()),
    of("cos", MATRIX, |x| x.cos()),
    of("erf", MATRIX, |x| x.erf()),
    of("power 1.5", MATRIX, |x| x.powf(1.5)),
    of("power x", MATRIX, |x| x.pow(x)),
    of("clamp", MATRIX, |x| x.clamp(-1.0, 1.0)),
    of("comparison and choice", MATRIX, |x| x.gt(0.0).where_(x, 0.0)),
    of("chain of 8", MATRIX, |x| {
        let scaled = x * 0.5 + 1.0;
        (scaled.square() - x).abs().sqrt() * x.tanh()
    }),
    of("chain with a broadcast row", MATRIX, |x| x * x.narrow(0, 0, 1) + x.narrow(0, 1, 1)),
    of("chain with a broadcast column", MATRIX, |x| x * x.narrow(1, 0, 1)),
    of("softmax", MATRIX, |x| x.softmax()),
    of("transpose", MATRIX, |x| x.t()),
    of("permute to channels last", IMAGES, |x| x.permute([0, 2, 3, 1])),
    of("permute the first two", IMAGES, |x| x.permute([1, 0, 2, 3])),
    of("slices joined", MATRIX, |x| Var::concat(&[x.narrow(1, 7, 1000), x.narrow(1, 2000, 3)], 1)),
    of("take rows", MATRIX, |x| x.take(0, &x.narrow(1, 0, 1000).argmax_over(1, Keep::Nothing))),
    of("gather", MATRIX, |x| x.gather(1, &x.argmax_over(0, Keep::Extents).expand(MATRIX))),
    of("sum", MATRIX, |x| x.sum()),
    of("sum of rows", MATRIX, |x| x.sum_over([1], Keep::Nothing)),
    of("sum of columns", MATRIX, |x| x.sum_over([0], Keep::Nothing)),
    of("sum of short rows", &[1 << 19, 8], |x| x.sum_over([1], Keep::Nothing)),
    of("sum of few columns", &[1 << 19, 8], |x| x.sum_over([0], Keep::Nothing)),
    of("sum in the middle", IMAGES, |x| x.sum_over([1], Keep::Nothing)),
    of("sum of channels", IMAGES, |x| x.sum_over([0, 3], Keep::Nothing)),
    of("max of all", MATRIX, |x| x.max()),
    of("max of rows", MATRIX, |x| x.max_over([1], Keep::Nothing)),
    of("min of columns", MATRIX, |x| x.min_over([0], Keep::Nothing)),
    of("argmax of all", MATRIX, |x| x.argmax()),
    of("argmax of rows", MATRIX, |x| x.argmax_over(1, Keep::Nothing)),
    of("argmin of columns", MATRIX, |x| x.argmin_over(0, Keep::Nothing)),
    of("batched product", BATCH, |x| x.matmul(x)),
    of("batched product, one turned", BATCH, |x| x.matmul_transposed(x)),
];

const fn of(name: &'static str, shape: &'static [usize], function: fn(&Var) -> Var) -> Function {
    Function { name, shape, function }
}

impl Module for &'static Function {
    fn forward(&self, x: &Var) -> Var {
        (self.function)(x)
    }
}

impl Function {
    /// A forward pass, and what it takes.
    pub(crate) fn plan(&'static self) -> Result<(Plan, Tensor)> {
        let mut net = Net::new(Device::cpu(), Seed(7), |_: &Scope| self)?;
        let x = Tensor::new(self.shape, random_values(self.shape.iter().product()))?;
        Ok((net.plan(Mode::Eval, &[x.ty()])?.clone(), x))
    }
}
