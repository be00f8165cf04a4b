// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent layers: one operation over all steps of a sequence, so that a graph is as large for
//! a thousand steps as for one.
//!
//! What a step's input contributes is known for all steps beforehand: it comes as one value, the product
//! of all inputs and the input weights. The operation does what has to wait for the step before.

mod backward;
mod forward;
mod gradient;
mod times;

use super::{update::describe, Mismatch, TensorType};
use crate::{DType, Precision, Shape};

/// A pass of a recurrent layer over sequences, in one direction. Operands and results in order, `n`
/// samples of `t` steps, `u` units and `s` numbers that a step hands to the next (`u`, but for
/// projections), `g` blocks of units as [`Cell::gates`] says:
///
/// | operand | shape | where |
/// |---|---|---|
/// | products of inputs and input weights, with the input's bias | `[n, t, g u]` | |
/// | recurrent weight | `[g u, s]` | |
/// | recurrent bias | `[g u]` | `bias` |
/// | projection of the units' outputs | `[s, u]` | `projection` |
/// | hidden state before the first step | `[n, s]` | `initial` |
/// | cell state before the first step | `[n, u]` | `initial`, LSTM |
/// | lengths of the sequences | `i32 [n]` | `lengths` |
///
/// | result | shape | of |
/// |---|---|---|
/// | hidden state after each step | `[n, t, s]` | |
/// | hidden state after the last step | `[n, s]` | |
/// | cell state after the last step | `[n, u]` | LSTM |
/// | what backward needs of each step, as [`Cell::saved`] says | `[n, t, ...]` | LSTM, GRU |
///
/// A sequence ends after its length: states stay as they are then, and the outputs are 0. The other
/// direction begins at the end of each sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrent {
    /// What a unit computes.
    pub cell: Cell,
    /// The order of the steps.
    pub direction: Direction,
    /// Whether there is a recurrent bias.
    pub bias: Presence,
    /// Whether the units' outputs are projected before the next step sees them; LSTM alone.
    pub projection: Presence,
    /// Whether states before the first step are given, which are 0 otherwise.
    pub initial: Presence,
    /// Whether lengths are given; otherwise all sequences have all steps.
    pub lengths: Presence,
    /// What both factors of products are rounded to before they are multiplied.
    pub factors: Precision,
}

/// What a unit computes in a step from `x`, its blocks of the input's products, and `h`, those of the
/// products of the hidden state and the recurrent weight, the recurrent bias included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Long short-term memory (Hochreiter & Schmidhuber 1997; with forget gates, Gers et al. 2000):
    /// `i, f, o = sigmoid(x + h)`, `g = tanh(x + h)`, `c = f * c + i * g`, hidden state
    /// `o * tanh(c)`. Blocks in the order i, f, g, o.
    Lstm,
    /// Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078) as cuDNN and PyTorch have it:
    /// `r, z = sigmoid(x + h)`, `n = tanh(x + r * h)`, hidden state `(1 - z) * n + z * before`.
    /// Blocks in the order r, z, n.
    Gru,
    /// Elman's unit: `tanh(x + h)`.
    Tanh,
    /// `max(x + h, 0)`.
    Relu,
}

/// The order of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first to the last.
    Forward,
    /// From the last to the first.
    Reverse,
}

/// Whether an operand is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Given,
    /// It is not.
    Absent,
}

/// Which results of a recurrent layer have gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The hidden states after each step.
    pub output: Presence,
    /// The hidden state after the last step.
    pub hidden: Presence,
    /// The cell state after the last step.
    pub cell: Presence,
}

/// An operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    Projected,
    Weight,
    Bias,
    Projection,
    Hidden,
    Cell,
    Lengths,
    /// Results of the forward pass, as its gradient takes them.
    Output,
    Saved,
    /// Gradients of those.
    OutputGradient,
    HiddenGradient,
    CellGradient,
}

/// A result of the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slope {
    /// Of the products of inputs and input weights.
    Projected,
    /// Not a gradient: the hidden state before each step, which the recurrent weight's is made with.
    Previous,
    /// Of the initial hidden state.
    Hidden,
    /// Of the initial cell state.
    Cell,
    /// Of the recurrent products, where it is another than that of the input's.
    Recurrent,
    /// Of the hidden state after each step, by all ways.
    Output,
    /// Not a gradient: the units' outputs before the projection.
    Unprojected,
}

