// SPDX-License-Identifier: MIT OR Apache-2.0
//! A text classifier: embedding, two recurrent layers, the last hidden state's scores.

use crate::graph::Var;
use crate::nn::{
    Directions, Dropout, Embedding, Gru, Linear, Lstm, Module, RecurrentOptions, RecurrentOutput,
    Scope, Sequences,
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
    /// `None` for features, which the layers take as they are.
    embedding: Option<Embedding>,
    layers: Layers,
    told_by: Told,
    dropout: Dropout,
    fc: Linear,
}

/// The hidden states of the last layer that classes are told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// `hidden[-1]`: of two directions the one that ends at the first step.
    ByTheLast,
    /// Those at the ends of both directions.
    ByBoth,
}

impl Told {
    /// The last states of every direction.
    fn by_all(directions: Directions) -> Self {
        match directions {
            Directions::Forward => Told::ByTheLast,
            Directions::Both => Told::ByBoth,
        }
    }
}

/// What the recurrent layers of [`RnnClassifier`] are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RnnCell {
    /// [`Lstm`], under the name `lstm`.
    #[default]
    Lstm,
    /// [`Gru`], under the name `gru`.
    Gru,
}

#[derive(Clone, Debug)]
enum Layers {
    Lstm(Lstm),
    Gru(Gru),
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
    /// The scores are told by `hidden[-1]`, which of two directions is one.
    pub fn with_options(p: &Scope, sizes: [usize; 4], options: RecurrentOptions) -> Self {
        Self::of(p, RnnCell::Lstm, sizes, options, options.dropout, Told::ByTheLast)
    }

    /// The same with layers of another kind, and scores told by the last hidden states of both directions
    /// where there are two, one behind the other.
    ///
    /// ```
    /// use kiln::models::{RnnCell, RnnClassifier};
    /// use kiln::nn::{Directions, RecurrentOptions};
    /// use kiln::{Device, Net, Seed};
    ///
    /// let options = RecurrentOptions { directions: Directions::Both, ..RecurrentOptions::default() };
    /// let mut net = Net::new(Device::cpu(), Seed(7), |p| {
    ///     RnnClassifier::with_cell(p, RnnCell::Gru, [100, 16, 32, 4], options)
    /// })?;
    /// assert_eq!(net.parameter("gru.weight_hh_l0_reverse")?.shape().dims(), [96, 32]);
    /// assert_eq!(net.parameter("fc.weight")?.shape().dims(), [4, 64]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn with_cell(
        p: &Scope,
        cell: RnnCell,
        sizes: [usize; 4],
        options: RecurrentOptions,
    ) -> Self {
        Self::with_rate(p, cell, sizes, options, options.dropout)
    }

    /// The same with another rate, behind the embedding and before the scores, than that of the options
    /// between the layers.
    pub fn with_rate(
        p: &Scope,
        cell: RnnCell,
        sizes: [usize; 4],
        options: RecurrentOptions,
        rate: f32,
    ) -> Self {
        Self::of(p, cell, sizes, options, rate, Told::by_all(options.directions))
    }

    /// The same layers on sequences of features, `f32 [samples, steps, features]`, in the place of tokens and their
    /// embedding. Sizes are features, hidden units and classes.
    ///
    /// ```
    /// use kiln::models::{RnnCell, RnnClassifier};
    /// use kiln::nn::RecurrentOptions;
    /// use kiln::{Device, Net, Seed, Tensor};
    ///
    /// let mut net = Net::new(Device::cpu(), Seed(7), |p| {
    ///     RnnClassifier::of_features(p, RnnCell::Lstm, [12, 32, 9], RecurrentOptions::default(), 0.3)
    /// })?;
    /// let lengths = Tensor::labels([2], vec![5, 3])?;
    /// let scores = net.eval().forward((&Tensor::zeros([2, 5, 12]), &lengths))?;
    /// assert_eq!(scores.shape().dims(), [2, 9]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn of_features(
        p: &Scope,
        cell: RnnCell,
        [features, hidden, classes]: [usize; 3],
        options: RecurrentOptions,
        rate: f32,
    ) -> Self {
        let told_by = Told::by_all(options.directions);
        Self::behind(p, None, cell, [features, hidden, classes], options, rate, told_by)
    }

    fn of(
        p: &Scope,
        cell: RnnCell,
        [words, width, hidden, classes]: [usize; 4],
        options: RecurrentOptions,
        rate: f32,
        told_by: Told,
    ) -> Self {
        let embedding = Some(Embedding::new(&p.at("embedding"), words, width));
        Self::behind(p, embedding, cell, [width, hidden, classes], options, rate, told_by)
    }

    fn behind(
        p: &Scope,
        embedding: Option<Embedding>,
        cell: RnnCell,
        [width, hidden, classes]: [usize; 3],
        options: RecurrentOptions,
        rate: f32,
        told_by: Told,
    ) -> Self {
        // Of one layer there is nothing between, and nothing to be warned of.
        let between = if options.layers > 1 { options.dropout } else { 0.0 };
        let options = RecurrentOptions { dropout: between, ..options };
        let states = match told_by {
            Told::ByTheLast => hidden,
            Told::ByBoth => hidden.saturating_mul(2),
        };
        RnnClassifier {
            embedding,
            layers: match cell {
                RnnCell::Lstm => {
                    Layers::Lstm(Lstm::with_options(&p.at("lstm"), width, hidden, options))
                }
                RnnCell::Gru => {
                    Layers::Gru(Gru::with_options(&p.at("gru"), width, hidden, options))
                }
            },
            told_by,
            dropout: Dropout::new(&p.at("dropout"), rate),
            fc: Linear::new(&p.at("fc"), states, classes),
        }
    }

    /// Features of each step.
    fn embedded(&self, steps: &Var) -> Var {
        match &self.embedding {
            Some(embedding) => self.dropout.forward(&embedding.forward(steps)),
            None => steps.clone(),
        }
    }

    fn scores(&self, sequences: Sequences<'_>) -> Var {
        let ran = match &self.layers {
            Layers::Lstm(lstm) => lstm.run(sequences),
            Layers::Gru(gru) => gru.run(sequences),
        };
        self.fc.forward(&self.dropout.forward(&self.last(&ran)))
    }

    /// What the texts are told apart by.
    fn last(&self, ran: &RecurrentOutput) -> Var {
        match (self.told_by, &ran.hidden[..]) {
            (Told::ByBoth, [.., forward, reverse]) => Var::concat(&[forward, reverse], 1),
            _ => ran.last_hidden().clone(),
        }
    }
}

impl Module for RnnClassifier {
    fn forward(&self, tokens: &Var) -> Var {
        self.scores(Sequences::new(&self.embedded(tokens)))
    }
}

impl Module<(Var, Var)> for RnnClassifier {
    fn forward(&self, (tokens, lengths): &(Var, Var)) -> Var {
        let embedded = self.embedded(tokens);
        self.scores(Sequences::new(&embedded).with_lengths(lengths))
    }
}
