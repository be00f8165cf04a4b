// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes in networks: named by layer, with what was expected and what came, all at once.

use kiln::loss::{CrossEntropy, Mse};
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
    assert_eq!(simple_net().monte_carlo(1).forward(&x).unwrap_err().to_string(), expected);
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
            |x| x + &x.transpose(),
            "add: expected shapes that broadcast to one another, got [2, 3] and [3, 2]",
        ),
        (|x| x.reshape([5]), "reshape: expected "),
        (|x| x.flatten(2), "flatten: expected a tensor of rank 3 or more, got [2, 3]"),
        (|x| x.matmul(x), "matmul: expected matrices with equal inner extents"),
        (|x| x.reshape([1, 2, 3]).transpose(), "transpose: expected "),
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
    assert_eq!(error, "nll: expected labels i32[4], got i32[5]");
    let error = net.eval().loss(&Mse::default(), &x, &Tensor::zeros([4, 3])).unwrap_err();
    assert!(error.to_string().starts_with("subtract: expected shapes that broadcast"), "{error}");
    let weights = CrossEntropy { weights: Some(vec![1.0; 3]), ..ce };
    let error = net.eval().loss(&weights, &x, &labels(4)).unwrap_err().to_string();
    assert_eq!(error, "nll: expected class weights of shape [2], got f32[3]");
}

#[test]
fn parameters_are_known_by_name_and_shape() {
    let mut net = net(|p: &Scope| Linear::new(&p.at("fc"), 3, 2));
    let error = net.parameter("fc.wieght").unwrap_err().to_string();
    assert_eq!(error, "parameter: expected one of fc.weight, fc.bias, got fc.wieght");
    let error = net.set_parameter("fc.weight", &Tensor::zeros([3, 2])).unwrap_err().to_string();
    assert_eq!(error, "fc.weight: set_parameter: expected [2, 3], got [3, 2]");
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
