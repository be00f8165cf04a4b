// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the three products of a linear layer have in common: the kernels' tiles, the cases, and the
//! product itself in f64.

use crate::abi::*;
use crate::driver::{Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::Want;
use crate::memory::{Array, Memory};

/// One way of computing products: `bf16_128x128`.
#[derive(Clone, Debug)]
pub(crate) struct Method {
    pub(crate) name: String,
    pub(crate) storage: Storage,
    /// Whether the tensor cores see only the first bits of f32.
    tf32: bool,
    /// Rows and columns of a block's outputs.
    pub(crate) tile: [usize; 2],
    /// Whether extents may be anything.
    pub(crate) guarded: bool,
    threads: usize,
    shared: usize,
}

impl Method {
    pub(crate) fn all() -> Vec<Self> {
        let row = KILN_GEMM_STAGES * KILN_GEMM_DEPTH_BYTES;
        let tiles = [[128, 128], [128, 64], [64, 128], [64, 64]];
        let mut methods = Vec::new();
        let types = [("bf16", Storage::Bf16), ("f16", Storage::F16), ("tf32", Storage::F32)];
        for (name, storage) in types {
            let inside = tiles.map(|tile| (format!("{}x{}", tile[0], tile[1]), tile, false));
            for (way, tile, guarded) in inside.into_iter().chain([("any".into(), [64, 64], true)]) {
                methods.push(Method {
                    name: format!("{name}_{way}"),
                    storage,
                    tf32: name == "tf32",
                    tile,
                    guarded,
                    threads: KILN_GEMM_THREADS as usize,
                    shared: row as usize * (tile[0] + tile[1]),
                });
            }
        }
        let row = KILN_GEMM_F32_STAGES * KILN_GEMM_F32_DEPTH * 4;
        for tile @ [rows, columns] in tiles {
            methods.push(Method {
                name: format!("f32_{rows}x{columns}"),
                storage: Storage::F32,
                tf32: false,
                tile,
                guarded: true,
                threads: if rows * columns > 128 * 64 { 256 } else { 128 },
                shared: row as usize * (rows + columns + 2 * KILN_GEMM_F32_PAD as usize),
            });
        }
        methods
    }

    /// Extents to try: anything where the kernel takes anything, else the smallest and edge tiles.
    pub(crate) fn shapes(&self, gpu: &Gpu) -> Vec<[usize; 3]> {
        let ([rows, columns], vector) = (self.tile, self.storage.vector());
        let any =
            [[1, 1, 1], [31, 33, 31], [33, 65, 40], [65, 31, 64], [70, 136, 100], [136, 10, 33]];
        let aligned = [
            [rows, columns, 32],
            [rows + 8, columns + 8, 13 * vector],
            [2 * rows, columns + 72, vector],
        ];
        // Tiles inside matrices with rows that are aligned, whole steps of k or not, and with rows that are not.
        let whole = [
            [rows + 8, 2 * columns + 4, 48],
            [rows + 4, columns + 8, 40],
            [rows + 3, columns + 1, 33],
        ];
        let mut shapes = match self.guarded {
            true => gpu.cases(&any, &[[33, 65, 40], [65, 10, 33]]).to_vec(),
            false => gpu.cases(&aligned, &aligned[1..2]).to_vec(),
        };
        if self.storage == Storage::F32 && !self.tf32 {
            shapes.extend(gpu.cases(&whole, &whole[..1]));
        }
        shapes
    }

    /// Parts of `k` to try. There is no use in more of them than steps, and no harm.
    pub(crate) fn splits(&self, gpu: &Gpu) -> &'static [usize] {
        gpu.cases(&[1, 3], &[1, 2])
    }

    /// Tiles along rows and columns.
    pub(crate) fn tiles(&self, m: usize, n: usize) -> [usize; 2] {
        [m.div_ceil(self.tile[0]), n.div_ceil(self.tile[1])]
    }

    /// Outputs of a tile.
    pub(crate) fn area(&self) -> usize {
        self.tile[0] * self.tile[1]
    }

    pub(crate) fn grid(&self, blocks: [usize; 3]) -> Grid {
        Grid { blocks, threads: [self.threads, 1], shared: self.shared }
    }

    /// A number as the multipliers see it.
    fn seen(&self, x: f64) -> f64 {
        match self.tf32 {
            true => cut(x),
            false => x,
        }
    }
}

