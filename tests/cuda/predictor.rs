// SPDX-License-Identifier: MIT OR Apache-2.0
//! Predictors on a device: parameters are copied once and shared, streams and arenas are their own.

use std::thread;

use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::optim::Adam;
use kiln::{Net, Seed, Tensor, Trainer};

use crate::common::*;

fn trainer() -> Trainer<SimpleNet> {
    let net = Net::new(gpu(), Seed(7), |p| SimpleNet::new(p, 31, 33, 10, 0.5)).expect("a network");
    Trainer::new(net, CrossEntropy::default(), Adam::new(1e-2)).expect("a trainer")
}

#[test]
fn four_threads_predict_while_training_goes_on() {
    let driver = driver();
    let mut fit = trainer();
    let (x, y) = (numbers(1, [16, 31]), labels(1, 16, 10));
    fit.step(&x, &y).expect("a step");
    let expected: Vec<Tensor> = [1, 16, 7]
        .iter()
        .map(|&samples| fit.net().eval().forward(&numbers(2, [samples, 31])).expect("a pass"))
        .collect();
    let predictor = fit.net().predictor().expect("a predictor");
    thread::scope(|scope| {
        for _ in 0..4 {
            let mut predictor = predictor.clone();
            let expected = &expected;
            scope.spawn(move || {
                for _ in 0..4 {
                    for scores in expected {
                        let x = numbers(2, [scores.shape().samples(), 31]);
                        assert_eq!(predictor.forward(&x).expect("a pass"), *scores);
                    }
                }
            });
        }
        for _ in 0..6 {
            fit.step(&x, &y).expect("a step").value().expect("a loss");
        }
    });
    let trained = fit.net().eval().forward(&numbers(2, [1, 31])).expect("a pass");
    assert_ne!(trained, expected[0]);
    driver.assert_clean();
}

#[test]
fn clones_share_their_parameters() {
    let Some(simulator) = simulator() else { return };
    let mut fit = trainer();
    let x = numbers(1, [1, 31]);
    fit.net().eval().forward(&x).expect("a pass");
    let before = simulator.counters().live_bytes;
    let predictor = fit.net().predictor().expect("a predictor");
    let parameters = simulator.counters().live_bytes - before;
    assert!(parameters >= 4 * fit.net().parameter_count() as u64, "{parameters} bytes");
    let held: Vec<_> = (0..5)
        .map(|_| {
            let before = simulator.counters().live_bytes;
            let mut clone = predictor.clone();
            clone.forward(&x).expect("a pass");
            (simulator.counters().live_bytes - before, clone)
        })
        .collect();
    assert!(held.iter().all(|(bytes, _)| *bytes < parameters), "{held:?}");
    drop((held, predictor));
    assert_eq!(simulator.counters().live_bytes, before);
}
