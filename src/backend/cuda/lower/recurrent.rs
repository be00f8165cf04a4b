// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent layers: a launch for all steps where it fits; otherwise one for each, or two where units are
//! projected.

use super::{internal, Lowering};
use crate::backend::cuda::abi::*;
use crate::backend::cuda::abi_recurrent::*;
use crate::backend::cuda::geometry::recurrent_grid;
use crate::backend::cuda::launch::{Attributes, Grid, Launch, Params, Residency};
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::{signed, word};
use crate::backend::cuda::walks::{Apart, Walk};
use crate::kernel::RecurrentDropout;
use crate::op::{Cell, Direction, Dropout, Extents, Op, Operand, Recurrent, Slope, Upstream};
use crate::{DType, Result};

/// What a recurrent step yields.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Yielded {
    /// A result of the operation, by its number.
    Result(usize),
    DroppedOutput,
    DroppedHidden,
}

/// A product of all launches of one kind.
#[derive(Clone, Copy)]
struct Product {
    grid: Grid,
    split: KilnSplitK,
}

impl Lowering<'_> {
    pub(super) fn recurrent(&mut self, of: &RecurrentDropout) -> Result<Vec<Launch>> {
        let recurrent = &of.recurrent;
        let names = recurrent.operands();
        let extents = recurrent.extents(self.input_shape(0), self.input_shape(1));
        let extents = extents.ok_or_else(|| internal("a recurrent layer of other extents"))?;
        let Extents { samples, units, state, .. } = extents;
        let factors = self.product_type();
        let output = self.yielded(Yielded::Result(0), factors)?;
        let mut hidden = self.yielded(Yielded::Result(1), DType::F32)?;
        let mut cell_state = Address::NONE;
        match recurrent.cell {
            Cell::Lstm => {
                cell_state = self.yielded(Yielded::Result(2), DType::F32)?;
                cell_state = self.or_scratch(cell_state, samples * units);
            }
            Cell::Gru => hidden = self.or_scratch(hidden, samples * state),
            Cell::Tanh | Cell::Relu => {}
        }
        let saved = match recurrent.cell.saved() {
            0 => Address::NONE,
            _ => self.yielded(Yielded::Result(recurrent.place_of_saved()), DType::F32)?,
        };
        let step = self.first_step(recurrent, &names, extents)?;
        let states = KilnRecurrentParams {
            step,
            cell: KILN_CELL_STATE,
            source: KILN_ROWS_OWN,
            units: word(units),
            state: word(state),
            initial_hidden: self.operand(&names, Operand::Hidden, DType::F32)?,
            hidden,
            output,
            dropped_output: self.yielded(Yielded::DroppedOutput, factors)?,
            dropped_hidden: self.yielded(Yielded::DroppedHidden, factors)?,
            scalars: self.scratch.scalars(),
            output_mask: self.mask_of(of.output),
            hidden_mask: self.mask_of(of.hidden),
            ..Default::default()
        };
        let product = self.product(extents, [units, width(recurrent.cell), state]);
        let of_units = KilnRecurrentParams {
            cell: cell(recurrent.cell),
            source: KILN_ROWS_OF_STEP,
            k: word(state),
            rows: output,
            first: self.operand(&names, Operand::Hidden, factors)?,
            weight: self.operand(&names, Operand::Weight, factors)?,
            split: product.split,
            x: self.operand(&names, Operand::Projected, factors)?,
            bias: self.operand(&names, Operand::Bias, DType::F32)?,
            initial_cell: self.operand(&names, Operand::Cell, DType::F32)?,
            cell_state,
            saved,
            ..states
        };
        let gates = recurrent.cell.gates();
        let walk = self.walk(recurrent, extents, [gates, state], product.split);
        if let Some((grid, split)) = walk {
            let params = KilnRecurrentParams { split, ..of_units };
            let kernel = format!("recurrent_walk_{}", self.precision);
            return Ok(vec![together(kernel, grid, params)]);
        }
        let mut kinds = vec![(product.grid, of_units)];
        if recurrent.projection.is_given() {
            kinds[0].1.made = self.scratch.take(factors.bytes() * samples * units);
            let columns = KILN_RECURRENT_COLUMNS as usize;
            let product = self.product(extents, [state, columns, units]);
            let projection = KilnRecurrentParams {
                k: word(units),
                rows: kinds[0].1.made,
                weight: self.operand(&names, Operand::Projection, factors)?,
                split: product.split,
                ..states
            };
            kinds.push((product.grid, projection));
        }
        let kernel = format!("recurrent_{}", self.precision);
        let mut launches = Vec::new();
        for time in order(recurrent.direction, extents.steps) {
            for (grid, params) in &kinds {
                let step = KilnStep { time: word(time), ..step };
                launches.push(Launch::new(&kernel, *grid, KilnRecurrentParams { step, ..*params }));
            }
        }
        Ok(launches)
    }

    pub(super) fn recurrent_gradient(
        &mut self,
        of: &RecurrentDropout,
        upstream: Upstream,
    ) -> Result<Vec<Launch>> {
        let recurrent = &of.recurrent;
        let names = recurrent.gradient_operands(upstream);
        let extents = recurrent.extents(self.output_shape(0), self.input_shape(0));
        let extents = extents.ok_or_else(|| internal("a recurrent gradient of other extents"))?;
        let Extents { samples, steps, units, state, gates } = extents;
        let factors = self.product_type();
        let sums = gates * units;
        let step = self.first_step(recurrent, &names, extents)?;
        let dx = self.slope(recurrent, Slope::Projected, factors)?;
        let mut all = KilnRecurrentGradientParams {
            step,
            cell: cell(recurrent.cell),
            source: KILN_ROWS_OF_STEP,
            units: word(units),
            state: word(state),
            k: word(sums),
            rows: dx,
            weight: self.operand(&names, Operand::Weight, factors)?,
            dy: self.operand(&names, Operand::OutputGradient, factors)?,
            d_hidden: self.operand(&names, Operand::HiddenGradient, DType::F32)?,
            d_cell: self.operand(&names, Operand::CellGradient, DType::F32)?,
            output: self.operand(&names, Operand::Output, factors)?,
            saved: self.operand(&names, Operand::Saved, DType::F32)?,
            initial_hidden: self.operand(&names, Operand::Hidden, DType::F32)?,
            initial_cell: self.operand(&names, Operand::Cell, DType::F32)?,
            dx,
            previous: self.slope(recurrent, Slope::Previous, DType::F32)?,
            scalars: self.scratch.scalars(),
            drops_output: u32::from(of.output.is_some()),
            drops_hidden: u32::from(of.hidden.is_some()),
            output_mask: self.mask_of(of.output),
            hidden_mask: self.mask_of(of.hidden),
            ..Default::default()
        };
        match recurrent.cell {
            Cell::Lstm => {
                let wanted = self.slope(recurrent, Slope::Cell, DType::F32)?;
                all.cell_slope = self.or_scratch(wanted, samples * units);
            }
            Cell::Gru => {
                let wanted = self.slope(recurrent, Slope::Recurrent, DType::F32)?;
                all.direct = self.scratch.numbers(samples * units);
                // In full precision what is wanted is what the next launch multiplies.
                (all.carried, all.recurrent) = match factors {
                    DType::F32 => (self.or_scratch(wanted, samples * steps * sums), Address::NONE),
                    _ => (self.scratch.take(factors.bytes() * samples * steps * sums), wanted),
                };
                all.rows = all.carried;
            }
            Cell::Tanh | Cell::Relu => {}
        }
        let kernel = format!("recurrent_gradient_{}", self.precision);
        let columns = KILN_RECURRENT_COLUMNS as usize;
        let of_states = self.product(extents, [state, columns, sums]);
        all.split = of_states.split;
        let walk = self.walk(recurrent, extents, [1, sums], of_states.split);
        let mut kinds = vec![(of_states.grid, all)];
        if recurrent.projection.is_given() {
            let states = &mut kinds[0].1;
            states.cell = KILN_CELL_STATE;
            states.total = self.scratch.take(factors.bytes() * samples * state);
            states.d_output = self.slope(recurrent, Slope::Output, DType::F32)?;
            let product = self.product(extents, [units, columns, state]);
            let of_units = KilnRecurrentGradientParams {
                source: KILN_ROWS_OWN,
                k: word(state),
                rows: kinds[0].1.total,
                weight: self.operand(&names, Operand::Projection, factors)?,
                split: product.split,
                unprojected: self.slope(recurrent, Slope::Unprojected, DType::F32)?,
                dy: Address::NONE,
                d_hidden: Address::NONE,
                previous: Address::NONE,
                ..all
            };
            kinds.push((product.grid, of_units));
        }
        let mut launches = Vec::new();
        if let Some((grid, split)) = walk {
            let params = KilnRecurrentGradientParams { split, ..all };
            let kernel = format!("recurrent_walk_gradient_{}", self.precision);
            launches.push(together(kernel, grid, params));
            kinds.clear();
        }
        for time in order(recurrent.direction, steps).into_iter().rev() {
            for (grid, params) in &kinds {
                let step = KilnStep { time: word(time), ..step };
                let params = KilnRecurrentGradientParams { step, ..*params };
                launches.push(Launch::new(&kernel, *grid, params));
            }
        }
        let d_initial = self.slope(recurrent, Slope::Hidden, DType::F32)?;
        if d_initial != Address::NONE {
            let behind = KilnRecurrentGradientParams {
                step: KilnStep { time: word(steps), ..step },
                cell: KILN_CELL_STATE,
                source: KILN_ROWS_BEHIND,
                d_initial,
                ..all
            };
            launches.push(Launch::new(&kernel, of_states.grid, behind));
        }
        Ok(launches)
    }

    /// What does not change from step to step about the sequences.
    fn first_step(
        &mut self,
        recurrent: &Recurrent,
        names: &[Operand],
        Extents { samples, steps, .. }: Extents,
    ) -> Result<KilnStep> {
        let lengths = match names.iter().position(|&name| name == Operand::Lengths) {
            Some(index) => self.read(index)?,
            None => Address::NONE,
        };
        let reversed = u32::from(recurrent.direction == Direction::Reverse);
        Ok(KilnStep { lengths, samples: word(samples), steps: word(steps), time: 0, reversed })
    }

    /// Where an operand lies as numbers of a type; nowhere if there is none.
    fn operand(&mut self, names: &[Operand], operand: Operand, dtype: DType) -> Result<Address> {
        match names.iter().position(|&name| name == operand) {
            Some(index) => self.read_as(index, dtype),
            None => Ok(Address::NONE),
        }
    }

    /// Where numbers of a type go that the step yields; nowhere if it does not.
    fn yielded(&mut self, yielded: Yielded, dtype: DType) -> Result<Address> {
        let graph = &self.plan.graph;
        let of = |&node: &_| match graph.node(node).op {
            Op::Result(number) => Yielded::Result(number),
            Op::Dropout(_) => match graph.node(graph.node(node).inputs[0]).op {
                Op::Result(_) => Yielded::DroppedHidden,
                _ => Yielded::DroppedOutput,
            },
            _ => Yielded::Result(0),
        };
        match self.step.outputs.iter().position(|node| of(node) == yielded) {
            Some(index) => self.write_as(index, dtype),
            None => Ok(Address::NONE),
        }
    }

    fn slope(&mut self, recurrent: &Recurrent, slope: Slope, dtype: DType) -> Result<Address> {
        match recurrent.slopes().iter().position(|&of| of == slope) {
            Some(number) => self.yielded(Yielded::Result(number), dtype),
            None => Ok(Address::NONE),
        }
    }

    fn or_scratch(&mut self, wanted: Address, count: usize) -> Address {
        match wanted {
            Address::NONE => self.scratch.numbers(count),
            wanted => wanted,
        }
    }

    fn mask_of(&mut self, dropout: Option<Dropout>) -> KilnMask {
        dropout.map(|dropout| self.mask(dropout)).unwrap_or_default()
    }

    /// All steps as one launch, whose products are sums of `k` terms for `tiles` columns of each unit, added up
    /// in the parts of single steps; `None`, and a note of why, where it does not fit.
    fn walk(
        &mut self,
        recurrent: &Recurrent,
        Extents { samples, steps, units, .. }: Extents,
        [tiles, k]: [usize; 2],
        split: KilnSplitK,
    ) -> Option<(Grid, KilnSplitK)> {
        if steps < 2 {
            return None;
        }
        let walk = Walk { samples, units, tiles, k, splits: split.splits as usize };
        let grid = match recurrent.projection.is_given() {
            true => Err(Apart::Projection),
            false => walk.grid(self.precision, self.machine),
        };
        let grid = match grid {
            Ok(grid) => grid,
            Err(apart) => {
                let layer = &self.plan.graph.layer(self.step.outputs[0]).path;
                self.scratch.apart.push((layer.clone(), apart));
                return None;
            }
        };
        let counters = grid.blocks[0] as usize * KILN_WALK_COUNTERS as usize;
        let tickets = self.scratch.numbers(counters);
        Some((grid, KilnSplitK { tickets, partials: Address::NONE, splits: split.splits }))
    }

    /// A product with so many columns, as many of them per block, and terms of each sum.
    fn product(&mut self, of: Extents, [columns, width, k]: [usize; 3]) -> Product {
        let blocks = [of.samples.div_ceil(KILN_RECURRENT_ROWS as usize), columns.div_ceil(width)];
        let grid = recurrent_grid(blocks, k, self.precision, self.machine);
        let splits = grid.blocks[2] as usize;
        let mut split = KilnSplitK { splits: signed(splits), ..Default::default() };
        if splits > 1 {
            let tiles = blocks[0] * blocks[1];
            let area = (KILN_RECURRENT_ROWS * KILN_RECURRENT_COLUMNS) as usize;
            split.partials = self.scratch.numbers(tiles * splits * area);
            split.tickets = self.scratch.numbers(tiles);
        }
        Product { grid, split }
    }
}

/// A launch whose blocks wait for each other.
fn together(kernel: String, grid: Grid, params: impl Into<Params>) -> Launch {
    let attributes = Attributes { residency: Residency::All, ..Attributes::default() };
    Launch { attributes, ..Launch::new(kernel, grid, params) }
}

/// The steps in the order in which a layer makes them. Without any, one launch hands initial states on.
fn order(direction: Direction, steps: usize) -> Vec<usize> {
    let steps = 0..steps.max(1);
    match direction {
        Direction::Forward => steps.collect(),
        Direction::Reverse => steps.rev().collect(),
    }
}

fn cell(cell: Cell) -> KilnCell {
    match cell {
        Cell::Lstm => KILN_CELL_LSTM,
        Cell::Gru => KILN_CELL_GRU,
        Cell::Tanh => KILN_CELL_TANH,
        Cell::Relu => KILN_CELL_RELU,
    }
}

/// Units of a block of the forward kernel.
fn width(cell: Cell) -> usize {
    let width = match cell.gates() {
        1 => KILN_RECURRENT_COLUMNS,
        _ => KILN_RECURRENT_UNITS,
    };
    width as usize
}