/// An f32 number as tensor cores take it for tf32: without the 13 bits that they ignore.
pub(crate) fn cut(x: f64) -> f64 {
    f64::from(f32::from_bits((x as f32).to_bits() & 0xffff_e000))
}

/// A matrix with rows further apart than they are long; NaNs in between, which no kernel may use.
pub(crate) struct Matrix {
    pub(crate) array: Array,
    rows: usize,
    columns: usize,
    pub(crate) stride: usize,
}

impl Matrix {
    pub(crate) fn new(
        storage: Storage,
        rows: usize,
        columns: usize,
        gap: usize,
        values: &[f32],
    ) -> Self {
        let stride = columns + gap;
        let mut padded = vec![f32::NAN; rows * stride];
        for (to, from) in padded.chunks_mut(stride).zip(values.chunks(columns)) {
            to[..columns].copy_from_slice(from);
        }
        Matrix { array: Array::new(storage, &padded), rows, columns, stride }
    }

    pub(crate) fn random(
        method: &Method,
        rows: usize,
        columns: usize,
        gap: usize,
        seed: usize,
    ) -> Self {
        let values = Numbers::new(seed + rows * columns).between(-1.0, 1.0, rows * columns);
        Self::new(method.storage, rows, columns, gap, &values)
    }

    /// What it was made with.
    pub(crate) fn at(&self, row: usize, column: usize) -> f64 {
        self.array.values[row * self.stride + column]
    }

    /// What it holds now, row by row; fails if something was written between the rows.
    pub(crate) fn read(&self, kernel: &str) -> Vec<f64> {
        let held = self.array.read();
        let mut values = Vec::with_capacity(self.rows * self.columns);
        for row in held.chunks(self.stride) {
            values.extend_from_slice(&row[..self.columns]);
            assert!(row[self.columns..].iter().all(|x| x.is_nan()), "{kernel} writes between rows");
        }
        values
    }

    /// Its rows, or its columns, as the multipliers see them.
    fn lines(&self, method: &Method, transposed: bool) -> Vec<Vec<f64>> {
        let (outer, inner) =
            if transposed { (self.columns, self.rows) } else { (self.rows, self.columns) };
        let at = |i, j| method.seen(if transposed { self.at(j, i) } else { self.at(i, j) });
        (0..outer).map(|i| (0..inner).map(|j| at(i, j)).collect()).collect()
    }
}

/// All dot products of lines of `a` and `b`; a flag says that the lines are columns: neither for
/// `a b^T`, `b` for `a b`, both for `a^T b`.
pub(crate) fn product(method: &Method, a: (&Matrix, bool), b: (&Matrix, bool)) -> Vec<Want> {
    let (a, b) = (a.0.lines(method, a.1), b.0.lines(method, b.1));
    let dot = |(a, b): (&Vec<f64>, &Vec<f64>)| {
        let (mut value, mut magnitude) = (0.0, 0.0);
        for (a, b) in a.iter().zip(b) {
            value += a * b;
            magnitude += (a * b).abs();
        }
        Want { value, magnitude }
    };
    a.iter().flat_map(|a| b.iter().map(move |b| dot((a, b)))).collect()
}

/// Partial sums and tickets of a launch, those of biases behind those of tiles.
pub(crate) struct Split {
    partials: Memory,
    tickets: Memory,
    splits: usize,
    biases: bool,
}

impl Split {
    pub(crate) fn new(method: &Method, tiles: usize, splits: usize) -> Self {
        Self::with_biases(method, tiles, splits, [0, 0])
    }

    /// The same with partial sums and tickets of biases.
    pub(crate) fn with_biases(
        method: &Method,
        tiles: usize,
        splits: usize,
        [partials, tickets]: [usize; 2],
    ) -> Self {
        let parts = if splits > 1 { splits } else { 0 };
        Split {
            partials: Memory::partials(tiles * parts * method.area() + partials),
            tickets: Memory::tickets(tiles + tickets),
            splits,
            biases: tickets > 0,
        }
    }

    pub(crate) fn params(&self) -> KilnSplitK {
        match self.splits {
            1 if !self.biases => KilnSplitK { splits: 1, ..KilnSplitK::default() },
            splits => KilnSplitK {
                partials: self.partials.address(),
                tickets: self.tickets.address(),
                splits: splits as i32,
            },
        }
    }

    pub(crate) fn assert_finished(&self, kernel: &str) {
        self.tickets.assert_zero(kernel);
    }
}
