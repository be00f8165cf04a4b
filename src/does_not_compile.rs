// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must not compile: a forgotten mode, and tensors that a network does not take. Each case is a documentation test
//! with a twin that compiles and runs, so that a case fails for the one line in which the two differ.

/// A case: what both share, the line that compiles, and the line that does not.
macro_rules! case {
    ($name:ident: $shared:expr; right: $right:expr; wrong: $wrong:expr $(;)?) => {
        #[doc = concat!("```\n", $shared, $right, "\n# Ok::<(), kiln::Error>(())\n```\n")]
        #[doc = concat!("```compile_fail\n", $shared, $wrong, "\n# Ok::<(), kiln::Error>(())\n```")]
        struct $name;
    };
}

macro_rules! net {
    () => {
        "use kiln::{nn::Linear, Device, Net, Seed, Tensor};
        let mut net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at(\"fc\"), 3, 2))?;
        let (x, y) = (Tensor::zeros([1, 3]), Tensor::zeros([1, 2]));
        "
    };
}

macro_rules! fit {
    () => {
        "use kiln::{loss::Mse, nn::Linear, optim::Sgd, Device, Net, Seed, Tensor, Trainer};
        let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at(\"fc\"), 3, 2))?;
        let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.1))?;
        let (x, y) = (Tensor::zeros([1, 3]), Tensor::zeros([1, 2]));
        "
    };
}

case! { ForwardWithoutMode: net!(); right: "net.eval().forward(&x)?;"; wrong: "net.forward(&x)?;" }

case! { GradientsWithoutMode: net!();
    right: "net.train().gradients(&x, &y)?;";
    wrong: "net.gradients(&x, &y)?;"
}

case! { StepInEval: fit!(); right: "fit.step(&x, &y)?;"; wrong: "fit.net().eval().step(&x, &y)?;" }

case! { TrainerSetToEval: fit!(); right: "fit.step(&x, &y)?;"; wrong: "fit.eval().step(&x, &y)?;" }

case! { StepWhileEvaluating: fit!();
    right: "fit.step(&x, &y)?; let mut eval = fit.net().eval(); eval.forward(&x)?;";
    wrong: "let mut eval = fit.net().eval(); fit.step(&x, &y)?; eval.forward(&x)?;"
}

case! { TrainerOfAnEvalView: concat!("use kiln::{loss::Mse, optim::Sgd, Trainer};\n", net!());
    right: "Trainer::new(net, Mse::default(), Sgd::new(0.1))?.step(&x, &y)?;";
    wrong: "Trainer::new(net.eval(), Mse::default(), Sgd::new(0.1))?.step(&x, &y)?;"
}

case! { TwoInputsGivenOne:
    "use kiln::{nn::{Linear, Module}, Device, Net, Seed, Tensor, Var};
    struct Pair(Linear);
    impl Module<(Var, Var)> for Pair {
        fn forward(&self, (a, b): &(Var, Var)) -> Var {
            &self.0.forward(a) - &self.0.forward(b)
        }
    }
    let mut net = Net::new(Device::cpu(), Seed(7), |p| Pair(Linear::new(p, 3, 2)))?;
    let x = Tensor::zeros([1, 3]);
    ";
    right: "net.eval().forward((&x, &x))?;";
    wrong: "net.eval().forward(&x)?;"
}

case! { LossOfOneOutputForTwo:
    "use kiln::{loss::{from_fn, Mse}, nn::{Linear, Module}, optim::Sgd, Device, Net, Seed, Trainer, Var};
    struct Two(Linear);
    impl Module<Var, (Var, Var)> for Two {
        fn forward(&self, x: &Var) -> (Var, Var) {
            (self.0.forward(x), x.clone())
        }
    }
    let net = Net::new(Device::cpu(), Seed(7), |p| Two(Linear::new(p, 3, 2)))?;
    ";
    right: "Trainer::new(net, from_fn(|(y, _): &(Var, Var), t: &Var| (y - t).square().mean()), Sgd::new(0.1))?;";
    wrong: "Trainer::new(net, Mse::default(), Sgd::new(0.1))?;"
}
