// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient of a linear layer's weights where the input or the output gradient is mostly zeros.

use super::super::weight_gradient::Share;
use super::super::Stores;
use super::add_products::{add_products, Before, Columns, Table};
use super::base::{load, on_line, Vector, LINE};
use super::beside::Pending;
use super::choice;
use super::dense::weight_gradient::{clear_padding, pack_panel, rounded};
use super::density::density;
use super::lists::Lists;
use super::panels::PANEL;
use std::cell::RefCell;
use std::ops::Range;

/// Which factor's zeros are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sparse {
    /// The input's: each input adds rows of `dy` to its weights' gradient.
    Input,
    /// The output gradient's: each output adds rows of `x`, and the result is transposed.
    Output,
}

impl Sparse {
    /// The sparser factor, if it is sparse enough. All shares look at the same rows, so the answer
    /// does not depend on their number.
    ///
    /// # Safety
    /// `x` and `dy` are valid for the product.
    #[inline(always)]
    pub(crate) unsafe fn choose<V: Vector>(share: &Share<'_>) -> Option<Self> {
        let product = &share.job.product;
        let (layout, rows) = (product.layout, product.rows);
        // What is not worth a list counts as dense.
        let mut densities = [1.0; 2];
        // SAFETY: the caller's.
        unsafe {
            if V::LISTS_ZEROS && choice::may_skip_columns([layout.inputs, rows], layout.outputs) {
                densities[0] = density::<V>(product.x, product.x_stride, rows, layout.inputs);
            }
            if V::LISTS_ZEROS && choice::may_skip_columns([layout.outputs, rows], layout.inputs) {
                densities[1] = density::<V>(product.dy, product.dy_stride, rows, layout.outputs);
            }
        }
        let [input, output] = densities;
        match choice::is_sparse(input.min(output)) {
            true if output < input => Some(Sparse::Output),
            true => Some(Sparse::Input),
            false => None,
        }
    }
}

