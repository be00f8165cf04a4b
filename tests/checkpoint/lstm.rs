// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent weights that PyTorch has written.

use kiln::models::RnnClassifier;
use kiln::nn::{Directions, Embedding, Lstm, Module, RecurrentOptions, Scope, Sequences};
use kiln::Var;

use super::*;

/// The recurrent part of the article's network, with everything that its LSTM yields.
struct Yields {
    embedding: Embedding,
    lstm: Lstm,
}

impl Module<(Var, Var), (Var, Vec<Var>, Vec<Var>)> for Yields {
    fn forward(&self, (tokens, lengths): &(Var, Var)) -> (Var, Vec<Var>, Vec<Var>) {
        let embedded = self.embedding.forward(tokens);
        let ran = self.lstm.run(Sequences::new(&embedded).with_lengths(lengths));
        (ran.output, ran.hidden, ran.cell)
    }
}

/// Numbers of a tensor that PyTorch wrote, four bytes each.
fn read<T>(file: &SafeTensors<'_>, name: &str, number: fn([u8; 4]) -> T) -> Vec<T> {
    let tensor = file.tensor(name).unwrap();
    tensor.data().chunks(4).map(|bytes| number(bytes.try_into().unwrap())).collect()
}

/// Compares with what PyTorch answered, to 1e-5 of the largest number.
fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
    let most = theirs.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((ours - theirs).abs() <= 1e-5 * most, "{what}: {ours} against {theirs}");
    }
}

#[test]
fn an_lstm_written_by_pytorch_answers_the_same() {
    let options =
        RecurrentOptions { layers: 2, directions: Directions::Both, ..RecurrentOptions::default() };
    let bytes = fs::read(fixture("torch_lstm_output.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tokens = Tensor::labels([3, 7], read(&file, "tokens", i32::from_le_bytes)).unwrap();
    let lengths = Tensor::labels([3], read(&file, "lengths", i32::from_le_bytes)).unwrap();
    let expected = |name| read(&file, name, f32::from_le_bytes);

    let make = |p: &Scope| RnnClassifier::with_options(p, [20, 5, 9, 3], options);
    let mut net = Net::new(Device::cpu(), Seed(1), make).unwrap();
    checkpoint::load_weights(&mut net, fixture("torch_lstm.safetensors")).unwrap();
    let scores = net.eval().forward((&tokens, &lengths)).unwrap();
    assert_close(scores.values().unwrap(), &expected("scores"), "scores");

    let make = |p: &Scope| Yields {
        embedding: Embedding::new(&p.at("embedding"), 20, 5),
        lstm: Lstm::with_options(&p.at("lstm"), 5, 9, options),
    };
    let mut whole = Net::new(Device::cpu(), Seed(2), make).unwrap();
    let names: Vec<String> = whole.parameter_names().into_iter().map(String::from).collect();
    assert_eq!(names.len(), 17);
    for name in names {
        let value = net.parameter(&name).unwrap();
        whole.set_parameter(&name, &value).unwrap();
    }
    let (output, hidden, cell) = whole.eval().forward((&tokens, &lengths)).unwrap();
    assert_close(output.values().unwrap(), &expected("output"), "output");
    let joined = |states: &[Tensor]| -> Vec<f32> {
        states.iter().flat_map(|state| state.values().unwrap().to_vec()).collect()
    };
    assert_close(&joined(&hidden), &expected("hidden"), "hidden");
    assert_close(&joined(&cell), &expected("cell"), "cell");
}
