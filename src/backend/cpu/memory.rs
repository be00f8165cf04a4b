// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of the CPU backend: aligned arenas, and the slices of them that a step works on.

use super::ALIGNMENT;
use crate::backend::{Arena, Span};
use crate::plan::Bytes;

const ELEMENT: usize = std::mem::size_of::<f32>();

/// All memory that networks reserved.
#[derive(Debug, Default)]
pub(super) struct Arenas(Vec<Aligned>);

/// Floating-point numbers that begin at a cache line.
#[derive(Debug, Default)]
struct Aligned {
    data: Vec<f32>,
    start: usize,
    length: usize,
}

impl Arenas {
    pub(super) fn reserve(&mut self, bytes: Bytes) -> Arena {
        self.0.push(Aligned::zeros(bytes.0.div_ceil(ELEMENT)));
        Arena((self.0.len() - 1) as u32)
    }

    pub(super) fn slice(&self, at: Span) -> &[f32] {
        let start = at.start.0 / ELEMENT;
        &self.0[at.arena.0 as usize].elements()[start..start + at.length.0 / ELEMENT]
    }

    pub(super) fn slice_mut(&mut self, at: Span) -> &mut [f32] {
        let start = at.start.0 / ELEMENT;
        &mut self.0[at.arena.0 as usize].elements_mut()[start..start + at.length.0 / ELEMENT]
    }

    /// Disjoint slices of any arenas, in the order of `spans`. An empty span gives an empty slice.
    ///
    /// # Panics
    /// If two spans overlap: the memory plan keeps the buffers of a step apart.
    pub(super) fn split(&mut self, spans: &[Span]) -> Vec<&mut [f32]> {
        let mut order: Vec<usize> = (0..spans.len()).collect();
        order.sort_unstable_by_key(|&index| (spans[index].arena, spans[index].start));
        let mut slices: Vec<&mut [f32]> = (0..spans.len()).map(|_| Default::default()).collect();
        let mut next = order.into_iter().peekable();
        for (number, arena) in self.0.iter_mut().enumerate() {
            let mut rest = arena.elements_mut();
            let mut passed = 0;
            while let Some(index) = next.next_if(|&i| spans[i].arena.0 as usize == number) {
                let start = spans[index].start.0 / ELEMENT;
                let (_, tail) = rest.split_at_mut(start - passed);
                let (slice, tail) = tail.split_at_mut(spans[index].length.0 / ELEMENT);
                passed = start + slice.len();
                slices[index] = slice;
                rest = tail;
            }
        }
        slices
    }
}

impl Aligned {
    fn zeros(length: usize) -> Self {
        let spare = ALIGNMENT / ELEMENT;
        let data = vec![0.0; length + spare];
        let start = data.as_ptr().align_offset(ALIGNMENT).min(spare);
        Aligned { data, start, length }
    }

    fn elements(&self) -> &[f32] {
        &self.data[self.start..self.start + self.length]
    }

    fn elements_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..self.start + self.length]
    }
}
