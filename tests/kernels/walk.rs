// SPDX-License-Identifier: MIT OR Apache-2.0
//! recurrent_walk and recurrent_walk_gradient: the same bytes as the launches of single steps, whatever the order of
//! blocks; and bugs planted in how blocks wait for each other are found.

use kiln_simcuda::{Mode, ThreadOrder};

use crate::abi::KilnSplitK;
use crate::abi_recurrent::*;
use crate::driver::Gpu;
use crate::dropout::Site;
use crate::float::{Numbers, Storage};
use crate::launch::{Attributes, Grid, Launch, Params, Residency};
use crate::memory::{Address, Array, Memory};
use crate::recurrent::{Split, Way, WAYS};

/// All steps of a layer.
#[derive(Clone, Copy, Debug)]
struct Layer {
    cell: KilnCell,
    samples: usize,
    units: usize,
    steps: usize,
    reversed: bool,
    /// Whether lengths are given, states before the first step, and dropout.
    optional: bool,
    splits: usize,
}

/// Which way a layer is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Launched<'a> {
    Steps,
    Walk(&'a str),
}

impl Layer {
    fn gates(&self) -> usize {
        match self.cell {
            KILN_CELL_LSTM => 4,
            KILN_CELL_GRU => 3,
            _ => 1,
        }
    }

    fn saved(&self) -> usize {
        match self.cell {
            KILN_CELL_LSTM => 5,
            KILN_CELL_GRU => 4,
            _ => 0,
        }
    }

    fn step(&self, time: usize, lengths: &Memory) -> KilnStep {
        KilnStep {
            lengths: self.given(lengths.address()),
            samples: self.samples as u32,
            steps: self.steps as u32,
            time: time as u32,
            reversed: u32::from(self.reversed),
        }
    }

    fn lengths(&self) -> Memory {
        let length = |sample: usize| [4, 2, 0, 1, 3, 9, -2][sample % 7] as u32;
        Memory::of_words(&(0..self.samples).map(length).collect::<Vec<u32>>())
    }

    fn given(&self, address: Address) -> Address {
        if self.optional {
            address
        } else {
            Address::default()
        }
    }

    /// The steps in the order of a forward walk.
    fn order(&self) -> Vec<usize> {
        match self.reversed {
            true => (0..self.steps).rev().collect(),
            false => (0..self.steps).collect(),
        }
    }

    fn walk_grid(&self, way: Way, tiles: usize, k: usize) -> Grid {
        let bytes = way.storage.bytes();
        let split = k.div_ceil(64 / bytes).div_ceil(self.splits) * 16;
        let padded = (k * bytes / 4).next_multiple_of(8);
        let pass = (KILN_WALK_PASS_WORDS as usize / split).clamp(1, self.splits);
        let rows = 16 * ((pass * split).min(padded) + 4);
        let shared = 4 * (tiles * 8 * (padded + 4) + rows + self.splits * tiles * 128);
        let blocks = [self.samples.div_ceil(16) as u32, (self.units / 8) as u32, 1];
        Grid { blocks, threads: [KILN_WALK_THREADS, 1, 1], shared: shared as u32 }
    }
}

/// Launches a kernel whose blocks wait for each other; the error, if there is one.
fn together(gpu: &Gpu, kernel: &str, grid: Grid, params: impl Into<Params>) -> Result<(), String> {
    let attributes = Attributes { residency: Residency::All, cluster: None };
    let launch = Launch { attributes, ..Launch::new(kernel, grid, params) };
    gpu.allow_shared(kernel, grid.shared as usize);
    // SAFETY: the structure is the kernel's, and its memory outlives the wait.
    let launched = unsafe { launch.issue(gpu.function(kernel), gpu.stream().cu_stream()) };
    let launched = launched.map_err(|error| error.to_string());
    let finish = |()| gpu.stream().synchronize().map_err(|error| error.to_string());
    if let Err(error) = launched.and_then(finish) {
        return Err(gpu.simulator().map_or_else(
            || error,
            |turn| {
                turn.take_reports();
                turn.last_error()
            },
        ));
    }
    if !kernel.starts_with("bug_") {
        gpu.ledger().launched(kernel);
    }
    Ok(())
}

