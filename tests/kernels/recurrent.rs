// SPDX-License-Identifier: MIT OR Apache-2.0
//! recurrent: one forward step of recurrent layers, whatever was there before it.

use crate::abi::*;
use crate::abi_recurrent::*;
use crate::driver::{Gpu, Grid};
use crate::dropout::Site;
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};
use crate::product::cut;

/// Rounding of sums, of functions of them, and of what is made of these.
const ROUNDINGS: f64 = 8.0;

/// A way of multiplying.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) storage: Storage,
}

pub(crate) const WAYS: [Way; 4] = [
    Way { name: "f32", storage: Storage::F32 },
    Way { name: "tf32", storage: Storage::F32 },
    Way { name: "bf16", storage: Storage::Bf16 },
    Way { name: "f16", storage: Storage::F16 },
];

impl Way {
    /// The sum of products of two rows as the multipliers see them, and of their magnitudes.
    pub(crate) fn dot(&self, row: &[f64], weight: impl Iterator<Item = f64>) -> Want {
        let seen = |x: f64| if self.name == "tf32" { cut(x) } else { x };
        let products = row.iter().zip(weight).map(|(a, b)| seen(*a) * seen(b));
        products.fold(Want::plain(0.0), |sum, product| Want {
            value: sum.value + product,
            magnitude: sum.magnitude + product.abs(),
        })
    }

    pub(crate) fn grid(&self, samples: usize, column_blocks: usize, splits: usize) -> Grid {
        let tile = (KILN_RECURRENT_ROWS + KILN_RECURRENT_COLUMNS) as usize;
        let shared = match self.name {
            "f32" => 2 * 16 * (tile + 8) * 4,
            _ => KILN_GEMM_STAGES as usize * tile * KILN_GEMM_DEPTH_BYTES as usize,
        };
        let rows = samples.div_ceil(KILN_RECURRENT_ROWS as usize);
        Grid { blocks: [rows, column_blocks, splits], threads: [128, 1], shared }
    }
}

/// A step of sequences of several lengths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) cell: KilnCell,
    pub(crate) samples: usize,
    pub(crate) units: usize,
    pub(crate) state: usize,
    pub(crate) time: usize,
    pub(crate) reversed: bool,
    /// Whether lengths are given, states before the first step, and dropout.
    pub(crate) optional: bool,
    pub(crate) splits: usize,
}

pub(crate) const STEPS: usize = 4;

impl Scene {
    pub(crate) fn blocks(&self) -> usize {
        match self.cell {
            KILN_CELL_LSTM => 4,
            KILN_CELL_GRU => 3,
            _ => 1,
        }
    }

    pub(crate) fn saved(&self) -> usize {
        match self.cell {
            KILN_CELL_LSTM => 5,
            KILN_CELL_GRU => 4,
            _ => 0,
        }
    }

    /// Lengths as they are given: some that no sequence can have.
    pub(crate) fn given_lengths(&self) -> Vec<u32> {
        let length = |sample: usize| [4, 2, 0, 1, 3, 9, -2][sample % 7];
        (0..self.samples).map(|sample| length(sample) as u32).collect()
    }

    pub(crate) fn length(&self, sample: usize) -> usize {
        match self.optional {
            true => [4, 2, 0, 1, 3, 4, 0][sample % 7],
            false => STEPS,
        }
    }

    pub(crate) fn is_in(&self, sample: usize) -> bool {
        self.time < self.length(sample)
    }

    fn earlier(&self) -> Option<usize> {
        self.time.checked_sub(1)
    }

    fn later(&self, sample: usize) -> Option<usize> {
        Some(self.time + 1).filter(|&time| time < self.length(sample))
    }

    pub(crate) fn before(&self, sample: usize) -> Option<usize> {
        if self.reversed {
            self.later(sample)
        } else {
            self.earlier()
        }
    }

    pub(crate) fn after(&self, sample: usize) -> Option<usize> {
        if self.reversed {
            self.earlier()
        } else {
            self.later(sample)
        }
    }

