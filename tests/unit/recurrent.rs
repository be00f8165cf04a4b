// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent layers: what they register, what they refuse, and what is dropped between them.

use std::io::Write;
use std::sync::{Arc, Mutex};

use kiln::mask::Mask;
use kiln::nn::{
    Bias, Directions, Embedding, EmbeddingOptions, GateNorm, Gru, Linear, Lstm, Module,
    RecurrentOptions, Rnn, Scope, SequenceOrder, Sequences,
};
use kiln::{Device, Net, Seed, Tensor, Var};

use crate::common::parts::Course;
use crate::common::{bits, Numbers};

const SEED: u64 = 0x5eed;

fn net<M: Module>(make: impl FnOnce(&Scope) -> M) -> Net<M> {
    Net::new(Device::cpu(), Seed(SEED), make).expect("a network")
}

fn refusal<M: Module + std::fmt::Debug>(make: impl FnOnce(&Scope) -> M) -> String {
    Net::new(Device::cpu(), Seed(SEED), make).unwrap_err().to_string()
}

fn stack(layers: usize, dropout: f32) -> RecurrentOptions {
    RecurrentOptions { layers, dropout, ..RecurrentOptions::default() }
}

#[test]
fn parameters_have_the_names_and_shapes_of_pytorch() {
    let options = RecurrentOptions { directions: Directions::Both, ..stack(2, 0.0) };
    let mut lstm = net(|p| Lstm::projected(&p.at("lstm"), 3, 5, 2, options));
    let expected: [(&str, &[usize]); 20] = [
        ("weight_ih_l0", &[20, 3]),
        ("weight_hh_l0", &[20, 2]),
        ("bias_ih_l0", &[20]),
        ("bias_hh_l0", &[20]),
        ("weight_hr_l0", &[2, 5]),
        ("weight_ih_l0_reverse", &[20, 3]),
        ("weight_hh_l0_reverse", &[20, 2]),
        ("bias_ih_l0_reverse", &[20]),
        ("bias_hh_l0_reverse", &[20]),
        ("weight_hr_l0_reverse", &[2, 5]),
        ("weight_ih_l1", &[20, 4]),
        ("weight_hh_l1", &[20, 2]),
        ("bias_ih_l1", &[20]),
        ("bias_hh_l1", &[20]),
        ("weight_hr_l1", &[2, 5]),
        ("weight_ih_l1_reverse", &[20, 4]),
        ("weight_hh_l1_reverse", &[20, 2]),
        ("bias_ih_l1_reverse", &[20]),
        ("bias_hh_l1_reverse", &[20]),
        ("weight_hr_l1_reverse", &[2, 5]),
    ];
    let names: Vec<String> = expected.iter().map(|(name, _)| format!("lstm.{name}")).collect();
    assert_eq!(lstm.parameter_names(), names);
    for (name, (_, shape)) in names.iter().zip(expected) {
        assert_eq!(lstm.parameter(name).expect("its name").shape().dims(), shape, "{name}");
    }
    let gru = net(|p| {
        Gru::with_options(p, 3, 5, RecurrentOptions { bias: Bias::Absent, ..stack(1, 0.0) })
    });
    assert_eq!(gru.parameter_names(), ["weight_ih_l0", "weight_hh_l0"]);
    assert_eq!(gru.parameter_count(), 15 * (3 + 5));
    assert_eq!(net(|p| Rnn::new(p, 3, 5)).parameter_count(), 5 * (3 + 5 + 2));
}

/// Biases too are uniform over `±1/sqrt(hidden)`.
#[test]
fn first_values_are_within_the_bound() {
    let mut lstm = net(|p| Lstm::new(p, 100, 25));
    let names: Vec<String> = lstm.parameter_names().into_iter().map(String::from).collect();
    for name in names {
        let value = lstm.parameter(&name).expect("its name");
        let largest = value.values().expect("f32").iter().fold(0.0f32, |m, x| m.max(x.abs()));
        assert!((0.18..=0.2).contains(&largest), "{name}: {largest}");
    }
    let options = EmbeddingOptions { padding: Some(-1), ..EmbeddingOptions::default() };
    let mut embedding = net(|p| Embedding::with_options(p, 50, 40, options));
    let table = embedding.parameter("weight").expect("its name");
    let table = table.values().expect("f32");
    let variance = table.iter().map(|x| x * x).sum::<f32>() / (49.0 * 40.0);
    assert!((0.9..1.1).contains(&variance), "{variance}");
    assert_eq!(table[49 * 40..], [0.0; 40]);
}

