// SPDX-License-Identifier: MIT OR Apache-2.0
//! recurrent_gradient: one step back of recurrent layers, and what comes behind the last.

use crate::abi_recurrent::*;
use crate::driver::Gpu;
use crate::dropout::Site;
use crate::float::{Numbers, Storage};
use crate::ledger::Want;
use crate::memory::{Array, Memory};
use crate::recurrent::{compare, held, Scene, Split, Way, STEPS, WAYS};

/// A step, and what its launch multiplies.
#[derive(Clone, Copy, Debug)]
struct Case {
    scene: Scene,
    source: KilnRecurrentRows,
    /// The cell whose gradients of products come from the step after.
    of: KilnCell,
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
    let of = |scene: Scene| Case { scene, source: KILN_ROWS_OF_STEP, of: scene.cell };
    let back = |scene: Scene| Scene { reversed: true, ..scene };
    let optional = |scene: Scene| Scene { optional: true, ..scene };
    let split = |splits: usize, scene: Scene| Scene { splits, ..scene };
    let of_states = |source, of, samples, units, state, time| Case {
        scene: optional(scene(KILN_CELL_STATE, samples, units, state, time)),
        source,
        of,
    };
    let few = [
        of(split(2, optional(back(scene(KILN_CELL_LSTM, 37, 19, 19, 1))))),
        of(optional(scene(KILN_CELL_GRU, 9, 24, 24, 2))),
        of_states(KILN_ROWS_BEHIND, KILN_CELL_GRU, 8, 17, 17, STEPS),
    ];
    let mut of_reversed = of_states(KILN_ROWS_BEHIND, KILN_CELL_LSTM, 8, 12, 70, STEPS);
    of_reversed.scene.reversed = true;
    let more = [
        of(scene(KILN_CELL_LSTM, 1, 1, 1, 3)),
        of(optional(scene(KILN_CELL_LSTM, 33, 72, 72, 0))),
        Case {
            source: KILN_ROWS_OWN,
            ..of(split(2, optional(scene(KILN_CELL_LSTM, 9, 21, 40, 1))))
        },
        of(split(3, back(scene(KILN_CELL_GRU, 3, 8, 8, 3)))),
        of(optional(scene(KILN_CELL_RELU, 33, 65, 65, 3))),
        of(back(scene(KILN_CELL_TANH, 2, 3, 3, 0))),
        of_states(KILN_ROWS_OF_STEP, KILN_CELL_LSTM, 33, 21, 67, 2),
        of_reversed,
    ];
    for way in WAYS {
        for case in few.iter().chain(gpu.cases(&more, &[])) {
            backward(gpu, way, *case);
        }
    }
}

