// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes in networks: named by layer, with what was expected and what came, all at once.

use std::cell::RefCell;

use kiln::loss::{BceWithLogits, CrossEntropy, Loss, Mse};
use kiln::models::SimpleNet;
use kiln::nn::{Dropout, Init, Linear, Module, Scope};
use kiln::op::TensorType;
use kiln::optim::Sgd;
use kiln::{Device, Error, Mode, Net, Seed, Tensor, Trainer, Var};

fn net<M: Module>(make: impl FnOnce(&Scope) -> M) -> Net<M> {
    Net::new(Device::cpu(), Seed(1), make).expect("a network")
}

fn simple_net() -> Net<SimpleNet> {
    net(|p| SimpleNet::new(p, 784, 64, 10, 0.5))
}

#[test]
fn a_wrong_number_of_features_names_the_layer() {
    let x = Tensor::zeros([4, 783]);
    let expected = "fc1: linear: expected input of shape [..., 784], got [4, 783]";
    assert_eq!(simple_net().train().forward(&x).unwrap_err().to_string(), expected);
    assert_eq!(simple_net().eval().forward(&x).unwrap_err().to_string(), expected);
    assert_eq!(simple_net().monte_carlo(2).forward(&x).unwrap_err().to_string(), expected);
    let plan = simple_net().plan(Mode::Eval, &[TensorType::f32([4, 783].into())]).map(drop);
    assert_eq!(plan.unwrap_err().to_string(), expected);

    let labels = Tensor::labels([4], vec![0; 4]).expect("labels");
    let mut fit = Trainer::new(simple_net(), CrossEntropy::default(), Sgd::new(0.1)).expect("ok");
    let error = fit.step(&x, &labels).unwrap_err();
    assert_eq!(error.to_string(), expected);
    let Error::Shape { layer, op, expected, got } = error else { panic!("{error:?}") };
    assert_eq!((layer.as_str(), op.as_str()), ("fc1", "linear"));
    assert_eq!((expected.as_str(), got.as_str()), ("input of shape [..., 784]", "[4, 783]"));
}

#[test]
fn a_vector_is_no_batch() {
    let error = simple_net().eval().forward(&Tensor::zeros([784])).unwrap_err().to_string();
    assert_eq!(error, "fc1: linear: expected input of shape [..., 784], got [784]");
}

/// Two branches, each wrong in its own way.
struct TwoMistakes {
    left: Linear,
    right: Linear,
}

impl Module for TwoMistakes {
    fn forward(&self, x: &Var) -> Var {
        let left = self.left.forward(x).relu();
        let right = self.right.forward(&x.relu()).tanh();
        &left + &right
    }
}

#[test]
fn several_mistakes_come_back_together() {
    let mut net = net(|p| TwoMistakes {
        left: Linear::new(&p.at("left"), 5, 3),
        right: Linear::new(&p.at("right"), 7, 3),
    });
    let error = net.eval().forward(&Tensor::zeros([2, 6])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "left: linear: expected input of shape [..., 5], got [2, 6]; \
         right: linear: expected input of shape [..., 7], got [2, 6]"
    );
    assert!(matches!(error, Error::Many(ref errors) if errors.len() == 2), "{error:?}");
}

#[test]
fn several_bad_arguments_come_back_together() {
    let make = |p: &Scope| {
        let _ = (Dropout::new(&p.at("a"), 2.0), Dropout::new(&p.at("b.c"), f32::NAN));
        Linear::new(&p.at("fc"), 0, 3)
    };
    let error = Net::new(Device::cpu(), Seed(1), make).unwrap_err().to_string();
    assert_eq!(
        error,
        "a: p: expected a probability in [0, 1], got 2; \
         b.c: p: expected a probability in [0, 1], got NaN; \
         fc: parameter weight: expected a shape with elements, got [3, 0]"
    );
}

