// SPDX-License-Identifier: MIT OR Apache-2.0
//! Predictors: what other threads compute is what the network computes in eval mode.

use std::thread;

use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::nn::{Module, Scope};
use kiln::optim::Sgd;
use kiln::{Device, Error, Net, Precision, Predictor, Result, Seed, Tensor, Trainer};

use crate::common::{bits, Numbers};

fn net(device: Device) -> Net<SimpleNet> {
    let make = |p: &Scope| SimpleNet::new(p, 20, 33, 10, 0.5);
    Net::new(device, Seed(3), make).expect("a network")
}

fn batch(samples: usize) -> Tensor {
    Numbers::new(samples as u64).tensor(&[samples, 20])
}

/// Batches that each thread predicts.
const SIZES: [usize; 5] = [1, 5, 64, 5, 17];

#[test]
fn four_threads_predict_what_the_network_does() {
    for device in [Device::cpu(), Device::cpu().with_precision(Precision::Bf16)] {
        let mut net = net(device);
        let mut expected = Vec::new();
        for samples in SIZES {
            expected.push(bits(&net.eval().forward(&batch(samples)).expect("a pass")));
        }
        let predictor = net.predictor().expect("a predictor");
        let predict = |mut predictor: Predictor<SimpleNet>| {
            let of = |samples| predictor.forward(&batch(samples)).map(|scores| bits(&scores));
            SIZES.into_iter().map(of).collect::<Result<Vec<_>>>()
        };
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let predictor = predictor.clone();
                thread::spawn(move || predict(predictor))
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no panic").expect("passes"), expected);
        }
    }
}

/// Training goes on and parameters are set while others predict, and they see nothing of it.
#[test]
fn a_predictor_keeps_the_parameters_of_its_moment() {
    let mut fit = Trainer::new(net(Device::cpu()), CrossEntropy::default(), Sgd::new(0.1))
        .expect("a trainer");
    let (x, labels) = (batch(8), Numbers::new(2).labels(8, 10));
    let mut before = fit.net().predictor().expect("a predictor");
    let first = bits(&fit.net().eval().forward(&x).expect("a pass"));
    for _ in 0..3 {
        fit.step(&x, &labels).expect("a step");
    }
    let trained = bits(&fit.net().eval().forward(&x).expect("a pass"));
    let mut after = fit.net().predictor().expect("a predictor");
    fit.net().set_parameter("fc3.bias", &Tensor::zeros([10])).expect("set");
    assert_ne!(first, trained);
    assert_eq!(bits(&before.forward(&x).expect("a pass")), first);
    assert_eq!(bits(&before.clone().forward(&x).expect("a pass")), first);
    assert_eq!(bits(&after.forward(&x).expect("a pass")), trained);
    drop(fit);
    assert_eq!(bits(&after.forward(&x).expect("a pass")), trained, "the network is gone");
}

#[test]
fn a_predictor_reports_what_a_layer_cannot_take() {
    let mut predictor = net(Device::cpu()).predictor().expect("a predictor");
    let error = predictor.forward(&Tensor::zeros([2, 21])).expect_err("21 features");
    assert!(matches!(&error, Error::Shape { layer, .. } if layer == "fc1"), "{error}");
    assert!(predictor.forward(&batch(2)).is_ok());
}

#[test]
fn boxed_networks_predict_too() {
    let make = |p: &Scope| -> Box<dyn Module> { Box::new(SimpleNet::new(p, 20, 33, 10, 0.5)) };
    let mut boxed = Net::new(Device::cpu(), Seed(3), make).expect("a network");
    let mut predictor = boxed.predictor().expect("a predictor");
    let scores = thread::spawn(move || predictor.forward(&batch(3))).join().expect("no panic");
    let expected = net(Device::cpu()).eval().forward(&batch(3)).expect("a pass");
    assert_eq!(bits(&scores.expect("a pass")), bits(&expected));
}
