// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gradients of a scaled loss, before an update.

use super::update::Stretch;
use super::{internal, Lowering};
use crate::backend::cuda::abi::*;
use crate::backend::cuda::launch::{Grid, Launch};
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::{single, word};
use crate::kernel::Kernel;
use crate::loss_scale::LossScale;
use crate::op::{Unscale, UpdateRule};
use crate::Result;

impl Lowering<'_> {
    /// A launch per stretch of gradients, one in all where no parameter is frozen.
    pub(super) fn unscale(&mut self, unscale: &Unscale) -> Result<Vec<Launch>> {
        let (stretches, all) = self.stretches_of_gradients()?;
        let progress = match self.places.training {
            Address::NONE => return Err(internal("nothing was reserved for a loss scale")),
            training => training,
        };
        let rule = self.plan.steps.iter().find_map(|step| match &step.kernel {
            Kernel::FlatUpdate { rule, .. } => Some(rule),
            _ => None,
        });
        let momentum = rule.map_or(0.0, UpdateRule::momentum);
        // None is smaller, so that 0 says that there is none.
        let most = |max_norm: f64| (single(max_norm)).max(f32::MIN_POSITIVE);
        let mut params = KilnUnscaleParams {
            coefficient: self.write(0)?,
            overflow: self.write(Unscale::OVERFLOW)?,
            norm: match self.step.outputs.len() > Unscale::NORM {
                true => self.write(Unscale::NORM)?,
                false => Address::NONE,
            },
            partials: self.scratch.numbers(2 * all),
            tickets: self.scratch.numbers(1),
            progress,
            scalars: self.scratch.scalars(),
            later: self.scratch.later(momentum),
            blocks: word(all),
            max_norm: unscale.max_norm.map_or(0.0, most),
            ..KilnUnscaleParams::default()
        };
        if let LossScale::Dynamic { growth_factor, backoff_factor, growth_interval, .. } =
            unscale.scale
        {
            (params.growth_factor, params.backoff_factor) = (growth_factor, backoff_factor);
            params.growth_interval = growth_interval;
        }
        let mut first_block = 0;
        let launch = |stretch: &Stretch| {
            let Stretch { x, count, grid } = *stretch;
            let params = KilnUnscaleParams { x, count, first_block, ..params };
            first_block += word(grid);
            Launch::new("unscale_f32", Grid::of(grid), params)
        };
        Ok(stretches.iter().map(launch).collect())
    }
}
