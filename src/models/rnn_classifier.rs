// SPDX-License-Identifier: MIT OR Apache-2.0
//! A text classifier: embedding, two recurrent layers, the last hidden state's scores.

use crate::graph::Var;
use crate::nn::{
    Dropout, Embedding, Linear, Lstm, Module, RecurrentOptions, RecurrentOutput, Scope, Sequences,
};

/// `embedding -> dropout -> lstm -> last hidden state -> dropout -> fc`, with dropout between the layers
/// of the LSTM too.
///
/// Texts of several lengths come padded, with their lengths as a second input; without it the last
/// hidden state would be that after the padding.
///
/// # Shapes
/// `x`: tokens `i32 [samples, steps]`; lengths: `i32 [samples]`; scores: `[samples, classes]`.
///
/// # Errors
/// A rate outside `[0, 1]` comes back from the network's constructor; a token beyond the vocabulary and
/// a length beyond the steps from the run, before anything is computed.
///
/// ```
/// use kiln::models::RnnClassifier;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let make = |p: &kiln::nn::Scope| RnnClassifier::new(p, 100, 16, 32, 4, 0.5);
/// let mut net = Net::new(Device::cpu(), Seed(7), make)?;
/// let texts = Tensor::labels([2, 3], vec![5, 6, 7, 8, 0, 0])?;
/// let lengths = Tensor::labels([2], vec![3, 1])?;
/// let scores = net.eval().forward((&texts, &lengths))?;
/// assert_eq!(scores.shape().dims(), [2, 4]);
/// assert_eq!(net.parameter("lstm.weight_hh_l1")?.shape().dims(), [128, 32]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RnnClassifier {
    embedding: Embedding,
    lstm: Lstm,
    dropout: Dropout,
    fc: Linear,
}

impl RnnClassifier {
    /// A network over a vocabulary of `words`, each embedded in `width` features, with two layers of
    /// `hidden` units, `classes` scores and dropout at `rate`.
    pub fn new(
        p: &Scope,
        words: usize,
        width: usize,
        hidden: usize,
        classes: usize,
        rate: f32,
    ) -> Self {
        let options = RecurrentOptions { layers: 2, dropout: rate, ..RecurrentOptions::default() };
        Self::with_options(p, [words, width, hidden, classes], options)
    }

    /// The same sizes in one list, and other layers; all dropout is at the rate of that between them.
    pub fn with_options(
        p: &Scope,
        [words, width, hidden, classes]: [usize; 4],
        options: RecurrentOptions,
    ) -> Self {
        RnnClassifier {
            embedding: Embedding::new(&p.at("embedding"), words, width),
            lstm: Lstm::with_options(&p.at("lstm"), width, hidden, options),
            dropout: Dropout::new(&p.at("dropout"), options.dropout),
            fc: Linear::new(&p.at("fc"), hidden, classes),
        }
    }

    fn embedded(&self, tokens: &Var) -> Var {
        self.dropout.forward(&self.embedding.forward(tokens))
    }

    fn scores(&self, ran: &RecurrentOutput) -> Var {
        self.fc.forward(&self.dropout.forward(ran.last_hidden()))
    }
}

impl Module for RnnClassifier {
    fn forward(&self, tokens: &Var) -> Var {
        self.scores(&self.lstm.run(&self.embedded(tokens)))
    }
}

impl Module<(Var, Var)> for RnnClassifier {
    fn forward(&self, (tokens, lengths): &(Var, Var)) -> Var {
        let embedded = self.embedded(tokens);
        self.scores(&self.lstm.run(Sequences::new(&embedded).with_lengths(lengths)))
    }
}
