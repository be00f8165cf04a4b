// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measuring a network on a data set, in eval mode.

use std::sync::Arc;

use kiln::data::{Dataset, Loader, LoaderConfig};
use kiln::loss::CrossEntropy;
use kiln::{NonFiniteValue, Result};

use super::interrupt::Interrupt;
use super::metrics::Scores;
use super::network::{AnyNet, Feed};

/// Samples per batch; large enough for full speed.
pub(super) const BATCH: usize = 256;

/// Loss and accuracy; `None` if a signal came first.
pub(super) fn evaluate(
    net: &mut AnyNet,
    feed: Feed,
    set: &Arc<dyn Dataset>,
    interrupt: &Interrupt,
) -> Result<Option<Scores>> {
    let criterion = CrossEntropy::default();
    let (mut loss, mut correct) = (0.0, Some(0));
    for batch in loader(set, BATCH)?.epoch() {
        if interrupt.caught().is_some() {
            return Ok(None);
        }
        let (x, labels) = feed.tensors(batch?)?;
        let (mean, scores) = net.eval().loss_and_output(&criterion, &x, &labels)?;
        let labels = labels.integers()?;
        loss += f64::from(mean.item()?) * labels.len() as f64;
        // NaN is no answer, neither a right nor a wrong one.
        if scores.values()?.iter().any(|score| score.is_nan()) {
            correct = None;
        }
        if let Some(correct) = &mut correct {
            let guesses = scores.argmax()?;
            *correct += guesses.iter().zip(labels).filter(|(a, b)| **a == **b as usize).count();
        }
    }
    Ok(Some(Scores { loss: loss / set.len() as f64, correct, samples: set.len() }))
}

/// The first layer's output that is not finite, on the first batch with such a one.
pub(super) fn first_non_finite(
    net: &mut AnyNet,
    feed: Feed,
    set: &Arc<dyn Dataset>,
) -> Result<Option<NonFiniteValue>> {
    for batch in loader(set, BATCH)?.epoch() {
        let (x, _) = feed.tensors(batch?)?;
        let found = net.eval().first_non_finite(&x)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// All samples in their order.
pub(super) fn loader(set: &Arc<dyn Dataset>, batch_size: usize) -> Result<Loader> {
    let config = LoaderConfig { batch_size, ..LoaderConfig::default() };
    Loader::new(Arc::clone(set), config)
}
