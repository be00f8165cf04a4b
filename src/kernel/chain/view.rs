// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which element of a tensor belongs to which element of a result, as both lie in memory.

use crate::graph::Node;
use crate::op::MemoryFormat;
use crate::Shape;

/// An extent of a result, and how far apart its elements are in the tensor that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Number of elements.
    pub extent: usize,
    /// Distance of neighbours in the tensor, in elements; 0 where one is repeated.
    pub stride: usize,
}

/// How a tensor is read along the elements of a result, in the order of the result's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Outermost first; no two neighbours could be one.
    axes: Vec<Axis>,
}

impl View {
    /// As many elements as the result, in the same order.
    pub fn dense(elements: usize) -> Self {
        View::new([Axis { extent: elements, stride: 1 }])
    }

    /// Axes, outermost first, merged where that changes nothing.
    pub fn new(axes: impl IntoIterator<Item = Axis>) -> Self {
        let mut merged: Vec<Axis> = Vec::new();
        for axis in axes {
            if axis.extent == 0 {
                return View { axes: vec![Axis { extent: 0, stride: 1 }] };
            }
            match merged.last_mut() {
                _ if axis.extent == 1 => {}
                Some(outer) if outer.stride == axis.stride * axis.extent => {
                    *outer = Axis { extent: outer.extent * axis.extent, stride: axis.stride };
                }
                _ => merged.push(axis),
            }
        }
        View { axes: merged }
    }

    /// How broadcasting reads `small` for the elements of `result`.
    pub(crate) fn of_broadcast(small: &Node, result: &Node) -> Self {
        let strides = strides(&small.ty.shape, small.format);
        let (dims, own) = (result.ty.shape.dims(), small.ty.shape.dims());
        let missing = dims.len() - own.len();
        View::new(order(dims.len(), result.format).map(|axis| {
            let repeats = axis < missing || own[axis - missing] == 1;
            let stride = if repeats { 0 } else { strides[axis - missing] };
            Axis { extent: dims[axis], stride }
        }))
    }

    /// The axes, outermost first.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// Elements of the result.
    pub fn elements(&self) -> usize {
        self.axes.iter().map(|axis| axis.extent).product()
    }

    /// Whether the tensor is read element by element as it lies.
    pub fn is_dense(&self) -> bool {
        matches!(self.axes[..], [] | [Axis { stride: 1, .. }])
    }

    /// Whether one number is read over and over again.
    pub fn is_number(&self) -> bool {
        self.axes.iter().all(|axis| axis.stride == 0)
    }

    /// Elements of the tensor up to the last one that is read.
    pub fn span(&self) -> usize {
        let last = |axis: &Axis| axis.extent.checked_sub(1).map(|last| last * axis.stride);
        self.axes.iter().map(last).sum::<Option<usize>>().map_or(0, |last| last + 1)
    }

    /// Elements of the result after which the tensor is read from its beginning again.
    pub fn period(&self) -> usize {
        let repeated = self.axes.iter().take_while(|axis| axis.stride == 0).count();
        self.axes[repeated..].iter().map(|axis| axis.extent).product()
    }
}

/// The extents of a shape by which they lie in memory, outermost first.
pub(in crate::kernel) fn order(rank: usize, format: MemoryFormat) -> impl Iterator<Item = usize> {
    let channels_last = format == MemoryFormat::ChannelsLast && rank >= 3;
    (0..rank).map(move |place| match place {
        0 => 0,
        _ if !channels_last => place,
        _ if place + 1 == rank => 1,
        _ => place + 1,
    })
}

/// Distance in memory between neighbours along each extent of a shape.
fn strides(shape: &Shape, format: MemoryFormat) -> Vec<usize> {
    let mut strides = vec![0; shape.rank()];
    let mut stride = 1;
    let places: Vec<usize> = order(shape.rank(), format).collect();
    for axis in places.into_iter().rev() {
        strides[axis] = stride;
        stride *= shape.dims()[axis];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(axes: &[(usize, usize)]) -> View {
        View::new(axes.iter().map(|&(extent, stride)| Axis { extent, stride }))
    }

    #[test]
    fn neighbours_that_are_one_axis_are_merged() {
        assert_eq!(view(&[(2, 12), (3, 4), (4, 1)]), View::dense(24));
        assert_eq!(view(&[(2, 0), (1, 7), (3, 0)]).axes(), [Axis { extent: 6, stride: 0 }]);
        assert_eq!(view(&[(2, 0), (3, 1)]).axes().len(), 2);
        assert!(view(&[]).is_dense() && view(&[]).is_number());
        assert_eq!(view(&[(5, 1), (0, 3)]), View::dense(0));
    }

    #[test]
    fn spans_and_periods() {
        let column = view(&[(5, 1), (4, 0)]);
        assert_eq!((column.span(), column.period(), column.elements()), (5, 20, 20));
        let row = view(&[(5, 0), (4, 1)]);
        assert_eq!((row.span(), row.period()), (4, 4));
        let number = view(&[(20, 0)]);
        assert_eq!((number.span(), number.period()), (1, 1));
        assert_eq!(View::dense(0).span(), 0);
    }

    #[test]
    fn channels_last_puts_the_second_extent_last() {
        let places = |rank| order(rank, MemoryFormat::ChannelsLast).collect::<Vec<_>>();
        assert_eq!((places(4), places(2)), (vec![0, 2, 3, 1], vec![0, 1]));
        let shape = Shape::from([2, 3, 4, 5]);
        assert_eq!(strides(&shape, MemoryFormat::ChannelsLast), [60, 1, 15, 3]);
        assert_eq!(strides(&shape, MemoryFormat::Contiguous), [60, 20, 5, 1]);
    }
}
