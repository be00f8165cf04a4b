// SPDX-License-Identifier: MIT OR Apache-2.0
//! Elements of an operand in the order of a chain's results.

use super::BLOCK;
use crate::kernel::chain::{Axis, View};

/// An operand, and room for a block of what is read of it.
pub(super) struct Gathered<'a> {
    view: &'a View,
    values: &'a [f32],
    /// Room for [`BLOCK`] values.
    room: *mut f32,
    period: usize,
    /// What the room holds: the first element, counted within the period, and how many.
    held: Option<(usize, usize)>,
}

impl<'a> Gathered<'a> {
    /// `values` holds what the view reads.
    pub(super) fn new(view: &'a View, values: &'a [f32], room: *mut f32) -> Self {
        Gathered { view, values, room, period: view.period().max(1), held: None }
    }

    /// The elements of a block, in place where they lie so, else copied.
    #[inline(always)]
    pub(super) fn block(&mut self, start: usize, count: usize) -> *const f32 {
        debug_assert!(count <= BLOCK);
        let within = start % self.period;
        if let Some(values) = self.in_place(within, count) {
            return values.as_ptr();
        }
        if self.held.is_none_or(|(first, held)| first != within || held < count) {
            // SAFETY: the room holds a block, and nothing else refers to it during the call.
            let room = unsafe { std::slice::from_raw_parts_mut(self.room, count) };
            gather(self.view.axes(), self.values, start, room);
            self.held = Some((within, count));
        }
        self.room
    }

    /// A run of neighbours.
    fn in_place(&self, within: usize, count: usize) -> Option<&'a [f32]> {
        match *self.view.axes() {
            [.., Axis { extent, stride: 1 }] if within % extent + count <= extent => {
                let first = offset(self.view.axes(), within);
                Some(&self.values[first..first + count])
            }
            _ => None,
        }
    }
}

/// Where an element of the result comes from.
fn offset(axes: &[Axis], mut element: usize) -> usize {
    let mut offset = 0;
    for axis in axes.iter().rev() {
        offset += element % axis.extent * axis.stride;
        element /= axis.extent;
    }
    offset
}

/// Copies the elements from `start` on.
fn gather(axes: &[Axis], values: &[f32], start: usize, to: &mut [f32]) {
    let (outer, [rows, columns]) = split_last_two(axes);
    let per_outer = rows.extent * columns.extent;
    let (mut element, mut to) = (start, to);
    while !to.is_empty() {
        let (index, within) = (element / per_outer, element % per_outer);
        let base = offset(outer, index);
        let count = to.len().min(per_outer - within);
        let (part, rest) = to.split_at_mut(count);
        gather_rows([rows, columns], &values[base..], within, part);
        (element, to) = (element + count, rest);
    }
}

/// The two innermost axes, and the others.
fn split_last_two(axes: &[Axis]) -> (&[Axis], [Axis; 2]) {
    const ONE: Axis = Axis { extent: 1, stride: 0 };
    match *axes {
        [ref outer @ .., rows, columns] => (outer, [rows, columns]),
        [columns] => (&[], [ONE, columns]),
        [] => (&[], [ONE, ONE]),
    }
}

/// Elements of a matrix from `start` on, row by row.
fn gather_rows([rows, columns]: [Axis; 2], values: &[f32], start: usize, to: &mut [f32]) {
    let (mut row, mut column) = (start / columns.extent, start % columns.extent);
    let mut to = to;
    while !to.is_empty() {
        let count = to.len().min(columns.extent - column);
        let (part, rest) = to.split_at_mut(count);
        let first = row * rows.stride + column * columns.stride;
        match columns.stride {
            0 => part.fill(values[first]),
            1 => part.copy_from_slice(&values[first..first + count]),
            stride => {
                let strided = values[first..].iter().step_by(stride);
                part.iter_mut().zip(strided).for_each(|(to, value)| *to = *value);
            }
        }
        (to, row, column) = (rest, row + 1, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_any_view_is_gathered() {
        let values: Vec<f32> = (0..1000).map(|x| x as f32).collect();
        let views: [&[(usize, usize)]; 7] = [
            &[(60, 1)],
            &[(60, 0)],
            &[(12, 1), (5, 0)],
            &[(12, 0), (5, 1)],
            &[(3, 4), (4, 0), (5, 20)],
            &[(2, 30), (3, 0), (5, 2), (2, 1)],
            &[(2, 0), (3, 7), (5, 0), (2, 3)],
        ];
        for axes in views {
            let view = View::new(axes.iter().map(|&(extent, stride)| Axis { extent, stride }));
            let want = |element: usize| {
                let mut rest = element;
                let mut from = 0;
                for &(extent, stride) in axes.iter().rev() {
                    from += rest % extent * stride;
                    rest /= extent;
                }
                values[from]
            };
            for start in 0..60 {
                for count in [1, 2, 7, 60] {
                    let count = count.min(60 - start);
                    let mut room = [f32::NAN; BLOCK];
                    let mut gathered = Gathered::new(&view, &values, room.as_mut_ptr());
                    for _ in 0..2 {
                        let got = gathered.block(start, count);
                        // SAFETY: a block holds as many values as were asked for.
                        let got = unsafe { std::slice::from_raw_parts(got, count) };
                        let want: Vec<f32> = (start..start + count).map(want).collect();
                        assert_eq!(got, want, "{axes:?} from {start}");
                    }
                }
            }
        }
    }
}