#[test]
fn two_parameters_of_one_name() {
    let make = |p: &Scope| (Linear::new(&p.at("fc"), 2, 2), Linear::new(&p.at("fc"), 2, 2)).1;
    let error = Net::new(Device::cpu(), Seed(1), make).unwrap_err().to_string();
    assert_eq!(
        error,
        "fc: parameter weight: expected a name not taken yet, got fc.weight; \
         fc: parameter bias: expected a name not taken yet, got fc.bias"
    );
}

/// Values that do not go together, outside of any layer.
struct Sums(fn(&Var) -> Var);

impl Module for Sums {
    fn forward(&self, x: &Var) -> Var {
        (self.0)(x)
    }
}

#[test]
fn operations_say_what_they_take() {
    type Case = (fn(&Var) -> Var, &'static str);
    let cases: [Case; 6] = [
        (
            |x| x + &x.t(),
            "add: expected shapes that broadcast to one another, got [2, 3] and [3, 2]",
        ),
        (|x| x.reshape([5]), "reshape: expected "),
        (|x| x.flatten(2), "flatten: expected a tensor of rank 3 or more, got [2, 3]"),
        (|x| x.matmul(x), "matmul: expected matrices with equal inner extents"),
        (|x| x.reshape([1, 2, 3]).t(), "transpose: expected "),
        (|x| x.sum().softmax(), "softmax: expected "),
    ];
    for (function, message) in cases {
        let error = net(|_| Sums(function)).eval().forward(&Tensor::zeros([2, 3])).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}\nexpected {message}");
    }
}

#[test]
fn targets_must_fit_the_scores() {
    let mut net = net(|p: &Scope| Linear::new(&p.at("fc"), 3, 2));
    let x = Tensor::zeros([4, 3]);
    let ce = CrossEntropy::default();
    let labels = |count| Tensor::labels([count], vec![0; count]).expect("labels");
    let error = net.eval().loss(&ce, &x, &labels(5)).unwrap_err().to_string();
    assert_eq!(error, "nll: expected labels i32[4] for scores of shape [4, 2], got i32[5]");
    let error = net.eval().loss(&Mse::default(), &x, &Tensor::zeros([4, 3])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mse: expected a target of the output's shape [4, 2], got [4, 3]"
    );
    let weights = CrossEntropy { weights: Some(vec![1.0; 3]), ..ce };
    let error = net.eval().loss(&weights, &x, &labels(4)).unwrap_err().to_string();
    assert_eq!(error, "nll: expected class weights of shape [2], got f32[3]");
}

/// Broadcasting would compare each output with the targets of others, and teach nothing.
#[test]
fn targets_are_not_broadcast() {
    let mut net = net(|p: &Scope| Linear::new(&p.at("fc"), 3, 1));
    let x = Tensor::zeros([4, 3]);
    let losses: [(&dyn Loss, &str); 2] =
        [(&Mse::default(), "mse"), (&BceWithLogits::default(), "bce_with_logits")];
    let shapes: [&[usize]; 6] = [&[4], &[1], &[], &[1, 1], &[4, 2], &[4, 1, 1]];
    for (loss, op) in losses {
        for shape in shapes {
            let target = Tensor::zeros(shape);
            let expected =
                format!("{op}: expected a target of the output's shape [4, 1], got {shape:?}");
            let error = net.eval().loss(loss, &x, &target).unwrap_err();
            assert_eq!(error.to_string(), expected);
            let error = net.train().loss_gradients(loss, &x, &target).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        assert!(net.eval().loss(loss, &x, &Tensor::zeros([4, 1])).is_ok());
    }
    for shape in [&[4, 1][..], &[1], &[], &[2, 2]] {
        let labels = Tensor::labels(shape, vec![0; shape.iter().product()]).expect("labels");
        let error = net.eval().loss(&CrossEntropy::default(), &x, &labels).unwrap_err();
        let expected = "nll: expected labels i32[4] for scores of shape [4, 1], got i32";
        assert_eq!(error.to_string(), format!("{expected}{shape:?}"));
    }
    let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.1)).expect("a trainer");
    for shape in shapes {
        let error = fit.step(&x, &Tensor::zeros(shape)).unwrap_err().to_string();
        let names_both = error.contains("[4, ") && error.ends_with(&format!("got {shape:?}"));
        assert!(names_both, "{error}");
    }
}