/// The extents of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extents {
    pub(crate) samples: usize,
    pub(crate) steps: usize,
    /// Units.
    pub(crate) units: usize,
    /// Elements of the hidden state.
    pub(crate) state: usize,
    /// Blocks of units in a product.
    pub(crate) gates: usize,
}

impl Cell {
    /// Blocks of units in a product.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
            Cell::Tanh | Cell::Relu => 1,
        }
    }

    /// Blocks of units that are saved of each step. LSTM: i, f, g, o and the new cell state; GRU: r, z, n
    /// and `h` of n; the others none, whose outputs say enough.
    pub fn saved(self) -> usize {
        match self {
            Cell::Lstm => 5,
            Cell::Gru => 4,
            Cell::Tanh | Cell::Relu => 0,
        }
    }

    /// The name of a layer of such cells in graphs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
            Cell::Tanh | Cell::Relu => "rnn",
        }
    }

    pub(super) fn gradient_name(self) -> &'static str {
        match self {
            Cell::Lstm => "lstm_grad",
            Cell::Gru => "gru_grad",
            Cell::Tanh | Cell::Relu => "rnn_grad",
        }
    }
}

impl Presence {
    /// Whether it is there.
    pub(crate) fn is_given(self) -> bool {
        self == Presence::Given
    }

    /// Of what may be there.
    pub(crate) fn of<T>(optional: Option<T>) -> Self {
        match optional {
            Some(_) => Presence::Given,
            None => Presence::Absent,
        }
    }
}

impl Recurrent {
    /// A pass from zero states over whole sequences, without bias and projection.
    pub fn new(cell: Cell, direction: Direction) -> Self {
        let [bias, projection, initial, lengths] = [Presence::Absent; 4];
        let factors = Precision::F32;
        Recurrent { cell, direction, bias, projection, initial, lengths, factors }
    }

    /// The operands, in order.
    pub(crate) fn operands(&self) -> Vec<Operand> {
        let mut operands = vec![Operand::Projected, Operand::Weight];
        if self.bias.is_given() {
            operands.push(Operand::Bias);
        }
        operands.extend(self.operands_of_both());
        operands
    }

    /// The operands of the gradient, in order.
    pub(crate) fn gradient_operands(&self, upstream: Upstream) -> Vec<Operand> {
        let mut operands = vec![Operand::Weight];
        operands.extend(self.operands_of_both());
        operands.push(Operand::Output);
        if self.cell.saved() > 0 {
            operands.push(Operand::Saved);
        }
        let gradients = [
            (upstream.output, Operand::OutputGradient),
            (upstream.hidden, Operand::HiddenGradient),
            (upstream.cell, Operand::CellGradient),
        ];
        operands.extend(gradients.iter().filter(|(is, _)| is.is_given()).map(|(_, of)| *of));
        operands
    }

    /// The gradient's results, in order.
    pub(crate) fn slopes(&self) -> Vec<Slope> {
        let mut slopes = vec![Slope::Projected, Slope::Previous, Slope::Hidden];
        match self.cell {
            Cell::Lstm => slopes.push(Slope::Cell),
            Cell::Gru => slopes.push(Slope::Recurrent),
            Cell::Tanh | Cell::Relu => {}
        }
        if self.projection.is_given() {
            slopes.extend([Slope::Output, Slope::Unprojected]);
        }
        slopes
    }

    /// The operands that both passes take.
    fn operands_of_both(&self) -> Vec<Operand> {
        let mut operands = vec![];
        if self.projection.is_given() {
            operands.push(Operand::Projection);
        }
        if self.initial.is_given() {
            operands.push(Operand::Hidden);
            if self.cell == Cell::Lstm {
                operands.push(Operand::Cell);
            }
        }
        if self.lengths.is_given() {
            operands.push(Operand::Lengths);
        }
        operands
    }

    /// The extents that a product of inputs and the recurrent weight speak of.
    pub(crate) fn extents(&self, projected: &Shape, weight: &Shape) -> Option<Extents> {
        let ([samples, steps, width], [rows, state]) = (projected.dims(), weight.dims()) else {
            return None;
        };
        let gates = self.cell.gates();
        let units = width / gates;
        let fits = width == rows
            && units * gates == *width
            && (units == *state || self.projection.is_given());
        fits.then_some(Extents { samples: *samples, steps: *steps, units, state: *state, gates })
    }

