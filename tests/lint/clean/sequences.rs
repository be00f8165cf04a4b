// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks of sequences.

use kiln::loss::CrossEntropy;
use kiln::models::RnnClassifier;
use kiln::nn::{
    Between, Conv1d, Directions, Dropout, Embedding, EmbeddingOptions, GateNorm, Gru, Init, Keep,
    Linear, Lstm, Module, RecurrentOptions, Scope, Sequences,
};
use kiln::op::TensorType;
use kiln::Var;

use super::Network;
use crate::blocks::{dropout, linear, Block, Norm, Normed};
use crate::{classifier, found, make, tokens, trained, Times, BATCH};

/// Words that are known.
const WORDS: usize = 1000;

pub(super) fn networks() -> Vec<Network> {
    vec![
        (
            "RNNClassifier",
            Box::new(|| {
                let net = make(|p| RnnClassifier::new(p, WORDS, 64, 128, 4, 0.5));
                let inputs = (tokens(20), TensorType::i32([BATCH].into()));
                trained::<_, (Var, Var), Var, Var>(
                    net,
                    CrossEntropy::default(),
                    &inputs,
                    &TensorType::i32([BATCH].into()),
                )
            }),
        ),
        ("AWD-LSTM", Box::new(|| found(tokens(20), |p| awd_lstm(p, [0.1, 0.65, 0.3, 0.4])))),
        (
            "AWD-LSTM for a small corpus",
            Box::new(|| found(tokens(20), |p| awd_lstm(p, [0.1, 0.4, 0.25, 0.4]))),
        ),
        ("AWD-LSTM by its options", Box::new(|| found(tokens(20), |p| language(p, awd_options())))),
        (
            "an LSTM that zones out",
            Box::new(|| {
                let plain = RecurrentOptions::default();
                let options = RecurrentOptions { zoneout: 0.05, cell_zoneout: 0.5, ..plain };
                found(tokens(20), move |p| language(p, options))
            }),
        ),
        (
            "a normalised LSTM whose updates are dropped",
            Box::new(|| {
                let (norm, plain) = (GateNorm::Layer, RecurrentOptions::default());
                let options = RecurrentOptions { recurrent_dropout: 0.1, norm, ..plain };
                found(tokens(20), move |p| language(p, options))
            }),
        ),
        ("a regularised LSTM", Box::new(|| found(tokens(20), |p| stacked(p, 0.5)))),
        ("a large regularised LSTM", Box::new(|| found(tokens(20), |p| stacked(p, 0.65)))),
        ("GRU in both directions", Box::new(|| classifier(tokens(20), both_directions))),
        ("LSTM with a row for padding", Box::new(padded)),
        ("TextCNN", Box::new(|| classifier(tokens(20), text_cnn))),
        (
            "Transformer, normed before",
            Box::new(|| classifier(tokens(16), |p| transformer(p, Normed::Before, 2))),
        ),
        (
            "Transformer, normed behind",
            Box::new(|| classifier(tokens(16), |p| transformer(p, Normed::After, 2))),
        ),
        ("a language model of blocks", Box::new(|| found(tokens(16), language_model))),
        ("BERT's head", Box::new(|| classifier(tokens(16), bert))),
    ]
}

pub(super) fn timed() -> (&'static str, Times) {
    let times = crate::timed(&tokens(16), |p| transformer(p, Normed::Before, 12));
    ("a Transformer of 12 blocks", times)
}

