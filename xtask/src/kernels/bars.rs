// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bars that compiled kernels must meet, as data: a family of kernels, its launch, its limits, and the reason where
//! a limit is looser than its relatives'.
//!
//! They hold for nvcc 13.5 (scripts/cuda-toolchain.sh). The numbers are what was attained on the architecture that does
//! worst, with little room, so that a regression shows.

use super::device::Device;
use super::measure::{MainLoop, Measured};
use super::resources::Resources;

/// A family of kernels and its limits.
struct Bar {
    /// Every part must occur in the kernel's name; the first family that fits is taken.
    parts: &'static [&'static str],
    threads: u32,
    dynamic: Dynamic,
    /// Outputs per thread and turn of the tail's loop, where the tail is measured.
    outputs_per_turn: Option<u32>,
    registers: u32,
    /// Least blocks per multiprocessor.
    occupancy: u32,
    /// Most accesses to global memory of fewer than 16 bytes.
    narrow: usize,
    /// Most bytes of code.
    code: usize,
    /// The same on architectures for which nvcc writes more.
    code_on: &'static [(&'static str, usize)],
    main: Option<Main>,
    /// Why this family's limits differ from what its relatives meet; printed with a miss.
    why: &'static str,
}

/// Limits of a main loop.
#[derive(Clone, Copy)]
struct Main {
    /// Least share of multiplying instructions, in percent.
    share: f64,
    /// Most instructions per multiplying one.
    per_multiply: f64,
    matrix_loads: usize,
    copies: usize,
    /// Of the copies those of fewer than 16 bytes.
    narrow_copies: usize,
    /// Most cycles of shared memory per cycle of an A100's tensor cores; FFMA is nowhere near.
    shared: f64,
    /// Most bytes of code.
    bytes: usize,
}

/// Dynamic shared memory of a launch.
#[derive(Clone, Copy)]
enum Dynamic {
    None,
    /// Rows of operands per stage, 64 bytes each, in the architecture's number of stages.
    Stages(u32),
    Bytes(u32),
}

/// How the host launches a kernel.
pub(super) struct Launch {
    pub(super) threads: u32,
    pub(super) dynamic_shared: u32,
    pub(super) outputs_per_turn: Option<u32>,
}

const CODE_BYTES: usize = 48 * 1024;
const LOOP_BYTES: usize = 4 * 1024;
/// S9: with one Philox call per eight outputs, decided by 15 bits each.
const TAIL_PER_OUTPUT: f64 = 17.0;
const WIDE_MULTIPLIES_PER_OUTPUT: f64 = 2.6;

const LARGE: Main = Main {
    share: 50.0,
    per_multiply: 2.0,
    matrix_loads: 16,
    copies: 8,
    narrow_copies: 0,
    shared: 0.75,
    bytes: LOOP_BYTES,
};
/// 128x64 and 64x128.
const MEDIUM: Main =
    Main { share: 38.0, per_multiply: 2.6, matrix_loads: 12, copies: 6, shared: 1.125, ..LARGE };
const SMALL: Main =
    Main { share: 27.5, per_multiply: 3.65, matrix_loads: 8, copies: 4, shared: 1.5, ..LARGE };
/// Steps are unrolled as a whole.
const FFMA_LARGE: Main = Main {
    share: 85.0,
    per_multiply: 1.2,
    matrix_loads: 0,
    copies: 16,
    narrow_copies: 16,
    shared: 0.0,
    bytes: 20 * 1024,
};
const FFMA_LARGE_WHOLE: Main =
    Main { share: 90.0, per_multiply: 1.12, copies: 4, narrow_copies: 0, ..FFMA_LARGE };
const FFMA_MEDIUM: Main = Main { share: 87.5, per_multiply: 1.15, copies: 6, ..FFMA_LARGE_WHOLE };
const FFMA_SMALL: Main =
    Main { share: 82.0, per_multiply: 1.23, bytes: 11 * 1024, ..FFMA_LARGE_WHOLE };
const ANY_SIZE: &str = "guards every element: right for every size and alignment, not fast";
const TF32_UPRIGHT: &str =
    "ldmatrix transposes 16-bit elements only; f32 operands that run along n or m take LDS of 8 bytes, or of 4";
const FOUR_BLOCKS: &str =
    "all activations in one tail; what matters is that four blocks fit, which 128 registers allow";
