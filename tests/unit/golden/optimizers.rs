// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixtures of optimisers and of clipping, on parameters whose gradients are given.

use kiln::loss::Loss;
use kiln::nn::{Init, Module, Param, Scope};
use kiln::optim::{Adam, AdamW, Nesterov, Optimizer, Schedule, Sgd};
use kiln::{DType, Device, Net, NonFinite, Result, Seed, Tensor, Trainer, Var};

use crate::common::close::{assert_close, Tolerance};
use crate::common::golden::Fixture;

/// Parameters and nothing else.
struct Given(Vec<Param>);

impl Given {
    fn new(p: &Scope, shapes: &[Vec<usize>]) -> Self {
        let parameter = |(index, shape): (usize, &Vec<usize>)| {
            p.parameter(&format!("p{index}"), &shape[..], Init::Constant(0.0))
        };
        Given(shapes.iter().enumerate().map(parameter).collect())
    }
}

impl Module for Given {
    fn forward(&self, x: &Var) -> Var {
        x.clone()
    }
}

/// The sum of `parameter * gradient` over all of them, whose gradients are the gradients given.
#[derive(Debug)]
struct Products {
    parameters: Vec<Param>,
    gradients: Vec<Tensor>,
}

impl Loss for Products {
    fn forward(&self, output: &Var, target: &Var, own: &[Var]) -> Var {
        let product =
            |(parameter, gradient): (&Param, &Var)| (&output.parameter(parameter) * gradient).sum();
        let given = match own {
            [] => std::slice::from_ref(target),
            own => own,
        };
        let products = self.parameters.iter().zip(given).map(product);
        products.reduce(|sum, product| &sum + &product).expect("a parameter or more")
    }

    fn inputs(&self) -> Vec<Tensor> {
        self.gradients.clone()
    }

    fn check(&self, _target: &Tensor) -> Result<()> {
        Ok(())
    }

    fn weight(&self, _samples: usize, _target: &Tensor) -> Option<f64> {
        None
    }

    fn key(&self) -> String {
        "Products".into()
    }
}

/// The target of each step is the gradient.
pub(super) fn agree(fixture: &Fixture, device: &Device) -> f64 {
    let shape = fixture.get("param.p").shape.clone();
    let make = |p: &Scope| Given::new(p, std::slice::from_ref(&shape));
    let mut net = Net::new(device.clone(), Seed(7), make).expect("a network");
    net.set_parameter("p0", &fixture.tensor("param.p")).expect("of this shape");
    let loss = Products { parameters: net.module().0.clone(), gradients: vec![] };
    let fit = Trainer::new(net, loss, build(fixture)).expect("options in range");
    let mut fit = fit.with_non_finite(NonFinite::Continue);
    if fixture.options.contains_key("max_lr") {
        let cycle = Schedule::one_cycle(fixture.number("max_lr"), fixture.number("total_steps"));
        fit = fit.with_schedule(cycle).expect("options in range");
    }
    let mut worst = 0.0f64;
    for step in 0..fixture.number::<usize>("steps") {
        let gradient = fixture.tensor(&format!("gradient.{step}"));
        fit.step(&Tensor::zeros(&shape[..]), &gradient).expect("a step");
        let value = fit.net().parameter("p0").expect("its name");
        let what = format!("{} after step {step}", fixture.stem);
        let expected = &fixture.get(&format!("value.{step}")).values;
        worst = worst.max(assert_close(&what, &value, expected, Tolerance::strict(DType::F32)));
    }
    worst
}

/// With a rate of 1, parameters that were 0 become the negated gradients.
pub(super) fn agree_on_clipping(fixture: &Fixture, device: &Device) -> f64 {
    let count = fixture.below("gradient.").count();
    let gradients: Vec<Tensor> =
        (0..count).map(|index| fixture.tensor(&format!("gradient.{index}"))).collect();
    let shapes: Vec<Vec<usize>> = gradients.iter().map(|g| g.shape().dims().to_vec()).collect();
    let make = |p: &Scope| Given::new(p, &shapes);
    let net = Net::new(device.clone(), Seed(7), make).expect("a network");
    let loss = Products { parameters: net.module().0.clone(), gradients };
    let fit = Trainer::new(net, loss, Sgd::new(1.0)).expect("a trainer");
    // Some gradients are not finite, and what becomes of them is what is compared.
    let fit = fit.with_non_finite(NonFinite::Continue);
    let mut fit = fit.with_clipping(fixture.number("max_norm")).expect("a norm above 0");
    let nothing = Tensor::zeros([1]);
    let norm = fit.step(&nothing, &nothing).expect("a step").gradient_norm().expect("a norm");
    let norm = Tensor::new([], vec![norm.expect("clipping yields the norm")]).expect("a scalar");

    let t = Tolerance::strict(DType::F32);
    let mut worst = assert_close(&fixture.stem, &norm, &fixture.get("norm").values, t);
    for index in 0..count {
        let value = fit.net().parameter(&format!("p{index}")).expect("its name");
        let expected = &fixture.get(&format!("clipped.{index}")).values;
        let expected: Vec<f64> = expected.iter().map(|gradient| -gradient).collect();
        worst =
            worst.max(assert_close(&format!("{}: p{index}", fixture.stem), &value, &expected, t));
    }
    worst
}

/// The optimiser that a fixture's options describe.
pub(super) fn build(fixture: &Fixture) -> Optimizer {
    let name = fixture.options.get("optimizer").unwrap_or(&fixture.options["name"]);
    let number = |name: &str| fixture.number::<f64>(name);
    let (rate, weight_decay) = (number("lr"), number("weight_decay"));
    let adam = || ((number("beta1"), number("beta2")), number("eps"));
    match name.as_str() {
        "sgd" => Optimizer::from(Sgd {
            rate,
            momentum: number("momentum"),
            dampening: number("dampening"),
            nesterov: match fixture.option("nesterov") {
                "true" => Nesterov::On,
                _ => Nesterov::Off,
            },
            weight_decay,
        }),
        "adam" => {
            let (betas, eps) = adam();
            Adam { rate, betas, eps, weight_decay }.into()
        }
        "adamw" => {
            let (betas, eps) = adam();
            AdamW { rate, betas, eps, weight_decay }.into()
        }
        other => panic!("{}: nothing builds an optimizer {other}", fixture.stem),
    }
}
