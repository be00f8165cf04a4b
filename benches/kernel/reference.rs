// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the machine can do at the moment: plain copies and bare matrix products.

use std::num::NonZeroUsize;

use gemm::Parallelism;

/// Copies an array, each thread its share.
pub(crate) fn copy(from: &[f32], to: &mut [f32], threads: NonZeroUsize) {
    let share = from.len().div_ceil(threads.get()).max(1);
    let mut shares = from.chunks(share).zip(to.chunks_mut(share));
    let own = shares.next();
    std::thread::scope(|scope| {
        for (from, to) in shares {
            scope.spawn(|| to.copy_from_slice(from));
        }
        if let Some((from, to)) = own {
            to.copy_from_slice(from);
        }
    });
}

/// A product of row-major matrices, `[rows, inner] x [inner, columns]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) inner: usize,
}

impl Product {
    /// Multiplications and additions.
    pub(crate) fn flops(self) -> u64 {
        2 * (self.rows * self.columns * self.inner) as u64
    }

    /// Computes `c = a b` by the `gemm` crate.
    ///
    /// # Panics
    /// If a slice has not as many elements as its matrix.
    pub(crate) fn compute(self, a: &[f32], b: &[f32], c: &mut [f32], threads: NonZeroUsize) {
        let Product { rows, columns, inner } = self;
        assert_eq!(
            [a.len(), b.len(), c.len()],
            [rows * inner, inner * columns, rows * columns],
            "elements of {self:?}"
        );
        let parallelism = match threads.get() {
            1 => Parallelism::None,
            several => Parallelism::Rayon(several),
        };
        let (width, stride) = (columns as isize, inner as isize);
        let (c, a, b) = (c.as_mut_ptr(), a.as_ptr(), b.as_ptr());
        // SAFETY: column stride 1 and row stride = width address exactly the elements of row-major
        // matrices, whose slices are as long as the assertion says; `c` is borrowed mutably, so it
        // overlaps neither `a` nor `b`. `read_dst` is false: `c` is only written.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                inner,
                c,
                1,
                width,
                false,
                a,
                1,
                stride,
                b,
                1,
                width,
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}