const LAST_FEW: &str = "the last elements of an array, fewer than 16 bytes, go one by one";
const EVERY_FUNCTION: &str =
    "every function of elements, of which a launch runs a few; operands of any stride";
const ONE_BY_ONE: &str = "rows are not aligned to 16 bytes: element by element";
const HEAD: &str = "a thread knows eight channels of a batch norm and their sums, and two blocks fit, which 128 registers allow; scores and weights are single numbers";
const FOUND: &str =
    "operands are found element by element where channels are not aligned; any window";
const SUMMED: &str =
    "as other convolutions; blocks merge what they found of their columns number by number";
const FOUND_AT_LENGTH: &str =
    "operands are found element by element where channels are not aligned, any window; for sm_90 and sm_100 nvcc writes main loops of 675 and 651 instructions with the memory accesses of sm_80's 582";
const UNITS: &str =
    "rows of several lengths are found one by one; units of every kind of cell, each by itself";
const WALK: &str =
    "units of every kind of cell; two blocks fit beside each other, as the host reckons";
const LAYERS: &str =
    "several layers in one launch, whose numbers are looked up; operands are found element by element";
const THIN: &str =
    "four places by eight columns in registers; a tail for each way to find channels, of which a launch takes one";
const THIN_SUMS: &str =
    "as other thin convolutions, with sums of columns; what matters is that three blocks fit, which 168 registers allow";
const THIN_LAYERS: &str =
    "several layers in one launch, each as a product or by the thread, ten sums by eight columns in registers";
const CHANNELS: &str = "channels that are not aligned go one by one; indices are 4 bytes";
const COLUMNS: &str =
    "numbers of eight columns in registers; columns that are not aligned go one by one";
const ROWS: &str = "numbers of a row are single; rows that are not aligned go one by one";
const FFMA: &str =
    "FFMA dominates; a second loop, with copies of 4 bytes, takes any size and alignment";
const FFMA_UPRIGHT: &str =
    "256 threads have no registers for four elements along k, so copies of 4 bytes put rows upright";

const POINTWISE: Bar = Bar {
    parts: &[""],
    threads: 256,
    dynamic: Dynamic::None,
    outputs_per_turn: None,
    registers: 40,
    occupancy: 4,
    narrow: 0,
    code: CODE_BYTES,
    code_on: &[],
    main: None,
    why: "",
};
const GEMM_LARGE: Bar = Bar {
    threads: 128,
    dynamic: Dynamic::Stages(256),
    registers: 252,
    occupancy: 2,
    // Learning what pass it is, tickets of splits.
    narrow: 4,
    main: Some(LARGE),
    ..POINTWISE
};
const GEMM_SMALL: Bar = Bar {
    dynamic: Dynamic::Stages(128),
    registers: 106,
    occupancy: 4,
    main: Some(SMALL),
    ..GEMM_LARGE
};
const GEMM_MEDIUM: Bar = Bar {
    dynamic: Dynamic::Stages(192),
    registers: 168,
    occupancy: 2,
    main: Some(MEDIUM),
    ..GEMM_LARGE
};
const GEMM_ANY: Bar = Bar {
    registers: 136,
    occupancy: 3,
    narrow: 220,
    code_on: ANY_SIZE_LONGER,
    main: None,
    why: ANY_SIZE,
    ..GEMM_SMALL
};
/// Of gemm_tn: the bias blocks finish columns one by one, and their unaligned rows.
const BIAS_COLUMNS: usize = 24;
/// Of the general tail: scalars of the mask, the last columns of a bias, tickets.
const TICKETS: usize = 12;

/// Of f32 products: an edge's chunk, element by element, wherever the tail loads or stores one.
const EDGES: usize = 40;
/// Shared memory of a walk of 192 units in f32, of which two blocks fit on every architecture.
const WALK_BYTES: u32 = 41 * 1024;

/// For sm_90 nvcc writes 2 to 7 % more than for sm_80, from the same sources with as many stages.
const ANY_SIZE_LONGER: &[(&str, usize)] = &[("sm_90", 49 * 1024)];
const WALK_LONGER: &[(&str, usize)] = &[("sm_90", 34 * 1024)];
const THIN_LAYERS_LONGER: &[(&str, usize)] = &[("sm_90", 129 * 1024)];

