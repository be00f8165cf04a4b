// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bank conflicts of the shared-memory layouts in kernels/lib/gemm/, by enumeration. The index maps are written down
//! here again on purpose: that they multiply correctly is tested by running the kernels, that they do so without
//! conflicts can only be computed.

/// Words that a group of lanes touches at once: each lane's first 4-byte word and how many it takes.
struct Access {
    what: &'static str,
    words: u32,
    /// First word of each lane, in the groups that the hardware serves together.
    groups: Vec<Vec<u32>>,
}

/// What conflicts, in words.
pub(super) fn misses() -> Vec<String> {
    let conflicting = accesses().into_iter().filter_map(|access| {
        let degree = access.groups.iter().map(|group| degree(group, access.words)).max()?;
        (degree > 1).then(|| format!("S7 {}: bank conflicts of degree {degree}", access.what))
    });
    conflicting.collect()
}

/// The largest number of different words in one of the 32 banks.
fn degree(group: &[u32], words: u32) -> usize {
    let mut banks = vec![Vec::new(); 32];
    for word in group.iter().flat_map(|first| *first..first + words) {
        let bank: &mut Vec<u32> = &mut banks[word as usize % 32];
        if !bank.contains(&word) {
            bank.push(word);
        }
    }
    banks.iter().map(Vec::len).max().unwrap_or(0)
}

/// Splits the addresses of 32 lanes into the groups that one pass serves: 128 bytes.
fn passes(words: u32, address: impl Fn(u32) -> u32) -> Vec<Vec<u32>> {
    let lanes: Vec<u32> = (0..32).map(address).collect();
    lanes.chunks(32 / words as usize).map(<[u32]>::to_vec).collect()
}

/// Word address of a chunk of 16 bytes in an operand tile.
fn chunk_at(row: u32, chunk: u32, row_bytes: u32, wide_elements: bool) -> u32 {
    let permutation = match (row_bytes, wide_elements) {
        (64, _) => row >> 1 & 3,
        (_, true) => (row & 3) << 1,
        (_, false) => row & 7,
    };
    (row * row_bytes + ((chunk ^ permutation) << 4)) / 4
}

fn accesses() -> Vec<Access> {
    let mut all = Vec::new();
    for row_bytes in [64, 128, 256, 512] {
        let wide = row_bytes == 512;
        let chunks = row_bytes / 16;
        let copies = passes(4, |lane| chunk_at(lane / chunks, lane % chunks, row_bytes, wide));
        all.push(Access { what: "asynchronous copies", words: 4, groups: copies });
        if !wide {
            let rows = passes(4, |lane| chunk_at(lane & 7 | lane >> 3 << 3, 1, row_bytes, false));
            all.push(Access { what: "ldmatrix", words: 4, groups: rows });
        }
    }
    for row_bytes in [256, 512] {
        let scalars =
            passes(1, |lane| chunk_at(lane & 3, lane >> 4, row_bytes, true) + (lane >> 2 & 3));
        all.push(Access { what: "scalar loads of tf32", words: 1, groups: scalars });
        let pairs =
            passes(2, |lane| chunk_at(lane & 3, lane >> 3, row_bytes, true) + (lane >> 2 & 1) * 2);
        all.push(Access { what: "loads of pairs of tf32", words: 2, groups: pairs });
    }
    for chunks in [4, 8] {
        all.extend(staging(chunks));
    }
    let upright = passes(1, |lane| (lane % 8) * (128 + 4) + lane / 8);
    all.push(Access { what: "upright copies of the f32 product", words: 1, groups: upright });
    let position = |n: u32| n ^ ((n >> 5 & 1) << 2);
    let columns = passes(4, |lane| position(lane % 16 * 8));
    all.push(Access { what: "columns of the f32 product", words: 4, groups: columns });
    let whole = passes(4, |lane| position(lane * 4));
    all.push(Access { what: "whole copies of the f32 product", words: 4, groups: whole });
    for extent in [64, 128] {
        all.extend(lying(extent));
    }
    all
}

/// Rows of the f32 product that run along k.
fn lying(extent: u32) -> [Access; 2] {
    let at = |row: u32, chunk: u32| {
        let slot = (row & 7) * (extent / 8) + (row >> 3);
        slot * 16 + ((chunk ^ (row >> 4 & 3)) << 2)
    };
    let copies = passes(4, |lane| at(lane / 4 * 8, lane % 4));
    let reads = passes(4, |lane| at(lane % (extent / 8) * 8, 1));
    [
        Access { what: "copies of lying rows of the f32 product", words: 4, groups: copies },
        Access { what: "reads of lying rows of the f32 product", words: 4, groups: reads },
    ]
}

/// How a warp passes rows of `chunks` times eight sums through shared memory.
fn staging(chunks: u32) -> [Access; 4] {
    let pitch = chunks * 8 + 8;
    let put = passes(2, |lane| {
        let row = lane / 4;
        let flip = if chunks == 8 { 0 } else { row & 1 };
        row * pitch + ((lane >> 1 & 1) ^ flip) * 4 + (lane & 1) * 2
    });
    let put_turned = passes(2, |lane| {
        let row = lane % 4;
        let flip = if chunks == 8 { 0 } else { row & 1 };
        row * pitch + (lane >> 4) * 8 + ((lane >> 3 & 1) ^ flip) * 4 + (lane >> 2 & 1) * 2
    });
    let get = |half: u32| {
        passes(4, move |lane| {
            let (row, chunk) = (lane / chunks, lane % chunks);
            let flip = if chunks == 8 { chunk >> 2 } else { row & 1 };
            row * pitch + chunk * 8 + (flip ^ half) * 4
        })
    };
    [
        Access { what: "stores of sums", words: 2, groups: put },
        Access { what: "stores of turned sums", words: 2, groups: put_turned },
        Access { what: "loads of sums", words: 4, groups: get(0) },
        Access { what: "loads of sums", words: 4, groups: get(1) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_layout_has_conflicts() {
        assert_eq!(misses(), Vec::<String>::new());
    }

    #[test]
    fn a_conflict_is_seen() {
        let rows = passes(4, |lane| (lane & 7) * 32);
        assert_eq!(degree(&rows[0], 4), 8);
    }
}
