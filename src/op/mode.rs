// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which modes a value stands for another.

/// The modes in which the first of two values is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Where random layers draw: in train and in Monte Carlo mode.
    Random,
    /// In train mode alone.
    Training,
}
