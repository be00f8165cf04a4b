// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent layers one above the other, of whichever cell.

use super::{Directions, RecurrentOptions, RecurrentOutput, SequenceOrder, Sequences};
use crate::graph::{LayerPath, Var};
use crate::lint::{Code, Severity};
use crate::nn::rates::rate_below;
use crate::nn::{Bias, Init, Param, Scope};
use crate::op::{Cell, Direction, DropRate, Drops, Mismatch, Op, Presence, Recurrent};
use crate::Shape;

/// Layers of one kind of cell.
#[derive(Clone, Debug)]
pub(super) struct Stack {
    layer: LayerPath,
    cell: Cell,
    sizes: Sizes,
    options: RecurrentOptions,
    /// Of the dropout between layers.
    rate: DropRate,
    /// Those of the lowest layer first, its direction to the end before the other.
    passes: Vec<Pass>,
}

/// Features of a stack's inputs, units of each layer, and features of hidden states where they are
/// projected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) inputs: usize,
    pub(super) hidden: usize,
    pub(super) projected: Option<usize>,
}

/// One layer in one direction.
#[derive(Clone, Debug)]
struct Pass {
    direction: Direction,
    weight_ih: Param,
    weight_hh: Param,
    biases: Option<[Param; 2]>,
    weight_hr: Option<Param>,
}

/// Most layers of a stack, far more than anybody trains.
const MOST_LAYERS: usize = 1000;

impl Sizes {
    /// Features of a hidden state.
    fn state(self) -> usize {
        self.projected.unwrap_or(self.hidden)
    }
}

impl Stack {
    pub(super) fn new(p: &Scope, cell: Cell, sizes: Sizes, options: RecurrentOptions) -> Self {
        let layer = p.layer(kind(cell));
        let (sizes, options) = checked(p, sizes, options);
        let rate = match options.layers {
            1 => DropRate::constant(0.0),
            _ => rate_below(p, options.dropout),
        };
        let mut passes = Vec::new();
        for number in 0..options.layers {
            let inputs = match number {
                0 => sizes.inputs,
                _ => sizes.state() * directions(options.directions).len(),
            };
            for &direction in directions(options.directions) {
                passes.push(Pass::new(p, (cell, sizes, inputs), options.bias, number, direction));
            }
        }
        Stack { layer, cell, sizes, options, rate, passes }
    }

    pub(super) fn run(&self, sequences: &Sequences<'_>) -> RecurrentOutput {
        let (mut hidden, mut cell) = (Vec::new(), Vec::new());
        let output = sequences.x.within(&self.layer, |x| {
            let found = x.shape().map(|shape| self.check(&shape, sequences));
            let unknown = match found {
                Some(Ok(())) => {
                    let ran = self.record(sequences);
                    (hidden, cell) = (ran.hidden, ran.cell);
                    return ran.output;
                }
                Some(Err(mismatch)) => x.mistake(self.name(), mismatch),
                None => x.clone(),
            };
            // As many as users take, each as unknown.
            hidden = vec![unknown.clone(); self.passes.len()];
            if self.cell == Cell::Lstm {
                cell = hidden.clone();
            }
            unknown
        });
        RecurrentOutput { output, hidden, cell }
    }

    fn record(&self, sequences: &Sequences<'_>) -> RecurrentOutput {
        let (mut hidden, mut cell) = (Vec::new(), Vec::new());
        let mut x = self.in_order(sequences.x);
        let count = directions(self.options.directions).len();
        for (layer, passes) in self.passes.chunks(count).enumerate() {
            let mut outputs = Vec::with_capacity(count);
            for (pass, number) in passes.iter().zip(layer * count..) {
                let mut states = sequences.hidden.get(number).into_iter().collect::<Vec<_>>();
                states.extend(sequences.cell.get(number));
                let output = self.pass(pass, &x, &states, sequences.lengths);
                hidden.push(output.result(1));
                if self.cell == Cell::Lstm {
                    cell.push(output.result(2));
                }
                outputs.push(output);
            }
            x = Var::concat(&outputs, 2);
            if layer + 1 < self.options.layers {
                x = x.dropout(self.rate, Drops::Elements);
            }
        }
        RecurrentOutput { output: self.in_order(&x), hidden, cell }
    }