#[test]
fn arguments_that_cannot_be_are_named() {
    let expected =
        "lstm: inputs: expected 1 or more, got 0; lstm: hidden: expected 1 or more, got 0";
    assert_eq!(refusal(|p| Lstm::new(&p.at("lstm"), 0, 0)), expected);
    for (projected, got) in [(0, "0"), (5, "5"), (7, "7")] {
        let make = |p: &Scope| Lstm::projected(p, 3, 5, projected, stack(1, 0.0));
        let expected = "projected: expected 1 or more, and less than the 5 units";
        assert_eq!(refusal(make), format!("{expected}, got {got}"));
    }
    for layers in [0, 1001, usize::MAX] {
        let make = |p: &Scope| Gru::with_options(&p.at("gru"), 3, 5, stack(layers, 0.0));
        assert_eq!(refusal(make), format!("gru: layers: expected 1 to 1000, got {layers}"));
    }
    for (rate, got) in [(-0.1, "-0.1"), (1.5, "1.5"), (f32::NAN, "NaN")] {
        let make = |p: &Scope| Lstm::with_options(p, 3, 5, stack(2, rate));
        let expected = "dropout: expected a probability in [0, 1]";
        assert_eq!(refusal(make), format!("{expected}, got {got}"));
    }
    let of_lstm = |options| refusal(|p| Lstm::with_options(&p.at("lstm"), 3, 5, options));
    let plain = stack(1, 0.0);
    for (name, options) in [
        ("input_dropout", RecurrentOptions { input_dropout: -0.5, ..plain }),
        ("output_dropout", RecurrentOptions { output_dropout: -0.5, ..plain }),
        ("weight_dropout", RecurrentOptions { weight_dropout: -0.5, ..plain }),
        ("recurrent_dropout", RecurrentOptions { recurrent_dropout: -0.5, ..plain }),
        ("zoneout", RecurrentOptions { zoneout: -0.5, ..plain }),
        ("cell_zoneout", RecurrentOptions { cell_zoneout: -0.5, ..plain }),
    ] {
        let expected = format!("lstm: {name}: expected a probability in [0, 1], got -0.5");
        assert_eq!(of_lstm(options), expected);
    }
    let of_rnn =
        |options| refusal(|p| Rnn::with_options(&p.at("rnn"), 3, 5, <_>::default(), options));
    assert_eq!(
        of_rnn(RecurrentOptions { recurrent_dropout: 0.5, cell_zoneout: 0.25, ..plain }),
        "rnn: recurrent_dropout: expected 0, since only an LSTM and a GRU add an update to a state, \
         got 0.5; rnn: cell_zoneout: expected 0, since only an LSTM has a cell state, got 0.25"
    );
    let normed = RecurrentOptions { norm: GateNorm::Layer, ..plain };
    assert_eq!(
        refusal(|p| Gru::with_options(&p.at("gru"), 3, 5, normed)),
        "gru: norm: expected none, since gates of an LSTM alone are normalised, got layer norm"
    );
    let table = |options| refusal(|p| Embedding::with_options(&p.at("e"), 4, 3, options));
    for row in [4, -5, isize::MIN] {
        let options = EmbeddingOptions { padding: Some(row), max_norm: None };
        assert_eq!(table(options), format!("e: padding: expected a row from -4 to 3, got {row}"));
    }
    assert_eq!(
        table(EmbeddingOptions { padding: None, max_norm: Some(1.0) }),
        "e: max_norm: expected none, since forward passes change no parameters, got 1"
    );
}

#[test]
fn sequences_of_other_shapes_are_named() {
    let message = |shape: &[usize]| {
        let mut net = net(|p| Lstm::new(&p.at("lstm"), 3, 5));
        net.eval().forward(&Tensor::zeros(shape)).unwrap_err().to_string()
    };
    let expected = "lstm: lstm: expected input of shape [samples, steps, 3]";
    assert_eq!(message(&[2, 7, 4]), format!("{expected}, got [2, 7, 4]"));
    assert_eq!(message(&[7, 3]), format!("{expected}, got [7, 3]"));
    let expected = "lstm: lstm: expected sequences of one step or more, got [2, 0, 3]";
    assert_eq!(message(&[2, 0, 3]), expected);
}

/// A layer whose states are made of its input.
struct FromStates<L> {
    layer: L,
    run: fn(&L, &Var),
}

impl<L: Send + Sync> Module for FromStates<L> {
    fn forward(&self, x: &Var) -> Var {
        (self.run)(&self.layer, x);
        x.clone()
    }
}

