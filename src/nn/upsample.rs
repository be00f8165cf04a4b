// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images of other sizes.

use super::Module;
use crate::graph::Var;
use crate::op::{Blend, Mismatch, Op, Term};
use crate::Shape;

/// Enlarges or shrinks images, as `torch.nn.Upsample`.
///
/// # Shapes
/// `x`: `[samples, channels, spatial...]` with one to three spatial extents; `y` the same with other spatial
/// extents.
///
/// # Errors
/// Sizes of 0, factors that are not positive, more or fewer of them than spatial extents, and a result of
/// too many elements come back from tracing.
///
/// ```
/// use kiln::nn::{Corners, Upsample, UpsampleMode};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let x = Tensor::new([1, 1, 2], vec![1., 2.])?;
/// let mut net = Net::new(Device::cpu(), Seed(7), |_| Upsample::by([2.0], UpsampleMode::Nearest))?;
/// assert_eq!(net.eval().forward(&x)?.values()?, [1., 1., 2., 2.]);
///
/// let linear = UpsampleMode::Linear(Corners::Free);
/// let mut net = Net::new(Device::cpu(), Seed(7), |_| Upsample::to([4], linear))?;
/// assert_eq!(net.eval().forward(&x)?.values()?, [1., 1.25, 1.75, 2.]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Upsample {
    target: Target,
    mode: UpsampleMode,
}

/// What an enlarged image's elements are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpsampleMode {
    /// Those of the image at the place below: `mode="nearest"`.
    #[default]
    Nearest,
    /// On straight lines between neighbours, along each extent: `mode="linear"`, `"bilinear"` and
    /// `"trilinear"`.
    Linear(Corners),
}

/// Where the corners of an image lie in the enlarged one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Corners {
    /// Elements are squares, which fill both images: `align_corners=False`.
    #[default]
    Free,
    /// Elements are points, and the outermost ones of both images coincide: `align_corners=True`.
    Aligned,
}

#[derive(Clone, Debug, PartialEq)]
enum Target {
    Size(Vec<usize>),
    Factor(Vec<f64>),
}

/// One extent of both images.
#[derive(Clone, Copy)]
struct Line {
    from: usize,
    to: usize,
    /// Elements of the image per element of the result.
    step: f64,
}

impl Upsample {
    /// To spatial extents of these sizes.
    pub fn to(size: impl Into<Vec<usize>>, mode: UpsampleMode) -> Self {
        Upsample { target: Target::Size(size.into()), mode }
    }

    /// By a factor for each spatial extent. Sizes are rounded down; places are those of the factor.
    pub fn by(factor: impl Into<Vec<f64>>, mode: UpsampleMode) -> Self {
        Upsample { target: Target::Factor(factor.into()), mode }
    }
}

impl Module for Upsample {
    fn forward(&self, x: &Var) -> Var {
        let Some(shape) = x.shape() else { return x.clone() };
        let lines = match self.lines(&shape) {
            Ok(lines) => lines,
            Err(mismatch) => return x.mistake("upsample", mismatch),
        };
        let mut y = x.clone();
        for (axis, line) in lines.into_iter().enumerate() {
            let places = (0..line.to).map(|place| self.terms(line, place)).collect();
            let blend = Blend::new(2 + axis, line.from, places);
            if !blend.is_identity() {
                y = y.apply(Op::Blend(blend), &[]);
            }
        }
        y
    }
}

impl Upsample {
    /// What becomes of each spatial extent.
    fn lines(&self, shape: &Shape) -> Result<Vec<Line>, Mismatch> {
        let spatial = match shape.dims() {
            [_, _, spatial @ ..] if (1..=3).contains(&spatial.len()) => spatial,
            _ => return Err(Mismatch::new("an image with 1 to 3 spatial extents", shape)),
        };
        if spatial.contains(&0) {
            return Err(Mismatch::new("an image with elements to repeat", shape));
        }
        let count = match &self.target {
            Target::Size(size) => size.len(),
            Target::Factor(factor) => factor.len(),
        };
        if count != spatial.len() {
            let expected = format!("a number for each of {} spatial extents", spatial.len());
            return Err(Mismatch::new(expected, count));
        }
        let line = |axis: usize| {
            let from = spatial[axis];
            let (to, step) = match &self.target {
                Target::Size(size) => (size[axis], from as f64 / size[axis].max(1) as f64),
                Target::Factor(factor) if factor[axis].is_finite() && factor[axis] > 0.0 => {
                    let to = (from as f64 * factor[axis]).floor();
                    (to.min(Shape::MOST_ELEMENTS as f64) as usize, 1.0 / factor[axis])
                }
                Target::Factor(factor) => {
                    return Err(Mismatch::new("positive factors", factor[axis]))
                }
            };
            if to == 0 || to >= Shape::MOST_ELEMENTS {
                return Err(Mismatch::new("1 element or more, and no more than a tensor has", to));
            }
            Ok(Line { from, to, step })
        };
        let lines: Vec<Line> = (0..count).map(line).collect::<Result<_, _>>()?;
        let mut dims = shape.dims().to_vec();
        dims[2..].iter_mut().zip(&lines).for_each(|(extent, line)| *extent = line.to);
        // Before a list of places is as long as one of these extents.
        Shape::from(dims).allowed()?;
        Ok(lines)
    }

    /// What an element of the result is the sum of.
    fn terms(&self, line: Line, place: usize) -> Vec<Term> {
        let last = line.from - 1;
        let at = match self.mode {
            UpsampleMode::Nearest => {
                // PyTorch computes places in f32.
                let from = (place as f32 * line.step as f32).floor() as usize;
                return vec![Term { from: from.min(last), weight: 1.0 }];
            }
            UpsampleMode::Linear(Corners::Free) => {
                (line.step * (place as f64 + 0.5) - 0.5).max(0.0)
            }
            UpsampleMode::Linear(Corners::Aligned) if line.to == 1 => 0.0,
            UpsampleMode::Linear(Corners::Aligned) => {
                place as f64 * (last as f64 / (line.to - 1) as f64)
            }
        };
        let from = (at.floor() as usize).min(last);
        let beyond = at - from as f64;
        match beyond > 0.0 && from < last {
            true => {
                vec![Term { from, weight: 1.0 - beyond }, Term { from: from + 1, weight: beyond }]
            }
            false => vec![Term { from, weight: 1.0 }],
        }
    }
}
