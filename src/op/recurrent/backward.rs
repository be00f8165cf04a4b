// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plain meaning of the gradient: back over the steps.

use super::forward::{Matrix, Operands};
use super::times::times;
use super::{Cell, Extents, Operand, Recurrent, Slope, Upstream};
use crate::op::Array;

/// What a unit's gradient in a step is made with.
struct Step<'a> {
    /// What was saved of the step.
    saved: &'a [f64],
    /// States before the step.
    hidden: &'a [f64],
    cell: &'a [f64],
    /// The hidden state after it.
    output: &'a [f64],
}

/// What a unit's gradient in a step changes.
struct Back<'a> {
    /// Gradients of the products of inputs and of the recurrent ones.
    products: [&'a mut [f64]; 2],
    /// Gradient of the cell state: after the step, then before it.
    cell: &'a mut [f64],
    /// Gradient of the hidden state before the step but for what the recurrent products bring.
    hidden: &'a mut [f64],
}

impl Recurrent {
    pub(in crate::op) fn eval_gradient(&self, upstream: Upstream, inputs: &[&Array]) -> Vec<Array> {
        let operands = Operands { names: self.gradient_operands(upstream), arrays: inputs };
        let (weight, output) = (operands.of(Operand::Weight), operands.of(Operand::Output));
        let Some((weight, output)) = weight.zip(output) else { return vec![] };
        let mut products = output.shape.dims().to_vec();
        products[2] = weight.shape.rows();
        let Some(extents) = self.extents(&products.into(), &weight.shape) else { return vec![] };
        let slopes = self.slopes();
        let mut results: Vec<Array> =
            slopes.iter().map(|&slope| Array::zeros(&extents.slope(slope))).collect();
        let mut put = |slope: Slope, start: usize, values: &[f64]| {
            if let Some(place) = slopes.iter().position(|&of| of == slope) {
                results[place].data[start..][..values.len()].copy_from_slice(values);
            }
        };
        let weight = Matrix::new(weight, self.factors);
        let projection = operands.of(Operand::Projection).map(|w| Matrix::new(w, self.factors));
        let Extents { samples, steps, units, state, gates } = extents;
        let saved_width = self.cell.saved() * units;
        for sample in 0..samples {
            let mut hidden = operands.row(Operand::HiddenGradient, sample, state);
            let mut cell = operands.row(Operand::CellGradient, sample, units);
            let length = operands.of(Operand::Lengths).map(|lengths| lengths.data[sample]);
            let times = times(self.direction, &extents, length);
            for (count, &time) in times.iter().enumerate().rev() {
                let step = sample * steps + time;
                let before = count.checked_sub(1).map(|count| sample * steps + times[count]);
                let previous = match before {
                    Some(before) => operands.part(Operand::Output, before * state, state),
                    None => operands.row(Operand::Hidden, sample, state),
                };
                let cell_before = match before {
                    Some(before) if self.cell == Cell::Lstm => {
                        operands.part(Operand::Saved, before * saved_width + 4 * units, units)
                    }
                    _ => operands.row(Operand::Cell, sample, units),
                };
                let saved = operands.part(Operand::Saved, step * saved_width, saved_width);
                let dy = operands.part(Operand::OutputGradient, step * state, state);
                hidden.iter_mut().zip(&dy).for_each(|(sum, dy)| *sum += dy);
                put(Slope::Output, step * state, &hidden);
                let made = match &projection {
                    Some(projection) => projection.taken_by(&hidden),
                    None => hidden.clone(),
                };
                let mut products = [vec![0.0; gates * units], vec![0.0; gates * units]];
                let [dx, dh] = &mut products;
                let mut direct = vec![0.0; units];
                let at = Step {
                    saved: &saved,
                    hidden: &previous,
                    cell: &cell_before,
                    output: &output.data[step * state..][..state],
                };
                for (unit, &dy) in made.iter().enumerate() {
                    let back = Back { products: [dx, dh], cell: &mut cell, hidden: &mut direct };
                    self.cell.unit_gradient(unit, dy, &at, back);
                }
                hidden = weight.taken_by(&products[1]);
                hidden.iter_mut().zip(&direct).for_each(|(sum, direct)| *sum += direct);
                put(Slope::Projected, step * gates * units, &products[0]);
                put(Slope::Recurrent, step * gates * units, &products[1]);
                put(Slope::Previous, step * state, &previous);
                if projection.is_some() {
                    let made =
                        (0..units).map(|u| saved[3 * units + u] * saved[4 * units + u].tanh());
                    put(Slope::Unprojected, step * units, &made.collect::<Vec<_>>());
                }
            }
            put(Slope::Hidden, sample * state, &hidden);
            put(Slope::Cell, sample * units, &cell);
        }
        results
    }
}

impl Cell {
    /// The gradient of a unit in a step, given that of what it yielded.
    fn unit_gradient(self, unit: usize, dy: f64, step: &Step<'_>, back: Back<'_>) {
        let units = back.cell.len();
        let saved = |block: usize| step.saved[block * units + unit];
        let Back { products: [dx, dh], cell, hidden } = back;
        let mut put = |block: usize, [x, h]: [f64; 2]| {
            (dx[block * units + unit], dh[block * units + unit]) = (x, h);
        };
        match self {
            Cell::Lstm => {
                let [i, f, g, o, c] = [0, 1, 2, 3, 4].map(saved);
                let reached = c.tanh();
                let dc = cell[unit] + dy * o * (1.0 - reached * reached);
                put(0, [dc * g * i * (1.0 - i); 2]);
                put(1, [dc * step.cell[unit] * f * (1.0 - f); 2]);
                put(2, [dc * i * (1.0 - g * g); 2]);
                put(3, [dy * reached * o * (1.0 - o); 2]);
                cell[unit] = dc * f;
            }
            Cell::Gru => {
                let [r, z, n, h] = [0, 1, 2, 3].map(saved);
                let dn = dy * (1.0 - z) * (1.0 - n * n);
                put(0, [dn * h * r * (1.0 - r); 2]);
                put(1, [dy * (step.hidden[unit] - n) * z * (1.0 - z); 2]);
                put(2, [dn, dn * r]);
                hidden[unit] = dy * z;
            }
            Cell::Tanh => put(0, [dy * (1.0 - step.output[unit] * step.output[unit]); 2]),
            // NaN is not 0, so it lets the gradient pass, as everywhere.
            Cell::Relu => put(0, [if step.output[unit] != 0.0 { dy } else { 0.0 }; 2]),
        }
    }
}
