// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the modes promise, run on the CPU.

use kiln::loss::Mse;
use kiln::mask::Mask;
use kiln::models::SimpleNet;
use kiln::nn::{Dropout, Module, Scope};
use kiln::{Device, Net, Seed, Tensor, Var, MONTE_CARLO_PASS};

use crate::common::{bits, Numbers};

const SEED: u64 = 99;

fn net() -> Net<SimpleNet> {
    let make = |p: &Scope| SimpleNet::new(p, 20, 33, 10, 0.5);
    Net::new(Device::cpu(), Seed(SEED), make).expect("a network")
}

#[test]
fn passes_in_train_mode_differ() {
    let (mut net, x) = (net(), Numbers::new(1).tensor(&[7, 20]));
    let first = net.train().forward(&x).expect("a pass");
    assert_eq!(net.pass(), 1);
    let second = net.train().forward(&x).expect("a pass");
    assert_ne!(bits(&first), bits(&second));
}

#[test]
fn passes_in_eval_mode_are_equal_whatever_happens_between() {
    let (mut net, x) = (net(), Numbers::new(1).tensor(&[7, 20]));
    let first = net.eval().forward(&x).expect("a pass");
    net.train().forward(&x).expect("a pass");
    net.monte_carlo(2).forward(&x).expect("a pass");
    assert_eq!(bits(&first), bits(&net.eval().forward(&x).expect("a pass")));
    assert_eq!(net.pass(), 1, "eval and Monte Carlo passes are not training passes");
}

/// Eval mode has gradients (saliency maps), train mode works without (to look at masks).
#[test]
fn modes_and_gradients_are_independent() {
    let (mut net, x) = (net(), Numbers::new(1).tensor(&[7, 20]));
    let dy = Numbers::new(2).tensor(&[7, 10]);
    let eval = net.eval().gradients(&x, &dy).expect("a pass");
    let again = net.eval().gradients(&x, &dy).expect("a pass");
    let bits_of = |g: &kiln::Gradients| g.input.as_ref().map(bits);
    assert_eq!(bits_of(&eval), bits_of(&again));
    let train = net.train().gradients(&x, &dy).expect("a pass");
    assert_ne!(bits_of(&eval), bits_of(&train));
    assert_eq!(eval.input.expect("a gradient").shape(), x.shape());
}

#[test]
fn monte_carlo_draws_differ_and_come_in_front() {
    let (mut net, x) = (net(), Numbers::new(1).tensor(&[3, 20]));
    let draws = net.monte_carlo(5).forward(&x).expect("a pass");
    assert_eq!(draws.shape().dims(), [5, 3, 10]);
    let bits = bits(&draws);
    let each: Vec<&[u32]> = bits.chunks_exact(30).collect();
    for (index, draw) in each.iter().enumerate() {
        assert!(!each[..index].contains(draw), "draw {index} is an earlier one");
    }
}

/// Draw `d` of `D` of sample `b` has the mask of sample `b * D + d`, in passes of their own.
#[test]
fn monte_carlo_masks_follow_the_scheme() {
    let make = |p: &Scope| Dropout::new(&p.at("dropout"), 0.25);
    let mut net = Net::new(Device::cpu(), Seed(SEED), make).expect("a network");
    let (draws, samples, width) = (4, 3, 33);
    let ones = Tensor::new([samples, width], vec![1.0; samples * width]).expect("ones");
    let mask = Mask::new(SEED, "dropout#0", 0.25);
    for pass in 0..2u32 {
        net.train().forward(&ones).expect("a pass that must not count here");
        let y = net.monte_carlo(draws).forward(&ones).expect("a pass");
        assert_eq!(y.shape().dims(), [draws, samples, width]);
        for (index, &y) in y.values().expect("f32").iter().enumerate() {
            let (row, element) = (index / width, (index % width) as u32);
            let number = (row % samples * draws + row / samples) as u32;
            let kept = mask.keeps(MONTE_CARLO_PASS | pass, number, element);
            let expected = if kept { mask.scale() } else { 0.0 };
            assert_eq!(y, expected, "pass {pass}, row {row}, element {element}");
        }
    }
    assert_eq!(MONTE_CARLO_PASS, 1 << 31);
}

#[test]
fn monte_carlo_takes_two_draws_or_more() {
    let (mut net, x) = (net(), Numbers::new(1).tensor(&[3, 20]));
    for draws in [0, 1] {
        let error = net.monte_carlo(draws).forward(&x).unwrap_err().to_string();
        let expected = "draws: expected 2 or more, whose spread tells something, got ";
        assert_eq!(error, format!("{expected}{draws}"));
    }
}

/// A pass that fails draws nothing: the next has the masks that it would have had.
#[test]
fn failed_passes_are_not_counted() {
    let (mut net, x) = (net(), Numbers::new(1).tensor(&[7, 20]));
    net.train().forward(&Tensor::zeros([7, 21])).expect_err("21 features");
    net.monte_carlo(2).forward(&Tensor::zeros([7, 21])).expect_err("21 features");
    let (mse, of_another_shape) = (Mse::default(), Tensor::zeros([7, 9]));
    net.train().loss(&mse, &x, &of_another_shape).expect_err("9 targets of 10 scores");
    net.train().loss_and_output(&mse, &x, &of_another_shape).expect_err("9 targets of 10 scores");
    net.train().loss_gradients(&mse, &x, &of_another_shape).expect_err("9 targets of 10 scores");
    net.train().gradients(&x, &of_another_shape).expect_err("9 gradients of 10 scores");
    assert_eq!(net.pass(), 0);
    let found = net.train().forward(&x).expect("a pass");
    assert_eq!(bits(&found), bits(&self::net().train().forward(&x).expect("a pass")));
    net.monte_carlo(2).forward(&x).expect("a pass");
    let again = self::net().monte_carlo(2).forward(&x).expect("a pass");
    let mut failed = self::net();
    failed.monte_carlo(2).forward(&Tensor::zeros([7, 21])).expect_err("21 features");
    assert_eq!(bits(&again), bits(&failed.monte_carlo(2).forward(&x).expect("a pass")));
}

/// A pass whose result would be no batch of draws is not counted either.
#[test]
fn a_monte_carlo_pass_without_samples_is_not_counted() {
    struct Noise(Dropout);
    impl Module for Noise {
        fn forward(&self, x: &Var) -> Var {
            let y = self.0.forward(x);
            // From 8 samples on, their mean.
            match x.shape().is_some_and(|shape| shape.samples() >= 8) {
                true => y.mean(),
                false => y,
            }
        }
    }
    let net = || {
        let make = |p: &Scope| Noise(Dropout::new(&p.at("dropout"), 0.5));
        Net::new(Device::cpu(), Seed(SEED), make).expect("a network")
    };
    let (mut failed, x) = (net(), Numbers::new(1).tensor(&[3, 20]));
    failed.monte_carlo(4).forward(&Tensor::zeros([8, 20])).expect_err("one number for all samples");
    let found = failed.monte_carlo(2).forward(&x).expect("a pass");
    assert_eq!(bits(&found), bits(&net().monte_carlo(2).forward(&x).expect("a pass")));
}
