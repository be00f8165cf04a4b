// SPDX-License-Identifier: MIT OR Apache-2.0
//! What changes a network's state that is not trained: running statistics and counters.

use super::{update::describe, Array, Mismatch, TensorType};
use crate::{DType, Shape};

/// How a train-mode pass changes a piece of state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StateRule {
    /// Counts the pass: `() -> state + 1`, an `i64` scalar.
    Count,
    /// Moves a running statistic towards that of the batch:
    /// `(statistic) -> (1 - momentum) * state + momentum * factor * statistic`.
    Average {
        /// Weight of the batch, PyTorch's `momentum`.
        momentum: f64,
        /// What the statistic is multiplied by: `n / (n - 1)` makes a variance unbiased.
        factor: f64,
    },
    /// The mean over all batches so far:
    /// `(statistic, count) -> state + (factor * statistic - state) / count`, where `count` counts
    /// this batch too: PyTorch's `momentum=None`.
    CumulativeAverage {
        /// What the statistic is multiplied by.
        factor: f64,
    },
}

impl StateRule {
    /// Name of the rule.
    pub fn name(self) -> &'static str {
        match self {
            StateRule::Count => "count",
            StateRule::Average { .. } => "running_average",
            StateRule::CumulativeAverage { .. } => "cumulative_average",
        }
    }

    pub(super) fn infer(self, inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
        let counter = TensorType { shape: Shape::scalar(), dtype: DType::I64 };
        match (self, inputs) {
            (StateRule::Count, []) => Ok(counter),
            (StateRule::Average { .. }, [x]) if x.dtype == DType::F32 => Ok((*x).clone()),
            (StateRule::CumulativeAverage { .. }, [x, count])
                if x.dtype == DType::F32 && **count == counter =>
            {
                Ok((*x).clone())
            }
            _ => Err(Mismatch::new("a statistic, and a counter where all count", describe(inputs))),
        }
    }

    /// The plain meaning: the new state.
    pub(crate) fn apply(self, state: &Array, inputs: &[Array]) -> Array {
        match self {
            StateRule::Count => state.map(|count| count + 1.0),
            StateRule::Average { momentum, factor } => state.zip(&inputs[0], |state, statistic| {
                (1.0 - momentum) * state + momentum * factor * statistic
            }),
            StateRule::CumulativeAverage { factor } => {
                let count = inputs[1].data[0];
                state.zip(&inputs[0], |state, statistic| {
                    state + (factor * statistic - state) / count
                })
            }
        }
    }
}
