// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts of a batch that are trained one after another.

use crate::graph::Node;
use crate::loss::Loss;
use crate::op::{Drops, Op};
use crate::plan::Plan;
use crate::scalars::Scalars;
use crate::values::{Given, Values};
use crate::{Error, Result};

/// Some samples of a batch.
pub(super) struct Part {
    /// What a run of it takes.
    pub(super) given: Given,
    /// Its first sample.
    start: usize,
    /// What its loss counts in that of the batch.
    pub(super) share: f64,
}

impl Part {
    /// How a batch is divided.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no memory for the parts.
    pub(super) fn of<O: Values, T: Values, I: Values>(
        batch: &Given,
        loss: &dyn Loss<O, T>,
        micro_batches: usize,
    ) -> Result<Vec<Part>> {
        // However many samples of no elements there are, they are not worth dividing.
        let elements = batch.of_network().first().map_or(0, |x| x.shape().elements());
        let ranges = split(batch.samples(), micro_batches.min(elements.max(1)));
        if ranges.len() == 1 {
            let given = batch.clone().with(loss.inputs());
            return Ok(vec![Part { given, start: 0, share: 1.0 }]);
        }
        let weight = |of: &Given| Ok(loss.weight(of.samples(), &of.targets::<I, T>()?));
        let whole: Option<f64> = weight(batch)?;
        let part = |&(start, end): &(usize, usize)| {
            let part = batch.part(start, end)?;
            let share = match (weight(&part)?, whole) {
                (Some(part), Some(whole)) => part / whole,
                _ => 1.0,
            };
            Ok(Part { given: part.with(loss.inputs()), start, share })
        };
        ranges.iter().map(part).collect()
    }

    pub(super) fn tell(&self, scalars: &mut Scalars) {
        scalars.share = self.share as f32;
        scalars.sample_offset = self.start as u32;
    }
}

/// Whether the parts of a batch draw the masks of the whole: a mask counts samples from the part's
/// first on, so every dropout of samples must count the batch's. Masks of weights have no samples.
pub(super) fn check_divisible(part: &Plan, samples: usize) -> Result<()> {
    let drops_samples =
        |op: &Op| matches!(op, Op::Dropout(dropout) if dropout.drops != Drops::Weights);
    let counts_others =
        |node: &&Node| drops_samples(&node.op) && node.ty.shape.samples() != samples;
    let mut nodes = part.graph.nodes();
    let Some((id, node)) = nodes.find(|(_, node)| counts_others(node)) else { return Ok(()) };
    Err(Error::Shape {
        layer: part.graph.layer(id).path.clone(),
        op: node.op.name().into(),
        expected: format!(
            "the samples of the batch, since micro-batches must draw the masks of the whole \
             ({samples} in a part)"
        ),
        got: node.ty.shape.samples().to_string(),
    })
}

/// `samples` in `parts` ranges of almost equal length, none empty.
fn split(samples: usize, parts: usize) -> Vec<(usize, usize)> {
    let parts = parts.clamp(1, samples.max(1));
    let start = |part: usize| (part as u128 * samples as u128 / parts as u128) as usize;
    (0..parts).map(|part| (start(part), start(part + 1))).collect()
}