/// Convolutions on tensor cores: their main loops are longer there.
const LONGER: &[(&str, usize)] = &[("sm_90", 84 * 1024), ("sm_100", 78 * 1024)];

/// No limit: single numbers are what the kernel is about.
const SCALARS: usize = usize::MAX;

#[rustfmt::skip]
const BARS: &[Bar] = &[
    Bar { parts: &["linear_cross_entropy_f32"], registers: 72, occupancy: 4, narrow: SCALARS, dynamic: Dynamic::Bytes(18432), why: ANY_SIZE, ..GEMM_ANY },
    Bar { parts: &["linear_cross_entropy"], registers: 96, occupancy: 4, narrow: SCALARS, dynamic: Dynamic::Stages(96), why: ANY_SIZE, ..GEMM_ANY },

    Bar { parts: &["gemm_nt_relu_dropout", "128x128"], outputs_per_turn: Some(32), ..GEMM_LARGE },
    Bar { parts: &["gemm_nt_relu_dropout", "128x64"], outputs_per_turn: Some(16), ..GEMM_MEDIUM },
    Bar { parts: &["gemm_nt_relu_dropout", "64x128"], outputs_per_turn: Some(32), ..GEMM_MEDIUM },
    Bar { parts: &["gemm_nt_relu_dropout", "64x64"], outputs_per_turn: Some(16), ..GEMM_SMALL },
    Bar { parts: &["gemm_tn_tf32_128x128"], narrow: BIAS_COLUMNS, main: Some(Main { share: 39.0, per_multiply: 2.55, matrix_loads: 0, ..LARGE }), why: TF32_UPRIGHT, ..GEMM_LARGE },
    Bar { parts: &["gemm_nn_tf32_128x128"], main: Some(Main { share: 46.5, per_multiply: 2.15, matrix_loads: 8, ..LARGE }), why: TF32_UPRIGHT, ..GEMM_LARGE },
    Bar { parts: &["gemm_tn_tf32_128x64"], narrow: BIAS_COLUMNS, main: Some(Main { share: 28.5, per_multiply: 3.5, matrix_loads: 0, ..MEDIUM }), why: TF32_UPRIGHT, ..GEMM_MEDIUM },
    Bar { parts: &["gemm_tn_tf32_64x128"], narrow: BIAS_COLUMNS, main: Some(Main { share: 28.5, per_multiply: 3.5, matrix_loads: 0, ..MEDIUM }), why: TF32_UPRIGHT, ..GEMM_MEDIUM },
    Bar { parts: &["gemm_nn_tf32_128x64"], main: Some(Main { share: 35.5, per_multiply: 2.8, matrix_loads: 8, ..MEDIUM }), why: TF32_UPRIGHT, ..GEMM_MEDIUM },
    Bar { parts: &["gemm_nn_tf32_64x128"], main: Some(Main { share: 34.0, per_multiply: 2.95, matrix_loads: 4, ..MEDIUM }), why: TF32_UPRIGHT, ..GEMM_MEDIUM },
    Bar { parts: &["gemm_tn_tf32_64x64"], registers: 114, narrow: BIAS_COLUMNS, main: Some(Main { share: 20.7, per_multiply: 4.8, matrix_loads: 0, ..SMALL }), why: TF32_UPRIGHT, ..GEMM_SMALL },
    Bar { parts: &["gemm_nn_tf32_64x64"], main: Some(Main { share: 24.8, per_multiply: 4.05, matrix_loads: 4, ..SMALL }), why: TF32_UPRIGHT, ..GEMM_SMALL },
    Bar { parts: &["gemm_tn_f32_128x128"], code: 58 * 1024, threads: 256, registers: 128, narrow: EDGES, dynamic: Dynamic::Bytes(33792), main: Some(FFMA_LARGE_WHOLE), why: FFMA, ..GEMM_LARGE },
    Bar { parts: &["gemm", "_f32_128x128"], code: 52 * 1024, threads: 256, registers: 128, narrow: EDGES, dynamic: Dynamic::Bytes(33792), main: Some(FFMA_LARGE), why: FFMA_UPRIGHT, ..GEMM_LARGE },
    Bar { parts: &["gemm", "_f32_64x64"], code: 53 * 1024, registers: 128, narrow: EDGES, dynamic: Dynamic::Bytes(17408), main: Some(FFMA_SMALL), why: FFMA, ..GEMM_SMALL },
    Bar { parts: &["gemm", "_f32_"], code: 74 * 1024, registers: 168, narrow: EDGES, dynamic: Dynamic::Bytes(25600), main: Some(FFMA_MEDIUM), why: FFMA, ..GEMM_MEDIUM },
    Bar { parts: &["gemm_tn", "128x128"], narrow: BIAS_COLUMNS, ..GEMM_LARGE },
    Bar { parts: &["gemm_tn", "128x64"], narrow: BIAS_COLUMNS, ..GEMM_MEDIUM },
    Bar { parts: &["gemm_tn", "64x128"], narrow: BIAS_COLUMNS, ..GEMM_MEDIUM },
    Bar { parts: &["gemm_tn", "64x64"], narrow: BIAS_COLUMNS, ..GEMM_SMALL },
    Bar { parts: &["gemm", "128x128"], narrow: TICKETS, ..GEMM_LARGE },
    Bar { parts: &["gemm", "128x64"], narrow: TICKETS, ..GEMM_MEDIUM },
    Bar { parts: &["gemm", "64x128"], narrow: TICKETS, ..GEMM_MEDIUM },
    Bar { parts: &["gemm_nt", "64x64"], registers: 112, narrow: TICKETS, why: FOUR_BLOCKS, ..GEMM_SMALL },
    Bar { parts: &["gemm", "64x64"], ..GEMM_SMALL },
    Bar { parts: &["gemm", "any"], ..GEMM_ANY },

    Bar { parts: &["conv_weight_gradient_thin_f32"], code: 123 * 1024, registers: 168, occupancy: 3, narrow: 284, dynamic: Dynamic::Bytes(17408), main: None, why: THIN_LAYERS, ..GEMM_SMALL },
    Bar { parts: &["conv_weight_gradient_thin"], code: 127 * 1024, code_on: THIN_LAYERS_LONGER, registers: 168, occupancy: 3, narrow: 300, main: None, why: THIN_LAYERS, ..GEMM_SMALL },
    Bar { parts: &["conv_weight_gradient_f32"], code: 67 * 1024, registers: 124, narrow: 38, dynamic: Dynamic::Bytes(17408), main: None, why: LAYERS, ..GEMM_SMALL },
    Bar { parts: &["conv_weight_gradient"], code: 67 * 1024, registers: 168, occupancy: 3, narrow: 55, main: None, why: LAYERS, ..GEMM_SMALL },
    Bar { parts: &["conv_statistics_thin_"], registers: 168, occupancy: 3, code: 59 * 1024, narrow: 227, dynamic: Dynamic::Bytes(8704), main: None, why: THIN_SUMS, ..GEMM_SMALL },
    Bar { parts: &["conv", "_thin_"], registers: 157, occupancy: 3, code: 116 * 1024, narrow: 292, dynamic: Dynamic::Bytes(7344), main: None, why: THIN, ..GEMM_SMALL },
    Bar { parts: &["conv_statistics_f32"], code: 75 * 1024, registers: 110, narrow: 151, dynamic: Dynamic::Bytes(17408), main: None, why: SUMMED, ..GEMM_SMALL },
    Bar { parts: &["conv_statistics"], code: 68 * 1024, code_on: LONGER, registers: 132, occupancy: 3, narrow: 167, main: None, why: SUMMED, ..GEMM_SMALL },
    Bar { parts: &["conv_input_gradient_sums_f32"], code: 78 * 1024, registers: 100, narrow: 203, dynamic: Dynamic::Bytes(17408), main: None, why: SUMMED, ..GEMM_SMALL },
    Bar { parts: &["conv_input_gradient_sums"], code: 73 * 1024, code_on: LONGER, registers: 128, occupancy: 3, narrow: 219, main: None, why: SUMMED, ..GEMM_SMALL },
    Bar { parts: &["conv", "_f32"], code: 81 * 1024, registers: 118, narrow: 60, dynamic: Dynamic::Bytes(17408), main: None, why: FOUND, ..GEMM_SMALL },
    Bar { parts: &["conv"], code: 72 * 1024, code_on: LONGER, registers: 140, occupancy: 3, narrow: 77, main: None, why: FOUND_AT_LENGTH, ..GEMM_SMALL },
    Bar { parts: &["recurrent_walk", "_f32"], code: 35 * 1024, threads: 256, registers: 124, occupancy: 2, narrow: 91, dynamic: Dynamic::Bytes(WALK_BYTES), main: None, why: WALK, ..GEMM_SMALL },
    Bar { parts: &["recurrent_walk"], code: 33 * 1024, code_on: WALK_LONGER, threads: 256, registers: 81, occupancy: 2, narrow: 91, dynamic: Dynamic::Bytes(WALK_BYTES / 2), main: None, why: WALK, ..GEMM_SMALL },
    Bar { parts: &["recurrent", "_f32"], registers: 96, code: 46 * 1024, narrow: 133, dynamic: Dynamic::Bytes(13312), main: None, why: UNITS, ..GEMM_SMALL },
    Bar { parts: &["recurrent"], registers: 96, occupancy: 3, code: 48 * 1024, narrow: 139, dynamic: Dynamic::Stages(96), main: None, why: UNITS, ..GEMM_SMALL },
    Bar { parts: &["pool"], registers: 60, occupancy: 4, narrow: SCALARS, why: CHANNELS, ..POINTWISE },
    Bar { parts: &["normalize_gradient_columns"], registers: 80, occupancy: 3, narrow: SCALARS, why: COLUMNS, ..POINTWISE },
    Bar { parts: &["statistics_columns"], registers: 80, occupancy: 3, narrow: SCALARS, why: COLUMNS, ..POINTWISE },
    Bar { parts: &["line_columns"], registers: 52, narrow: SCALARS, why: COLUMNS, ..POINTWISE },
    Bar { parts: &["normalize_gradient"], registers: 44, narrow: SCALARS, why: ROWS, ..POINTWISE },
    Bar { parts: &["statistics"], narrow: SCALARS, why: ROWS, ..POINTWISE },
    Bar { parts: &["blend"], narrow: SCALARS, why: "terms of sums stand in a table", ..POINTWISE },
    Bar { parts: &["batch_"], registers: 68, occupancy: 3, narrow: SCALARS, why: COLUMNS, ..POINTWISE },
    Bar { parts: &["classifier_head"], registers: 114, occupancy: 2, code: 67 * 1024, narrow: 246, dynamic: Dynamic::Bytes(16384), why: HEAD, ..POINTWISE },
    Bar { parts: &["line_rows"], narrow: SCALARS, why: ROWS, ..POINTWISE },
    Bar { parts: &["_strided"], narrow: SCALARS, why: ONE_BY_ONE, ..POINTWISE },
    Bar { parts: &["cross_entropy"], registers: 64, narrow: 56, why: "labels, weights and losses are single numbers", ..POINTWISE },
    Bar { parts: &["softmax_gradient"], ..POINTWISE },
    Bar { parts: &["softmax"], registers: 64, ..POINTWISE },
    Bar { parts: &["_ragged"], narrow: SCALARS, why: ONE_BY_ONE, ..POINTWISE },
    Bar { parts: &["scheduled_dropout"], narrow: SCALARS, why: ONE_BY_ONE, ..POINTWISE },
    Bar { parts: &["take_dropout"], narrow: SCALARS, why: ONE_BY_ONE, ..POINTWISE },
    Bar { parts: &["dropout_channels"], narrow: 18, why: ONE_BY_ONE, ..POINTWISE },
    Bar { parts: &["dropout"], narrow: 2, why: "pass and sample offset", ..POINTWISE },
    Bar { parts: &["sum_"], narrow: SCALARS, why: "sums are single numbers", ..POINTWISE },
    Bar { parts: &["nll"], narrow: SCALARS, why: "labels, weights and losses are single numbers", ..POINTWISE },
    Bar { parts: &["fold_"], narrow: SCALARS, why: "sums and extremes are single numbers", ..POINTWISE },
    Bar { parts: &["place_"], narrow: SCALARS, why: ONE_BY_ONE, ..POINTWISE },
    Bar { parts: &["sgd"], narrow: 56, why: "scalars, 8 bytes of a copy in 16 bits, single numbers of turned copies", ..POINTWISE },
    Bar { parts: &["adam"], registers: 48, narrow: 56, why: "corrections from the count that the device keeps; numbers of its rule that change from step to step; 8 bytes of a copy in 16 bits, single numbers of turned copies", ..POINTWISE },
    Bar { parts: &["count_pass"], narrow: SCALARS, why: "one counter", ..POINTWISE },
    Bar { parts: &["running_average"], narrow: SCALARS, why: "a few numbers per layer", ..POINTWISE },
    Bar { parts: &["average"], narrow: 2, why: "the weight of a run, and whether it is skipped", ..POINTWISE },
    Bar { parts: &["unscale"], narrow: SCALARS, why: "sums, and what the device keeps of a training", ..POINTWISE },
    Bar { parts: &["transpose"], narrow: 8, why: "a tile's row is 32 elements, one per thread", ..POINTWISE },
    Bar { parts: &["turn"], narrow: 8, why: "a tile's row is 32 elements, one per thread", ..POINTWISE },
    Bar { parts: &["copy_pieces_128"], ..POINTWISE },
    Bar { parts: &["copy_pieces"], narrow: 2, why: ONE_BY_ONE, ..POINTWISE },
    Bar { parts: &["take_gradient"], registers: 72, occupancy: 2, narrow: SCALARS, why: "sorted lists of indices and sums in shared memory", ..POINTWISE },
    Bar { parts: &["gather"], narrow: SCALARS, why: "each element is where its index says", ..POINTWISE },
    Bar { parts: &["take_bytes"], narrow: 6, why: "a number, four codes in a word, and a colour for each", ..POINTWISE },
    Bar { parts: &["take_128"], narrow: 1, why: "an index is a single number", ..POINTWISE },
    Bar { parts: &["take"], narrow: 3, why: ONE_BY_ONE, ..POINTWISE },
    Bar { parts: &["cast"], narrow: 16, why: LAST_FEW, ..POINTWISE },
    Bar { parts: &["ceiling"], registers: 64, narrow: SCALARS, why: "a thread reads its few words once", ..POINTWISE },
    Bar { parts: &["chain"], registers: 85, occupancy: 3, narrow: SCALARS, code: 92 * 1024, why: EVERY_FUNCTION, ..POINTWISE },
];