    /// One layer in one direction: the products of all inputs at once, then step after step.
    fn pass(&self, pass: &Pass, x: &Var, states: &[&Var], lengths: Option<&Var>) -> Var {
        let Some(shape) = x.shape() else { return x.clone() };
        let [samples, steps] = [shape.dims()[0], shape.dims()[1]];
        let rows = x.reshape([samples * steps, shape.last()]);
        let mut products = rows.matmul_transposed(&x.parameter(&pass.weight_ih));
        let mut operands = vec![x.parameter(&pass.weight_hh)];
        if let Some([bias_ih, bias_hh]) = &pass.biases {
            products = &products + &x.parameter(bias_ih);
            operands.push(x.parameter(bias_hh));
        }
        operands.extend(pass.weight_hr.as_ref().map(|weight| x.parameter(weight)));
        operands.extend(states.iter().copied().cloned());
        operands.extend(lengths.cloned());
        let recurrent = Recurrent {
            bias: Presence::of(pass.biases.as_ref()),
            projection: Presence::of(pass.weight_hr.as_ref()),
            initial: Presence::of(states.first()),
            lengths: Presence::of(lengths),
            ..Recurrent::new(self.cell, pass.direction)
        };
        let products = products.reshape([samples, steps, pass.weight_ih.shape().rows()]);
        products.apply(Op::Recurrent(recurrent), &operands.iter().collect::<Vec<_>>())
    }

    /// From the user's order of extents to that of the operation, and back.
    fn in_order(&self, x: &Var) -> Var {
        match self.options.order {
            SequenceOrder::SamplesFirst => x.clone(),
            SequenceOrder::StepsFirst => x.transpose(0, 1),
        }
    }

    fn check(&self, x: &Shape, sequences: &Sequences<'_>) -> Result<(), Mismatch> {
        let inputs = self.sizes.inputs;
        let order = self.options.order;
        let (samples, steps) = match (order, x.dims()) {
            (SequenceOrder::SamplesFirst, &[samples, steps, width]) if width == inputs => {
                (samples, steps)
            }
            (SequenceOrder::StepsFirst, &[steps, samples, width]) if width == inputs => {
                (samples, steps)
            }
            (SequenceOrder::SamplesFirst, _) => {
                return Err(Mismatch::new(format!("input of shape [samples, steps, {inputs}]"), x));
            }
            (SequenceOrder::StepsFirst, _) => {
                return Err(Mismatch::new(format!("input of shape [steps, samples, {inputs}]"), x));
            }
        };
        if steps == 0 {
            return Err(Mismatch::new("sequences of one step or more", x));
        }
        self.check_states("hidden", sequences.hidden, [samples, self.sizes.state()])?;
        let is_lstm = self.cell == Cell::Lstm;
        if is_lstm && sequences.hidden.len() != sequences.cell.len() {
            let expected = "as many cell states as hidden states";
            let (hidden, cell) = (sequences.hidden.len(), sequences.cell.len());
            return Err(Mismatch::new(expected, format!("{cell} and {hidden}")));
        }
        if !is_lstm && !sequences.cell.is_empty() {
            return Err(Mismatch::new("no cell states, which are an LSTM's", sequences.cell.len()));
        }
        self.check_states("cell", sequences.cell, [samples, self.sizes.hidden])?;
        match sequences.lengths.and_then(Var::shape) {
            Some(lengths) if lengths.dims() != [samples] => {
                Err(Mismatch::new(format!("a length for each of {samples} samples"), lengths))
            }
            _ => Ok(()),
        }
    }

