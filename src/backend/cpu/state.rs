// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes of state that is not trained: a few numbers per layer, and the count of updates.

use super::memory::Arenas;
use super::operands::Read;
use super::plain;
use crate::backend::{counters_of, words_of, Memory, Run};
use crate::loss_scale::{LossScale, Overflow};
use crate::op::{StateRule, Unscale};
use crate::plan::Place;
use crate::scalars::TrainingState;
use crate::{Result, Shape};

/// Changes `state` as the rule says.
pub(super) fn change(rule: StateRule, state: &mut [f32], inputs: &[Read<'_>]) -> Result<()> {
    match rule {
        StateRule::Count => {
            let counts: Vec<i64> = counters_of(state).iter().map(|count| count + 1).collect();
            state.copy_from_slice(&words_of(&counts));
        }
        StateRule::Average { momentum, factor } => {
            let (kept, taken) = ((1.0 - momentum) as f32, (momentum * factor) as f32);
            for (state, statistic) in state.iter_mut().zip(inputs[0].values()?) {
                *state = kept * *state + taken * statistic;
            }
        }
        StateRule::CumulativeAverage { factor } => {
            let count = counters_of(inputs[1].values()?).first().map_or(1.0, |&count| count as f32);
            for (state, statistic) in state.iter_mut().zip(inputs[0].values()?) {
                *state += (factor as f32 * statistic - *state) / count;
            }
        }
    }
    Ok(())
}

/// What the training has come to; one that begins, where nothing keeps count.
pub(super) fn training_state(arenas: &Arenas, memory: &Memory) -> TrainingState {
    let words = memory.training_state().map(|span| arenas.slice(span));
    words.map_or_else(TrainingState::default, TrainingState::of_words)
}

/// Lets the loss scale go on as the step that looked at the gradients says.
pub(super) fn decide(
    arenas: &mut Arenas,
    run: &Run<'_>,
    step: usize,
    scale: LossScale,
) -> Result<()> {
    let Some(span) = run.memory.training_state() else { return Ok(()) };
    let overflow = run.plan.steps[step].writes.get(Unscale::OVERFLOW);
    let number = match overflow.map(|&id| run.plan.buffer(id).place) {
        Some(Place::Output(slot)) => run.outputs[slot][0],
        Some(Place::Arena(at)) => arenas.slice(plain::span(run.memory, at, &Shape::scalar()))[0],
        _ => 0.0,
    };
    let state = training_state(arenas, run.memory).decided(Overflow::of(number), scale);
    arenas.slice_mut(span)?.copy_from_slice(&state.words());
    Ok(())
}

/// Counts the update that is done.
pub(super) fn count_update(arenas: &mut Arenas, memory: &Memory) -> Result<()> {
    let Some(span) = memory.training_state() else { return Ok(()) };
    let words = training_state(arenas, memory).advanced().words();
    arenas.slice_mut(span)?.copy_from_slice(&words);
    Ok(())
}