    pub(crate) fn step(&self, lengths: &Memory) -> KilnStep {
        KilnStep {
            lengths: if self.optional { lengths.address() } else { Default::default() },
            samples: self.samples as u32,
            steps: STEPS as u32,
            time: self.time as u32,
            reversed: u32::from(self.reversed),
        }
    }
}

/// Partial sums and tickets of a launch.
pub(crate) struct Split(Memory, Memory);

impl Split {
    pub(crate) fn new(grid: &Grid) -> Self {
        let [rows, columns, splits] = grid.blocks;
        let area = (KILN_RECURRENT_ROWS * KILN_RECURRENT_COLUMNS) as usize;
        Split(Memory::partials(rows * columns * splits * area), Memory::tickets(rows * columns))
    }

    pub(crate) fn params(&self, splits: usize) -> KilnSplitK {
        let Split(partials, tickets) = self;
        let (partials, tickets) = (partials.address(), tickets.address());
        KilnSplitK { partials, tickets, splits: splits as i32 }
    }

    pub(crate) fn assert_finished(&self, kernel: &str) {
        self.1.assert_zero(kernel);
    }
}

pub(crate) fn run(gpu: &Gpu) {
    let scene = |cell, samples, units, state, time| Scene {
        cell,
        samples,
        units,
        state,
        time,
        reversed: false,
        optional: false,
        splits: 1,
    };
    let back = |scene: Scene| Scene { reversed: true, ..scene };
    let optional = |scene: Scene| Scene { optional: true, ..scene };
    let split = |splits: usize, scene: Scene| Scene { splits, ..scene };
    let few = [
        optional(back(scene(KILN_CELL_LSTM, 37, 19, 19, 1))),
        optional(scene(KILN_CELL_GRU, 9, 24, 24, 2)),
        split(2, scene(KILN_CELL_TANH, 5, 70, 70, 0)),
    ];
    let more = [
        scene(KILN_CELL_LSTM, 1, 1, 1, 0),
        split(3, optional(scene(KILN_CELL_LSTM, 33, 40, 104, 0))),
        optional(back(scene(KILN_CELL_GRU, 33, 17, 17, 3))),
        back(scene(KILN_CELL_GRU, 3, 8, 8, 3)),
        optional(scene(KILN_CELL_RELU, 33, 65, 65, 3)),
        back(scene(KILN_CELL_TANH, 2, 3, 3, 0)),
        optional(back(scene(KILN_CELL_STATE, 33, 21, 67, 2))),
        split(2, optional(scene(KILN_CELL_STATE, 5, 40, 8, 1))),
    ];
    for way in WAYS {
        for scene in few.iter().chain(gpu.cases(&more, &[])) {
            forward(gpu, way, *scene);
        }
    }
}

/// Results so far, over what lay where they go.
pub(crate) fn held(array: &Array) -> Vec<Want> {
    array.values.iter().map(|&value| Want::plain(value)).collect()
}

