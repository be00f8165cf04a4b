// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixtures of training steps of networks with several inputs or outputs.

use kiln::loss::{self, BceWithLogits, CrossEntropy, Loss, Mse};
use kiln::nn::{Module, Scope};
use kiln::{DType, Device, Net, Seed, Tensor, Trainer, Values, Var};

use super::optimizers;
use crate::common::close::{assert_close, Tolerance};
use crate::common::golden::Fixture;
use crate::structures::{IntegerInput, Siamese, TwoOutputs};

pub(super) fn agree(fixture: &Fixture, device: &Device) -> f64 {
    match fixture.option("name") {
        "siamese" => {
            let rate = fixture.number("p");
            let loss = || BceWithLogits::default();
            let make = |p: &Scope| Siamese::new(p, rate);
            Case { fixture, device, make, loss }.agree::<_, (Var, Var), Var, Var>()
        }
        "two_outputs" => {
            let loss = || {
                loss::from_fn(|(scores, again): &(Var, Var), (labels, x): &(Var, Var)| {
                    let right = CrossEntropy::default().forward(scores, labels, &[]);
                    &right + &Mse::default().forward(again, x, &[]).scale(0.5)
                })
            };
            Case { fixture, device, make: TwoOutputs::new, loss }
                .agree::<_, Var, (Var, Var), (Var, Var)>()
        }
        "integer_input" => {
            let loss = || loss::from_fn(|each: &Var, (): &()| each.square().mean());
            Case { fixture, device, make: IntegerInput::new, loss }
                .agree::<_, (Var, Var), Var, ()>()
        }
        other => panic!("{}: no network {other}", fixture.stem),
    }
}

/// A network and its loss.
struct Case<'a, F, L> {
    fixture: &'a Fixture,
    device: &'a Device,
    make: F,
    loss: fn() -> L,
}

impl<F, L: 'static> Case<'_, F, L> {
    fn agree<M, I: Values, O: Values, T: Values>(&self) -> f64
    where
        F: Fn(&Scope) -> M,
        M: Module<I, O>,
        L: Loss<O, T>,
    {
        self.trajectory().max(self.gradients())
    }

    fn net<M>(&self) -> Net<M>
    where
        F: Fn(&Scope) -> M,
    {
        let seed = Seed(self.fixture.number("seed"));
        let mut net = Net::new(self.device.clone(), seed, &self.make).expect("a network");
        self.set(&mut net, "param.");
        net
    }

    fn set<M>(&self, net: &mut Net<M>, prefix: &str) {
        let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
        for name in names {
            let value = self.fixture.tensor(&format!("{prefix}{name}"));
            net.set_parameter(&name, &value).expect("a parameter of this shape");
        }
    }

    fn batch(&self, step: usize) -> [Vec<Tensor>; 2] {
        ["input", "target"].map(|what| {
            let prefix = format!("{what}.{step}.");
            self.fixture.below(&prefix).map(|(_, tensor)| tensor.tensor()).collect()
        })
    }

    /// Loss and parameters of each step of a trainer.
    fn trajectory<M, I: Values, O: Values, T: Values>(&self) -> f64
    where
        F: Fn(&Scope) -> M,
        M: Module<I, O>,
        L: Loss<O, T>,
    {
        let (fixture, optimizer) = (self.fixture, optimizers::build(self.fixture));
        let fit = Trainer::new(self.net(), (self.loss)(), optimizer);
        let mut fit: Trainer<M, I, O, T> = fit.expect("options in range");
        let t = Tolerance::balanced(DType::F32);
        let mut worst = 0.0f64;
        for step in 0..fixture.number("steps") {
            let [inputs, targets] = self.batch(step);
            let loss = fit.step(&inputs, &targets).expect("a step").value().expect("a loss");
            let loss = Tensor::new([], vec![loss]).expect("a scalar");
            let what = format!("{}: loss of step {step}", fixture.stem);
            let expected = &fixture.get("loss").values[step..=step];
            worst = worst.max(assert_close(&what, &loss, expected, t));
            for (name, value) in fixture.below(&format!("value.{step}.")) {
                let found = fit.net().parameter(name).expect("its name");
                let what = format!("{}: {name} after step {step}", fixture.stem);
                worst = worst.max(assert_close(&what, &found, &value.values, t));
            }
        }
        worst
    }

    /// Gradients of each step, from the parameters that PyTorch had then.
    fn gradients<M, I: Values, O: Values, T: Values>(&self) -> f64
    where
        F: Fn(&Scope) -> M,
        M: Module<I, O>,
        L: Loss<O, T>,
    {
        let (fixture, mut net) = (self.fixture, self.net());
        let loss = (self.loss)();
        let mut worst = 0.0f64;
        for step in 0..fixture.number("steps") {
            if step > 0 {
                self.set(&mut net, &format!("value.{}.", step - 1));
            }
            let [inputs, targets] = self.batch(step);
            let found = net.train().loss_gradients::<I, O, T>(&loss, &inputs, &targets);
            for (name, gradient) in found.expect("gradients").parameters {
                let expected = &fixture.get(&format!("gradient.{step}.{name}")).values;
                let what = format!("{}: gradient of {name} in step {step}", fixture.stem);
                let t = Tolerance::strict(DType::F32);
                worst = worst.max(assert_close(&what, &gradient, expected, t));
            }
        }
        worst
    }
}
