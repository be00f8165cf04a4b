// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sums, means, variances and extremes, of all elements or along some axes.

use super::{Axis, Keep};
use crate::graph::Var;
use crate::op::{ArgExtreme, Extreme, Extremum, Op, Unary};
use crate::Shape;

/// What the squares of a variance are divided by, where `n` elements are taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Correction {
    /// `n - 1`, for elements that are a sample: PyTorch's default.
    #[default]
    Sample,
    /// `n`, for elements that are all there are, as normalisation takes it: `correction=0`.
    Population,
}

/// The elements that are taken together.
struct Taken {
    /// The axes, in ascending order.
    axes: Vec<usize>,
    /// The shape in which they have become 1.
    kept: Shape,
    /// The shape without them.
    rest: Shape,
    /// How many elements each result is made of.
    count: usize,
}

impl Var {
    /// Sum of all elements.
    pub fn sum(&self) -> Var {
        self.apply(Op::SumTo(Shape::scalar()), &[])
    }

    /// Sums over some axes.
    ///
    /// ```
    /// # use kiln::{nn::{Keep, Module, Scope}, Device, Net, Seed, Tensor, Var};
    /// struct Shares;
    /// impl Module for Shares {
    ///     fn forward(&self, x: &Var) -> Var {
    ///         x / x.sum_over([-1], Keep::Extents)
    ///     }
    /// }
    /// let mut net = Net::new(Device::cpu(), Seed(1), |_: &Scope| Shares)?;
    /// let y = net.eval().forward(&Tensor::new([2, 2], vec![1.0, 3.0, 2.0, 2.0])?)?;
    /// assert_eq!(y.values()?, [0.25, 0.75, 0.5, 0.5]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn sum_over(&self, axes: impl IntoIterator<Item = impl Into<Axis>>, keep: Keep) -> Var {
        match self.taken("sum", axes) {
            Ok(taken) => self.summed(&taken).kept(&taken, keep),
            Err(unknown) => unknown,
        }
    }

    /// Mean of all elements.
    pub fn mean(&self) -> Var {
        let elements = self.shape().map_or(1, |shape| shape.elements());
        self.sum().unary(Unary::Scale(1.0 / elements as f64))
    }

    /// Means over some axes.
    pub fn mean_over(&self, axes: impl IntoIterator<Item = impl Into<Axis>>, keep: Keep) -> Var {
        match self.taken("mean", axes) {
            Ok(taken) => self.averaged(&taken).kept(&taken, keep),
            Err(unknown) => unknown,
        }
    }

    /// Variance of all elements.
    pub fn var(&self, correction: Correction) -> Var {
        let rank = self.shape().map_or(1, |shape| shape.rank());
        match rank {
            0 => self.reshape([1]).var_over([0], correction, Keep::Nothing),
            _ => self.var_over(0..rank, correction, Keep::Nothing),
        }
    }

    /// Variances over some axes; NaN where nothing is left to divide by.
    pub fn var_over(
        &self,
        axes: impl IntoIterator<Item = impl Into<Axis>>,
        correction: Correction,
        keep: Keep,
    ) -> Var {
        let taken = match self.taken("var", axes) {
            Ok(taken) => taken,
            Err(unknown) => return unknown,
        };
        let divisor = match correction {
            Correction::Sample => taken.count.saturating_sub(1),
            Correction::Population => taken.count,
        };
        let squares = (self - self.averaged(&taken)).square();
        let mean = squares.summed(&taken).unary(Unary::Scale(1.0 / divisor as f64));
        mean.kept(&taken, keep)
    }

    /// The largest of all elements; NaN if there is one. Equal ones share the gradient evenly.
    pub fn max(&self) -> Var {
        self.extreme_of_all(Extremum::Max)
    }

    /// The smallest of all elements, likewise.
    pub fn min(&self) -> Var {
        self.extreme_of_all(Extremum::Min)
    }

    /// The largest elements over some axes, as `torch.amax`: NaN where there is one, and equal ones
    /// share the gradient evenly.
    pub fn max_over(&self, axes: impl IntoIterator<Item = impl Into<Axis>>, keep: Keep) -> Var {
        self.extreme(Extremum::Max, axes, keep)
    }

    /// The smallest elements over some axes, likewise.
    pub fn min_over(&self, axes: impl IntoIterator<Item = impl Into<Axis>>, keep: Keep) -> Var {
        self.extreme(Extremum::Min, axes, keep)
    }

    /// Number of the largest of all elements, row-major, as an `i32`: the first of equal ones. NaN
    /// counts as larger than all numbers.
    pub fn argmax(&self) -> Var {
        self.place_of_all(Extremum::Max)
    }

    /// Number of the smallest of all elements, likewise; NaN counts as smaller than all numbers.
    pub fn argmin(&self) -> Var {
        self.place_of_all(Extremum::Min)
    }

    /// Where along an axis the largest elements are, as `i32`: the first of equal ones. NaN counts as
    /// larger than all numbers.
    pub fn argmax_over(&self, axis: impl Into<Axis>, keep: Keep) -> Var {
        self.place(Extremum::Max, axis, keep)
    }

    /// Where along an axis the smallest elements are, likewise; NaN counts as smaller than all
    /// numbers.
    pub fn argmin_over(&self, axis: impl Into<Axis>, keep: Keep) -> Var {
        self.place(Extremum::Min, axis, keep)
    }

    fn extreme(
        &self,
        kind: Extremum,
        axes: impl IntoIterator<Item = impl Into<Axis>>,
        keep: Keep,
    ) -> Var {
        let extreme = Extreme { kind, axes: vec![] };
        match self.taken(Op::Extreme(extreme).name(), axes) {
            Ok(taken) => {
                let extreme = Extreme { kind, axes: taken.axes.clone() };
                self.apply(Op::Extreme(extreme), &[]).kept(&taken, keep)
            }
            Err(unknown) => unknown,
        }
    }

    fn extreme_of_all(&self, kind: Extremum) -> Var {
        let rank = self.shape().map_or(1, |shape| shape.rank());
        let all = Extreme { kind, axes: (0..rank).collect() };
        self.apply(Op::Extreme(all), &[]).reshape(Shape::scalar())
    }

    fn place(&self, kind: Extremum, axis: impl Into<Axis>, keep: Keep) -> Var {
        let name = Op::ArgExtreme(ArgExtreme { kind, axis: 0 }).name();
        match self.taken(name, [axis]) {
            Ok(taken) => {
                let place = ArgExtreme { kind, axis: taken.axes[0] };
                self.apply(Op::ArgExtreme(place), &[]).kept(&taken, keep)
            }
            Err(unknown) => unknown,
        }
    }

    fn place_of_all(&self, kind: Extremum) -> Var {
        let elements = self.shape().map_or(1, |shape| shape.elements());
        self.reshape([elements]).place(kind, 0, Keep::Nothing)
    }

    fn summed(&self, taken: &Taken) -> Var {
        match taken.rest.rank() {
            0 => self.sum().reshape(taken.kept.clone()),
            _ => self.apply(Op::SumTo(taken.kept.clone()), &[]),
        }
    }

    fn averaged(&self, taken: &Taken) -> Var {
        self.summed(taken).unary(Unary::Scale(1.0 / taken.count as f64))
    }

    /// A result whose axes have become 1, without them unless they are to stay.
    fn kept(&self, taken: &Taken, keep: Keep) -> Var {
        match keep {
            Keep::Extents => self.clone(),
            Keep::Nothing => self.reshape(taken.rest.clone()),
        }
    }

    fn taken(
        &self,
        op: &str,
        axes: impl IntoIterator<Item = impl Into<Axis>>,
    ) -> Result<Taken, Var> {
        let Some(shape) = self.shape() else { return Err(self.clone()) };
        let axes = Axis::all(axes, shape.rank()).map_err(|mistake| self.mistake(op, mistake))?;
        let mut kept = shape.dims().to_vec();
        let (mut rest, mut count) = (Vec::new(), 1);
        for (axis, &extent) in shape.dims().iter().enumerate() {
            match axes.contains(&axis) {
                true => (kept[axis], count) = (1, count * extent),
                false => rest.push(extent),
            }
        }
        Ok(Taken { axes, kept: kept.into(), rest: rest.into(), count })
    }
}
