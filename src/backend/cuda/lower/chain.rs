// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chains of operations on elements, and what else is one.

use super::{internal, unary, Lowering};
use crate::backend::cuda::abi::*;
use crate::backend::cuda::geometry::{divider, vector};
use crate::backend::cuda::launch::{Grid, Launch};
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::{few, single, word};
use crate::kernel::chain::{Axis, Chain, Function, Link, Source, View};
use crate::op::Binary;
use crate::{DType, Result};

impl Lowering<'_> {
    pub(super) fn chain(&mut self, chain: &Chain) -> Result<Vec<Launch>> {
        let dtype = self.chain_type();
        let mut params = KilnChainParams { count: word(chain.elements), ..Default::default() };
        for (index, (view, place)) in chain.operands.iter().zip(&mut params.operands).enumerate() {
            let storage = match self.stored_type(index) == dtype {
                true => KILN_CHAIN_T,
                false => KILN_CHAIN_F32,
            };
            *place = operand(view, self.read(index)?, storage, dtype);
        }
        for (index, &id) in self.step.writes.iter().enumerate() {
            let buffer = self.plan.buffer(id);
            let storage = match (buffer.ty.dtype == dtype, buffer.rounded == dtype) {
                (true, _) => KILN_CHAIN_T,
                (false, true) => KILN_CHAIN_ROUNDED,
                (false, false) => KILN_CHAIN_F32,
            };
            params.results[index] = KilnChainResult { y: self.write(index)?, storage };
        }
        Ok(vec![launch(params, &chain.links, dtype)?])
    }

    /// A gradient added to what its slot holds.
    pub(super) fn add_gradient(&mut self) -> Result<Vec<Launch>> {
        let (slot, gradient) = (self.write(0)?, self.read_as(0, DType::F32)?);
        let count = self.output_shape(0).elements();
        let mut params = KilnChainParams { count: word(count), ..Default::default() };
        for (place, at) in params.operands.iter_mut().zip([gradient, slot]) {
            *place = operand(&View::dense(count), at, KILN_CHAIN_T, DType::F32);
        }
        params.results[0] = KilnChainResult { y: slot, storage: KILN_CHAIN_T };
        let arguments = vec![Source::Operand(0), Source::Operand(1)];
        let function = Function::Binary(Binary::Add);
        let link = Link { function, arguments, keep: None, store: Some(0) };
        Ok(vec![launch(params, &[link], DType::F32)?])
    }

    /// The type of a chain's elements: that of 16 bits if any value is stored so.
    fn chain_type(&self) -> DType {
        let low = self.product_type();
        let reads = self.step.reads.iter().flatten().map(|&id| self.plan.buffer(id).ty.dtype);
        let writes = self.step.writes.iter().map(|&id| self.plan.buffer(id).rounded);
        match reads.chain(writes).any(|dtype| dtype == low) {
            true => low,
            false => DType::F32,
        }
    }
}

/// A launch over what the parameters name.
fn launch(mut params: KilnChainParams, links: &[Link], dtype: DType) -> Result<Launch> {
    if links.len() > params.links.len() {
        return Err(internal("a chain is longer than its kernel takes"));
    }
    for (link, place) in links.iter().zip(&mut params.links) {
        *place = encoded(link);
    }
    params.length = word(links.len());
    let threads = (params.count as usize).div_ceil(vector(dtype));
    Ok(Launch::new(format!("chain_{dtype}"), Grid::over(threads), params))
}

fn encoded(link: &Link) -> KilnChainLink {
    let (kind, function, parameters) = match link.function {
        Function::Copy => (KILN_LINK_COPY, 0, [0.0; 2]),
        Function::Unary(function) => {
            let (function, parameters) = unary(function);
            (KILN_LINK_UNARY, function, parameters)
        }
        Function::UnaryGrad(function) => {
            let (function, parameters) = unary(function);
            (KILN_LINK_UNARY_GRADIENT, function, parameters)
        }
        Function::Binary(function) => (KILN_LINK_BINARY, binary(function), [0.0; 2]),
        Function::MaskNonZero(scale) => (KILN_LINK_MASK_NONZERO, 0, [single(scale), 0.0]),
        Function::Where => (KILN_LINK_WHERE, 0, [0.0; 2]),
    };
    let mut arguments = [0; 3];
    for (place, argument) in arguments.iter_mut().zip(&link.arguments) {
        *place = few(match *argument {
            Source::Last => KILN_CHAIN_LAST as usize,
            Source::Kept(kept) => KILN_CHAIN_FIRST_KEPT as usize + kept,
            Source::Operand(operand) => KILN_CHAIN_FIRST_OPERAND as usize + operand,
        });
    }
    let place = |index: Option<usize>| few(index.unwrap_or(KILN_CHAIN_NOWHERE as usize));
    KilnChainLink {
        kind: few(kind as usize),
        function: few(function as usize),
        arguments,
        keep: place(link.keep),
        store: place(link.store),
        parameters,
    }
}

fn operand(view: &View, x: Address, storage: KilnChainStorage, dtype: DType) -> KilnChainOperand {
    let step = vector(dtype);
    // Further out, elements are read from the beginning again.
    let repeated = view.axes().iter().take_while(|axis| axis.stride == 0).count();
    let axes = &view.axes()[repeated..];
    let access = match *view.axes() {
        _ if view.is_number() => KILN_CHAIN_NUMBER,
        [Axis { stride: 1, .. }] => KILN_CHAIN_DENSE,
        [ref outer @ .., Axis { extent, stride }] if extent.is_multiple_of(step) => {
            let is_aligned = |axis: &Axis| axis.stride.is_multiple_of(step);
            match stride == 1 && outer.iter().all(is_aligned) {
                true => KILN_CHAIN_ALIGNED,
                false => KILN_CHAIN_ROW,
            }
        }
        _ => KILN_CHAIN_SINGLE,
    };
    let mut operand = KilnChainOperand { x, storage, access, ..Default::default() };
    if !matches!(access, KILN_CHAIN_NUMBER | KILN_CHAIN_DENSE) {
        operand.axes = word(axes.len());
        for (place, axis) in axes.iter().rev().enumerate() {
            operand.extents[place] = divider(axis.extent);
            operand.strides[place] = word(axis.stride);
        }
    }
    operand
}

fn binary(function: Binary) -> KilnBinary {
    match function {
        Binary::Add => KILN_BINARY_ADD,
        Binary::Subtract => KILN_BINARY_SUBTRACT,
        Binary::Multiply => KILN_BINARY_MULTIPLY,
        Binary::Divide => KILN_BINARY_DIVIDE,
        Binary::LogisticLoss => KILN_BINARY_LOGISTIC_LOSS,
        Binary::LogisticSlope => KILN_BINARY_LOGISTIC_SLOPE,
        Binary::Minimum => KILN_BINARY_MINIMUM,
        Binary::Maximum => KILN_BINARY_MAXIMUM,
        Binary::Power => KILN_BINARY_POWER,
        Binary::PowerSlope => KILN_BINARY_POWER_SLOPE,
        Binary::Less => KILN_BINARY_LESS,
        Binary::LessEqual => KILN_BINARY_LESS_EQUAL,
        Binary::Equal => KILN_BINARY_EQUAL,
        Binary::MaximumShare => KILN_BINARY_MAXIMUM_SHARE,
    }
}
