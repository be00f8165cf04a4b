// SPDX-License-Identifier: MIT OR Apache-2.0
//! A linear layer's gradient of its weights, with the optimiser's update in the same visit.

use super::beside::{Ahead, Region};
use super::forward::{go_round, matrix_len, share_of};
use super::isa::{dispatch, Kernel};
use super::panels::PANEL;
use super::reduce::{add_chain, COLUMN_CHAIN};
use super::sparse::{on_line, LINE};
use super::sparse_weight_gradient::Sparse;
use super::tile::{accumulate, next_tile_rows, tile_rows, Factors, Tiled, CHAIN, MAX_TILE_ROWS};
use super::update::Target;
use super::vector::{load, store, Vector};
use super::{sparse_weight_gradient, split_by, Isa, PanelLayout, Pool, UpdateRule, Updated};
use super::{Readers, Stores};
use std::cell::RefCell;
use std::ops::Range;

/// Rows of the batch summed in one visit, as one chain: a panel of their gradients stays in the second
/// cache.
const BATCH_BLOCK: usize = CHAIN;

/// What becomes of a gradient; slices lie as the parameter does, padding included.
#[derive(Debug)]
pub(crate) enum GradientTail<'a> {
    /// It replaces what the slice holds.
    Overwrite(&'a mut [f32]),
    /// It is added to what the slice holds.
    Accumulate(&'a mut [f32]),
    /// It is multiplied by a scale and updates the parameter, and is stored nowhere.
    Update {
        /// How parameters follow.
        rule: &'a UpdateRule,
        /// Factor of the gradient.
        scale: f32,
        /// Parameter and state.
        updated: Updated<'a>,
    },
}

/// `dweight = dy^T * x` and `dbias = column sums of bias_dy`.
#[derive(Debug)]
pub(crate) struct WeightGradient<'a> {
    /// Where the weights lie.
    pub(crate) layout: PanelLayout,
    /// Rows of `x` and `dy`.
    pub(crate) rows: usize,
    /// `[rows, inputs]`, row-major, rows `x_stride` apart.
    pub(crate) x: &'a [f32],
    /// Distance between rows of `x`.
    pub(crate) x_stride: usize,
    /// `[rows, outputs]`, row-major, rows `dy_stride` apart.
    pub(crate) dy: &'a [f32],
    /// Distance between rows of `dy`.
    pub(crate) dy_stride: usize,
    /// What the bias' gradient sums: `dy` as it was before it was rounded to be a factor.
    pub(crate) bias_dy: &'a [f32],
    /// What becomes of the weights' gradient: slices in panels.
    pub(crate) weight: GradientTail<'a>,
    /// What becomes of the bias' gradient: slices of `padded_outputs` values.
    pub(crate) bias: Option<GradientTail<'a>>,
    /// Who reads the weights: an input gradient reads all threads' panels, a forward pass its own.
    pub(crate) readers: Readers,
}

impl<'a> WeightGradient<'a> {
    /// Checks the lengths and makes the product ready to be computed in shares.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn job(self, isa: Isa, to_others: Stores) -> WeightGradientJob<'a> {
        let PanelLayout { inputs, outputs } = self.layout;
        assert!(self.x.len() >= matrix_len(self.rows, inputs, self.x_stride), "x too short");
        let dy_len = matrix_len(self.rows, outputs, self.dy_stride);
        assert!(self.dy.len().min(self.bias_dy.len()) >= dy_len, "dy too short");
        WeightGradientJob {
            isa,
            product: Product {
                layout: self.layout,
                rows: self.rows,
                x: self.x.as_ptr(),
                x_stride: self.x_stride,
                dy: self.dy.as_ptr(),
                dy_stride: self.dy_stride,
                bias_dy: self.bias_dy.as_ptr(),
            },
            weight: Tail::new(self.weight, self.layout.len()),
            bias: self.bias.map(|bias| Tail::new(bias, self.layout.padded_outputs())),
            readers: self.readers,
            to_others,
            borrow: std::marker::PhantomData,
        }
    }

    /// Computes it with all threads of the pool.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn run(self, pool: &Pool, isa: Isa) {
        let job = self.job(isa, pool.stores(Readers::All));
        // SAFETY: the pool calls each index once.
        pool.run(&|index| unsafe { job.share(index, pool.threads()) });
    }
}