/// Merity et al. 2017, arXiv:1708.02182: dropout of rows of the embedding, its output, between layers and
/// of the output; the decoder is the embedding again.
fn awd_lstm(
    p: &Scope,
    [rows, input, hidden, output]: [f32; 4],
) -> impl Fn(&Var) -> Var + Send + Sync {
    const WIDTH: usize = 64;
    let table = p.parameter("table", [WORDS, WIDTH], Init::Ones);
    let drops = [
        dropout(p, "dropout_rows", rows),
        dropout(p, "dropout_input", input),
        dropout(p, "dropout_output", output),
    ];
    let options = RecurrentOptions { layers: 3, dropout: hidden, ..RecurrentOptions::default() };
    let lstm = Lstm::with_options(&p.at("lstm"), WIDTH, WIDTH, options);
    move |x: &Var| {
        let table = x.parameter(&table);
        let rows = drops[0].forward(&table).take(0, x);
        let output = lstm.forward(&drops[1].forward(&rows));
        drops[2].forward(&output).matmul_transposed(&table)
    }
}

/// Merity et al. 2017 again, as options of the layer.
fn awd_options() -> RecurrentOptions {
    RecurrentOptions {
        layers: 3,
        dropout: 0.25,
        between: Between::Locked,
        input_dropout: 0.4,
        output_dropout: 0.4,
        weight_dropout: 0.5,
        ..RecurrentOptions::default()
    }
}

/// A language model of one stack: Krueger et al. 2016, arXiv:1606.01305; Ha et al. 2016, arXiv:1609.09106.
fn language(p: &Scope, options: RecurrentOptions) -> impl Fn(&Var) -> Var + Send + Sync {
    let embedding = Embedding::new(&p.at("embedding"), WORDS, 64);
    let lstm = Lstm::with_options(&p.at("lstm"), 64, 64, options);
    let decoder = linear(p, "decoder", 64, WORDS);
    move |x: &Var| decoder.forward(&lstm.forward(&embedding.forward(x)))
}

/// Zaremba et al. 2014, arXiv:1409.2329: one rate everywhere but between steps.
fn stacked(p: &Scope, rate: f32) -> impl Fn(&Var) -> Var + Send + Sync {
    let embedding = Embedding::new(&p.at("embedding"), WORDS, 64);
    let options = RecurrentOptions { layers: 2, dropout: rate, ..RecurrentOptions::default() };
    let lstm = Lstm::with_options(&p.at("lstm"), 64, 64, options);
    let (drop, decoder) = (dropout(p, "drop", rate), linear(p, "decoder", 64, WORDS));
    move |x: &Var| {
        let x = drop.forward(&embedding.forward(x));
        decoder.forward(&drop.forward(&lstm.forward(&x)))
    }
}

fn both_directions(p: &Scope) -> impl Fn(&Var) -> Var + Send + Sync {
    let embedding = Embedding::new(&p.at("embedding"), WORDS, 64);
    let options = RecurrentOptions {
        layers: 2,
        dropout: 0.2,
        directions: Directions::Both,
        ..RecurrentOptions::default()
    };
    let gru = Gru::with_options(&p.at("gru"), 64, 64, options);
    let drops = [dropout(p, "drop1", 0.2), dropout(p, "drop2", 0.5)];
    let fc = linear(p, "fc", 128, 10);
    move |x: &Var| {
        let x = gru.forward(&drops[0].forward(&embedding.forward(x)));
        fc.forward(&drops[1].forward(&x.max_over([1], Keep::Nothing)))
    }
}

/// Sequences of several lengths, which are given.
fn padded() -> kiln::lint::Report {
    struct Padded(Embedding, Lstm, Dropout, Linear);
    impl Module<(Var, Var)> for Padded {
        fn forward(&self, (x, lengths): &(Var, Var)) -> Var {
            let x = self.0.forward(x);
            let ran = self.1.run(Sequences::new(&x).with_lengths(lengths));
            self.3.forward(&self.2.forward(ran.last_hidden()))
        }
    }
    let net = make(|p| {
        let options = EmbeddingOptions { padding: Some(0), ..EmbeddingOptions::default() };
        Padded(
            Embedding::with_options(&p.at("embedding"), WORDS, 64, options),
            Lstm::new(&p.at("lstm"), 64, 128),
            dropout(p, "drop", 0.3),
            linear(p, "fc", 128, 4),
        )
    });
    net.lint::<(Var, Var), Var>(&[tokens(20), TensorType::i32([BATCH].into())]).unwrap()
}