fn backward(gpu: &Gpu, way: Way, case: Case) {
    let Case { scene, source, of } = case;
    let Scene { cell, samples, units, state, optional, .. } = scene;
    let of_states = cell == KILN_CELL_STATE;
    let blocks = Scene { cell: of, ..scene }.blocks();
    let saved_blocks = Scene { cell: of, ..scene }.saved();
    let columns = if of_states { state } else { units };
    let k = if source == KILN_ROWS_OWN { state } else { blocks * units };
    let mut numbers = Numbers::new(units + 7 * state + scene.time);
    let mut array = |storage, count| Array::new(storage, &numbers.between(-1.0, 1.0, count));
    let dx = array(way.storage, samples * STEPS * blocks * units);
    let carried = array(way.storage, samples * STEPS * blocks * units);
    let own_rows = array(way.storage, samples * state);
    let weight = array(way.storage, k * columns);
    let dy = array(way.storage, samples * STEPS * state);
    let d_hidden = array(Storage::F32, samples * state);
    let d_cell = array(Storage::F32, samples * units);
    let output = array(way.storage, samples * STEPS * state);
    let saved = array(Storage::F32, samples * STEPS * saved_blocks * units);
    let initial_hidden = array(Storage::F32, samples * state);
    let initial_cell = array(Storage::F32, samples * units);
    let direct = array(Storage::F32, samples * units);
    let cell_slope = array(Storage::F32, samples * units);
    let empty = |storage, count| Array::output(storage, count);
    let recurrent = empty(Storage::F32, samples * STEPS * blocks * units);
    let previous = empty(Storage::F32, samples * STEPS * state);
    let unprojected = empty(Storage::F32, samples * STEPS * units);
    let total = empty(way.storage, samples * state);
    let d_output = empty(Storage::F32, samples * STEPS * state);
    let d_initial = empty(Storage::F32, samples * state);
    let lengths = Memory::of_words(&scene.given_lengths());
    let sites = [Site::new("lstm#0", 0.3), Site::new("dropout#1", 0.5)];

    let kernel = format!("recurrent_gradient_{}", way.name);
    let grid = way.grid(samples, columns.div_ceil(64), scene.splits);
    let split = Split::new(&grid);
    let is_own = source == KILN_ROWS_OWN;
    let is_gru = of == KILN_CELL_GRU;
    let given = |array: &Array, is: bool| if is { array.address() } else { Default::default() };
    let rows = match (is_own, is_gru) {
        (true, _) => &own_rows,
        (_, true) => &carried,
        _ => &dx,
    };
    let has_previous = optional && !is_own;
    let params = KilnRecurrentGradientParams {
        step: scene.step(&lengths),
        cell,
        source,
        units: units as u32,
        state: state as u32,
        k: k as u32,
        rows: rows.address(),
        weight: weight.address(),
        split: split.params(scene.splits),
        dy: given(&dy, !is_own),
        d_hidden: given(&d_hidden, optional && !is_own),
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
        previous: given(&previous, has_previous),
        unprojected: given(&unprojected, is_own),
        total: given(&total, of_states),
        d_output: given(&d_output, of_states),
        d_initial: given(&d_initial, of_states),
        scalars: gpu.scalars(),
        drops_output: u32::from(optional),
        drops_hidden: u32::from(optional),
        output_mask: sites[0].params,
        hidden_mask: sites[1].params,
    };
    gpu.launch(&kernel, grid, &params);
    split.assert_finished(&kernel);

    let mut slopes = [&dx, &carried, &recurrent, &direct, &cell_slope].map(held);
    let mut beside = [&previous, &unprojected, &total, &d_output, &d_initial].map(held);
    for sample in 0..samples {
        let (row, length) = (sample * STEPS + scene.time, scene.length(sample));
        let is_behind = source == KILN_ROWS_BEHIND;
        let from = match (source, scene.after(sample)) {
            (KILN_ROWS_OWN, _) => Some(sample),
            (KILN_ROWS_BEHIND, _) if length == 0 => None,
            (KILN_ROWS_BEHIND, _) => {
                Some(sample * STEPS + if scene.reversed { length - 1 } else { 0 })
            }
            (_, after) => after.map(|time| sample * STEPS + time),
        };
        let zeros = vec![0.0; k];
        let factors = from.map_or(&zeros[..], |row| &rows.values[row * k..][..k]);
        for unit in 0..columns {
            let at = sample * columns + unit;
            let left = |site: &Site, element: usize, slope: f64| {
                let scale = f64::from(site.params.scale);
                match (optional, site.keeps(sample, element)) {
                    (false, _) => slope,
                    (true, true) => slope * scale,
                    (true, false) => 0.0,
                }
            };
            let sum = way.dot(factors, (0..k).map(|term| weight.values[term * columns + unit]));
            let magnitude = 8.0 + 2.0 * sum.magnitude;
            let want = |value| Want { value, magnitude };
            let of_last = match optional && !is_own {
                true => left(&sites[1], unit, d_hidden.values[at]),
                false => 0.0,
            };
            if is_behind {
                beside[4][at] = match length {
                    0 => want(of_last),
                    _ if is_gru => want(sum.value + direct.values[at]),
                    _ => sum,
                };
                continue;
            }
            let (of_row, of_states_row) = (row * blocks * units + unit, row * state + unit);
            let at_blocks = (0..blocks).map(|block| of_row + block * units);
            if !scene.is_in(sample) {
                if cell == KILN_CELL_LSTM && length == 0 {
                    slopes[4][at] = Want::plain(if optional { d_cell.values[at] } else { 0.0 });
                }
                for at in at_blocks.filter(|_| !of_states) {
                    slopes[0][at] = Want::plain(0.0);
                    if is_gru {
                        slopes[1][at] = Want::plain(0.0);
                        slopes[2][at] = Want::plain(0.0);
                    }
                }
                if has_previous {
                    beside[0][of_states_row] = Want::plain(0.0);
                }
                if is_own {
                    beside[1][row * units + unit] = Want::plain(0.0);
                }
                if of_states {
                    beside[3][of_states_row] = Want::plain(0.0);
                }
                continue;
            }
            let (before, is_last) = (scene.before(sample), scene.after(sample).is_none());
            let mut slope = sum.value;
            if !is_own {
                let element = scene.time * state + unit;
                slope += left(&sites[0], element, dy.values[of_states_row]);
            }
            if is_last {
                slope += of_last;
            }
            let initial = |array: &Array| if optional { array.values[at] } else { 0.0 };
            let hidden_before = || match before {
                Some(time) => output.values[(sample * STEPS + time) * state + unit],
                None => initial(&initial_hidden),
            };
            if has_previous {
                beside[0][of_states_row] = Want::plain(hidden_before());
            }
            let kept = |row: usize, block: usize| {
                saved.values[(row * saved_blocks + block) * units + unit]
            };
            match cell {
                KILN_CELL_STATE => {
                    beside[2][at] = want(slope);
                    beside[3][of_states_row] = want(slope);
                }
                KILN_CELL_LSTM => {
                    let [i, f, g, o, c] = [0, 1, 2, 3, 4].map(|block| kept(row, block));
                    let cell_before = match before {
                        Some(time) => kept(sample * STEPS + time, 4),
                        None => initial(&initial_cell),
                    };
                    let d_after = match (is_last, optional) {
                        (true, true) => d_cell.values[at],
                        (true, false) => 0.0,
                        (false, _) => cell_slope.values[at],
                    };
                    let reached = c.tanh();
                    let dc = d_after + slope * o * (1.0 - reached * reached);
                    let sums = [
                        dc * g * i * (1.0 - i),
                        dc * cell_before * f * (1.0 - f),
                        dc * i * (1.0 - g * g),
                        slope * reached * o * (1.0 - o),
                    ];
                    at_blocks.zip(sums).for_each(|(at, sum)| slopes[0][at] = want(sum));
                    slopes[4][at] = want(dc * f);
                    if is_own {
                        beside[1][row * units + unit] = Want { value: o * reached, magnitude: 2.0 };
                    }
                }
                KILN_CELL_GRU => {
                    let [r, z, n, h] = [0, 1, 2, 3].map(|block| kept(row, block));
                    let slope = if is_last { slope } else { slope + direct.values[at] };
                    let dn = slope * (1.0 - z) * (1.0 - n * n);
                    let dr = dn * h * r * (1.0 - r);
                    let dz = slope * (hidden_before() - n) * z * (1.0 - z);
                    for (block, at) in at_blocks.enumerate() {
                        slopes[0][at] = want([dr, dz, dn][block]);
                        slopes[1][at] = want([dr, dz, dn * r][block]);
                        if optional {
                            slopes[2][at] = want([dr, dz, dn * r][block]);
                        }
                    }
                    slopes[3][at] = want(slope * z);
                }
                _ => {
                    let y = output.values[of_states_row];
                    let kept = match (cell, y != 0.0) {
                        (KILN_CELL_TANH, _) => slope * (1.0 - y * y),
                        (_, true) => slope,
                        (_, false) => 0.0,
                    };
                    slopes[0][of_row] = want(kept);
                }
            }
        }
    }
    let (t, full) = (way.storage, Storage::F32);
    let say = |what: &str| format!("{case:?}: {what}");
    let arrays = [&dx, &carried, &recurrent, &direct, &cell_slope];
    let names = ["dx", "carried", "recurrent", "direct", "cell slopes"];
    for (index, name) in names.iter().enumerate() {
        let of = if index < 2 { t } else { full };
        compare(gpu, &kernel, &say(name), arrays[index], &slopes[index], of);
    }
    let arrays = [&previous, &unprojected, &total, &d_output, &d_initial];
    let names = ["previous", "unprojected", "total", "d_output", "d_initial"];
    for (index, name) in names.iter().enumerate() {
        let of = if index == 2 { t } else { full };
        compare(gpu, &kernel, &say(name), arrays[index], &beside[index], of);
    }
}
