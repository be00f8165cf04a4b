// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recurrent network.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, Lstm, LstmConfig};
use burn::tensor::{Device, Int, Tensor};

use super::dropping::Dropping;
use super::model::Model;
use super::protocol::case::{CLASSES, HIDDEN, WIDTH, WORDS};

/// Embedding, two layers of LSTM with dropout between them, scores of the last hidden state.
#[derive(Module, Debug)]
pub struct Rnn {
    embedding: Embedding,
    lstm_l0: Lstm,
    lstm_l1: Lstm,
    fc: Linear,
}

impl Model for Rnn {
    type Input = Tensor<2, Int>;
    type Output = Tensor<2>;

    fn new(device: &Device) -> Self {
        Rnn {
            embedding: EmbeddingConfig::new(WORDS, WIDTH).init(device),
            lstm_l0: LstmConfig::new(WIDTH, HIDDEN, true).init(device),
            lstm_l1: LstmConfig::new(HIDDEN, HIDDEN, true).init(device),
            fc: LinearConfig::new(HIDDEN, CLASSES).init(device),
        }
    }

    fn forward(&self, x: Tensor<2, Int>, dropping: &Dropping) -> Tensor<2> {
        let x = dropping.elements("dropout", 0.5, self.embedding.forward(x));
        let (x, _) = self.lstm_l0.forward(x, None);
        let (_, last) = self.lstm_l1.forward(dropping.elements("lstm", 0.5, x), None);
        self.fc.forward(dropping.elements("dropout", 0.5, last.hidden))
    }
}