/// Kim 2014, arXiv:1408.5882: convolutions over words, the largest of all places, 0.5 before the classifier.
fn text_cnn(p: &Scope) -> impl Fn(&Var) -> Var + Send + Sync {
    let embedding = Embedding::new(&p.at("embedding"), WORDS, 64);
    let convs = [3, 4, 5].map(|side| Conv1d::new(&p.at(&format!("conv{side}")), 64, 50, [side]));
    let (drop, fc) = (dropout(p, "drop", 0.5), linear(p, "fc", 150, 10));
    move |x: &Var| {
        let x = embedding.forward(x).transpose(1, 2);
        let largest =
            convs.each_ref().map(|conv| conv.forward(&x).relu().max_over([2], Keep::Nothing));
        fc.forward(&drop.forward(&Var::concat(&largest, 1)))
    }
}

/// Vaswani et al. 2017, arXiv:1706.03762: 0.1 of embeddings with places, and of every branch.
fn transformer(p: &Scope, normed: Normed, blocks: usize) -> impl Fn(&Var) -> Var + Send + Sync {
    const WIDTH: usize = 64;
    let embedding = Embedding::new(&p.at("embedding"), WORDS, WIDTH);
    let places = p.parameter("places", [16, WIDTH], Init::Ones);
    let drop = dropout(p, "drop", 0.1);
    let blocks: Vec<_> =
        (0..blocks).map(|n| Block::new(p, &format!("block{n}"), WIDTH, 0.1, normed)).collect();
    let (norm, head) = (Norm::new(p, "norm", WIDTH), linear(p, "head", WIDTH, 10));
    move |x: &Var| {
        let x = embedding.forward(x).scale(8.0);
        let x = drop.forward(&(&x + x.parameter(&places)));
        let x = blocks.iter().fold(x, |x, block| block.forward(&x));
        head.forward(&norm.forward(&x).mean_over([1], Keep::Nothing))
    }
}

/// Radford et al. 2019: two embeddings, 0.1 everywhere, the decoder is the embedding again.
fn language_model(p: &Scope) -> impl Fn(&Var) -> Var + Send + Sync {
    const WIDTH: usize = 64;
    let words = p.parameter("words", [WORDS, WIDTH], Init::Ones);
    let places = p.parameter("places", [16, WIDTH], Init::Ones);
    let drop = dropout(p, "drop", 0.1);
    let blocks: Vec<_> =
        (0..2).map(|n| Block::new(p, &format!("block{n}"), WIDTH, 0.1, Normed::Before)).collect();
    let norm = Norm::new(p, "norm", WIDTH);
    move |x: &Var| {
        let words = x.parameter(&words);
        let x = drop.forward(&(words.take(0, x) + x.parameter(&places)));
        let x = blocks.iter().fold(x, |x, block| block.forward(&x));
        norm.forward(&x).matmul_transposed(&words)
    }
}

/// Devlin et al. 2018, arXiv:1810.04805: the first token's state, a layer with tanh, 0.1, the classifier.
fn bert(p: &Scope) -> impl Fn(&Var) -> Var + Send + Sync {
    const WIDTH: usize = 64;
    let embedding = Embedding::new(&p.at("embedding"), WORDS, WIDTH);
    let (norm, drop) = (Norm::new(p, "norm", WIDTH), dropout(p, "drop", 0.1));
    let block = Block::new(p, "block", WIDTH, 0.1, Normed::After);
    let (pooler, last) = (linear(p, "pooler", WIDTH, WIDTH), dropout(p, "last", 0.1));
    let head = linear(p, "head", WIDTH, 10);
    move |x: &Var| {
        let x = block.forward(&drop.forward(&norm.forward(&embedding.forward(x))));
        let first = x.slice(1, ..1).squeeze(1);
        head.forward(&last.forward(&pooler.forward(&first).tanh()))
    }
}
