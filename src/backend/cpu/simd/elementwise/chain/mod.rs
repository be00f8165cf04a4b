// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chains of operations on elements: block by block, each link a loop over a block that lies in the
//! nearest cache.
//!
//! A result depends on its own elements alone, so blocks may be cut anywhere.

mod gather;
mod link;
mod of_one;
mod of_several;
mod slopes;

use std::ops::Range;

use super::base::{dispatch, for_each_vector, load, store_as, Isa, Kernel, SharedSlice, Vector};
use super::choice::{is_small, STREAMED_ELEMENTS};
use super::{split, Pool, Stores};
use crate::kernel::chain::{Chain, Source, View, MOST_KEPT, MOST_OPERANDS, MOST_RESULTS};
use gather::Gathered;
use link::Apply;

/// Most elements of a block. A value of a block takes a few KiB, and a chain has few of them.
const BLOCK: usize = 1024;

/// Computes a chain.
///
/// # Panics
/// If the chain has more operands or results than chains have, or a slice is shorter than what the
/// chain reads or writes of it.
pub(crate) fn chain(
    pool: &Pool,
    isa: Isa,
    chain: &Chain,
    operands: &[&[f32]],
    results: Vec<&mut [f32]>,
) {
    assert_eq!(operands.len(), chain.operands.len(), "operands of a chain");
    assert!(operands.len() <= MOST_OPERANDS && results.len() <= MOST_RESULTS, "a long chain");
    for (view, operand) in chain.operands.iter().zip(operands) {
        assert!(
            view.elements() == chain.elements && view.span() <= operand.len(),
            "a short operand"
        );
    }
    assert!(results.iter().all(|result| result.len() == chain.elements), "results of a chain");
    let results: Vec<SharedSlice<'_, f32>> = results.into_iter().map(SharedSlice::new).collect();
    let block = block_of(&chain.operands);
    let is_large = chain.elements >= STREAMED_ELEMENTS;
    let stores = if is_large { Stores::Streamed } else { Stores::Cached };
    let blocks = chain.elements.div_ceil(block);
    let work = |blocks: Range<usize>| {
        let pass = Pass { chain, operands, results: &results, block, blocks, stores };
        // SAFETY: all slices are as long as the chain needs, just checked, and no block is
        // computed twice.
        unsafe { dispatch(isa, pass) }
    };
    match is_small(chain) {
        true => work(0..blocks),
        false => pool.run(&|index| work(split(blocks, pool.threads(), index))),
    }
}

/// Elements of a block: where what is repeated is short, a multiple of it, so that it is the same in
/// every block.
fn block_of(views: &[View]) -> usize {
    // Whole vectors of any instruction set.
    const VECTORS: usize = 16;
    let mut common = VECTORS;
    for period in views.iter().map(View::period).filter(|period| (2..=BLOCK).contains(period)) {
        let next = common / greatest_divisor(common, period) * period;
        if next <= BLOCK {
            common = next;
        }
    }
    BLOCK / common * common
}

fn greatest_divisor(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        _ => greatest_divisor(b, a % b),
    }
}

/// One value of each element of a block.
#[repr(align(64))]
#[derive(Clone)]
struct Values([f32; BLOCK]);

/// Some blocks of a chain. Each operand holds what its view reads, each result the chain's elements,
/// and no other thread has these blocks.
struct Pass<'a> {
    chain: &'a Chain,
    operands: &'a [&'a [f32]],
    results: &'a [SharedSlice<'a, f32>],
    block: usize,
    blocks: Range<usize>,
    stores: Stores,
}

impl Kernel for Pass<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let mut rooms =
            vec![Values([0.0; BLOCK]); MOST_OPERANDS.min(self.operands.len()) + 1 + MOST_KEPT];
        let mut rooms = rooms.iter_mut().map(|values| values.0.as_mut_ptr());
        let mut room = || rooms.next().unwrap_or(std::ptr::null_mut());
        let operands = self.chain.operands.iter().zip(self.operands);
        let mut operands: Vec<Gathered<'_>> =
            operands.map(|(view, values)| Gathered::new(view, values, room())).collect();
        let last_room = room();
        let kept_room = [(); MOST_KEPT].map(|()| room());
        for block in self.blocks {
            let start = block * self.block;
            let count = self.block.min(self.chain.elements - start);
            let mut last: *const f32 = std::ptr::null();
            let mut kept = [last; MOST_KEPT];
            for link in &self.chain.links {
                let mut from = [last; 3];
                for (from, argument) in from.iter_mut().zip(&link.arguments) {
                    *from = match *argument {
                        Source::Last => last,
                        Source::Kept(place) => kept[place],
                        Source::Operand(operand) => operands[operand].block(start, count),
                    };
                }
                // SAFETY: the blocks of a result are disjoint, and each result has one link.
                let result = link.store.map(|result| unsafe {
                    self.results[result].part(start..start + count).as_mut_ptr()
                });
                let own = match link.keep {
                    Some(place) => kept_room[place],
                    None => last_room,
                };
                let to = match result {
                    Some(result) if self.stores == Stores::Cached => result,
                    _ => own,
                };
                let apply = Apply { function: link.function, from, to, count };
                // SAFETY: every argument and `to` hold `count` values; where they are the same, each
                // vector is read before it is written.
                unsafe { V::enter(apply) };
                if let Some(result) = result.filter(|result| *result != to) {
                    // SAFETY: both hold `count` values.
                    unsafe { V::enter(Stream { from: to, to: result, count }) };
                }
                last = to;
                if let Some(place) = link.keep {
                    kept[place] = to;
                }
            }
        }
        V::fence();
    }
}

/// Copies values past the caches. Both are valid for that many.
struct Stream {
    from: *const f32,
    to: *mut f32,
    count: usize,
}

impl Kernel for Stream {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // Up to where whole vectors are aligned.
        let head = self.to.align_offset(V::LANES * size_of::<f32>()).min(self.count);
        // SAFETY: the caller's.
        unsafe {
            std::ptr::copy_nonoverlapping(self.from, self.to, head);
            for_each_vector!(V, self.count - head, |at, lanes| {
                let value = load::<V>(self.from.add(head + at), lanes);
                store_as(Stores::Streamed, value, self.to.add(head + at), lanes);
            });
        }
    }
}