/// How a kernel is launched, by its name.
pub(super) fn launch(name: &str, device: &Device) -> Launch {
    let bar = bar(name).unwrap_or(&POINTWISE);
    let dynamic_shared = match bar.dynamic {
        Dynamic::None => 0,
        Dynamic::Stages(rows) => device.stages * rows * 64,
        Dynamic::Bytes(bytes) => bytes,
    };
    Launch { threads: bar.threads, dynamic_shared, outputs_per_turn: bar.outputs_per_turn }
}

/// The bars that a kernel misses, in words.
pub(super) fn misses(measured: &Measured, arch: &str) -> Vec<String> {
    let name = &measured.name;
    let Some(bar) = bar(name) else {
        return vec![format!("{name} on {arch}: no bar covers it; add a line to bars.rs")];
    };
    let mut missed = resource_misses(measured, bar, arch);
    if let Some(tail) = measured.tail_per_output.filter(|tail| *tail > TAIL_PER_OUTPUT) {
        missed.push(format!("S9 {tail:.1} instructions per output > {TAIL_PER_OUTPUT}"));
    }
    let wide =
        measured.wide_multiplies_per_output.filter(|wide| *wide > WIDE_MULTIPLIES_PER_OUTPUT);
    if let Some(wide) = wide {
        missed.push(format!("S9 {wide:.2} IMAD.WIDE per output > {WIDE_MULTIPLIES_PER_OUTPUT}"));
    }
    if let Some(limits) = bar.main {
        let narrow = measured.copies_narrow;
        match &measured.main_loop {
            Some(main) if main.on_tensor_cores && narrow > 0 => {
                missed.push(format!("S6 {narrow} copies of fewer than 16 bytes"));
            }
            Some(main) => missed.extend(main_misses(main, limits)),
            None => missed.push("S5 no main loop found".to_owned()),
        }
    }
    let reason = if bar.why.is_empty() { String::new() } else { format!(" (limits: {})", bar.why) };
    missed.into_iter().map(|what| format!("{name} on {arch}: {what}{reason}")).collect()
}

