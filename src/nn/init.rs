// SPDX-License-Identifier: MIT OR Apache-2.0
//! Initial values of parameters.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Uniform};

use crate::graph::ParamSpec;
use crate::mask::site_of;
use crate::{allocate, Result};

/// How a parameter gets its first values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every element is this number.
    Constant(f32),
    /// Uniform over `[-bound, bound]`.
    Uniform {
        /// The largest magnitude.
        bound: f32,
    },
}

impl Init {
    /// PyTorch's default for linear layers: uniform over `±1/sqrt(inputs)`, which is what
    /// `kaiming_uniform_(a=sqrt(5))` (He et al. 2015, arXiv:1502.01852) amounts to.
    pub fn fan_in(inputs: usize) -> Self {
        Init::Uniform { bound: (1.0 / (inputs.max(1) as f64).sqrt()) as f32 }
    }

    /// The first values of a parameter. `stream` is its entry of [`streams`].
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) with the size if there is no memory for them.
    pub(crate) fn values(self, parameter: &ParamSpec, stream: u64, seed: u64) -> Result<Vec<f32>> {
        let count = parameter.shape.elements();
        let mut values = allocate::room(count, &parameter.name)?;
        match self {
            Init::Constant(value) => values.resize(count, value),
            Init::Uniform { bound } => {
                let mut generator = ChaCha8Rng::seed_from_u64(seed);
                generator.set_stream(stream);
                match Uniform::new_inclusive(-bound, bound) {
                    Ok(uniform) => {
                        values.extend((0..count).map(|_| uniform.sample(&mut generator)));
                    }
                    // A bound that is not finite; the caller asked for it.
                    Err(_) => values.resize(count, bound),
                }
            }
        }
        Ok(values)
    }
}

/// The stream of random numbers that each parameter of a network draws its first values from: the
/// hash of its name, so that adding a layer leaves the others as they were. Where names share a
/// hash, the number of earlier ones stands above it: no two parameters share a stream.
pub(crate) fn streams(parameters: &[ParamSpec]) -> Vec<u64> {
    let mut earlier: BTreeMap<u32, u64> = BTreeMap::new();
    let stream = |parameter: &ParamSpec| {
        let hash = site_of(&parameter.name);
        let count = earlier.entry(hash).or_default();
        let stream = *count << 32 | u64::from(hash);
        *count += 1;
        stream
    };
    parameters.iter().map(stream).collect()
}