    /// Whether there are no states, or one of the shape for each pass.
    fn check_states(&self, what: &str, states: &[Var], shape: [usize; 2]) -> Result<(), Mismatch> {
        let (count, shape) = (self.passes.len(), Shape::from(shape));
        if !states.is_empty() && states.len() != count {
            let expected = format!("{count} {what} states, one per layer and direction");
            return Err(Mismatch::new(expected, states.len()));
        }
        match states.iter().filter_map(Var::shape).find(|found| *found != shape) {
            Some(other) => Err(Mismatch::new(format!("{what} states of shape {shape}"), other)),
            None => Ok(()),
        }
    }

    fn name(&self) -> &'static str {
        match self.cell {
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
            Cell::Tanh | Cell::Relu => "rnn",
        }
    }
}

impl Pass {
    fn new(
        p: &Scope,
        (cell, sizes, inputs): (Cell, Sizes, usize),
        bias: Bias,
        layer: usize,
        direction: Direction,
    ) -> Self {
        let suffix = match direction {
            Direction::Forward => format!("l{layer}"),
            Direction::Reverse => format!("l{layer}_reverse"),
        };
        let init = Init::fan_in(sizes.hidden);
        let rows = cell.gates().saturating_mul(sizes.hidden);
        let weight = |name: &str, outputs, inputs| {
            p.linear_weight(&format!("{name}_{suffix}"), outputs, inputs, init)
        };
        let weight_ih = weight("weight_ih", rows, inputs);
        let weight_hh = weight("weight_hh", rows, sizes.state());
        let biases = (bias == Bias::Added).then(|| {
            ["bias_ih", "bias_hh"]
                .map(|name| p.parameter(&format!("{name}_{suffix}"), [rows], init))
        });
        let weight_hr =
            sizes.projected.map(|projected| weight("weight_hr", projected, sizes.hidden));
        Pass { direction, weight_ih, weight_hh, biases, weight_hr }
    }
}

/// Reports what cannot be, and goes on with what can.
fn checked(p: &Scope, sizes: Sizes, options: RecurrentOptions) -> (Sizes, RecurrentOptions) {
    let (mut sizes, mut options) = (sizes, options);
    for (what, size) in [("inputs", &mut sizes.inputs), ("hidden", &mut sizes.hidden)] {
        if *size == 0 {
            p.reject(what, "1 or more", 0);
            *size = 1;
        }
    }
    match sizes.projected {
        Some(projected) if !(1..sizes.hidden).contains(&projected) => {
            let expected = format!("1 or more, and less than the {} units", sizes.hidden);
            p.reject("projected", &expected, projected);
            sizes.projected = None;
        }
        _ => {}
    }
    if !(1..=MOST_LAYERS).contains(&options.layers) {
        p.reject("layers", &format!("1 to {MOST_LAYERS}"), options.layers);
        options.layers = 1;
    }
    if !(0.0..=1.0).contains(&options.dropout) {
        p.reject("dropout", "a probability in [0, 1]", options.dropout);
    } else if options.dropout > 0.0 && options.layers == 1 {
        let reason = format!("drops {} between layers, and is one layer alone", options.dropout);
        p.remark(Code::NoEffect, Severity::Warn, reason);
        tracing::warn!(
            layer = p.path(),
            dropout = options.dropout,
            "nothing is dropped: dropout lies between layers, and there is one"
        );
    }
    (sizes, options)
}

fn directions(directions: Directions) -> &'static [Direction] {
    match directions {
        Directions::Forward => &[Direction::Forward],
        Directions::Both => &[Direction::Forward, Direction::Reverse],
    }
}

fn kind(cell: Cell) -> &'static str {
    match cell {
        Cell::Lstm => "LSTM",
        Cell::Gru => "GRU",
        Cell::Tanh | Cell::Relu => "RNN",
    }
}
