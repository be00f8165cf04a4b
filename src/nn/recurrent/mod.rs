// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent layers.

mod gru;
mod lstm;
mod rnn;
mod sequences;
mod stack;

pub use gru::Gru;
pub use lstm::Lstm;
pub use rnn::{Nonlinearity, Rnn};
pub use sequences::{RecurrentOutput, Sequences};

use super::Bias;

/// What [`Lstm`], [`Gru`] and [`Rnn`] can be told besides their sizes; PyTorch's defaults, but that
/// samples come first, as everywhere in kiln.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecurrentOptions {
    /// Layers one above the other, each of which takes the outputs of the one below: PyTorch's
    /// `num_layers`.
    pub layers: usize,
    /// Whether biases are added: one to the products of the inputs, one to those of the hidden state.
    pub bias: Bias,
    /// In which directions each layer goes over the steps.
    pub directions: Directions,
    /// Which extent of sequences counts samples.
    pub order: SequenceOrder,
    /// Rate of the dropout on the outputs of every layer but the last. Each step, and each direction,
    /// has elements of its own; the hidden states that a layer hands to its own next step are left
    /// alone. Masks count the elements of a sample step by step, so that they depend neither on how
    /// a batch is divided nor on how far it is padded. [`Scope::with_dropout_schedule`] lets it change.
    ///
    /// [`Scope::with_dropout_schedule`]: super::Scope::with_dropout_schedule
    pub dropout: f32,
}

/// In which directions a recurrent layer goes over the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Directions {
    /// From the first to the last.
    #[default]
    Forward,
    /// Also from the last to the first, with weights of its own; the outputs of both stand one behind
    /// the other: `bidirectional=True`.
    Both,
}

/// What the first two extents of sequences count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SequenceOrder {
    /// `[samples, steps, features]`: `batch_first=True`, and the order of everything that is given to
    /// networks.
    #[default]
    SamplesFirst,
    /// `[steps, samples, features]`: for values that a network has put in this order itself.
    StepsFirst,
}

impl Default for RecurrentOptions {
    fn default() -> Self {
        RecurrentOptions {
            layers: 1,
            bias: Bias::Added,
            directions: Directions::Forward,
            order: SequenceOrder::SamplesFirst,
            dropout: 0.0,
        }
    }
}