/// S1 for a kernel of which only its resources are known.
pub(super) fn spills(resources: Resources) -> Option<String> {
    let spills = resources.spilled + resources.stack > 0;
    spills.then(|| "S1 spills or uses the stack".to_owned())
}

fn resource_misses(measured: &Measured, bar: &Bar, arch: &str) -> Vec<String> {
    let resources = measured.resources;
    let local = (measured.local > 0).then(|| "S1 loads or stores local memory".to_owned());
    let over = |what: &str, value: usize, limit: usize| {
        (value > limit).then(|| format!("{what}: {value} > {limit}"))
    };
    let occupancy = measured.occupancy;
    let found = [
        spills(resources).or(local),
        over("S2 registers", resources.registers as usize, bar.registers as usize),
        (occupancy < bar.occupancy).then(|| format!("S4 blocks: {occupancy} < {}", bar.occupancy)),
        over("S6 narrow accesses", measured.narrow, bar.narrow),
        over("S10 bytes of code", measured.code_bytes, bar.code_on(arch)),
    ];
    found.into_iter().flatten().collect()
}

fn main_misses(main: &MainLoop, limits: Main) -> Vec<String> {
    let mut missed = Vec::new();
    let mut hold = |met: bool, what: String| {
        if !met {
            missed.push(format!("S5 {what}"));
        }
    };
    hold(
        main.share() >= limits.share,
        format!("multiplies are {:.1}% < {}%", main.share(), limits.share),
    );
    let per = main.per_multiply();
    hold(
        per <= limits.per_multiply,
        format!("{per:.2} instructions per multiply > {}", limits.per_multiply),
    );
    hold(main.barriers == 1, format!("{} barriers per step, not 1", main.barriers));
    hold(
        main.matrix_loads == limits.matrix_loads,
        format!("{} LDSM, not {}", main.matrix_loads, limits.matrix_loads),
    );
    hold(main.copies == limits.copies, format!("{} LDGSTS, not {}", main.copies, limits.copies));
    hold(
        main.narrow_copies == limits.narrow_copies,
        format!(
            "{} LDGSTS of fewer than 16 bytes, not {}",
            main.narrow_copies, limits.narrow_copies
        ),
    );
    hold(
        main.loads + main.strays == 0,
        format!("{} LDG, {} conversions or MUFU", main.loads, main.strays),
    );
    let bytes = main.instructions * 16;
    hold(bytes <= limits.bytes, format!("{bytes} bytes in the loop > {}", limits.bytes));
    if let Some(ratio) = main.shared_per_tensor_cycle().filter(|ratio| *ratio > limits.shared) {
        let limit = limits.shared;
        missed.push(format!("S8 shared-memory cycles per tensor cycle: {ratio:.3} > {limit}"));
    }
    missed
}

