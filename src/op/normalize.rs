// SPDX-License-Identifier: MIT OR Apache-2.0
//! Normalisation: statistics of groups of elements, and what is computed with them.
//!
//! Batch, layer, group and instance norm are the same two operations over different groups. In eval
//! mode batch norm's statistics are state instead, and gradients follow from that alone: what is no
//! function of the input has no gradient to it.

use super::{update::describe, Array, Mismatch, Op, TensorType};
use super::{NodeId, Record};
use crate::{DType, Shape};

/// Which elements share a mean and a variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Those of one channel, the second extent, in all samples: batch norm.
    Channels,
    /// Those of one row along the innermost extent: layer norm.
    Rows,
}

/// `(x, mean, variance[, gamma, beta]) -> (x - mean) / sqrt(variance + eps) [* gamma + beta]`, with
/// one number per group for all but `x`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalize {
    /// Which elements share a number.
    pub over: Over,
    /// Added to the variance.
    pub eps: f64,
}

impl Over {
    /// Number of groups in a tensor.
    pub fn groups(self, shape: &Shape) -> usize {
        match self {
            Over::Channels => shape.dims().get(1).copied().unwrap_or(1),
            Over::Rows => shape.rows(),
        }
    }

    /// Number of elements in each group.
    pub fn group_elements(self, shape: &Shape) -> usize {
        match self {
            Over::Channels => shape.elements().checked_div(self.groups(shape)).unwrap_or(0),
            // Of no rows too.
            Over::Rows => shape.last(),
        }
    }

    /// The group of the element with a row-major index.
    fn group(self, shape: &Shape, element: usize) -> usize {
        match self {
            Over::Channels => {
                let spatial: usize = shape.dims().iter().skip(2).product();
                element / spatial % self.groups(shape)
            }
            Over::Rows => element / shape.last(),
        }
    }

    fn per_group(self, shape: &Shape) -> TensorType {
        TensorType::f32([self.groups(shape)].into())
    }

    /// The statistics' shape rule: `x -> (mean, variance)`; with running statistics behind `x`, which
    /// take their place in eval mode.
    pub(super) fn infer(self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let (x, running) = self.split(inputs)?;
        let statistic = self.per_group(&x.shape);
        match running {
            [] => {}
            [mean, variance] if **mean == statistic && **variance == statistic => {}
            _ => return Err(Mismatch::new(format!("statistics {statistic}"), describe(running))),
        }
        Ok(vec![statistic.clone(), statistic])
    }

    /// `(x, mean, d_mean, d_variance) -> dx`
    pub(super) fn infer_gradient(self, inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
        let (x, statistics) = self.split(inputs)?;
        let statistic = self.per_group(&x.shape);
        match statistics.len() == 3 && statistics.iter().all(|ty| **ty == statistic) {
            true => Ok(x.clone()),
            false => Err(Mismatch::new(format!("three of {statistic}"), describe(statistics))),
        }
    }

    /// The gradient of the statistics, where either has one.
    pub(super) fn gradient(
        self,
        graph: &mut dyn Record,
        node: NodeId,
        dys: &[Option<NodeId>],
    ) -> Result<Vec<Option<NodeId>>, Mismatch> {
        let inputs = graph.inputs(node).to_vec();
        let x = inputs[0];
        let shape = graph.shape(node).clone();
        let mut there = |dy: Option<NodeId>| match dy {
            Some(dy) => Ok(dy),
            None => {
                let zero = graph.add(Op::Constant(0.0), &[])?;
                graph.add(Op::Broadcast(shape.clone()), &[zero])
            }
        };
        let (d_mean, d_variance) = (there(dys[0])?, there(dys[1])?);
        let dx = graph.add(Op::StatisticsGrad(self), &[x, node, d_mean, d_variance])?;
        Ok(std::iter::once(Some(dx)).chain(inputs[1..].iter().map(|_| None)).collect())
    }

    pub(super) fn eval(self, x: &Array) -> Vec<Array> {
        let shape: Shape = [self.groups(&x.shape)].into();
        let count = self.group_elements(&x.shape) as f64;
        let (mut mean, mut variance) = (Array::zeros(&shape), Array::zeros(&shape));
        for (element, value) in x.data.iter().enumerate() {
            mean.data[self.group(&x.shape, element)] += value / count;
        }
        for (element, value) in x.data.iter().enumerate() {
            let group = self.group(&x.shape, element);
            variance.data[group] += (value - mean.data[group]).powi(2) / count;
        }
        vec![mean, variance]
    }

