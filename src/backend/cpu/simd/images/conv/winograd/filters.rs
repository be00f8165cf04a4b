// SPDX-License-Identifier: MIT OR Apache-2.0
//! Filters, transformed once for all squares.

use super::super::sweep::{Axis, Mixing, Sweep};
use super::base::{dispatch, Isa, Kernel, SharedSlice, Vector};
use super::products::{HALF_PANEL, PANEL};
use super::transforms::{both, FilterToPoints, POINTS, TAPS};
use super::{split, Pool, PRODUCTS};

/// Where transformed filters lie: `[panel][product][channel of the source][channel of the target]`,
/// panels as those of linear layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filters {
    /// Channels: of the source, of the target.
    pub(super) channels: [usize; 2],
}

impl Filters {
    pub(super) fn len(&self) -> usize {
        PRODUCTS * self.channels[0] * self.channels[1].next_multiple_of(HALF_PANEL)
    }

    pub(super) fn panels(&self) -> usize {
        self.channels[1].div_ceil(PANEL)
    }

    pub(super) fn width(&self, panel: usize) -> usize {
        (self.channels[1].next_multiple_of(HALF_PANEL) - panel * PANEL).min(PANEL)
    }

    pub(super) fn panel_start(&self, panel: usize) -> usize {
        panel * PANEL * PRODUCTS * self.channels[0]
    }

    /// Transforms the filters that a sweep sees.
    pub(super) fn pack(
        &self,
        pool: &Pool,
        isa: Isa,
        (mixing, sweep): (&Mixing, &Sweep),
        weight: &[f32],
        packed: &mut [f32],
    ) {
        assert_eq!(packed.len(), self.len(), "room for the filters");
        let packed = SharedSlice::new(packed);
        let taps = [&sweep[1], &sweep[2]].map(from_first_to_last);
        let sources = self.channels[0];
        pool.run(&|index| {
            // Not whole panels: few channels are one.
            for unit in split(self.panels() * sources, pool.threads(), index) {
                let (panel, source) = (unit / sources, unit % sources);
                let filters = *self;
                let job = Lines { filters, mixing, taps, weight, panel, source, packed: &packed };
                // SAFETY: units have lines of their own, and each is one thread's.
                unsafe { dispatch(isa, job) }
            }
        });
    }
}

/// The window's taps in the order in which they look at the source.
pub(super) fn from_first_to_last(axis: &Axis) -> [usize; TAPS] {
    let mut taps = axis.taps.clone();
    taps.sort_by_key(|tap| tap.offset);
    std::array::from_fn(|index| taps[index].tap)
}

/// What a panel stores of a channel of the source: a line of each product.
struct Lines<'a> {
    filters: Filters,
    mixing: &'a Mixing,
    taps: [[usize; TAPS]; 2],
    weight: &'a [f32],
    panel: usize,
    source: usize,
    packed: &'a SharedSlice<'a, f32>,
}

impl Kernel for Lines<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let [sources, targets] = self.filters.channels;
        let first = self.panel * PANEL;
        let lanes = (targets - first).min(PANEL);
        let mut taps = [0.0; TAPS * TAPS * PANEL];
        for lane in 0..lanes {
            let target = first + lane;
            let from = self.source * self.mixing.steps[0] + target * self.mixing.steps[1];
            for row in 0..TAPS {
                for column in 0..TAPS {
                    let tap = self.taps[0][row] * TAPS + self.taps[1][column];
                    taps[(row * TAPS + column) * PANEL + lane] = self.weight[from + tap];
                }
            }
        }
        let width = self.filters.width(self.panel);
        let start = self.filters.panel_start(self.panel);
        for at in (0..width).step_by(V::LANES) {
            let from = |row: usize, column: usize| {
                let from = &taps[(row * TAPS + column) * PANEL + at..][..V::LANES];
                // SAFETY: so many lanes, just taken.
                unsafe { V::load(from.as_ptr()) }
            };
            both::<V, FilterToPoints, TAPS, POINTS>(from, |row, column, value| {
                let product = row * POINTS + column;
                let to = start + (product * sources + self.source) * width + at;
                // SAFETY: the caller's: these lines are this thread's, and `packed` holds all of them.
                unsafe { value.store(self.packed.at(to)) };
            });
        }
    }
}
