// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the machine can do at the moment: bare matrix products, and writing to cache lines that another
//! core has read.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gemm::Parallelism;

/// Numbers in one cache line of 64 bytes. A longer one is written more than once; the first time is
/// what takes long.
pub(crate) const LINE: usize = 16;

/// How long this thread takes to write to every line, `rounds` times; before each time, another
/// thread reads them all.
pub(crate) fn take_back(lines: &[AtomicU32], rounds: u64) -> Duration {
    let turn = AtomicU64::new(0);
    let wait_for = |expected: u64| {
        while turn.load(Ordering::Acquire) != expected {
            std::hint::spin_loop();
        }
    };
    let ours = || lines.iter().step_by(LINE);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..rounds {
                wait_for(2 * round);
                let sum = ours().fold(0, |sum: u32, line| sum ^ line.load(Ordering::Relaxed));
                std::hint::black_box(sum);
                turn.store(2 * round + 1, Ordering::Release);
            }
        });
        let mut taken = Duration::ZERO;
        for round in 0..rounds {
            wait_for(2 * round + 1);
            let start = Instant::now();
            ours().for_each(|line| line.store(round as u32, Ordering::Relaxed));
            taken += start.elapsed();
            turn.store(2 * round + 2, Ordering::Release);
        }
        taken
    })
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