    pub(super) fn eval_gradient(self, inputs: &[&Array]) -> Array {
        let [x, mean, d_mean, d_variance] = inputs else { return Array::scalar(f64::NAN) };
        let count = self.group_elements(&x.shape) as f64;
        let dx = x.data.iter().enumerate().map(|(element, value)| {
            let group = self.group(&x.shape, element);
            let centred = value - mean.data[group];
            (d_mean.data[group] + 2.0 * d_variance.data[group] * centred) / count
        });
        Array::new(x.shape.clone(), dx.collect())
    }

    fn split<'t, 's>(
        self,
        inputs: &'s [&'t TensorType],
    ) -> Result<(&'t TensorType, &'s [&'t TensorType]), Mismatch> {
        match inputs {
            [x, rest @ ..] if x.shape.rank() >= 2 && x.dtype == DType::F32 => Ok((x, rest)),
            _ => Err(Mismatch::new("a tensor of rank 2 or more", describe(inputs))),
        }
    }
}

impl Normalize {
    pub(super) fn infer(self, inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
        let (x, numbers) = self.over.split(inputs)?;
        let number = self.over.per_group(&x.shape);
        match matches!(numbers.len(), 2 | 4) && numbers.iter().all(|ty| **ty == number) {
            true => Ok(x.clone()),
            false => Err(Mismatch::new(format!("two or four of {number}"), describe(numbers))),
        }
    }

    /// `(x, dy, mean, variance[, gamma]) -> (dx, d_mean, d_variance, d_gamma, d_beta)`, each with all
    /// other operands held.
    pub(super) fn infer_gradient(
        self,
        inputs: &[&TensorType],
    ) -> Result<Vec<TensorType>, Mismatch> {
        let (x, rest) = self.over.split(inputs)?;
        let number = self.over.per_group(&x.shape);
        match rest {
            [dy, numbers @ ..]
                if *dy == x
                    && matches!(numbers.len(), 2 | 3)
                    && numbers.iter().all(|ty| **ty == number) =>
            {
                Ok(std::iter::once(x.clone()).chain(std::iter::repeat_n(number, 4)).collect())
            }
            _ => Err(Mismatch::new(format!("{x} and two or three of {number}"), describe(rest))),
        }
    }

    pub(super) fn gradient(
        self,
        graph: &mut dyn Record,
        inputs: &[NodeId],
        dy: NodeId,
    ) -> Result<Vec<Option<NodeId>>, Mismatch> {
        let mut operands = vec![inputs[0], dy];
        operands.extend(inputs[1..].iter().take(3));
        let dx = graph.add(Op::NormalizeGrad(self), &operands)?;
        (0..inputs.len()).map(|index| graph.result(dx, index).map(Some)).collect()
    }

    pub(super) fn eval(self, inputs: &[&Array]) -> Array {
        let x = inputs[0];
        let y = x.data.iter().enumerate().map(|(element, value)| {
            let group = self.over.group(&x.shape, element);
            let normal = (value - inputs[1].data[group]) * self.scale(inputs[2].data[group]);
            match inputs {
                [_, _, _, gamma, beta] => gamma.data[group] * normal + beta.data[group],
                _ => normal,
            }
        });
        Array::new(x.shape.clone(), y.collect())
    }

    pub(super) fn eval_gradient(self, inputs: &[&Array]) -> Vec<Array> {
        let (x, dy, mean, variance) = (inputs[0], inputs[1], inputs[2], inputs[3]);
        let number = Array::zeros(&mean.shape);
        let mut dx = Array::zeros(&x.shape);
        let [mut d_mean, mut d_variance, mut d_gamma, mut d_beta] =
            [(); 4].map(|()| number.clone());
        for (element, (x_value, dy)) in x.data.iter().zip(&dy.data).enumerate() {
            let group = self.over.group(&x.shape, element);
            let scale = self.scale(variance.data[group]);
            let normal = (x_value - mean.data[group]) * scale;
            let gamma = inputs.get(4).map_or(1.0, |gamma| gamma.data[group]);
            dx.data[element] = dy * gamma * scale;
            d_mean.data[group] -= dy * gamma * scale;
            d_variance.data[group] -= 0.5 * dy * gamma * normal * scale * scale;
            d_gamma.data[group] += dy * normal;
            d_beta.data[group] += dy;
        }
        vec![dx, d_mean, d_variance, d_gamma, d_beta]
    }

    /// What a centred element is multiplied by.
    fn scale(self, variance: f64) -> f64 {
        1.0 / (variance + self.eps).sqrt()
    }
}
