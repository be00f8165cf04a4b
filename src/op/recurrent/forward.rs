// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plain meaning of a pass over sequences.

use super::times::times;
use super::{Cell, Extents, Operand, Recurrent};
use crate::op::Array;
use crate::Precision;

impl Recurrent {
    pub(in crate::op) fn eval(&self, inputs: &[&Array]) -> Vec<Array> {
        let operands = Operands { names: self.operands(), arrays: inputs };
        let (projected, weight) = (operands.of(Operand::Projected), operands.of(Operand::Weight));
        let Some((projected, weight)) = projected.zip(weight) else { return vec![] };
        let Some(extents) = self.extents(&projected.shape, &weight.shape) else { return vec![] };
        let weight = Matrix::new(weight, self.factors);
        let projection = operands.of(Operand::Projection).map(|w| Matrix::new(w, self.factors));
        let Extents { samples, steps, units, state, gates } = extents;
        let saved_blocks = self.cell.saved();
        let mut output = Array::zeros(&[samples, steps, state].into());
        let mut saved = Array::zeros(&extents.saved(self.cell));
        let (mut last_hidden, mut last_cell) = (Vec::new(), Vec::new());
        for sample in 0..samples {
            let mut hidden = operands.row(Operand::Hidden, sample, state);
            let mut cell = operands.row(Operand::Cell, sample, units);
            let length = operands.of(Operand::Lengths).map(|lengths| lengths.data[sample]);
            for time in times(self.direction, &extents, length) {
                let step = sample * steps + time;
                let x = &projected.data[step * gates * units..][..gates * units];
                let mut h = weight.times(&hidden);
                if let Some(bias) = operands.of(Operand::Bias) {
                    h.iter_mut().zip(&bias.data).for_each(|(h, bias)| *h += bias);
                }
                let kept = &mut saved.data[step * saved_blocks * units..][..saved_blocks * units];
                let made: Vec<f64> = (0..units)
                    .map(|unit| self.cell.unit(unit, x, &h, (&hidden, &mut cell), kept))
                    .collect();
                hidden = match &projection {
                    Some(projection) => projection.times(&made),
                    None => made,
                };
                output.data[step * state..][..state].copy_from_slice(&hidden);
            }
            last_hidden.extend(hidden);
            last_cell.extend(cell);
        }
        let mut results = vec![output, Array::new([samples, state].into(), last_hidden)];
        if self.cell == Cell::Lstm {
            results.push(Array::new([samples, units].into(), last_cell));
        }
        if saved_blocks > 0 {
            results.push(saved);
        }
        results
    }
}

impl Cell {
    /// What a unit yields in a step; its cell state and what is saved of it change.
    fn unit(
        self,
        unit: usize,
        x: &[f64],
        h: &[f64],
        (hidden, cell): (&[f64], &mut [f64]),
        saved: &mut [f64],
    ) -> f64 {
        let units = cell.len();
        let at = |block: usize| block * units + unit;
        let sum = |block: usize| x[at(block)] + h[at(block)];
        match self {
            Cell::Lstm => {
                let [i, f, o] = [0, 1, 3].map(|block| sigmoid(sum(block)));
                let g = sum(2).tanh();
                let c = f * cell[unit] + i * g;
                for (block, value) in [i, f, g, o, c].into_iter().enumerate() {
                    saved[at(block)] = value;
                }
                cell[unit] = c;
                o * c.tanh()
            }
            Cell::Gru => {
                let [r, z] = [0, 1].map(|block| sigmoid(sum(block)));
                let n = (x[at(2)] + r * h[at(2)]).tanh();
                for (block, value) in [r, z, n, h[at(2)]].into_iter().enumerate() {
                    saved[at(block)] = value;
                }
                (1.0 - z) * n + z * hidden[unit]
            }
            Cell::Tanh => sum(0).tanh(),
            Cell::Relu => crate::op::Unary::Relu.value(sum(0)),
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Operands by what they are.
pub(super) struct Operands<'a> {
    pub(super) names: Vec<Operand>,
    pub(super) arrays: &'a [&'a Array],
}

impl<'a> Operands<'a> {
    pub(super) fn of(&self, operand: Operand) -> Option<&'a Array> {
        self.names
            .iter()
            .zip(self.arrays)
            .find(|(name, _)| **name == operand)
            .map(|(_, array)| *array)
    }

    /// A row of an operand, zeros if it is not there.
    pub(super) fn row(&self, operand: Operand, row: usize, width: usize) -> Vec<f64> {
        self.part(operand, row * width, width)
    }

    /// Some elements of an operand, zeros if it is not there.
    pub(super) fn part(&self, operand: Operand, start: usize, count: usize) -> Vec<f64> {
        match self.of(operand) {
            Some(array) => array.data[start..][..count].to_vec(),
            None => vec![0.0; count],
        }
    }
}

/// A matrix whose products round their factors.
pub(super) struct Matrix {
    values: Array,
    factors: Precision,
}

impl Matrix {
    pub(super) fn new(values: &Array, factors: Precision) -> Self {
        let mut values = values.clone();
        values.data.iter_mut().for_each(|value| *value = rounded(*value, factors));
        Matrix { values, factors }
    }

    /// The matrix times a column.
    pub(super) fn times(&self, column: &[f64]) -> Vec<f64> {
        let column: Vec<f64> = column.iter().map(|&x| rounded(x, self.factors)).collect();
        let row = |row: &[f64]| row.iter().zip(&column).map(|(a, b)| a * b).sum();
        self.values.rows().map(row).collect()
    }

    /// A row times the matrix.
    pub(super) fn taken_by(&self, row: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.values.shape.last()];
        for (&factor, values) in row.iter().zip(self.values.rows()) {
            let factor = rounded(factor, self.factors);
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
        }
        sums
    }
}

fn rounded(value: f64, precision: Precision) -> f64 {
    match precision {
        Precision::F32 => value,
        precision => f64::from(precision.round(value as f32)),
    }
}
