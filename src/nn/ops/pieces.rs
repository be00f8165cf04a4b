// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tensors cut into pieces and joined.

use std::borrow::Borrow;
use std::ops::{Bound, RangeBounds};

use super::Axis;
use crate::graph::Var;
use crate::op::{Mismatch, Op};

impl Var {
    /// `length` slices along an axis from `start` on.
    pub fn narrow(&self, axis: impl Into<Axis>, start: usize, length: usize) -> Var {
        self.piece("narrow", axis.into(), start, |_| length)
    }

    /// A range of the slices along an axis: `x.slice(1, 2..5)`, `x.slice(-1, ..3)`.
    pub fn slice(&self, axis: impl Into<Axis>, range: impl RangeBounds<usize>) -> Var {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = |extent| match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => extent,
        };
        self.piece("slice", axis.into(), start, |extent| end(extent).saturating_sub(start))
    }

    /// Zeros before and behind what there is along an axis.
    pub fn pad(&self, axis: impl Into<Axis>, before: usize, after: usize) -> Var {
        let Some(shape) = self.shape() else { return self.clone() };
        match axis.into().of(shape.rank()) {
            Ok(_) if before == 0 && after == 0 => self.clone(),
            Ok(axis) => self.apply(Op::Pad { axis, before, after }, &[]),
            Err(mistake) => self.mistake("pad", mistake),
        }
    }

    /// Values one behind the other along an axis. Their other extents are equal.
    ///
    /// ```
    /// # use kiln::{nn::{Module, Scope}, Device, Net, Seed, Tensor, Var};
    /// struct Both;
    /// impl Module for Both {
    ///     fn forward(&self, x: &Var) -> Var {
    ///         Var::concat(&[x.relu(), (-x).relu()], -1)
    ///     }
    /// }
    /// let mut net = Net::new(Device::cpu(), Seed(1), |_: &Scope| Both)?;
    /// let y = net.eval().forward(&Tensor::new([1, 2], vec![3.0, -4.0])?)?;
    /// assert_eq!(y.values()?, [3.0, 0.0, 0.0, 4.0]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn concat(values: &[impl Borrow<Var>], axis: impl Into<Axis>) -> Var {
        let values: Vec<&Var> = values.iter().map(Borrow::borrow).collect();
        let Some((first, others)) = values.split_first() else { return nothing("concat") };
        let Some(shape) = first.shape() else { return (*first).clone() };
        match axis.into().of(shape.rank()) {
            Ok(_) if others.is_empty() => (*first).clone(),
            Ok(axis) => first.apply(Op::Concat { axis }, others),
            Err(mistake) => first.mistake("concat", mistake),
        }
    }

    /// Values of one shape along a new axis.
    pub fn stack(values: &[impl Borrow<Var>], axis: impl Into<Axis>) -> Var {
        let axis = axis.into();
        let values: Vec<&Var> = values.iter().map(Borrow::borrow).collect();
        let Some(first) = values.first() else { return nothing("stack") };
        let Some(shape) = first.shape() else { return (*first).clone() };
        if let Some(other) = values.iter().find_map(|value| value.shape().filter(|s| *s != shape)) {
            let expected = format!("values of one shape, {shape}");
            return first.mistake("stack", Mismatch::new(expected, other));
        }
        match axis.of(shape.rank() + 1) {
            Ok(axis) => {
                let layers: Vec<Var> = values.iter().map(|value| value.unsqueeze(axis)).collect();
                Var::concat(&layers, axis)
            }
            Err(mistake) => first.mistake("stack", mistake),
        }
    }

    /// A piece of an axis; `length` is told the axis's extent.
    fn piece(
        &self,
        op: &str,
        axis: Axis,
        start: usize,
        length: impl FnOnce(usize) -> usize,
    ) -> Var {
        let Some(shape) = self.shape() else { return self.clone() };
        let axis = match axis.of(shape.rank()) {
            Ok(axis) => axis,
            Err(mistake) => return self.mistake(op, mistake),
        };
        let extent = shape.dims()[axis];
        let length = length(extent);
        let end = start.saturating_add(length);
        if end > extent {
            let expected = format!("a range within the {extent} of axis {axis}");
            return self.mistake(op, Mismatch::new(expected, format!("{start}..{end}")));
        }
        match length == extent {
            true => self.clone(),
            false => self.apply(Op::Slice { axis, start, length }, &[]),
        }
    }
}

/// What becomes of no values at all.
fn nothing(op: &str) -> Var {
    Var::nowhere(op, Mismatch::new("one value or more", "none"))
}