    pub(super) fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let [projected, weight, ..] = inputs else {
            return Err(Mismatch::new("products and a recurrent weight", describe(inputs)));
        };
        let extents = self.extents(&projected.shape, &weight.shape).ok_or_else(|| {
            let blocks = self.cell.gates();
            let expected = format!(
                "products [samples, steps, {blocks} units] and a weight [{blocks} units, units]"
            );
            Mismatch::new(expected, describe(inputs))
        })?;
        self.check(&self.operands(), &extents, inputs)?;
        let Extents { samples, steps, units, state, .. } = extents;
        let mut results = vec![[samples, steps, state].into(), Shape::from([samples, state])];
        if self.cell == Cell::Lstm {
            results.push([samples, units].into());
        }
        if self.cell.saved() > 0 {
            results.push(extents.saved(self.cell));
        }
        Ok(results.into_iter().map(TensorType::f32).collect())
    }

    pub(super) fn infer_gradient(
        &self,
        upstream: Upstream,
        inputs: &[&TensorType],
    ) -> Result<Vec<TensorType>, Mismatch> {
        let operands = self.gradient_operands(upstream);
        let of = |operand| {
            let place = operands.iter().position(|&of| of == operand)?;
            inputs.get(place).map(|ty| &ty.shape)
        };
        let extents = of(Operand::Weight).zip(of(Operand::Output)).and_then(|(weight, output)| {
            let [samples, steps, _] = output.dims() else { return None };
            self.extents(&[*samples, *steps, weight.rows()].into(), weight)
        });
        let expected = "a recurrent weight and what the forward pass yielded";
        let extents = extents.ok_or_else(|| Mismatch::new(expected, describe(inputs)))?;
        self.check(&operands, &extents, inputs)?;
        let shapes = self.slopes().into_iter().map(|slope| extents.slope(slope));
        Ok(shapes.map(TensorType::f32).collect())
    }

    /// Whether all operands are there, as they should be.
    fn check(
        &self,
        operands: &[Operand],
        extents: &Extents,
        inputs: &[&TensorType],
    ) -> Result<(), Mismatch> {
        let wanted: Vec<TensorType> =
            operands.iter().map(|&operand| extents.operand(operand, self.cell)).collect();
        match wanted.iter().eq(inputs.iter().copied()) {
            true => Ok(()),
            false => {
                Err(Mismatch::new(describe(&wanted.iter().collect::<Vec<_>>()), describe(inputs)))
            }
        }
    }
}

impl Extents {
    /// What an operand should be.
    fn operand(&self, operand: Operand, cell: Cell) -> TensorType {
        let Extents { samples, steps, units, state, gates } = *self;
        let shape: Shape = match operand {
            Operand::Projected => [samples, steps, gates * units].into(),
            Operand::Weight => [gates * units, state].into(),
            Operand::Bias => [gates * units].into(),
            Operand::Projection => [state, units].into(),
            Operand::Hidden | Operand::HiddenGradient => [samples, state].into(),
            Operand::Cell | Operand::CellGradient => [samples, units].into(),
            Operand::Output | Operand::OutputGradient => [samples, steps, state].into(),
            Operand::Saved => self.saved(cell),
            Operand::Lengths => {
                return TensorType { shape: [samples].into(), dtype: DType::I32 };
            }
        };
        TensorType::f32(shape)
    }

    fn saved(&self, cell: Cell) -> Shape {
        [self.samples, self.steps, cell.saved() * self.units].into()
    }

    /// The shape of a result of the gradient.
    fn slope(&self, slope: Slope) -> Shape {
        let Extents { samples, steps, units, state, gates } = *self;
        match slope {
            Slope::Projected | Slope::Recurrent => [samples, steps, gates * units].into(),
            Slope::Previous | Slope::Output => [samples, steps, state].into(),
            Slope::Hidden => [samples, state].into(),
            Slope::Cell => [samples, units].into(),
            Slope::Unprojected => [samples, steps, units].into(),
        }
    }
}