#[test]
fn states_of_other_shapes_and_numbers_are_named() {
    fn message<L: Send + Sync>(make: fn(&Scope) -> L, run: fn(&L, &Var)) -> String {
        let mut net = net(|p| FromStates { layer: make(&p.at("rnn")), run });
        net.eval().forward(&Tensor::zeros([2, 4, 3])).unwrap_err().to_string()
    }
    let lstm = |p: &Scope| Lstm::new(p, 3, 5);
    let got = message(lstm, |lstm, x| {
        let (hidden, cell) = (x.flatten(1).slice(1, ..4), x.flatten(1).slice(1, ..5));
        lstm.run(Sequences::new(x).from_states(&[hidden], &[cell]));
    });
    assert_eq!(got, "rnn: lstm: expected hidden states of shape [2, 5], got [2, 4]");
    let got = message(lstm, |lstm, x| {
        let hidden = x.flatten(1).slice(1, ..5);
        lstm.run(Sequences::new(x).from_states(&[hidden], &[]));
    });
    assert_eq!(got, "rnn: lstm: expected as many cell states as hidden states, got 0 and 1");
    let got = message(lstm, |lstm, x| {
        let state = x.flatten(1).slice(1, ..5);
        let states = [state.clone(), state];
        lstm.run(Sequences::new(x).from_states(&states, &states));
    });
    assert_eq!(got, "rnn: lstm: expected 1 hidden states, one per layer and direction, got 2");
    let got = message(
        |p| Gru::new(p, 3, 5),
        |gru, x| {
            let state = [x.flatten(1).slice(1, ..5)];
            gru.run(Sequences::new(x).from_states(&state, &state));
        },
    );
    assert_eq!(got, "rnn: gru: expected no cell states, which are an LSTM's, got 1");
}

/// Of two layers with everything dropped between them the second sees zeros, and no gradient comes to
/// the first.
#[test]
fn all_dropout_between_layers_gives_the_second_zeros() {
    let mut both = net(|p| Lstm::with_options(p, 3, 5, stack(2, 1.0)));
    let mut second = net(|p| Lstm::new(p, 5, 5));
    for name in ["weight_ih", "weight_hh", "bias_ih", "bias_hh"] {
        let value = both.parameter(&format!("{name}_l1")).expect("its name");
        second.set_parameter(&format!("{name}_l0"), &value).expect("its shape");
    }
    let (x, dy) = (Numbers::new(1).tensor(&[2, 4, 3]), Numbers::new(2).tensor(&[2, 4, 5]));
    let found = both.train().gradients(&x, &dy).expect("a pass");
    let expected = second.train().gradients(&Tensor::zeros([2, 4, 5]), &dy).expect("a pass");
    assert_eq!(bits(&found.output), bits(&expected.output));
    let zeros = |tensor: &Tensor| tensor.values().expect("f32").iter().all(|&x| x == 0.0);
    assert!(zeros(&found.input.expect("a gradient")));
    for (name, gradient) in &found.parameters {
        let is_zero = name.ends_with("_l0") || name == "weight_ih_l1";
        assert_eq!(zeros(gradient), is_zero, "{name}");
    }
    let without = both.eval().forward(&x).expect("a pass");
    assert_ne!(bits(&without), bits(&found.output), "in eval mode nothing is dropped");
}