#[test]
fn a_step_needs_samples() {
    let net = net(|p: &Scope| Linear::new(&p.at("fc"), 3, 1));
    let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.1)).expect("a trainer");
    let error = fit.step(&Tensor::zeros([0, 3]), &Tensor::zeros([0, 1])).unwrap_err().to_string();
    assert_eq!(error, "step: expected a batch of one sample or more, got [0, 3]");
    assert_eq!((fit.updates(), fit.net().pass()), (0, 0));
}

#[test]
fn parameters_are_known_by_name_and_shape() {
    let mut net = net(|p: &Scope| Linear::new(&p.at("fc"), 3, 2));
    let error = net.parameter("fc.wieght").unwrap_err().to_string();
    assert_eq!(error, "parameter: expected one of fc.weight, fc.bias, got fc.wieght");
    let error = net.set_parameter("fc.weight", &Tensor::zeros([3, 2])).unwrap_err().to_string();
    assert_eq!(error, "fc.weight: set_parameter: expected f32[2, 3], got f32[3, 2]");
}

/// A name that safetensors files keep for themselves.
#[test]
fn a_parameter_cannot_take_the_name_of_the_header() {
    let make = |p: &Scope| {
        p.parameter("__metadata__", [2], Init::Constant(0.0));
        Linear::new(&p.at("__metadata__"), 2, 2)
    };
    let error = Net::new(Device::cpu(), Seed(1), make).unwrap_err().to_string();
    assert_eq!(
        error,
        "parameter __metadata__: expected another name, since safetensors files keep this one for \
         their header, got __metadata__"
    );
    let make = |p: &Scope| Linear::new(&p.at("__metadata__"), 2, 2);
    assert!(Net::new(Device::cpu(), Seed(1), make).is_ok(), "__metadata__.weight is another name");
}

thread_local! {
    /// What [`Keeping`] keeps: values belong to their thread, modules to none.
    static KEPT: RefCell<Option<Var>> = const { RefCell::new(None) };
}

/// Modules that keep values from one trace to the next.
struct Keeping {
    fc: Linear,
    combine: fn(&Linear, &Var, &Var) -> Var,
}

impl Module for Keeping {
    fn forward(&self, x: &Var) -> Var {
        match KEPT.take() {
            Some(kept) => (self.combine)(&self.fc, x, &kept),
            None => {
                // Far behind the nodes that another trace has.
                let y = (0..40).fold(x.clone(), |y, _| y.relu());
                KEPT.replace(Some(y.clone()));
                self.fc.forward(&y)
            }
        }
    }
}

#[test]
fn values_of_another_trace_are_refused() {
    let combinations: [fn(&Linear, &Var, &Var) -> Var; 8] = [
        |_, x, kept| x + kept,
        |_, x, kept| kept * x,
        |_, _, kept| kept.clone(),
        |fc, _, kept| fc.forward(kept),
        |fc, x, kept| &fc.forward(kept) + x,
        |fc, x, kept| fc.forward(&(x + kept)),
        |_, x, kept| x.matmul_transposed(kept),
        |_, x, kept| &x.sum() - &kept.mean(),
    ];
    for (index, combine) in combinations.into_iter().enumerate() {
        let mut net = net(|p: &Scope| Keeping { fc: Linear::new(&p.at("fc"), 3, 3), combine });
        KEPT.take();
        for samples in [2, 3] {
            net.eval().forward(&Tensor::zeros([samples, 3])).expect("nothing is kept yet");
            let error = net.train().forward(&Tensor::zeros([samples, 3])).unwrap_err();
            let message = "expected values of one forward pass, got one kept from another";
            assert!(error.to_string().contains(message), "{index}: {error}");
            assert!(matches!(error, Error::Shape { .. }), "{index}: once, not {error:?}");
            assert_eq!(net.pass(), 0);
        }
        net.train().forward(&Tensor::zeros([5, 3])).expect("nothing is kept any more");
    }
}

