// SPDX-License-Identifier: MIT OR Apache-2.0
//! Watching a training: when it ends, which of its states is the best, signs that it does not go as it
//! should, and curves of it for TensorBoard.

mod early_stopping;
mod events;
mod health;
mod histogram;

pub use crate::optim::Better;
pub use early_stopping::{Best, EarlyStopping, Standing};
pub use events::EventFile;
pub use health::{cold_start, CheckSums, DeadUnits, Warning};
pub use histogram::Histogram;
