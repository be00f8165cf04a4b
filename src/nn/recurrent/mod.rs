// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent layers.

mod check;
mod gru;
mod inside;
mod lstm;
mod norm;
mod rnn;
mod sequences;
mod stack;
mod steps;

pub use gru::Gru;
pub use lstm::Lstm;
pub use rnn::{Nonlinearity, Rnn};
pub use sequences::{RecurrentOutput, Sequences};

use super::Bias;

/// What [`Lstm`], [`Gru`] and [`Rnn`] can be told besides their sizes; PyTorch's defaults, but that
/// samples come first, as everywhere in kiln.
///
/// PyTorch lacks the options from [`between`](RecurrentOptions::between) on. Each drops nothing at a rate of
/// 0, where the layer is what it is without. Their masks cost no memory and depend neither on how a batch is
/// divided nor on how far sequences are padded. AWD-LSTM (Merity et al. 2017, arXiv:1708.02182) is
///
/// ```
/// use kiln::nn::{Between, Lstm, RecurrentOptions};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let options = RecurrentOptions {
///     layers: 3,
///     dropout: 0.25,
///     between: Between::Locked,
///     input_dropout: 0.4,
///     output_dropout: 0.4,
///     weight_dropout: 0.5,
///     ..RecurrentOptions::default()
/// };
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| {
///     Lstm::with_options(&p.at("lstm"), 3, 5, options)
/// })?;
/// let x = Tensor::new([2, 7, 3], vec![1.0; 42])?;
/// let output = net.train().forward(&x)?;
/// let of_sample = &output.values()?[..35];
/// let dropped = |unit: usize| of_sample.iter().skip(unit).step_by(5).all(|&h| h == 0.0);
/// let kept = |unit: usize| of_sample.iter().skip(unit).step_by(5).all(|&h| h != 0.0);
/// assert!((0..5).all(|unit| dropped(unit) || kept(unit)));
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// [`recurrent_dropout`](RecurrentOptions::recurrent_dropout), [`zoneout`](RecurrentOptions::zoneout),
/// [`cell_zoneout`](RecurrentOptions::cell_zoneout) and [`norm`](RecurrentOptions::norm) change what happens
/// inside of a step. With them each step is recorded by itself, so that a plan grows with the number of steps;
/// on a GPU no step waits for the host. Their rates follow no schedule.
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
    /// Whether the dropout between layers draws in each step anew.
    pub between: Between,
    /// Rate of [`LockedDropout`](super::LockedDropout) on what the lowest layer takes; its path ends in
    /// `input_dropout`.
    pub input_dropout: f32,
    /// Rate of [`LockedDropout`](super::LockedDropout) on what the last layer yields; its path ends in
    /// `output_dropout`. The last states are not dropped.
    pub output_dropout: f32,
    /// Rate at which elements of every `weight_hh` are dropped, once for all samples and steps of a pass, and
    /// the others scaled by `1 / (1 - p)`: DropConnect (Wan et al. 2013), the weight drop of AWD-LSTM. The
    /// path ends in `weight_dropout`; each layer and direction is one call of it. Draws of Monte Carlo mode have
    /// a mask each, that of sample `j` for draw `j`.
    pub weight_dropout: f32,
    /// Rate of the dropout on what each step adds to the state, drawn in each step anew, so that what is
    /// remembered is never dropped (Semeniuta et al. 2016, arXiv:1603.05118): `g` of an LSTM, `n` of a GRU. An
    /// RNN adds nothing to a state and has no such dropout. The path ends in `recurrent_dropout`.
    pub recurrent_dropout: f32,
    /// Probability with which a unit's hidden state stays in a step what it was before; in eval mode states
    /// move by `1 - p` of the way (Krueger et al. 2016, arXiv:1606.01305). With 1 they never change. The path
    /// ends in `zoneout`; layer and direction number `k` has the masks of call `2 k`.
    pub zoneout: f32,
    /// The same for the cell state of an LSTM, which others lack: call `2 k + 1`. A step's hidden state is made
    /// of the new cell state in any case.
    pub cell_zoneout: f32,
    /// Whether the gates of an LSTM are normalised.
    pub norm: GateNorm,
}

/// What the dropout between recurrent layers draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Between {
    /// Each step has a mask of its own, as PyTorch has it.
    #[default]
    EachStep,
    /// All steps of a sequence have one: [`LockedDropout`](super::LockedDropout).
    Locked,
}

/// Normalisation inside of recurrent layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GateNorm {
    /// There is none.
    #[default]
    Absent,
    /// Layer normalisation of an LSTM (Ba et al. 2016, arXiv:1607.06450, equations 20 to 22), in every mode
    /// alike. With `LN` the [`LayerNorm`](super::LayerNorm) of all gates of a sample together:
    ///
    /// ```text
    /// i, f, g, o are of LN(W_ih x) + LN(W_hh h)
    /// c' = f * c + i * g                            h' = o * tanh(LN(c'))
    /// ```
    ///
    /// Layer `k` has `norm_ih_weight_lk` and `norm_hh_weight_lk [4 hidden]`, ones at first, and
    /// `norm_cell_weight_lk [hidden]`; with biases also `norm_ih_bias_lk`, `norm_hh_bias_lk` and
    /// `norm_cell_bias_lk`, zeros, in the place of `bias_ih_lk` and `bias_hh_lk`.
    Layer,
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
            between: Between::EachStep,
            input_dropout: 0.0,
            output_dropout: 0.0,
            weight_dropout: 0.0,
            recurrent_dropout: 0.0,
            zoneout: 0.0,
            cell_zoneout: 0.0,
            norm: GateNorm::Absent,
        }
    }
}
