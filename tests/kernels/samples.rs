// SPDX-License-Identifier: MIT OR Apache-2.0
//! Samples of bytes, gathered by their numbers and translated. Some numbers name nothing.

use crate::abi_images::KilnTakeBytesParams;
use crate::driver::{divider, Gpu, Grid};
use crate::float::Numbers;
use crate::memory::Memory;

/// Samples, channels, elements of a channel, and how many samples are taken.
type Extents = [usize; 4];

const COLOURS: usize = 256;

pub(crate) fn run(gpu: &Gpu) {
    let few: &[Extents] = &[[5, 1, 12, 3], [3, 3, 8, 7], [7, 2, 5, 4]];
    let more: &[Extents] = &[[1, 1, 1, 1], [40, 1, 784, 33], [9, 3, 1024, 5], [300, 16, 3, 128]];
    for &extents in few.iter().chain(gpu.cases(more, &[])) {
        take(gpu, "take_bytes_ragged", 1, extents);
        if extents[2].is_multiple_of(4) {
            take(gpu, "take_bytes", 4, extents);
        }
    }
}

fn take(gpu: &Gpu, kernel: &str, unit: usize, extents: Extents) {
    let [rows, channels, plane, picks] = extents;
    let row = channels * plane;
    let mut numbers = Numbers::new(rows + picks);
    let mut below = |limit: usize, count: usize| -> Vec<usize> {
        let scaled = |x: f32| ((x * limit as f32) as usize).min(limit - 1);
        numbers.between(0.0, 1.0, count).into_iter().map(scaled).collect()
    };
    let codes: Vec<u8> = below(COLOURS, rows * row).into_iter().map(|code| code as u8).collect();
    // Bits of any kind, infinite and NaN among them: they are not computed with.
    let colour = |number: usize| (number as u32).wrapping_mul(0x9e37_79b1) ^ 0x7fc0_0000;
    let palette: Vec<u32> = (0..channels * COLOURS).map(colour).collect();
    // One below and one above all samples.
    let index: Vec<i32> =
        below(rows + 2, picks).into_iter().map(|number| number as i32 - 1).collect();
    let words: Vec<u32> = index.iter().map(|&number| number as u32).collect();
    let (x, colours, named) =
        (Memory::of_bytes(&codes), Memory::of_words(&palette), Memory::of_words(&words));
    let y = Memory::of_bytes(&vec![0xff; 4 * picks * row]);
    let count = picks * row / unit;
    let params = KilnTakeBytesParams {
        y: y.address(),
        x: x.address(),
        palette: colours.address(),
        index: named.address(),
        count: count as u32,
        rows: rows as u32,
        row: divider(row / unit),
        plane: divider(plane / unit),
    };
    gpu.launch(kernel, Grid::of(count.div_ceil(256)), &params);
    let element = |at: usize| match usize::try_from(index[at / row]) {
        Ok(sample) if sample < rows => {
            let code = codes[sample * row + at % row];
            palette[at % row / plane * COLOURS + usize::from(code)]
        }
        _ => 0x7fff_ffff,
    };
    let want: Vec<u8> = (0..picks * row).flat_map(|at| element(at).to_ne_bytes()).collect();
    gpu.ledger().compare_bytes(kernel, &format!("{extents:?}"), &y.read(), &want);
}