type Results = Vec<(&'static str, Vec<u8>)>;

fn bytes(results: &[(&'static str, &Array)]) -> Results {
    results.iter().map(|(name, array)| (*name, array.bytes())).collect()
}

fn forward(gpu: &Gpu, way: Way, layer: Layer, launched: Launched<'_>) -> Result<Results, String> {
    let Layer { cell, samples, units, steps, optional, splits, .. } = layer;
    let (gates, saved_blocks, rows) = (layer.gates(), layer.saved(), samples * steps);
    let mut numbers = Numbers::new(units);
    let mut array = |storage, count| Array::new(storage, &numbers.between(-1.0, 1.0, count));
    let (first, weight) =
        (array(way.storage, samples * units), array(way.storage, gates * units * units));
    let (x, bias) = (array(way.storage, rows * gates * units), array(Storage::F32, gates * units));
    let [initial_hidden, initial_cell] = [0; 2].map(|_| array(Storage::F32, samples * units));
    let [hidden, cell_state] = [0; 2].map(|_| Array::output(Storage::F32, samples * units));
    let [output, dropped_output] = [0; 2].map(|_| Array::output(way.storage, rows * units));
    let saved = Array::output(Storage::F32, rows * saved_blocks * units);
    let dropped_hidden = Array::output(way.storage, samples * units);
    let lengths = layer.lengths();
    let sites = [Site::new("lstm#0", 0.3), Site::new("dropout#1", 0.5)];
    let params = |time, split| KilnRecurrentParams {
        step: layer.step(time, &lengths),
        cell,
        source: KILN_ROWS_OF_STEP,
        units: units as u32,
        state: units as u32,
        k: units as u32,
        rows: output.address(),
        first: layer.given(first.address()),
        weight: weight.address(),
        split,
        x: x.address(),
        bias: layer.given(bias.address()),
        initial_hidden: layer.given(initial_hidden.address()),
        initial_cell: layer.given(initial_cell.address()),
        hidden: hidden.address(),
        cell_state: cell_state.address(),
        output: output.address(),
        saved: if saved_blocks > 0 { saved.address() } else { Address::default() },
        dropped_output: layer.given(dropped_output.address()),
        dropped_hidden: layer.given(dropped_hidden.address()),
        scalars: gpu.scalars(),
        output_mask: sites[0].params,
        hidden_mask: sites[1].params,
        ..Default::default()
    };
    match launched {
        Launched::Steps => {
            let width = if gates == 1 { 64 } else { 16 };
            let grid = way.grid(samples, units.div_ceil(width), splits);
            let split = Split::new(&grid);
            for time in layer.order() {
                let params = params(time, split.params(splits));
                gpu.launch(&format!("recurrent_{}", way.name), grid, &params);
            }
        }
        Launched::Walk(kernel) => {
            let grid = layer.walk_grid(way, gates, units);
            let counters = Memory::tickets((grid.blocks[0] * KILN_WALK_COUNTERS) as usize);
            let (partials, tickets) = (Address::default(), counters.address());
            let split = KilnSplitK { partials, tickets, splits: splits as i32 };
            together(gpu, kernel, grid, params(0, split))?;
            if !kernel.starts_with("bug_") {
                counters.assert_zero(kernel);
            }
        }
    }
    let mut results = vec![("output", &output), ("hidden", &hidden)];
    if saved_blocks > 0 {
        results.push(("saved", &saved));
    }
    if cell == KILN_CELL_LSTM {
        results.push(("cell state", &cell_state));
    }
    if optional {
        results.extend([("dropped output", &dropped_output), ("dropped hidden", &dropped_hidden)]);
    }
    Ok(bytes(&results))
}

fn backward(gpu: &Gpu, way: Way, layer: Layer, launched: Launched<'_>) -> Result<Results, String> {
    let Layer { cell, samples, units, steps, optional, splits, .. } = layer;
    let (gates, saved_blocks, rows) = (layer.gates(), layer.saved(), samples * steps);
    let is_gru = cell == KILN_CELL_GRU;
    let mut numbers = Numbers::new(units);
    let mut array = |storage, count| Array::new(storage, &numbers.between(-1.0, 1.0, count));
    let weight = array(way.storage, gates * units * units);
    let [dy, output] = [0; 2].map(|_| array(way.storage, rows * units));
    let [d_hidden, d_cell, initial_hidden, initial_cell] =
        [0; 4].map(|_| array(Storage::F32, samples * units));
    let saved = array(Storage::F32, rows * saved_blocks * units);
    let [dx, carried] = [0; 2].map(|_| Array::output(way.storage, rows * gates * units));
    let [direct, cell_slope] = [0; 2].map(|_| Array::output(Storage::F32, samples * units));
    let recurrent = Array::output(Storage::F32, rows * gates * units);
    let previous = Array::output(Storage::F32, rows * units);
    let lengths = layer.lengths();
    let sites = [Site::new("lstm#0", 0.3), Site::new("dropout#1", 0.5)];
    let given = |array: &Array, is: bool| if is { array.address() } else { Address::default() };
    let params = |time, split| KilnRecurrentGradientParams {
        step: layer.step(time, &lengths),
        cell,
        source: KILN_ROWS_OF_STEP,
        units: units as u32,
        state: units as u32,
        k: (gates * units) as u32,
        rows: if is_gru { carried.address() } else { dx.address() },
        weight: weight.address(),
        split,
        dy: dy.address(),
        d_hidden: given(&d_hidden, optional),
        d_cell: given(&d_cell, optional),
        output: output.address(),
        saved: given(&saved, saved_blocks > 0),
        initial_hidden: given(&initial_hidden, optional),
        initial_cell: given(&initial_cell, optional),
        dx: dx.address(),
        carried: given(&carried, is_gru),
        recurrent: given(&recurrent, is_gru && optional),
        direct: given(&direct, is_gru),
        cell_slope: cell_slope.address(),
        previous: given(&previous, optional),
        scalars: gpu.scalars(),
        drops_output: u32::from(optional),
        drops_hidden: u32::from(optional),
        output_mask: sites[0].params,
        hidden_mask: sites[1].params,
        ..Default::default()
    };
    match launched {
        Launched::Steps => {
            let grid = way.grid(samples, units.div_ceil(64), splits);
            let split = Split::new(&grid);
            for time in layer.order().into_iter().rev() {
                let params = params(time, split.params(splits));
                gpu.launch(&format!("recurrent_gradient_{}", way.name), grid, &params);
            }
        }
        Launched::Walk(kernel) => {
            let grid = layer.walk_grid(way, 1, gates * units);
            let counters = Memory::tickets((grid.blocks[0] * KILN_WALK_COUNTERS) as usize);
            let (partials, tickets) = (Address::default(), counters.address());
            let split = KilnSplitK { partials, tickets, splits: splits as i32 };
            together(gpu, kernel, grid, params(0, split))?;
            if !kernel.starts_with("bug_") {
                counters.assert_zero(kernel);
            }
        }
    }
    let mut results = vec![("dx", &dx)];
    if cell == KILN_CELL_LSTM {
        results.push(("cell slope", &cell_slope));
    }
    if is_gru {
        results.extend([("carried", &carried), ("direct", &direct)]);
    }
    if optional {
        results.push(("previous", &previous));
    }
    Ok(bytes(&results))
}

type Pass = fn(&Gpu, Way, Layer, Launched<'_>) -> Result<Results, String>;

const PASSES: [(&str, Pass); 2] =
    [("recurrent_walk", forward), ("recurrent_walk_gradient", backward)];

const LSTM: Layer = Layer {
    cell: KILN_CELL_LSTM,
    samples: 18,
    units: 16,
    steps: 4,
    reversed: false,
    optional: true,
    splits: 1,
};

pub(crate) fn run(gpu: &Gpu) {
    let few = [LSTM, Layer { cell: KILN_CELL_GRU, samples: 9, units: 24, reversed: true, ..LSTM }];
    let more = [
        Layer { units: 40, samples: 17, reversed: true, splits: 2, ..LSTM },
        Layer { units: 168, samples: 3, optional: false, splits: 3, ..LSTM },
        Layer { cell: KILN_CELL_GRU, units: 40, splits: 4, ..LSTM },
        Layer { cell: KILN_CELL_TANH, units: 8, samples: 33, optional: false, ..LSTM },
        Layer { cell: KILN_CELL_RELU, units: 72, samples: 5, splits: 2, ..LSTM },
    ];
    for way in WAYS {
        for layer in few.iter().chain(gpu.cases(&more, &[])) {
            for (name, pass) in PASSES {
                let want = pass(gpu, way, *layer, Launched::Steps).expect("steps");
                let kernel = format!("{name}_{}", way.name);
                for order in [ThreadOrder::Random, ThreadOrder::Descending, ThreadOrder::Ascending]
                {
                    // On a real device blocks take turns as they like.
                    if let Some(turn) = gpu.simulator() {
                        turn.set_thread_order(order);
                    }
                    let walked = pass(gpu, way, *layer, Launched::Walk(&kernel));
                    let got = walked.unwrap_or_else(|error| panic!("{layer:?}: {error}"));
                    for ((what, got), (_, want)) in got.iter().zip(&want) {
                        let case = format!("{layer:?} {order:?}: {what}");
                        gpu.ledger().compare_bytes(&kernel, &case, got, want);
                    }
                }
            }
        }
    }
}

/// Kernels with one bug each (`simulator/tests/kernels/walk_mutants.cu`).
pub(crate) const MUTANTS: [&str; 4] = [
    "bug_walk_heedless",
    "bug_walk_hasty",
    "bug_walk_gradient_heedless",
    "bug_walk_gradient_hasty",
];

/// Checked kernels find both bugs whatever the order; in some random order both give wrong results, and without
/// waits in any order.
pub(crate) fn mutants_are_found() {
    fn simulated(gpu: &Gpu) -> &kiln_simcuda::Exclusive {
        gpu.simulator().expect("the simulated driver has them")
    }
    for mutant in MUTANTS {
        let pass = PASSES[usize::from(mutant.contains("gradient"))].1;
        for order in [ThreadOrder::Ascending, ThreadOrder::Descending, ThreadOrder::Random] {
            let gpu = Gpu::open(Mode::Checked);
            simulated(&gpu).set_thread_order(order);
            let error = pass(&gpu, WAYS[0], LSTM, Launched::Walk(mutant)).expect_err(mutant);
            assert!(error.contains("device-memory race between blocks"), "{order:?}: {error}");
            drop(gpu);
            if mutant.ends_with("hasty") && order != ThreadOrder::Random {
                continue;
            }
            let gpu = Gpu::open(Mode::Plain);
            let want = pass(&gpu, WAYS[0], LSTM, Launched::Steps).expect("steps");
            simulated(&gpu).set_thread_order(order);
            let is_wrong = |seed: u64| {
                simulated(&gpu).set_seed(seed);
                pass(&gpu, WAYS[0], LSTM, Launched::Walk(mutant)).expect("it ends") != want
            };
            // Not every random order takes a block away between the count and what it tells of.
            let seeds = if mutant.ends_with("hasty") { 1..=64 } else { 1..=1 };
            assert!(seeds.into_iter().any(is_wrong), "{mutant} {order:?}");
        }
    }
}