/// Whether a kernel's main loop is held to bars.
pub(super) fn has_main_loop(name: &str) -> bool {
    bar(name).is_some_and(|bar| bar.main.is_some())
}

impl Bar {
    /// Most bytes of code on an architecture.
    fn code_on(&self, arch: &str) -> usize {
        let own = self.code_on.iter().find(|(of, _)| *of == arch);
        own.map_or(self.code, |(_, bytes)| *bytes)
    }
}

fn bar(name: &str) -> Option<&'static Bar> {
    BARS.iter().find(|bar| bar.parts.iter().all(|part| name.contains(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_family_that_fits_is_taken() {
        let found = |name| bar(name).map(|bar| bar.parts);
        assert_eq!(found("gemm_nn_tf32_128x128"), Some(["gemm_nn_tf32_128x128"].as_slice()));
        assert_eq!(found("gemm_nn_bf16_128x64"), Some(["gemm", "128x64"].as_slice()));
        assert_eq!(found("gemm_tn_f32_64x128"), Some(["gemm", "_f32_"].as_slice()));
        assert_eq!(found("linear_cross_entropy_bf16"), Some(["linear_cross_entropy"].as_slice()));
        assert_eq!(found("conv_weight_gradient_bf16"), Some(["conv_weight_gradient"].as_slice()));
        assert_eq!(found("conv_bf16"), Some(["conv"].as_slice()));
        assert_eq!(found("of_no_family"), None);
    }

    #[test]
    fn code_may_be_longer_on_one_architecture() {
        let code = |name, arch| bar(name).map(|bar| bar.code_on(arch));
        assert_eq!(code("conv_bf16", "sm_80"), Some(72 * 1024));
        assert_eq!(code("conv_bf16", "sm_90"), Some(84 * 1024));
        assert_eq!(code("conv_f32", "sm_90"), code("conv_f32", "sm_80"));
    }
}
