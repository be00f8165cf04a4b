// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole training steps in a row: the loss of each, and what they leave of parameters and state.

use kiln::loss::CrossEntropy;
use kiln::nn::Module;
use kiln::{DType, Net, Result, StepLoss, Tensor, Trainer, Values};

use super::optimizers;
use crate::common::close::{assert_close, Tolerance};
use crate::common::golden::Fixture;

/// Makes the steps of a fixture, each by `step`, and compares what it says of them.
pub(super) fn agree<M: Module<In>, In: Values>(
    fixture: &Fixture,
    net: Net<M>,
    step: impl Fn(&mut Trainer<M, In>, usize) -> Result<StepLoss>,
) -> f64 {
    let optimizer = optimizers::build(fixture);
    let mut fit: Trainer<M, In> =
        Trainer::new(net, CrossEntropy::default(), optimizer).expect("options in range");
    let t = Tolerance::balanced(DType::F32);
    let mut worst = 0.0f64;
    for number in 0..fixture.number("steps") {
        let loss = step(&mut fit, number).expect("a step").value().expect("a loss");
        let loss = Tensor::new([], vec![loss]).expect("a scalar");
        let what = format!("{}: loss of step {number}", fixture.stem);
        let expected = &fixture.get("loss").values[number..=number];
        worst = worst.max(assert_close(&what, &loss, expected, t));
        for (name, value) in fixture.below(&format!("value.{number}.")) {
            let found = fit.net().parameter(name).expect("its name");
            let what = format!("{}: {name} after step {number}", fixture.stem);
            match found.counters() {
                Ok(counters) => assert_eq!(counters[0] as f64, value.values[0], "{what}"),
                Err(_) => worst = worst.max(assert_close(&what, &found, &value.values, t)),
            }
        }
    }
    worst
}