/// Lists of hundreds and names of megabytes are cut.
#[test]
fn errors_have_a_bound() {
    let wide = |p: &Scope| {
        let gain = |index| p.parameter(&format!("gain{index}"), [1], Init::Constant(0.0));
        Known((0..500).map(gain).collect::<Vec<_>>().remove(499))
    };
    struct Known(kiln::nn::Param);
    impl Module for Known {
        fn forward(&self, x: &Var) -> Var {
            x * &x.parameter(&self.0)
        }
    }
    let mut net = net(wide);
    let error = net.parameter("gain").unwrap_err().to_string();
    let start = "parameter: expected one of gain0, gain1, gain2, ";
    assert!(error.starts_with(start) && error.len() < 1000, "{error}");
    assert!(error.ends_with("gain19, ... and 480 more, got gain"), "{error}");

    let error = net.parameter(&"n".repeat(1 << 20)).unwrap_err().to_string();
    assert!(error.len() < 3000, "{} bytes", error.len());
    assert!(error.ends_with("nnn... (1048576 bytes)"), "{}", &error[error.len() - 100..]);
    // Cut between characters.
    let error = net.parameter(&"ä".repeat(1 << 20)).unwrap_err().to_string();
    assert!(error.ends_with("äää... (2097152 bytes)"), "{}", &error[error.len() - 100..]);

    let bad = |p: &Scope| {
        (0..500).for_each(|index| drop(Dropout::new(&p.at(&format!("drop{index}")), 2.0)));
        Linear::new(p, 1, 1)
    };
    let error = Net::new(Device::cpu(), Seed(1), bad).unwrap_err();
    assert!(matches!(&error, Error::Many(errors) if errors.len() == 500));
    let error = error.to_string();
    assert!(error.starts_with("drop0: p: expected a probability in [0, 1], got 2; drop1: p: "));
    assert!(error.ends_with("got 2; ... and 480 more") && error.len() < 3000, "{error}");

    let deep = Tensor::new(vec![1; 10_000], vec![0.0]).expect("one element");
    let error = net.set_parameter("gain3", &deep).unwrap_err().to_string();
    assert!(error.len() < 3000, "{} bytes", error.len());

    let mismatches = (0..500).map(|index| format!("gain{index}: expected f32[1], got none"));
    let path = "w.safetensors".into();
    let error = Error::Checkpoint { path, mismatches: mismatches.collect() }.to_string();
    let end = "; gain19: expected f32[1], got none; ... and 480 more";
    assert!(error.ends_with(end) && error.len() < 1000, "{error}");
}

/// A parameter of another network is not one of this.
#[test]
fn parameters_of_other_networks() {
    let mut foreign = None;
    let _ = net(|p: &Scope| {
        foreign = Some(p.parameter("w", [9, 9], Init::Constant(0.0)));
        Sums(|x| x.clone())
    });
    struct Borrowed(kiln::nn::Param);
    impl Module for Borrowed {
        fn forward(&self, x: &Var) -> Var {
            x * &x.parameter(&self.0)
        }
    }
    let foreign = foreign.expect("made above");
    let error = net(|_| Borrowed(foreign)).eval().forward(&Tensor::zeros([2, 3])).unwrap_err();
    let message = "parameter: expected a parameter registered in the scope of this network";
    assert!(error.to_string().starts_with(message), "{error}");
}

#[test]
fn tensors_of_the_wrong_kind() {
    let error = Tensor::new([2, 3], vec![0.0; 5]).unwrap_err().to_string();
    assert_eq!(error, "tensor: expected 6 elements for shape [2, 3], got 5");
    let labels = Tensor::labels([2], vec![0, 1]).expect("labels");
    assert!(labels.values().is_err() && labels.argmax().is_err());
    let error = simple_net().eval().forward(&labels).unwrap_err().to_string();
    assert!(error.starts_with("fc1: linear: expected"), "{error}");
}
