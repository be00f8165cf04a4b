// SPDX-License-Identifier: MIT OR Apache-2.0
//! What recurrent layers take and yield.

use crate::graph::Var;

/// Sequences for a recurrent layer: the inputs of all steps and, where there are, lengths and states
/// to begin with.
///
/// With lengths, an `i32 [samples]`, sequences of several lengths share a batch, padded to the longest
/// with whatever numbers: what PyTorch does for a packed sequence. A length is 1 or more and no more
/// than there are steps. Outputs past the end are 0, the last states are those at the end, a layer's
/// other direction begins there, and padding reaches neither states nor gradients.
///
/// ```
/// use kiln::nn::{Lstm, Module, Scope, Sequences};
/// use kiln::Var;
///
/// struct Translator { encoder: Lstm, decoder: Lstm }
///
/// impl Module for Translator {
///     fn forward(&self, x: &Var) -> Var {
///         let read = self.encoder.run(x);
///         let begun = Sequences::new(&read.output).from_states(&read.hidden, &read.cell);
///         self.decoder.run(begun).output
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Sequences<'a> {
    pub(super) x: &'a Var,
    pub(super) lengths: Option<&'a Var>,
    pub(super) hidden: &'a [Var],
    pub(super) cell: &'a [Var],
}

/// What a recurrent layer yields.
#[derive(Clone, Debug)]
pub struct RecurrentOutput {
    /// The last layer's hidden state after each step, `[samples, steps, features]` in the order of the
    /// inputs; those of two directions one behind the other.
    pub output: Var,
    /// Hidden states at the ends of the sequences, each `[samples, features]`: of the lowest layer
    /// first and, for each layer, of the direction to the end first. PyTorch's `h_n`, one by one.
    pub hidden: Vec<Var>,
    /// Cell states likewise, PyTorch's `c_n`; an LSTM's, others have none.
    pub cell: Vec<Var>,
}

impl<'a> Sequences<'a> {
    /// Whole sequences, to begin with states of zeros.
    pub fn new(x: &'a Var) -> Self {
        Sequences { x, lengths: None, hidden: &[], cell: &[] }
    }

    /// Sequences with lengths.
    pub fn with_lengths(self, lengths: &'a Var) -> Self {
        Sequences { lengths: Some(lengths), ..self }
    }

    /// Hidden states, and an LSTM's cell states, before the first step: each `[samples, features]`, one
    /// per layer and direction as [`RecurrentOutput`] has them.
    pub fn from_states(self, hidden: &'a [Var], cell: &'a [Var]) -> Self {
        Sequences { hidden, cell, ..self }
    }
}

impl<'a> From<&'a Var> for Sequences<'a> {
    fn from(x: &'a Var) -> Self {
        Sequences::new(x)
    }
}

impl RecurrentOutput {
    /// The last layer's hidden state at the ends of the sequences, `[samples, features]`: PyTorch's
    /// `h_n[-1]`. Of two directions it is the one that ends at the first step.
    pub fn last_hidden(&self) -> &Var {
        self.hidden.last().unwrap_or(&self.output)
    }
}
