// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boxes copied and turned: no bit may differ, and nothing beside a box is touched.

use crate::abi::*;
use crate::copies::elements;
use crate::driver::{divider, Gpu, Grid};
use crate::memory::{Address, Memory};

/// One extent of a box: elements, distance in x, distance in y.
type Stretch = [usize; 3];

/// A box with its first elements in x and y; `None` for zeros.
struct Piece {
    from: Option<usize>,
    to: usize,
    extents: &'static [Stretch],
}

pub(crate) fn run(gpu: &Gpu) {
    let piece = |from, to, extents| Piece { from, to, extents };
    // One of every rank, permuted, repeated; the result is full or has gaps.
    let alone: [&'static [Stretch]; 7] = [
        &[],
        &[[33, 1, 1]],
        &[[31, 1, 40], [33, 31, 1]],
        &[[3, 1, 35], [7, 0, 5], [5, 3, 1]],
        &[[4, 135, 200], [3, 45, 50], [5, 1, 9], [9, 5, 1]],
        &[[2, 1, 90], [3, 20, 30], [2, 7, 15], [5, 4, 2], [2, 2, 1]],
        &[[2, 0, 180], [3, 5, 60], [2, 15, 30], [2, 30, 15], [3, 0, 5], [5, 1, 1]],
    ];
    for bits in [16, 32, 128] {
        for extents in alone {
            copy(gpu, bits, &[piece(Some(2), 3, extents)]);
        }
        // Eight pieces, of which some are short: the blocks of a longer one have nothing to do.
        let rows: [Piece; 8] = [
            piece(Some(0), 0, &[[4, 3, 300], [3, 1, 1]]),
            piece(None, 3, &[[4, 0, 300], [1, 0, 1]]),
            piece(Some(12), 4, &[[4, 270, 300], [270, 1, 1]]),
            piece(Some(5), 274, &[[4, 1, 300]]),
            piece(None, 275, &[[4, 0, 300], [20, 0, 1]]),
            piece(Some(7), 295, &[[4, 0, 300]]),
            piece(Some(1), 296, &[[4, 2, 300], [3, 1, 1]]),
            piece(None, 299, &[[4, 0, 300]]),
        ];
        copy(gpu, bits, &rows);
    }
    for bits in [16, 32] {
        for &rows in gpu.cases(&[1, 31, 33, 64], &[33]) {
            for &columns in gpu.cases(&[1, 31, 33, 70], &[31, 65]) {
                turn(gpu, bits, [rows, columns]);
            }
        }
    }
}

/// For each element of a box, its numbers in x and y.
fn places(from: usize, to: usize, extents: &[Stretch]) -> Vec<[usize; 2]> {
    let step = |places: Vec<[usize; 2]>, &[extent, x, y]: &Stretch| {
        let along = |[from, to]: [usize; 2]| (0..extent).map(move |i| [from + i * x, to + i * y]);
        places.into_iter().flat_map(along).collect()
    };
    extents.iter().fold(vec![[from, to]], step)
}

fn boxed(extents: &[Stretch]) -> KilnBox {
    let mut result = KilnBox { rank: extents.len() as u32, ..KilnBox::default() };
    for (axis, &[extent, from, to]) in extents.iter().enumerate() {
        result.extents[axis] = divider(extent);
        (result.from[axis], result.to[axis]) = (from as u32, to as u32);
    }
    result
}

/// Units of 128 bits are four words that differ.
fn units(bits: usize, numbers: impl Iterator<Item = usize>) -> Vec<u8> {
    match bits {
        128 => elements(32, numbers.flat_map(|number| (0..4).map(move |word| 4 * number + word))),
        _ => elements(bits, numbers),
    }
}

fn copy(gpu: &Gpu, bits: usize, pieces: &[Piece]) {
    let bytes = bits / 8;
    let all: Vec<Vec<[usize; 2]>> =
        pieces.iter().map(|p| places(p.from.unwrap_or(0), p.to, p.extents)).collect();
    let end = |side: usize| 1 + all.iter().flatten().map(|place| place[side]).max().expect("some");
    let x = Memory::of_bytes(&units(bits, 0..end(0)));
    let y = Memory::of_bytes(&vec![0xff; end(1) * bytes]);
    let mut params = KilnCopyParams::default();
    let mut want = vec![0xff; end(1) * bytes];
    for ((piece, places), entry) in pieces.iter().zip(&all).zip(&mut params.pieces) {
        entry.y = Address(y.address().0 + (piece.to * bytes) as u64);
        entry.x = piece
            .from
            .map_or(Address::default(), |from| Address(x.address().0 + (from * bytes) as u64));
        entry.count = places.len() as u32;
        entry.moved = boxed(piece.extents);
        for &[from, to] in places {
            let unit = match piece.from {
                Some(_) => units(bits, std::iter::once(from)),
                None => vec![0; bytes],
            };
            want[to * bytes..(to + 1) * bytes].copy_from_slice(&unit);
        }
    }
    let longest = all.iter().map(Vec::len).max().expect("a piece");
    let kernel = format!("copy_pieces_{bits}");
    let blocks = [longest.div_ceil(256), pieces.len(), 1];
    gpu.launch(&kernel, Grid { blocks, threads: [256, 1], shared: 0 }, &params);
    let case = format!("{} pieces, {:?}", pieces.len(), pieces[0].extents);
    gpu.ledger().compare_bytes(&kernel, &case, &y.read(), &want);
}

/// Matrices of a box, with columns that neighbour in x between rows that do not.
fn turn(gpu: &Gpu, bits: usize, [rows, columns]: [usize; 2]) {
    const OUTER: [usize; 2] = [2, 3];
    let (from, to) = (columns + 3, rows + 2);
    let (x_matrix, y_matrix) = (rows * from, columns * to);
    let outer = [[OUTER[0], x_matrix, 3 * y_matrix], [OUTER[1], 2 * x_matrix, y_matrix]];
    let extents = [&outer[..], &[[rows, from, 1], [columns, 1, to]]].concat();
    let all = places(0, 0, &extents);
    let end = |side: usize| 1 + all.iter().map(|place| place[side]).max().expect("some");
    let x = Memory::of_bytes(&elements(bits, 0..end(0)));
    let y = Memory::of_bytes(&vec![0xff; end(1) * bits / 8]);
    let (across, down) = (columns.div_ceil(32), rows.div_ceil(32));
    let params = KilnTurnParams {
        y: y.address(),
        x: x.address(),
        outer: boxed(&outer),
        column_tiles: divider(across),
        row_tiles: divider(down),
        columns: columns as u32,
        rows: rows as u32,
        from: from as u32,
        to: to as u32,
    };
    let kernel = format!("turn_{bits}");
    let blocks = [across * down * OUTER[0] * OUTER[1], 1, 1];
    gpu.launch(&kernel, Grid { blocks, threads: [32, 8], shared: 0 }, &params);
    let mut want = vec![0xff; end(1) * bits / 8];
    for [from, to] in all {
        let element = elements(bits, std::iter::once(from));
        want[to * bits / 8..(to + 1) * bits / 8].copy_from_slice(&element);
    }
    gpu.ledger().compare_bytes(&kernel, &format!("{rows} x {columns}"), &y.read(), &want);
}