pub(crate) fn compare(
    gpu: &Gpu,
    kernel: &str,
    what: &str,
    array: &Array,
    want: &[Want],
    of: Storage,
) {
    if !want.is_empty() {
        gpu.ledger().compare(kernel, what, &array.read(), want, Exactness::new(of, ROUNDINGS));
    }
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// What units yield and save, of sums of inputs and of hidden states.
fn unit(cell: KilnCell, x: &[f64], h: &[f64], cell_state: f64, hidden: f64) -> (f64, Vec<f64>) {
    let sum = |block: usize| x[block] + h[block];
    match cell {
        KILN_CELL_LSTM => {
            let [i, f, o] = [0, 1, 3].map(|block| sigmoid(sum(block)));
            let g = sum(2).tanh();
            let c = f * cell_state + i * g;
            (o * c.tanh(), vec![i, f, g, o, c])
        }
        KILN_CELL_GRU => {
            let [r, z] = [0, 1].map(|block| sigmoid(sum(block)));
            let n = (x[2] + r * h[2]).tanh();
            ((1.0 - z) * n + z * hidden, vec![r, z, n, h[2]])
        }
        KILN_CELL_TANH => (sum(0).tanh(), vec![]),
        KILN_CELL_RELU => (sum(0).max(0.0), vec![]),
        _ => (h[0], vec![]),
    }
}

fn forward(gpu: &Gpu, way: Way, scene: Scene) {
    let Scene { cell, samples, units, state, optional, .. } = scene;
    let (blocks, saved_blocks) = (scene.blocks(), scene.saved());
    let of_states = cell == KILN_CELL_STATE;
    // Units that are projected yield what a launch of states multiplies.
    let is_projected = cell == KILN_CELL_LSTM && units != state;
    let (columns, k) = if of_states { (state, units) } else { (units, state) };
    let mut numbers = Numbers::new(units + 7 * state + scene.time);
    let mut array = |storage, count| Array::new(storage, &numbers.between(-1.0, 1.0, count));
    let rows_of_step = array(way.storage, samples * STEPS * state);
    let own_rows = array(way.storage, samples * units);
    let first = array(way.storage, samples * state);
    let weight = array(way.storage, blocks * columns * k);
    let x = array(way.storage, samples * STEPS * blocks * units);
    let bias = array(Storage::F32, blocks * columns);
    let initial_hidden = array(Storage::F32, samples * state);
    let initial_cell = array(Storage::F32, samples * units);
    let hidden = array(Storage::F32, samples * state);
    let cell_state = array(Storage::F32, samples * units);
    let saved = Array::output(Storage::F32, samples * STEPS * saved_blocks * units);
    let made = Array::output(way.storage, samples * units);
    let dropped_output = Array::output(way.storage, samples * STEPS * state);
    let dropped_hidden = Array::output(way.storage, samples * state);
    let lengths = Memory::of_words(&scene.given_lengths());
    let sites = [Site::new("lstm#0", 0.3), Site::new("dropout#1", 0.5)];

    let kernel = format!("recurrent_{}", way.name);
    let width = if blocks == 1 { 64 } else { 16 };
    let grid = way.grid(samples, columns.div_ceil(width), scene.splits);
    let split = Split::new(&grid);
    let given = |array: &Array, is: bool| if is { array.address() } else { Default::default() };
    let params = KilnRecurrentParams {
        step: scene.step(&lengths),
        cell,
        source: if of_states { KILN_ROWS_OWN } else { KILN_ROWS_OF_STEP },
        units: units as u32,
        state: state as u32,
        k: k as u32,
        rows: if of_states { own_rows.address() } else { rows_of_step.address() },
        first: given(&first, optional),
        weight: weight.address(),
        split: split.params(scene.splits),
        x: x.address(),
        bias: given(&bias, optional && !of_states),
        initial_hidden: given(&initial_hidden, optional),
        initial_cell: given(&initial_cell, optional),
        hidden: given(&hidden, !is_projected),
        cell_state: cell_state.address(),
        output: given(&rows_of_step, !is_projected),
        made: given(&made, is_projected),
        saved: given(&saved, saved_blocks > 0),
        dropped_output: given(&dropped_output, optional && !is_projected),
        dropped_hidden: given(&dropped_hidden, optional && !is_projected),
        scalars: gpu.scalars(),
        output_mask: sites[0].params,
        hidden_mask: sites[1].params,
    };
    gpu.launch(&kernel, grid, &params);
    split.assert_finished(&kernel);

    let (mut output, mut dropped) = (held(&rows_of_step), held(&dropped_output));
    let (mut last, mut dropped_last) = (held(&hidden), held(&dropped_hidden));
    let (mut cells, mut kept, mut yielded) = (held(&cell_state), held(&saved), held(&made));
    for sample in 0..samples {
        let row = sample * STEPS + scene.time;
        let before = scene.before(sample);
        let zeros = vec![0.0; k];
        let factors = match (of_states, before) {
            (true, _) => &own_rows.values[sample * k..][..k],
            (false, Some(time)) => &rows_of_step.values[(sample * STEPS + time) * k..][..k],
            (false, None) if optional => &first.values[sample * k..][..k],
            (false, None) => &zeros[..],
        };
        let initial = |array: &Array, at: usize| if optional { array.values[at] } else { 0.0 };
        for unit_index in 0..columns {
            let at = sample * columns + unit_index;
            let mut put = |hidden: Want, is_last: bool| {
                let left = |site: &Site, element: usize| {
                    let scale = f64::from(site.params.scale);
                    let keeps = site.keeps(sample, element);
                    let scaled = |x: f64| if keeps { x * scale } else { 0.0 };
                    Want { value: scaled(hidden.value), magnitude: hidden.magnitude * scale }
                };
                let (of_row, of_sample) = (row * state + unit_index, sample * state + unit_index);
                output[of_row] = hidden;
                let element = scene.time * state + unit_index;
                if optional {
                    dropped[of_row] = left(&sites[0], element);
                }
                if is_last {
                    last[of_sample] = hidden;
                    if optional {
                        dropped_last[of_sample] = left(&sites[1], unit_index);
                    }
                }
            };
            if !scene.is_in(sample) {
                if cell == KILN_CELL_LSTM && scene.length(sample) == 0 {
                    cells[at] = Want::plain(initial(&initial_cell, at));
                }
                for block in 0..saved_blocks {
                    kept[(row * saved_blocks + block) * units + unit_index] = Want::plain(0.0);
                }
                if !is_projected {
                    put(Want::plain(initial(&initial_hidden, at)), scene.length(sample) == 0);
                    let of_row = row * state + unit_index;
                    output[of_row] = Want::plain(0.0);
                    if optional {
                        dropped[of_row] = Want::plain(0.0);
                    }
                }
                continue;
            }
            let (mut of_x, mut of_h, mut magnitude) = (vec![], vec![], 4.0);
            for block in 0..blocks {
                let weight_row = &weight.values[(block * columns + unit_index) * k..][..k];
                let sum = way.dot(factors, weight_row.iter().copied());
                let bias = match optional && !of_states {
                    true => bias.values[block * columns + unit_index],
                    false => 0.0,
                };
                let input = match of_states {
                    true => 0.0,
                    false => x.values[(row * blocks + block) * units + unit_index],
                };
                of_h.push(sum.value + bias);
                of_x.push(input);
                magnitude += sum.magnitude;
            }
            let cell_before = match (cell, before) {
                (KILN_CELL_LSTM, Some(_)) => cell_state.values[at],
                (KILN_CELL_LSTM, None) => initial(&initial_cell, at),
                _ => 0.0,
            };
            let hidden_before = match (cell, before) {
                (KILN_CELL_GRU, Some(_)) => hidden.values[at],
                (KILN_CELL_GRU, None) => initial(&initial_hidden, at),
                _ => 0.0,
            };
            let (value, now) = unit(cell, &of_x, &of_h, cell_before, hidden_before);
            let want = |value| Want { value, magnitude };
            for (block, value) in now.iter().enumerate() {
                kept[(row * saved_blocks + block) * units + unit_index] = want(*value);
            }
            if cell == KILN_CELL_LSTM {
                cells[at] = want(now[4]);
            }
            if is_projected {
                yielded[at] = want(value);
                continue;
            }
            let is_last = scene.after(sample).is_none();
            put(want(value), is_last);
            last[sample * state + unit_index] = want(value);
        }
    }
    let t = way.storage;
    let say = |what: &str| format!("{scene:?}: {what}");
    compare(gpu, &kernel, &say("outputs"), &rows_of_step, &output, t);
    compare(gpu, &kernel, &say("dropped outputs"), &dropped_output, &dropped, t);
    compare(gpu, &kernel, &say("hidden states"), &hidden, &last, Storage::F32);
    compare(gpu, &kernel, &say("dropped hidden states"), &dropped_hidden, &dropped_last, t);
    compare(gpu, &kernel, &say("cell states"), &cell_state, &cells, Storage::F32);
    compare(gpu, &kernel, &say("saved"), &saved, &kept, Storage::F32);
    compare(gpu, &kernel, &say("made"), &made, &yielded, t);
}