/// Whatever follows the steps that there are: their masks stay as they were.
#[test]
fn masks_between_layers_do_not_depend_on_padding() {
    let outputs = |steps: usize| {
        let mut lstm = net(|p| Lstm::with_options(&p.at("lstm"), 3, 5, stack(2, 0.5)));
        let whole = Numbers::new(1).tensor(&[2, 9, 3]);
        let whole = whole.values().expect("f32");
        let x = whole.chunks(9 * 3).flat_map(|sample| &sample[..steps * 3]).copied().collect();
        let y = lstm.train().forward(&Tensor::new([2, steps, 3], x).expect("sequences"));
        let y = y.expect("a pass");
        let samples = y.values().expect("f32").chunks(steps * 5);
        samples.flat_map(|sample| &sample[..4 * 5]).map(|y| y.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(outputs(4), outputs(9));
    assert_eq!(outputs(4), outputs(5));
}

/// Element numbers of a sample go on from step to step, in both directions together.
#[test]
fn masks_between_layers_count_steps_and_then_features() {
    let options = RecurrentOptions { directions: Directions::Both, ..stack(2, 0.5) };
    let mut lstm = net(|p| Lstm::with_options(&p.at("lstm"), 3, 4, options));
    // The second layer's input weights see one element of one step each; its gates are half open.
    let names: Vec<String> = lstm.parameter_names().into_iter().map(String::from).collect();
    for name in names.iter().filter(|name| name.contains("_l1")) {
        let shape = lstm.parameter(name).expect("its name").shape().clone();
        lstm.set_parameter(name, &Tensor::zeros(shape)).expect("its shape");
    }
    let (samples, steps, unit) = (3, 6, 2);
    for element in 0..8 {
        let mut weight = vec![0.0; 16 * 8];
        weight[(8 + unit) * 8 + element] = 1.0; // gate g of one unit
        let weight = Tensor::new([16, 8], weight).expect("a weight");
        lstm.set_parameter("lstm.weight_ih_l1", &weight).expect("its shape");
        let pass = lstm.pass();
        let x = Numbers::new(3).tensor(&[samples, steps, 3]);
        let y = lstm.train().forward(&x).expect("a pass");
        let y = y.values().expect("f32");
        let mask = Mask::new(SEED, "lstm#0", 0.5);
        for (sample, step) in (0..samples).flat_map(|n| (0..steps).map(move |t| (n, t))) {
            // The cell halves in a step and gains what is kept: other than half if anything is.
            let at = |step: usize| y[(sample * steps + step) * 8 + unit];
            let cell = |h: f32| (2.0 * h).atanh();
            let before = if step == 0 { 0.0 } else { cell(at(step - 1)) };
            let gained = (cell(at(step)) - before / 2.0).abs() > 1e-6;
            let kept = mask.keeps(pass, sample as u32, (step * 8 + element) as u32);
            assert_eq!(gained, kept, "element {element} of step {step} of sample {sample}");
        }
    }
}

/// A batch in parts draws the masks of the whole.
#[test]
fn micro_batches_make_the_step_of_the_batch() {
    struct Last(Lstm, Linear);
    impl Module for Last {
        fn forward(&self, x: &Var) -> Var {
            self.1.forward(self.0.run(x).last_hidden())
        }
    }
    let make = || {
        net(|p| {
            let lstm = Lstm::with_options(&p.at("lstm"), 3, 5, stack(2, 0.5));
            Last(lstm, Linear::new(&p.at("fc"), 5, 2))
        })
    };
    let course = Course { rate: 0.5, steps: 3, features: 3 };
    for parts in [2, 3, 6] {
        let largest = course.difference(make, parts);
        assert!(largest < 1e-6, "{parts} parts: {largest}");
    }
}

#[test]
fn draws_of_monte_carlo_differ_by_their_masks() {
    let mut lstm = net(|p| Lstm::with_options(p, 3, 5, stack(2, 0.5)));
    let x = Numbers::new(1).tensor(&[2, 4, 3]);
    let draws = lstm.monte_carlo(3).forward(&x).expect("a pass");
    assert_eq!(draws.shape().dims(), [3, 2, 4, 5]);
    let draws: Vec<&[f32]> = draws.values().expect("f32").chunks(2 * 4 * 5).collect();
    assert!(draws[0] != draws[1] && draws[1] != draws[2] && draws[0] != draws[2]);
    let mut plain = net(|p| Lstm::with_options(p, 3, 5, stack(2, 0.0)));
    let error = plain.monte_carlo(2).forward(&x).unwrap_err().to_string();
    assert!(error.starts_with("monte_carlo: expected a network with dropout"), "{error}");
}

/// The order of extents is the user's; what is computed is the same.
#[test]
fn steps_may_come_first() {
    struct Turned(Gru);
    impl Module for Turned {
        fn forward(&self, x: &Var) -> Var {
            self.0.forward(&x.transpose(0, 1)).transpose(0, 1)
        }
    }
    let options = |order| RecurrentOptions { order, ..stack(2, 0.5) };
    let x = Numbers::new(1).tensor(&[2, 4, 3]);
    let mut plain =
        net(|p| Gru::with_options(&p.at("gru"), 3, 5, options(SequenceOrder::SamplesFirst)));
    let mut turned =
        net(|p| Turned(Gru::with_options(&p.at("gru"), 3, 5, options(SequenceOrder::StepsFirst))));
    let (plain, turned) = (plain.train().forward(&x), turned.train().forward(&x));
    assert_eq!(bits(&plain.expect("a pass")), bits(&turned.expect("a pass")), "masks included");
}

/// Text that is logged while a test runs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn dropout_with_one_layer_is_warned_of() {
    let logged = |options| {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            net(|p| Lstm::with_options(&p.at("lstm"), 3, 5, options))
        });
        let text = log.0.lock().expect("no writer panics").clone();
        String::from_utf8(text).expect("UTF-8")
    };
    let warning = logged(stack(1, 0.3));
    assert!(warning.contains("WARN") && warning.contains("lstm"), "{warning}");
    assert!(warning.contains("nothing is dropped"), "{warning}");
    assert_eq!(logged(stack(2, 0.3)), "");
    assert_eq!(logged(stack(1, 0.0)), "");
}
