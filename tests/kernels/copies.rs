// SPDX-License-Identifier: MIT OR Apache-2.0
//! Casts, transposes and strided copies: no bit may differ.

use crate::abi::*;
use crate::driver::{divider, Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::memory::{Array, Memory};

pub(crate) fn run(gpu: &Gpu) {
    for from in Storage::ALL {
        for to in Storage::ALL.into_iter().filter(|&to| to != from) {
            for &count in gpu.cases(&[1, 9, 31, 33, 65, 2048, 2051], &[9, 2051]) {
                cast(gpu, from, to, count);
            }
        }
    }
    for bits in [16, 32] {
        for &rows in gpu.cases(&[1, 31, 33, 64, 65], &[33]) {
            for &columns in gpu.cases(&[1, 31, 33, 70], &[31, 65]) {
                transpose(gpu, bits, rows, columns);
            }
        }
        // Dense, permuted, repeated along an axis; one of every rank.
        for (extents, strides) in [
            (&[33][..], &[1][..]),
            (&[31, 33], &[1, 31]),
            (&[3, 7, 5], &[1, 0, 3]),
            (&[4, 3, 5, 9], &[135, 45, 1, 5]),
            (&[2, 3, 1, 5, 2], &[1, 20, 7, 4, 2]),
            (&[2, 3, 2, 2, 3, 5], &[0, 5, 15, 30, 0, 1]),
        ] {
            copy_strided(gpu, bits, extents, strides);
        }
    }
}

/// With all numbers that casts treat alike or apart.
fn cast(gpu: &Gpu, from: Storage, to: Storage, count: usize) {
    let mut inputs = Numbers::new(count).between(-4.0, 4.0, count);
    let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, 7e4, 65519.0, 65520.0, 3e-8, 1e-6];
    if let Some(first) = inputs.get_mut(..special.len()) {
        first.copy_from_slice(&special);
    }
    // Halfway between neighbours: ties go to even.
    if let Some(ties) = inputs.get_mut(20..24) {
        ties.copy_from_slice(&[
            1.0 + 0.5f32.powi(8),
            1.0 + 3.0 * 0.5f32.powi(8),
            1.0 + 0.5f32.powi(11),
            1.0 + 3.0 * 0.5f32.powi(11),
        ]);
    }
    let x = Array::new(from, &inputs);
    let y = Array::output(to, count);
    let params = KilnCastParams { y: y.address(), x: x.address(), count: count as u32 };
    let kernel = format!("cast_{}_{}", from.name(), to.name());
    gpu.launch(&kernel, Grid::of(count.div_ceil(2048)), &params);
    let held: Vec<f32> = x.values.iter().map(|&x| x as f32).collect();
    gpu.ledger().compare_bytes(&kernel, &format!("{count} numbers"), &y.bytes(), &to.encode(&held));
}

/// Elements that are all different, of either size.
pub(crate) fn elements(bits: usize, indices: impl Iterator<Item = usize>) -> Vec<u8> {
    let element = |index: usize| {
        let number = (index as u32 + 1).wrapping_mul(0x0101_0007);
        number.to_ne_bytes()[..bits / 8].to_vec()
    };
    indices.flat_map(element).collect()
}

fn transpose(gpu: &Gpu, bits: usize, rows: usize, columns: usize) {
    const BATCH: usize = 2;
    let matrix = rows * columns;
    let x = Memory::of_bytes(&elements(bits, 0..BATCH * matrix));
    let y = Memory::of_bytes(&vec![0xff; BATCH * matrix * bits / 8]);
    let params = KilnTransposeParams {
        y: y.address(),
        x: x.address(),
        rows: rows as u32,
        columns: columns as u32,
    };
    let kernel = format!("transpose_{bits}");
    let blocks = [columns.div_ceil(32), rows.div_ceil(32), BATCH];
    gpu.launch(&kernel, Grid { blocks, threads: [32, 8], shared: 0 }, &params);
    let source = |at: usize| {
        let (batch, within) = (at / matrix, at % matrix);
        batch * matrix + within % rows * columns + within / rows
    };
    let want = elements(bits, (0..BATCH * matrix).map(source));
    gpu.ledger().compare_bytes(&kernel, &format!("{rows} x {columns}"), &y.read(), &want);
}

fn copy_strided(gpu: &Gpu, bits: usize, extents: &[usize], strides: &[i32]) {
    let count: usize = extents.iter().product();
    let source = |at: usize| {
        let mut rest = at;
        let mut from = 0;
        for (&extent, &stride) in extents.iter().zip(strides).rev() {
            from += rest % extent * stride as usize;
            rest /= extent;
        }
        from
    };
    let longest = (0..count).map(source).max().expect("not empty") + 1;
    let x = Memory::of_bytes(&elements(bits, 0..longest));
    let y = Memory::of_bytes(&vec![0xff; count * bits / 8]);
    let mut params = KilnStridedCopyParams {
        y: y.address(),
        x: x.address(),
        count: count as u32,
        rank: extents.len() as u32,
        ..KilnStridedCopyParams::default()
    };
    for (axis, (&extent, &stride)) in extents.iter().zip(strides).enumerate() {
        params.extents[axis] = divider(extent);
        params.strides[axis] = stride;
    }
    let kernel = format!("copy_strided_{bits}");
    gpu.launch(&kernel, Grid::of(count.div_ceil(256)), &params);
    let want = elements(bits, (0..count).map(source));
    gpu.ledger().compare_bytes(&kernel, &format!("{extents:?}"), &y.read(), &want);
}
