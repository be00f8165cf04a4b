// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout by masks that are given.

use super::Module;
use crate::graph::Var;
use crate::values::{Flat, Values};

/// A module whose dropouts multiply by masks that it is given, and draw none: to run a step with masks of
/// another program, or the same masks again.
///
/// Behind the module's own inputs it takes a list of masks, one for each dropout in the order of their calls:
/// 0 for what is dropped and, for what is kept, usually `1 / (1 - p)`. In eval mode nothing is dropped.
/// Masks are inputs like others: views return gradients of them too.
///
/// # Shapes
/// Those of the module; a mask has the shape of the values that it is for, with extents of 1 where a whole is
/// dropped or kept: `[samples, channels, 1, 1]` for [`Dropout2d`](super::Dropout2d), as
/// [`Drops::mask_shape`](crate::op::Drops::mask_shape) says.
///
/// # Errors
/// Another number of masks and masks of other shapes come back from the first run.
///
/// ```
/// use kiln::models::SimpleNet;
/// use kiln::nn::{GivenMasks, Scope};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let simple = |p: &Scope| SimpleNet::new(p, 4, 8, 3, 0.5);
/// let mut net = Net::new(Device::cpu(), Seed(7), simple)?;
/// let mut given = Net::new(Device::cpu(), Seed(7), |p| GivenMasks(simple(p)))?;
///
/// let x = Tensor::new([2, 4], vec![1.0; 8])?;
/// let masks: Vec<Tensor> = net.masks(0, &[x.ty()])?.into_iter().map(|mask| mask.factors).collect();
/// assert_eq!(net.train().forward(&x)?, given.train().forward((&x, masks))?);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GivenMasks<M>(pub M);

impl<M: Module<I, O>, I: Values, O> Module<(I, Vec<Var>), O> for GivenMasks<M> {
    fn forward(&self, (inputs, masks): &(I, Vec<Var>)) -> O {
        match Flat::of::<I>(inputs.clone().into_vars()).leaves.first() {
            Some(x) => x.with_masks(masks, || self.0.forward(inputs)),
            None => self.0.forward(inputs),
        }
    }
}
