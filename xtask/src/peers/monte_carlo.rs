// SPDX-License-Identifier: MIT OR Apache-2.0
//! Draws of Monte Carlo dropout: all in one run, beside a pass for each and PyTorch's `torch.func.vmap`.

use std::num::NonZeroUsize;
use std::path::Path;

use kiln::nn::{Dropout, Linear, Module, Relu, Scope, Sequential};
use kiln::op::TensorType;
use kiln::{checkpoint, Device, Draws, Mode, Net, Tensor, Var, MONTE_CARLO_PASS};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, TensorView};

use super::workload::{random_normal, Amount, Workload, CLASSES, INPUTS, SEED};
use crate::Result;

/// Draws of each sample.
const DRAWS: usize = 32;
pub(super) const BATCH: usize = 64;
const HIDDEN: usize = 2048;
const RATE: f32 = 0.5;
/// The dropout's place in the sequence.
const DROPOUT: &str = "4";

/// How draws are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    /// All in one run.
    OneRun,
    /// With a pass in train mode for each.
    SinglePasses,
}

/// A network with dropout before its last layer, so that draws share nearly all of the work.
pub(super) struct MonteCarlo {
    net: Net<Box<dyn Module>>,
    x: Tensor,
    way: Way,
}

impl MonteCarlo {
    pub(super) fn new(way: Way, threads: NonZeroUsize) -> Result<Self> {
        let net = Net::new(Device::cpu_with_threads(threads), SEED, network)?;
        let x = random_normal(&mut ChaCha8Rng::seed_from_u64(SEED.0), &[BATCH, INPUTS])?;
        Ok(MonteCarlo { net, x, way })
    }

    /// Leaves parameters, inputs and masks in a directory for the peer, and returns the draws under them,
    /// `[draws, samples, classes]`.
    pub(super) fn given(&mut self, directory: &Path) -> Result<Tensor> {
        checkpoint::save_weights(&mut self.net, directory.join("before.safetensors"))?;
        let rows = BATCH * DRAWS;
        let types = [TensorType::f32([rows, INPUTS].into())];
        let masks = self.net.mask::<Var, Var>(DROPOUT, MONTE_CARLO_PASS, &types)?;
        let [mask] = &masks[..] else {
            return Err(format!("expected one mask, got {}", masks.len()).into());
        };
        // Draw j of sample s is row s * draws + j.
        let kept: Vec<u8> = mask.values()?.iter().map(|kept| *kept as u8).collect();
        let x: Vec<u8> = self.x.values()?.iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensors = vec![
            ("input", TensorView::new(Dtype::F32, vec![BATCH, INPUTS], &x)?),
            ("mask", TensorView::new(Dtype::U8, vec![BATCH, DRAWS, HIDDEN], &kept)?),
        ];
        safetensors::serialize_to_file(tensors, None, &directory.join("batch.safetensors"))?;
        Ok(self.net.monte_carlo(DRAWS).forward(&self.x)?)
    }
}

impl Workload for MonteCarlo {
    fn step(&mut self) -> kiln::Result<()> {
        match self.way {
            Way::OneRun => self.net.monte_carlo(DRAWS).forward(&self.x).map(drop),
            Way::SinglePasses => {
                (0..DRAWS).try_for_each(|_| self.net.train().forward(&self.x).map(drop))
            }
        }
    }

    fn amount(&mut self) -> kiln::Result<Amount> {
        let (mode, runs) = match self.way {
            Way::OneRun => (Mode::MonteCarlo(Draws::new(DRAWS)), 1),
            Way::SinglePasses => (Mode::Train, DRAWS),
        };
        Ok(Amount::Flops(runs * self.net.plan(mode, &[self.x.ty()])?.totals().flops))
    }
}

/// 784-2048-2048-10.
fn network(p: &Scope) -> Box<dyn Module> {
    let layers = Sequential::new(p).with(|p| Linear::new(p, INPUTS, HIDDEN)).with(|_| Relu);
    let layers = layers.with(|p| Linear::new(p, HIDDEN, HIDDEN)).with(|_| Relu);
    let layers = layers.with(|p| Dropout::new(p, RATE));
    Box::new(layers.with(|p| Linear::new(p, HIDDEN, CLASSES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times of programs that do different things are not worth comparing.
    #[test]
    fn one_run_shares_what_single_passes_repeat() {
        let amount = |way| {
            let mut work = MonteCarlo::new(way, NonZeroUsize::MIN).expect("a network");
            work.amount().expect("a plan")
        };
        let shared = 2 * BATCH * (INPUTS * HIDDEN + HIDDEN * HIDDEN);
        let repeated = 2 * BATCH * HIDDEN * CLASSES;
        assert_eq!(amount(Way::OneRun), Amount::Flops(shared + DRAWS * repeated));
        assert_eq!(amount(Way::SinglePasses), Amount::Flops(DRAWS * (shared + repeated)));
    }
}