thread_local! {
    /// Two panels of the dense factor, `[rows][32]` each. They grow to the largest batch and stay.
    static PACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Two tiles of 32 by 32.
#[repr(align(64))]
struct Sums([[f32; PANEL * PANEL]; 2]);

impl Sums {
    const ZERO: Sums = Sums([[0.0; PANEL * PANEL]; 2]);

    /// The two tiles. They are named by pointers alone from then on, since pending work keeps some.
    fn tiles(&mut self) -> [*mut f32; 2] {
        let [one, two] = &mut self.0;
        [one.as_mut_ptr(), two.as_mut_ptr()]
    }
}

/// Computes a share by lists of one factor's non-zero values.
///
/// # Safety
/// As the share's own kernel.
#[inline(always)]
pub(crate) unsafe fn run<V: Vector>(share: &Share<'_>, sparse: Sparse) {
    let mut lists = Lists::take();
    let mut packed = PACKED.take();
    let room = 2 * share.job.product.rows * PANEL + LINE;
    if packed.len() < room {
        packed.resize(room, 0.0);
    }
    let panels = on_line(packed.as_mut_ptr());
    // SAFETY: the caller's, and there is room for two panels.
    unsafe {
        match sparse {
            Sparse::Input => skip_inputs::<V>(share, &mut lists, panels),
            Sparse::Output => skip_outputs::<V>(share, &mut lists, panels),
        }
    }
    PACKED.set(packed);
    lists.keep();
}

/// Packs a panel of `dy` and finishes the gradient of its bias.
///
/// # Safety
/// As [`run`]; `to` is valid for a panel of all rows.
#[inline(always)]
unsafe fn pack_outputs<V: Vector>(share: &Share<'_>, panel: usize, to: *mut f32) {
    let product = &share.job.product;
    let mut bias = [0.0; PANEL];
    // SAFETY: the caller's. One share of each panel contains input 0, and it alone has the bias.
    unsafe {
        pack_panel::<V>(product, panel, 0..product.rows, to, &mut bias);
        if let (Some(tail), 0) = (&share.job.bias, share.inputs.start) {
            let bias = &rounded(&bias)[..product.layout.width(panel)];
            tail.apply::<V>(panel * PANEL, bias, Stores::Cached);
        }
    }
}

/// # Safety
/// As [`run`]; `packed` is valid for two panels of all rows.
#[inline(always)]
unsafe fn skip_inputs<V: Vector>(share: &Share<'_>, lists: &mut Lists, packed: *mut f32) {
    let (product, inputs) = (&share.job.product, &share.inputs);
    let layout = product.layout;
    let packed = [packed, packed.wrapping_add(product.rows * PANEL)];
    let mut buffers = [Sums::ZERO; 2];
    let [mut sums, mut pending_sums] = buffers.each_mut().map(Sums::tiles);
    let mut pending = Pending::new(&share.job.weight);
    // SAFETY: the share lies inside the product.
    unsafe {
        lists.clear(inputs.len(), product.rows);
        let x = product.x.wrapping_add(inputs.start);
        lists.add_columns::<V>(x, product.x_stride, inputs.len(), product.rows);
        let mut panel = share.panels.start;
        while panel < share.panels.end {
            let next = (panel + 1 < share.panels.end).then(|| layout.width(panel + 1));
            let columns = Columns::new(layout.width(panel), next);
            for index in 0..columns.panels() {
                pack_outputs::<V>(share, panel + index, packed[index]);
            }
            let table = Table { panels: packed.map(<*mut f32>::cast_const), columns };
            let panels = panel..panel + columns.panels();
            for first in inputs.clone().step_by(PANEL) {
                let group = first..(first + PANEL).min(inputs.end);
                let listed = group.start - inputs.start..group.end - inputs.start;
                add_products::<V, _>(lists, listed, table, Before::Zero, sums, &mut pending);
                pending.finish::<V>();
                for (panel, sums) in panels.clone().zip(sums) {
                    hand_over(share, panel, group.clone(), sums, &mut pending);
                }
                std::mem::swap(&mut sums, &mut pending_sums);
            }
            panel = panels.end;
        }
        pending.finish::<V>();
    }
}

/// # Safety
/// As [`run`]; `packed` is valid for two panels of all rows.
#[inline(always)]
unsafe fn skip_outputs<V: Vector>(share: &Share<'_>, lists: &mut Lists, packed: *mut f32) {
    let (product, inputs) = (&share.job.product, &share.inputs);
    let layout = product.layout;
    let packed = [packed, packed.wrapping_add(product.rows * PANEL)];
    let mut buffers = [Sums::ZERO; 2];
    let buffers = buffers.each_mut().map(Sums::tiles);
    let mut pending = Pending::new(&share.job.weight);
    // SAFETY: the share lies inside the product.
    unsafe {
        lists.clear(share.panels.len() * PANEL, product.rows);
        for panel in share.panels.clone() {
            pack_outputs::<V>(share, panel, packed[0]);
            let width = layout.width(panel);
            lists.add_columns::<V>(packed[0], width, width, product.rows);
        }
        let mut first = inputs.start;
        while first < inputs.end {
            let left = inputs.end - first;
            let columns = if left > PANEL { Columns::Two } else { Columns::One };
            let halves = [0, PANEL].map(|at| first + at.min(left)..first + (at + PANEL).min(left));
            pack_inputs::<V>(share, first..first + left.min(2 * PANEL), packed);
            let table = Table { panels: packed.map(<*mut f32>::cast_const), columns };
            for panel in share.panels.clone() {
                turned_tile::<V>(share, lists, table, panel, &halves, buffers, &mut pending);
            }
            first += left.min(2 * PANEL);
        }
        pending.finish::<V>();
    }
}

/// The gradient of at most 64 inputs' weights in one panel, computed as rows of outputs.
///
/// # Safety
/// The lists hold the share's panels, the table these inputs.
#[inline(always)]
unsafe fn turned_tile<V: Vector>(
    share: &Share<'_>,
    lists: &Lists,
    table: Table,
    panel: usize,
    halves: &[Range<usize>; 2],
    [sums, turned]: [[*mut f32; 2]; 2],
    pending: &mut Pending<'_>,
) {
    let width = share.job.product.layout.width(panel);
    let listed = (panel - share.panels.start) * PANEL;
    // SAFETY: the caller's; tiles hold 32 rows of 32.
    unsafe {
        let rows = listed..listed + width;
        add_products::<V, _>(lists, rows, table, Before::Zero, sums, pending);
        pending.finish::<V>();
        for (half, (sums, turned)) in halves.iter().zip(sums.into_iter().zip(turned)) {
            for output in (0..width).step_by(8) {
                for input in (0..half.len()).step_by(8) {
                    let from = sums.add(output * PANEL + input);
                    let to = turned.add(input * width + output);
                    V::transpose_8x8(from, PANEL, to, width);
                }
            }
            hand_over(share, panel, half.clone(), turned, pending);
        }
    }
}

/// Copies at most 64 columns of `x` to two panels `[rows][32]`, missing ones as 0.
///
/// # Safety
/// The inputs are the product's; each of `to` is valid for 32 columns of all rows.
#[inline(always)]
unsafe fn pack_inputs<V: Vector>(share: &Share<'_>, inputs: Range<usize>, to: [*mut f32; 2]) {
    let product = &share.job.product;
    // Row by row: a row's columns lie on neighbouring lines, and the next row is far away.
    for row in 0..product.rows {
        let from = product.x.wrapping_add(row * product.x_stride + inputs.start);
        for column in (0..2 * PANEL).step_by(V::LANES) {
            let lanes = inputs.len().saturating_sub(column).min(V::LANES);
            // SAFETY: `lanes` stops at the last of the inputs.
            unsafe {
                let values = load::<V>(from.wrapping_add(column), lanes);
                values.store(to[column / PANEL].add(row * PANEL + column % PANEL));
            }
        }
    }
}

/// Leaves the gradient of some inputs' weights in one panel, `[inputs][width]`, to the tail.
///
/// # Safety
/// The panel and inputs are the share's; `sums` holds the gradient, and does so until
/// [`Pending::finish`].
unsafe fn hand_over(
    share: &Share<'_>,
    panel: usize,
    inputs: Range<usize>,
    sums: *mut f32,
    pending: &mut Pending<'_>,
) {
    let layout = share.job.product.layout;
    let width = layout.width(panel);
    let len = inputs.len() * width;
    let offset = layout.panel_start(panel) + inputs.start * width;
    // SAFETY: the caller's: no other share has these inputs of this panel.
    unsafe {
        let sums = std::slice::from_raw_parts_mut(sums, len);
        clear_padding(sums, layout.outputs_of(panel).len(), width);
        pending.add(offset, sums.as_ptr(), len, share.stores(&inputs));
    }
}
