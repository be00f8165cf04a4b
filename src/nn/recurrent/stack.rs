// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent layers one above the other, of whichever cell.

use super::check::checked;
use super::inside::Inside;
use super::norm::Norms;
use super::steps::{Ran, Steps};
use super::{
    Between, Directions, GateNorm, RecurrentOptions, RecurrentOutput, SequenceOrder, Sequences,
};
use crate::graph::{LayerPath, Var};
use crate::nn::rates::rate_below;
use crate::nn::{Bias, Init, LockedDropout, Module, Param, Scope};
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
    /// Before the lowest layer and behind the last.
    ends: [Option<LockedDropout>; 2],
    /// Of the recurrent weights, under a path of its own.
    weights: Option<(LayerPath, DropRate)>,
    /// What options change inside of steps.
    inside: Option<Inside>,
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
    /// In the place of biases.
    norms: Option<Norms>,
}

impl Sizes {
    /// Features of a hidden state.
    fn state(self) -> usize {
        self.projected.unwrap_or(self.hidden)
    }
}

impl Stack {
    pub(super) fn new(p: &Scope, cell: Cell, sizes: Sizes, options: RecurrentOptions) -> Self {
        let layer = p.layer(kind(cell));
        let (sizes, options) = checked(p, cell, sizes, options);
        let rate = match options.layers {
            1 => DropRate::constant(0.0),
            _ => rate_below(p, options.dropout),
        };
        let ends =
            [("input_dropout", options.input_dropout), ("output_dropout", options.output_dropout)]
                .map(|(name, rate)| (rate > 0.0).then(|| LockedDropout::new(&p.at(name), rate)));
        let weights = (options.weight_dropout > 0.0).then(|| {
            let p = p.at("weight_dropout");
            (p.layer("DropConnect"), rate_below(&p, options.weight_dropout))
        });
        let inside = Inside::new(p, &options);
        let mut passes = Vec::new();
        for number in 0..options.layers {
            let inputs = match number {
                0 => sizes.inputs,
                _ => sizes.state() * directions(options.directions).len(),
            };
            for &direction in directions(options.directions) {
                passes.push(Pass::new(p, (cell, sizes, inputs), &options, number, direction));
            }
        }
        Stack { layer, cell, sizes, options, rate, ends, weights, inside, passes }
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
        let [input, output] = &self.ends;
        let locked = |dropout: &Option<LockedDropout>, x: Var| match dropout {
            Some(dropout) => dropout.forward(&x),
            None => x,
        };
        let mut x = locked(input, self.in_order(sequences.x));
        let count = directions(self.options.directions).len();
        for (layer, passes) in self.passes.chunks(count).enumerate() {
            let mut outputs = Vec::with_capacity(count);
            for (pass, number) in passes.iter().zip(layer * count..) {
                let mut states = sequences.hidden.get(number).into_iter().collect::<Vec<_>>();
                states.extend(sequences.cell.get(number));
                let ran = self.pass(pass, &x, &states, sequences.lengths);
                hidden.push(ran.hidden);
                cell.extend(ran.cell);
                outputs.push(ran.output);
            }
            x = Var::concat(&outputs, 2);
            if layer + 1 < self.options.layers {
                x = match self.options.between {
                    Between::EachStep => x.dropout(self.rate, Drops::Elements),
                    Between::Locked => x.dropout(self.rate, Drops::Features),
                };
            }
        }
        RecurrentOutput { output: self.in_order(&locked(output, x)), hidden, cell }
    }

    /// One layer in one direction: the products of all inputs at once, then step after step.
    fn pass(&self, pass: &Pass, x: &Var, states: &[&Var], lengths: Option<&Var>) -> Ran {
        let Some(shape) = x.shape() else { return Ran::unknown(self.cell, x) };
        let [samples, steps] = [shape.dims()[0], shape.dims()[1]];
        let rows = x.reshape([samples * steps, shape.last()]);
        let mut products = rows.matmul_transposed(&x.parameter(&pass.weight_ih));
        if let Some([bias_ih, _]) = &pass.biases {
            products = &products + &x.parameter(bias_ih);
        }
        if let Some(norms) = &pass.norms {
            products = norms.inputs.of(&products);
        }
        let products = products.reshape([samples, steps, pass.weight_ih.shape().rows()]);
        let weight_hh = self.recurrent_weight(pass, x);
        let bias_hh = pass.biases.as_ref().map(|[_, bias]| x.parameter(bias));
        let weight_hr = pass.weight_hr.as_ref().map(|weight| x.parameter(weight));
        if let Some(inside) = &self.inside {
            let (cell, direction, norms) = (self.cell, pass.direction, pass.norms.as_ref());
            let (units, state) = (self.sizes.hidden, self.sizes.state());
            let steps = Steps {
                cell,
                direction,
                inside,
                norms,
                units,
                state,
                weight_hh,
                bias_hh,
                weight_hr,
            };
            return steps.run(&products, states, lengths);
        }
        let mut operands = vec![weight_hh];
        operands.extend(bias_hh);
        operands.extend(weight_hr);
        operands.extend(states.iter().copied().cloned());
        operands.extend(lengths.cloned());
        let recurrent = Recurrent {
            bias: Presence::of(pass.biases.as_ref()),
            projection: Presence::of(pass.weight_hr.as_ref()),
            initial: Presence::of(states.first()),
            lengths: Presence::of(lengths),
            ..Recurrent::new(self.cell, pass.direction)
        };
        let output = products.apply(Op::Recurrent(recurrent), &operands.iter().collect::<Vec<_>>());
        let hidden = output.result(1);
        let cell = (self.cell == Cell::Lstm).then(|| output.result(2));
        Ran { output, hidden, cell }
    }

    /// A recurrent weight, of which some is dropped. As one row, which is the first draw's.
    fn recurrent_weight(&self, pass: &Pass, x: &Var) -> Var {
        let weight = x.parameter(&pass.weight_hh);
        let Some((layer, rate)) = &self.weights else { return weight };
        let shape = pass.weight_hh.shape();
        weight.within(layer, |weight| {
            let row = weight.reshape([1, shape.elements()]);
            row.dropout(*rate, Drops::Weights).reshape(shape.clone())
        })
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
        options: &RecurrentOptions,
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
        let norms = (options.norm == GateNorm::Layer)
            .then(|| Norms::new(p, sizes.hidden, cell.gates(), options.bias, &suffix));
        let biases = (options.bias == Bias::Added && norms.is_none()).then(|| {
            ["bias_ih", "bias_hh"]
                .map(|name| p.parameter(&format!("{name}_{suffix}"), [rows], init))
        });
        let weight_hr =
            sizes.projected.map(|projected| weight("weight_hr", projected, sizes.hidden));
        Pass { direction, weight_ih, weight_hh, biases, weight_hr, norms }
    }
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
