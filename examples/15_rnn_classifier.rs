// SPDX-License-Identifier: MIT OR Apache-2.0
//! A recurrent network that tells which of six languages a word is of.
//!
//! `cargo run --release --example 15_rnn_classifier`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use kiln::data::{Batch, Labelled, Loader, LoaderConfig, Pass, Unit};
use kiln::nn::{Dropout, Embedding, Linear, Lstm, Module, RecurrentOptions, Scope, Sequences};
use kiln::{loss::CrossEntropy, optim::Adam, Device, Net, Seed, Trainer, Var};

struct RnnClassifier {
    embedding: Embedding,
    lstm: Lstm,
    dropout: Dropout,
    fc: Linear,
}

impl RnnClassifier {
    fn new(p: &Scope, [vocabulary, embedding, hidden, classes]: [usize; 4], rate: f32) -> Self {
        let options = RecurrentOptions { layers: 2, dropout: rate, ..Default::default() };
        RnnClassifier {
            embedding: Embedding::new(&p.at("embedding"), vocabulary, embedding),
            lstm: Lstm::with_options(&p.at("lstm"), embedding, hidden, options),
            dropout: Dropout::new(&p.at("dropout"), rate),
            fc: Linear::new(&p.at("fc"), hidden, classes),
        }
    }
}

impl Module<(Var, Var)> for RnnClassifier {
    fn forward(&self, (x, lengths): &(Var, Var)) -> Var {
        let embedded = self.dropout.forward(&self.embedding.forward(x));
        let ran = self.lstm.run(Sequences::new(&embedded).with_lengths(lengths));
        self.fc.forward(&self.dropout.forward(ran.last_hidden()))
    }
}

fn main() -> kiln::Result<()> {
    let (train, rest) = Labelled::words().split(2000, 7)?;
    let (labels, vocabulary) = (train.labels(), train.vocabulary(Unit::Characters, 1)?);
    let (train, test) =
        (train.texts(&vocabulary, &labels)?, rest.take(1000).texts(&vocabulary, &labels)?);
    let sizes = [vocabulary.len(), 24, 64, labels.len()];
    let net = Net::new(Device::best()?, Seed(7), |p| RnnClassifier::new(p, sizes, 0.2))?;
    let mut fit = Trainer::new(net, CrossEntropy::default(), Adam::new(3e-3))?;
    let config = LoaderConfig { batch_size: 50, ..Default::default() };
    let mut words = Loader::new(std::sync::Arc::new(train), config)?;
    for _ in 0..4 * words.len() {
        let batch = words.next_batch()?;
        fit.step(&batch.inputs, &batch.targets)?;
    }
    let batch = Batch::read(&test, &Vec::from_iter(0..1000), Pass::default())?;
    let guesses = fit.net().eval().forward(&batch.inputs)?.argmax()?;
    let told = guesses.iter().zip(batch.labels()?).filter(|(a, b)| **a == **b as usize);
    println!("of 1000 new words in {} languages, {} are told right", labels.len(), told.count());
    Ok(())
}
