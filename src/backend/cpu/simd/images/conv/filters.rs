// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weights in the order in which tiles read them.

use super::base::SharedSlice;
use super::products::{HALF_PANEL, PANEL};
use super::shape::AXES;
use super::sweep::{tap_index, Mixing, Sweep, Tap};
use super::{split, Pool};

/// Where the packed weights of a sweep lie: `[group][panel][depth tap][height tap][channel of the
/// source][width tap][channel of the target]`. Panels are as those of linear layers: 32 channels of the
/// target, the last one 16 where no more are left, zeros behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    /// Where the sweep begins.
    pub(super) start: usize,
    /// Channels of the target in a group.
    pub(super) to: usize,
    /// Channels of the source and width taps: the terms of a row.
    pub(super) steps: usize,
    /// Depth taps and height taps.
    rows: [usize; 2],
}

impl Packing {
    /// Packings of sweeps one behind the other, and their elements in all.
    pub(super) fn of(mixing: &Mixing, sweeps: &[Sweep]) -> (Vec<Packing>, usize) {
        let mut start = 0;
        let packings = sweeps.iter().map(|[depth, height, width]| {
            let packing = Packing {
                start,
                to: mixing.channels[1],
                steps: mixing.channels[0] * width.taps.len(),
                rows: [depth.taps.len(), height.taps.len()],
            };
            start += mixing.groups * packing.group_len();
            packing
        });
        (packings.collect(), start)
    }

    /// Panels of a group.
    pub(super) fn panels(&self) -> usize {
        self.to.div_ceil(PANEL)
    }

    /// Channels that a panel stores.
    pub(super) fn width(&self, panel: usize) -> usize {
        (self.to.next_multiple_of(HALF_PANEL) - panel * PANEL).min(PANEL)
    }

    /// Where the weights of a row of taps begin: the numbers count the sweep's taps.
    pub(super) fn row(&self, group: usize, panel: usize, [depth, height]: [usize; 2]) -> usize {
        let rows = self.rows[0] * self.rows[1];
        let row = depth * self.rows[1] + height;
        let panel_start = panel * PANEL * rows * self.steps;
        let row_start = row * self.steps * self.width(panel);
        self.start + group * self.group_len() + panel_start + row_start
    }

    fn group_len(&self) -> usize {
        self.rows[0] * self.rows[1] * self.steps * self.to.next_multiple_of(HALF_PANEL)
    }
}

/// Packs the weights of all sweeps.
pub(super) fn pack(
    pool: &Pool,
    mixing: &Mixing,
    kernel: &[usize; AXES],
    sweeps: &[Sweep],
    weight: &[f32],
    packed: &mut [f32],
) {
    let (packings, _) = Packing::of(mixing, sweeps);
    let packed = SharedSlice::new(packed);
    pool.run(&|index| {
        for (sweep, packing) in sweeps.iter().zip(&packings) {
            let panels = packing.panels();
            for unit in split(mixing.groups * panels, pool.threads(), index) {
                let (group, panel) = (unit / panels, unit % panels);
                let start = packing.row(group, panel, [0, 0]);
                let rows = packing.rows[0] * packing.rows[1];
                let len = rows * packing.steps * packing.width(panel);
                // SAFETY: panels are disjoint, and each is one thread's.
                let to = unsafe { packed.part(start..start + len) };
                pack_panel(mixing, kernel, sweep, (group, panel), weight, to);
            }
        }
    });
}

fn pack_panel(
    mixing: &Mixing,
    kernel: &[usize; AXES],
    [depth, height, width]: &Sweep,
    (group, panel): (usize, usize),
    weight: &[f32],
    to: &mut [f32],
) {
    let [sources, targets] = mixing.channels;
    let first = panel * PANEL;
    let lanes = (targets - first).min(PANEL);
    let stored = (targets.next_multiple_of(HALF_PANEL) - first).min(PANEL);
    if lanes < stored {
        to.fill(0.0);
    }
    let group_start = group * sources * targets * mixing.taps;
    let number = |tap: &Tap| tap.tap;
    let mut rows = to.chunks_exact_mut((sources * width.taps.len() * stored).max(1));
    for depth_tap in depth.taps.iter().map(number) {
        for height_tap in height.taps.iter().map(number) {
            let Some(row) = rows.next() else { return };
            for lane in 0..lanes {
                let from = group_start + (first + lane) * mixing.steps[1];
                let mut at = lane;
                for source in 0..sources {
                    let from = from + source * mixing.steps[0];
                    for width_tap in width.taps.iter().map(number) {
                        row[at] =
                            weight[from + tap_index(kernel, [depth_tap, height_tap, width_tap])];
                        at += stored;
                    }
                }
            }
        }
    }
}
