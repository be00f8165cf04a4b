// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network that is given its masks computes what it computes with its own.

use kiln::loss::CrossEntropy;
use kiln::models::{Cnn, RnnClassifier, SimpleNet};
use kiln::nn::{AlphaDropout, GivenMasks, Module, Scope, StochasticDepth};
use kiln::op::Drops;
use kiln::optim::Sgd;
use kiln::{DType, Device, Net, Seed, Tensor, Trainer, Values, Var};

use crate::common::close::{assert_close, doubles, Tolerance};
use crate::common::Numbers;

const SEED: Seed = Seed(0x5eed_0bad_cafe);

fn nets<M>(of: impl Fn(&Scope) -> M) -> (Net<M>, Net<GivenMasks<M>>) {
    let own = Net::new(Device::cpu(), SEED, &of).expect("a network");
    (own, Net::new(Device::cpu(), SEED, |p| GivenMasks(of(p))).expect("a network"))
}

/// The masks of a pass.
fn factors<M: Module<I, O>, I: Values, O: Values>(
    net: &Net<M>,
    pass: u32,
    x: &[Tensor],
) -> Vec<Tensor> {
    let types: Vec<_> = x.iter().map(Tensor::ty).collect();
    let masks = net.masks::<I, O>(pass, &types).expect("masks");
    masks.into_iter().map(|mask| mask.factors).collect()
}

#[test]
fn layers_multiply_by_the_masks_that_they_would_draw() {
    fn agree<M: Module>(of: impl Fn(&Scope) -> M, shape: &[usize], masks: usize) {
        let (mut own, mut given) = nets(of);
        let x = Numbers::new(1).tensor(shape);
        for pass in 0..2 {
            let factors = factors(&own, pass, std::slice::from_ref(&x));
            assert_eq!(factors.len(), masks);
            let expected = own.train().forward(&x).expect("a pass");
            let found = given.train().forward((&x, factors)).expect("a pass");
            assert_close("train", &found, &doubles(&expected), Tolerance::balanced(DType::F32));
        }
        let masks = factors(&own, 0, std::slice::from_ref(&x)).into_iter();
        let zeros = masks.map(|mask| Tensor::zeros(mask.shape().clone()));
        let expected = own.eval().forward(&x).expect("a pass");
        let found = given.eval().forward((&x, zeros.collect::<Vec<_>>())).expect("a pass");
        assert_close("eval", &found, &doubles(&expected), Tolerance::balanced(DType::F32));
    }
    agree(|p| SimpleNet::new(p, 20, 33, 10, 0.3), &[7, 20], 2);
    agree(|p| Cnn::new(p, 3), &[2, 3, 32, 32], 2);
    agree(|p| AlphaDropout::new(&p.at("alpha"), 0.4), &[5, 9], 1);
    agree(|p| StochasticDepth::new(&p.at("skip"), 0.5), &[9, 3, 2, 2], 1);
}

#[test]
fn a_training_step_is_the_same_with_masks_that_are_given() {
    let (own, given) = nets(|p| RnnClassifier::new(p, 20, 6, 8, 4, 0.5));
    let tokens = Tensor::labels([3, 5], (0..15).collect()).expect("tokens");
    let lengths = Tensor::labels([3], vec![5, 2, 4]).expect("lengths");
    let labels = Tensor::labels([3], vec![0, 3, 1]).expect("labels");
    let masks: Vec<Vec<Tensor>> = (0..2)
        .map(|pass| factors::<_, (Var, Var), Var>(&own, pass, &[tokens.clone(), lengths.clone()]))
        .collect();
    let shapes: Vec<&[usize]> = masks[0].iter().map(|mask| mask.shape().dims()).collect();
    assert_eq!(shapes, [&[3, 5, 6][..], &[3, 5, 8], &[3, 8]]);

    let mut own: Trainer<_, (Var, Var)> =
        Trainer::new(own, CrossEntropy::default(), Sgd::new(0.5)).expect("a trainer");
    let mut given: Trainer<_, ((Var, Var), Vec<Var>)> =
        Trainer::new(given, CrossEntropy::default(), Sgd::new(0.5)).expect("a trainer");
    for masks in masks {
        own.step((&tokens, &lengths), &labels).expect("a step");
        given.step(((&tokens, &lengths), masks), &labels).expect("a step");
    }
    for name in ["embedding.weight", "lstm.weight_hh_l1", "fc.bias"] {
        let expected = own.net().parameter(name).expect("a parameter");
        let found = given.net().parameter(name).expect("a parameter");
        assert_close(name, &found, &doubles(&expected), Tolerance::balanced(DType::F32));
    }
}

#[test]
fn masks_say_what_they_are_for() {
    let net = Net::new(Device::cpu(), SEED, |p| Cnn::new(p, 3)).expect("a network");
    let masks = net.masks(0, &[Tensor::zeros([2, 3, 32, 32]).ty()]).expect("masks");
    let said: Vec<_> = masks
        .iter()
        .map(|mask| (mask.layer.as_str(), mask.drops, mask.p, mask.factors.shape().dims()))
        .collect();
    let expected = [
        ("dropout_conv", Drops::Channels, 0.25, &[2, 128, 1, 1][..]),
        ("dropout_fc", Drops::Elements, 0.5, &[2, 512]),
    ];
    assert_eq!(said, expected);
    let scaled = |mask: usize, scale: f32| {
        let values = masks[mask].factors.values().expect("f32");
        values.iter().all(|factor| *factor == 0.0 || *factor == scale)
    };
    assert!(scaled(0, 4.0 / 3.0) && scaled(1, 2.0));
}

#[test]
fn masks_that_do_not_fit_are_told() {
    let (own, mut given) = nets(|p| SimpleNet::new(p, 20, 33, 10, 0.3));
    let x = Numbers::new(1).tensor(&[7, 20]);
    let masks = factors(&own, 0, std::slice::from_ref(&x));
    let mut error =
        |masks: Vec<Tensor>| given.train().forward((&x, masks)).unwrap_err().to_string();
    let few = error(masks[..1].to_vec());
    assert_eq!(few, "masks: expected 2 masks, one for each dropout, got 1");
    let many = error([&masks[..], &masks[..1]].concat());
    assert_eq!(many, "masks: expected 2 masks, one for each dropout, got 3");
    let other = error(vec![masks[0].clone(), Tensor::zeros([7, 32])]);
    assert_eq!(other, "dropout2: dropout: expected a mask of shape [7, 33], got [7, 32]");
}
