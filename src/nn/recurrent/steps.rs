// SPDX-License-Identifier: MIT OR Apache-2.0
//! A recurrent layer step by step, where options change what happens inside of a step.

use super::inside::{Inside, Sites, State};
use super::norm::Norms;
use crate::graph::Var;
use crate::op::{Blend, Cell, Direction, Op, Presence, Recurrent, Term};

/// One call of a layer in one direction.
pub(super) struct Steps<'a> {
    pub(super) cell: Cell,
    pub(super) direction: Direction,
    pub(super) inside: &'a Inside,
    pub(super) norms: Option<&'a Norms>,
    pub(super) units: usize,
    /// Features of a hidden state.
    pub(super) state: usize,
    /// `[gates * units, state]`.
    pub(super) weight_hh: Var,
    pub(super) bias_hh: Option<Var>,
    /// `[state, units]`.
    pub(super) weight_hr: Option<Var>,
}

/// What a call yields.
pub(super) struct Ran {
    /// `[samples, steps, state]`.
    pub(super) output: Var,
    /// `[samples, state]`.
    pub(super) hidden: Var,
    /// `[samples, units]`, of an LSTM.
    pub(super) cell: Option<Var>,
}

impl Steps<'_> {
    /// Goes over all steps. `products` are those of all inputs, `[samples, steps, gates * units]`, complete but
    /// for what the hidden state adds; `states` those before the first step, none for zeros.
    pub(super) fn run(&self, products: &Var, states: &[&Var], lengths: Option<&Var>) -> Ran {
        let Some(shape) = products.shape() else { return Ran::unknown(self.cell, products) };
        let (samples, steps) = (shape.dims()[0], shape.dims()[1]);
        let first = |place: usize, width: usize| match states.get(place) {
            Some(&state) => state.clone(),
            None => products.full([samples, width], 0.0),
        };
        let mut hidden = first(0, self.state);
        let mut cell = (self.cell == Cell::Lstm).then(|| first(1, self.units));
        let inputs = slices(products, steps);
        let lengths = lengths.map(|lengths| as_numbers(lengths, steps).reshape([samples, 1]));
        let sites = self.inside.sites(products);
        let mut outputs = vec![hidden.clone(); steps];
        let order: Vec<usize> = match self.direction {
            Direction::Forward => (0..steps).collect(),
            Direction::Reverse => (0..steps).rev().collect(),
        };
        for time in order {
            let x = inputs[time].reshape([samples, shape.dims()[2]]);
            let (new, new_cell) = self.step(&x, &hidden, cell.as_ref(), (&sites, time));
            let mut new = self.inside.zoned(&sites, time, State::Hidden, &hidden, &new);
            let mut new_cell = new_cell.zip(cell.as_ref()).map(|(after, before)| {
                self.inside.zoned(&sites, time, State::Cell, before, &after)
            });
            outputs[time] = new.clone();
            if let Some(lengths) = &lengths {
                // Selected, so that nothing of the padding comes through.
                let is_within = lengths.gt(time as f64);
                outputs[time] = is_within.where_(&new, 0.0);
                new = is_within.where_(&new, &hidden);
                new_cell = new_cell
                    .zip(cell.as_ref())
                    .map(|(after, before)| is_within.where_(&after, before));
            }
            (hidden, cell) = (new, new_cell);
        }
        let outputs: Vec<Var> = outputs.iter().map(|output| output.unsqueeze(1)).collect();
        Ran { output: Var::concat(&outputs, 1), hidden, cell }
    }

    /// The states after a step as they are without zoneout.
    fn step(
        &self,
        x: &Var,
        hidden: &Var,
        cell: Option<&Var>,
        at: (&Sites, usize),
    ) -> (Var, Option<Var>) {
        match (self.cell, cell) {
            (Cell::Lstm, Some(cell)) if self.is_spelled_out() => {
                let (hidden, cell) = self.lstm(x, hidden, cell, at);
                (hidden, Some(cell))
            }
            (Cell::Gru, _) if self.is_spelled_out() => (self.gru(x, hidden, at), None),
            _ => self.fused(x, hidden, cell),
        }
    }

    /// Whether something stands between a step's sums and its states.
    fn is_spelled_out(&self) -> bool {
        self.inside.drops_updates() || self.norms.is_some()
    }

    /// A step as the operation has it.
    fn fused(&self, x: &Var, hidden: &Var, cell: Option<&Var>) -> (Var, Option<Var>) {
        let recurrent = Recurrent {
            bias: Presence::of(self.bias_hh.as_ref()),
            projection: Presence::of(self.weight_hr.as_ref()),
            initial: Presence::Given,
            ..Recurrent::new(self.cell, Direction::Forward)
        };
        let mut operands = vec![&self.weight_hh];
        operands.extend(&self.bias_hh);
        operands.extend(&self.weight_hr);
        operands.push(hidden);
        operands.extend(cell);
        let made = x.unsqueeze(1).apply(Op::Recurrent(recurrent), &operands);
        (made.squeeze(1), cell.map(|_| made.result(2)))
    }

    fn lstm(&self, x: &Var, hidden: &Var, cell: &Var, at: (&Sites, usize)) -> (Var, Var) {
        let sums = x + self.of_hidden(hidden);
        let block = |number: usize| sums.narrow(1, number * self.units, self.units);
        let [i, f, o] = [0, 1, 3].map(|number| block(number).sigmoid());
        let g = self.inside.update(at.0, at.1, &block(2).tanh());
        let cell = f * cell + i * g;
        let shown = match self.norms {
            Some(norms) => norms.cell.of(&cell),
            None => cell.clone(),
        };
        let made = o * shown.tanh();
        match &self.weight_hr {
            Some(projection) => (made.matmul_transposed(projection), cell),
            None => (made, cell),
        }
    }

    fn gru(&self, x: &Var, hidden: &Var, at: (&Sites, usize)) -> Var {
        let h = self.of_hidden(hidden);
        let block = |of: &Var, number: usize| of.narrow(1, number * self.units, self.units);
        let [r, z] = [0, 1].map(|number| (block(x, number) + block(&h, number)).sigmoid());
        let n = (block(x, 2) + r * block(&h, 2)).tanh();
        let n = self.inside.update(at.0, at.1, &n);
        // (1 - z) * n + z * hidden
        &n + z * (hidden - &n)
    }

    /// What the hidden state adds to a step's sums.
    fn of_hidden(&self, hidden: &Var) -> Var {
        let sums = hidden.matmul_transposed(&self.weight_hh);
        match (self.norms, &self.bias_hh) {
            (Some(norms), _) => norms.hidden.of(&sums),
            (None, Some(bias)) => sums + bias,
            (None, None) => sums,
        }
    }
}

impl Ran {
    /// What a mistake makes unknown.
    pub(super) fn unknown(of: Cell, x: &Var) -> Self {
        let cell = (of == Cell::Lstm).then(|| x.clone());
        Ran { output: x.clone(), hidden: x.clone(), cell }
    }
}

/// The steps of sequences one by one. Halves of halves: gradients are then put together in as many passes as
/// halves are halved, where one slice per step would take a pass each.
fn slices(x: &Var, steps: usize) -> Vec<Var> {
    if steps <= 1 {
        return vec![x.clone()];
    }
    let half = steps / 2;
    let mut all = slices(&x.narrow(1, 0, half), half);
    all.extend(slices(&x.narrow(1, half, steps - half), steps - half));
    all
}

/// Lengths of at most so many steps as floating-point numbers.
fn as_numbers(lengths: &Var, steps: usize) -> Var {
    let number = |number: usize| vec![Term { from: 0, weight: number as f64 }];
    let numbers = Blend::new(0, 1, (0..=steps).map(number).collect());
    lengths.full([1], 1.0).apply(Op::Blend(numbers), &[]).take(0, lengths)
}