/// A checked [`WeightGradient`], to be computed in shares.
#[derive(Debug)]
pub(crate) struct WeightGradientJob<'a> {
    isa: Isa,
    pub(super) product: Product,
    pub(super) weight: Tail,
    pub(super) bias: Option<Tail>,
    readers: Readers,
    to_others: Stores,
    borrow: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: shares read `x` and `dy`, and write disjoint parts of the tails' slices.
unsafe impl Sync for WeightGradientJob<'_> {}

impl WeightGradientJob<'_> {
    /// Computes share `index` of `shares`.
    ///
    /// # Safety
    /// No two calls with the same index, or with different `shares`, run at the same time.
    pub(crate) unsafe fn share(&self, index: usize, shares: usize) {
        let layout = self.product.layout;
        let (panels, inputs) = share_of(layout.panels(), layout.inputs, index, shares);
        let own = self.own_inputs(index, shares);
        SCRATCH.with_borrow_mut(|scratch| {
            let block = self.product.rows.min(BATCH_BLOCK);
            // Partial sums are kept between blocks of the batch, if there is more than one.
            let partial = if self.product.rows > BATCH_BLOCK { layout.inputs * PANEL } else { 0 };
            let needed = block * PANEL + partial + LINE;
            if scratch.len() < needed {
                scratch.resize(needed, 0.0);
            }
            let packed = on_line(scratch.as_mut_ptr());
            let partial = packed.wrapping_add(block * PANEL);
            let share = Share { job: self, panels, inputs, own, packed, partial };
            // SAFETY: `job` checked the lengths; the shares' panels or inputs are disjoint; the
            // scratch is this thread's and was just made long enough.
            unsafe { dispatch(self.isa, share) }
        });
    }

    /// The inputs whose weights no thread reads but the one that computes share `index`.
    fn own_inputs(&self, index: usize, shares: usize) -> Range<usize> {
        let layout = self.product.layout;
        let blocks = layout.inputs.div_ceil(PANEL);
        match self.readers {
            // A forward pass whose rows are split reads all weights, whoever wrote them.
            _ if !go_round(layout.panels(), shares) => 0..0,
            Readers::Writer => 0..layout.inputs,
            // An input gradient that is split by blocks of inputs reads all panels of its own.
            Readers::All if go_round(blocks, shares) => {
                split_by(PANEL, layout.inputs, shares, index)
            }
            Readers::All => 0..0,
        }
    }
}

thread_local! {
    /// One panel of a block of `dy`, then a panel of partial sums. It grows once and stays.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub(super) layout: PanelLayout,
    pub(super) rows: usize,
    pub(super) x: *const f32,
    pub(super) x_stride: usize,
    pub(super) dy: *const f32,
    pub(super) dy_stride: usize,
    /// Strided as `dy`.
    bias_dy: *const f32,
}

/// A [`GradientTail`] whose parts several threads write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tail {
    Overwrite(*mut f32),
    Accumulate(*mut f32),
    Update(Target),
}

impl Tail {
    fn new(tail: GradientTail<'_>, count: usize) -> Self {
        let checked = |slice: &mut [f32]| {
            assert_eq!(slice.len(), count, "gradient's length");
            slice.as_mut_ptr()
        };
        match tail {
            GradientTail::Overwrite(to) => Tail::Overwrite(checked(to)),
            GradientTail::Accumulate(to) => Tail::Accumulate(checked(to)),
            GradientTail::Update { rule, scale, updated } => {
                Tail::Update(Target::new(rule, scale, updated, count))
            }
        }
    }

    /// Parameters are stored as is asked for, gradients near. Ends with [`Vector::fence`].
    ///
    /// # Safety
    /// The elements from `offset` on are in bounds and no other thread uses them.
    #[inline(always)]
    pub(super) unsafe fn apply<V: Vector>(&self, offset: usize, gradient: &[f32], stores: Stores) {
        // SAFETY: the caller's. A tile's rows and a bias panel are whole vectors.
        unsafe {
            match self {
                Tail::Overwrite(to) => {
                    let to = to.add(offset);
                    std::ptr::copy_nonoverlapping(gradient.as_ptr(), to, gradient.len());
                }
                Tail::Accumulate(to) => {
                    for at in (0..gradient.len()).step_by(V::LANES) {
                        let (to, added) = (to.add(offset + at), gradient.as_ptr().add(at));
                        V::load(to).add(V::load(added)).store(to);
                    }
                }
                Tail::Update(target) => target.at(offset).apply::<V>(gradient, stores),
            }
        }
    }

