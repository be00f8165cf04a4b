// SPDX-License-Identifier: MIT OR Apache-2.0
//! The loops that measure how fast a device multiplies, which must multiply what they say.

use half::{bf16, f16};

use crate::abi::{KilnCastParams, KILN_BLOCK_THREADS};
use crate::driver::{Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};

const THREADS: usize = KILN_BLOCK_THREADS as usize;
const LANES: usize = 32;
/// As in `kernels/ceilings.cu`.
const CHAINS: usize = 16;
const TILES: usize = 8;
const PASSES: usize = 8;
/// Words of a thread: four of A, two of B.
const WORDS: usize = 6;

pub(crate) fn run(gpu: &Gpu) {
    for &(blocks, rounds) in gpu.cases(&[(1, 0), (1, 1), (3, 4)], &[(2, 1)]) {
        chains(gpu, blocks, rounds);
        for operand in [Operand::Tf32, Operand::Bf16, Operand::F16] {
            tiles(gpu, operand, blocks, rounds);
        }
    }
}

fn chains(gpu: &Gpu, blocks: usize, rounds: usize) {
    let inputs = Numbers::new(rounds).between(-0.5, 0.5, blocks * THREADS);
    let x = Array::new(Storage::F32, &inputs);
    let y = Array::output(Storage::F32, inputs.len());
    let params = KilnCastParams { y: y.address(), x: x.address(), count: rounds as u32 };
    gpu.launch("ceiling_f32", Grid::of(blocks), &params);
    let want = |&x: &f64| {
        let chain = |chain: usize| (0..rounds * PASSES).fold(chain as f64, |v, _| v * x + x);
        let value: f64 = (0..CHAINS).map(chain).sum();
        Want { value, magnitude: value.abs() + CHAINS as f64 }
    };
    let wants: Vec<Want> = x.values.iter().map(want).collect();
    let exactness = Exactness::new(Storage::F32, 2.0 * CHAINS as f64);
    let case = format!("{blocks} blocks, {rounds} rounds");
    gpu.ledger().compare("ceiling_f32", &case, &y.read(), &wants, exactness);
}

/// What tensor cores multiply.
#[derive(Clone, Copy)]
enum Operand {
    Tf32,
    Bf16,
    F16,
}

impl Operand {
    fn name(self) -> &'static str {
        match self {
            Operand::Tf32 => "tf32",
            Operand::Bf16 => "bf16",
            Operand::F16 => "f16",
        }
    }

    /// Elements of a word.
    fn per_word(self) -> usize {
        match self {
            Operand::Tf32 => 1,
            Operand::Bf16 | Operand::F16 => 2,
        }
    }

    fn word(self, elements: &[f32]) -> u32 {
        let pair = |bits: [u16; 2]| u32::from(bits[0]) | u32::from(bits[1]) << 16;
        match self {
            Operand::Tf32 => elements[0].to_bits(),
            Operand::Bf16 => pair([0, 1].map(|at| bf16::from_f32(elements[at]).to_bits())),
            Operand::F16 => pair([0, 1].map(|at| f16::from_f32(elements[at]).to_bits())),
        }
    }
}

/// Operands are small multiples of 1/4, so that no sum is rounded.
fn tiles(gpu: &Gpu, operand: Operand, blocks: usize, rounds: usize) {
    let per_word = operand.per_word();
    let mut numbers = Numbers::new(7 + rounds);
    let elements: Vec<f32> = (0..blocks * THREADS * WORDS * per_word)
        .map(|_| numbers.below(9) as f32 / 4.0 - 1.0)
        .collect();
    let words: Vec<u32> =
        elements.chunks_exact(per_word).map(|elements| operand.word(elements)).collect();
    let x = Memory::of_words(&words);
    let y = Array::output(Storage::F32, blocks * THREADS);
    let params = KilnCastParams { y: y.address(), x: x.address(), count: rounds as u32 };
    let kernel = format!("ceiling_{}", operand.name());
    gpu.launch(&kernel, Grid::of(blocks), &params);
    let repeats = (rounds * PASSES * TILES) as f64;
    let wants: Vec<Want> = elements
        .chunks_exact(LANES * WORDS * per_word)
        .flat_map(|warp| sums_of_lanes(warp, per_word))
        .map(|sum| Want::plain(repeats * sum))
        .collect();
    let case = format!("{blocks} blocks, {rounds} rounds");
    gpu.ledger().compare(&kernel, &case, &y.read(), &wants, Exactness::new(Storage::F32, 0.0));
}

/// Each lane's four elements of A * B, summed up. Layouts: PTX ISA, "Matrix Fragments" of m16n8k16 and of m16n8k8.
fn sums_of_lanes(warp: &[f32], per_word: usize) -> Vec<f64> {
    let depth = 8 * per_word;
    let (mut a, mut b) = (vec![[0.0f64; 16]; depth], vec![[0.0f64; 8]; depth]);
    for (lane, words) in warp.chunks_exact(WORDS * per_word).enumerate() {
        let (group, place) = (lane / 4, lane % 4);
        for (word, elements) in words.chunks_exact(per_word).enumerate() {
            for (index, &element) in elements.iter().enumerate() {
                let k = |half: usize| half * depth / 2 + place * per_word + index;
                match word {
                    0..4 => a[k(word / 2)][group + 8 * (word % 2)] = f64::from(element),
                    _ => b[k(word - 4)][group] = f64::from(element),
                }
            }
        }
    }
    let product =
        |row: usize, column: usize| -> f64 { (0..depth).map(|k| a[k][row] * b[k][column]).sum() };
    let of_lane = |lane: usize| {
        let (group, first) = (lane / 4, lane % 4 * 2);
        [group, group + 8].map(|row| product(row, first) + product(row, first + 1)).iter().sum()
    };
    (0..LANES).map(of_lane).collect()
}