    /// Adds what [`Tail::apply`] needs of `len` elements to what is fetched ahead.
    pub(super) fn add_to(&self, ahead: &mut Ahead, offset: usize, len: usize) {
        match self {
            Tail::Update(target) => target.at(offset).add_to(ahead, len),
            Tail::Overwrite(to) | Tail::Accumulate(to) => {
                ahead.add(Region::slice(to.wrapping_add(offset), len));
            }
        }
    }

    /// Asks for what [`Tail::apply`] needs of `count` elements.
    #[inline(always)]
    pub(super) fn prefetch<V: Vector>(&self, offset: usize, count: usize) {
        match self {
            Tail::Update(target) => target.prefetch::<V>(offset, count),
            Tail::Overwrite(to) | Tail::Accumulate(to) => {
                for line in (0..count).step_by(LINE) {
                    V::prefetch(to.wrapping_add(offset + line));
                }
            }
        }
    }
}

/// Some inputs of some panels.
pub(super) struct Share<'a> {
    pub(super) job: &'a WeightGradientJob<'a>,
    pub(super) panels: Range<usize>,
    pub(super) inputs: Range<usize>,
    /// Inputs whose weights no other thread reads.
    own: Range<usize>,
    packed: *mut f32,
    partial: *mut f32,
}

impl Kernel for Share<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: `job` checked the lengths; the share lies inside the product.
        unsafe {
            match Sparse::choose::<V>(&self) {
                Some(sparse) => sparse_weight_gradient::run::<V>(&self, sparse),
                None => self.dense::<V>(),
            }
        }
        V::fence();
    }
}

impl Share<'_> {
    /// How the weights of some inputs are stored.
    pub(super) fn stores(&self, inputs: &Range<usize>) -> Stores {
        match self.own.start <= inputs.start && inputs.end <= self.own.end {
            true => Stores::Cached,
            false => self.job.to_others,
        }
    }

    /// Multiplies all of both factors, zeros included.
    ///
    /// # Safety
    /// As the share's own kernel.
    #[inline(always)]
    unsafe fn dense<V: Vector>(&self) {
        let Share { job, ref panels, ref inputs, packed, partial, .. } = *self;
        let product = job.product;
        for panel in panels.clone() {
            let mut bias = [0.0; PANEL];
            let mut start = 0;
            // One pass even over no rows: the gradient is then 0, and moments still decay.
            loop {
                let rows = start..(start + BATCH_BLOCK).min(product.rows);
                // SAFETY: the share lies inside the product, the scratch holds a block.
                unsafe {
                    pack_panel::<V>(&product, panel, rows.clone(), packed, &mut bias);
                    let tiles = Tiles {
                        product,
                        panel,
                        packed,
                        partial,
                        tile: std::ptr::null_mut(),
                        rows: (rows.start, rows.end),
                    };
                    panel_tiles::<V>(self, tiles);
                }
                start = rows.end;
                if start == product.rows {
                    break;
                }
            }
            if let (Some(tail), 0) = (&job.bias, inputs.start) {
                let width = product.layout.width(panel);
                // SAFETY: one share of each panel contains input 0, and it alone comes here.
                unsafe { tail.apply::<V>(panel * PANEL, &rounded(&bias)[..width], Stores::Cached) };
            }
        }
    }
}

/// The sums of a panel's columns.
pub(super) fn rounded(sums: &[f64; PANEL]) -> [f32; PANEL] {
    sums.map(|sum| sum as f32)
}

/// Copies a panel of `dy` to `[rows][width]` with zeros as padding, and adds the columns of `bias_dy` to
/// `sums`.
///
/// Rows of `dy` lie a power of two apart in many networks, so that all rows of a panel compete for
/// a few lines of the first cache; packed, they do not.
///
/// # Safety
/// `packed` is valid for all these rows.
#[inline(always)]
pub(super) unsafe fn pack_panel<V: Vector>(
    product: &Product,
    panel: usize,
    rows: Range<usize>,
    packed: *mut f32,
    sums: &mut [f64; PANEL],
) {
    let width = product.layout.width(panel);
    let real = product.layout.outputs_of(panel);
    for column in (0..width).step_by(V::LANES) {
        let lanes = real.len().saturating_sub(column).min(V::LANES);
        let from = product.dy.wrapping_add(real.start + column);
        let summed = product.bias_dy.wrapping_add(real.start + column);
        for first in rows.clone().step_by(COLUMN_CHAIN) {
            let mut sum = V::splat(0.0);
            for row in first..(first + COLUMN_CHAIN).min(rows.end) {
                // SAFETY: `lanes` stops at the last real column; `packed` holds `width` columns.
                unsafe {
                    let value = load::<V>(from.wrapping_add(row * product.dy_stride), lanes);
                    value.store(packed.add((row - rows.start) * width + column));
                    let value = match from == summed {
                        true => value,
                        false => load::<V>(summed.wrapping_add(row * product.dy_stride), lanes),
                    };
                    sum = sum.add(value);
                }
            }
            add_chain(&mut sums[column..column + V::LANES], &sum.lanes());
        }
    }
}

/// The gradient of the share's weights in one panel.
///
/// # Safety
/// `tiles` points to the packed block, and the share lies inside the product.
#[inline(always)]
unsafe fn panel_tiles<V: Vector>(share: &Share<'_>, tiles: Tiles) {
    let (tail, inputs) = (&share.job.weight, &share.inputs);
    let layout = tiles.product.layout;
    let width = layout.width(tiles.panel);
    let column = tiles.panel * PANEL;
    let is_last = tiles.rows.1 == tiles.product.rows;
    let mut buffer = [0.0; MAX_TILE_ROWS * PANEL];
    let mut input = inputs.start;
    while input < inputs.end {
        let rows = next_tile_rows::<V>(inputs.end - input);
        let offset = layout.panel_start(tiles.panel) + input * width;
        // SAFETY: the caller's; without partial sums the tile goes to the buffer, which holds one.
        unsafe {
            if is_last {
                tail.prefetch::<V>(offset, rows * width);
            }
            let partial = tiles.partial.wrapping_add(input * width);
            let tile = if is_last { buffer.as_mut_ptr() } else { partial };
            tile_rows::<V, _>(Tiles { tile, ..tiles }, input, rows, column, width);
            if is_last {
                clear_padding(
                    &mut buffer[..rows * width],
                    layout.outputs_of(tiles.panel).len(),
                    width,
                );
                let stores = share.stores(&(input..input + rows));
                tail.apply::<V>(offset, &buffer[..rows * width], stores);
            }
        }
        input += rows;
    }
}

/// Padding stays 0 even where an input is infinite or NaN.
#[inline(always)]
pub(super) fn clear_padding(tile: &mut [f32], real: usize, width: usize) {
    if real < width {
        for row in tile.chunks_exact_mut(width) {
            row[real..].fill(0.0);
        }
    }
}

/// The tiles of one panel: rows are inputs, the sum runs over a block of the batch.
#[derive(Clone, Copy)]
struct Tiles {
    product: Product,
    panel: usize,
    packed: *const f32,
    /// The panel's sums over earlier blocks.
    partial: *mut f32,
    /// Where the tile goes, `[rows][width]`.
    tile: *mut f32,
    /// The block, from and to.
    rows: (usize, usize),
}

impl Tiled for Tiles {
    #[inline(always)]
    unsafe fn tile<V: Vector, const R: usize, const C: usize>(self, row: usize, column: usize) {
        let Product { layout, x, x_stride, .. } = self.product;
        let width = layout.width(self.panel);
        let column = column % PANEL;
        // SAFETY: the tile lies inside the panel, whose slices `WeightGradient::job` checked.
        unsafe {
            let mut tile = [[V::splat(0.0); C]; R];
            let factors = Factors {
                steps: self.rows.1 - self.rows.0,
                left: x.wrapping_add(self.rows.0 * x_stride + row),
                left_step: x_stride,
                right: self.packed.add(column),
                right_step: width,
                ahead: x,
                ahead_step: 0,
            };
            accumulate(&mut tile, &factors);
            if self.rows.0 > 0 {
                for index in 0..R {
                    for vector in 0..C {
                        let at = (row + index) * width + column + vector * V::LANES;
                        tile[index][vector] =
                            V::load(self.partial.add(at)).add(tile[index][vector]);
                    }
                }
            }
            for index in 0..R {
                for vector in 0..C {
                    let at = index * width + column + vector * V::LANES;
                    store(tile[index][vector], self.tile.add(at), V::LANES);
                }
            }
        }
    }
}
