// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the functions of a value refuse, and with what words. None panics.

use kiln::nn::{Keep, Module, Scope};
use kiln::{Device, Net, Seed, Tensor, Var};

struct Function(fn(&Var) -> Var);

impl Module for Function {
    fn forward(&self, x: &Var) -> Var {
        (self.0)(x)
    }
}

/// What a function of a value `[2, 3]` comes to: the error, or the shape of the result.
fn outcome(function: fn(&Var) -> Var) -> String {
    let mut net = Net::new(Device::cpu(), Seed(1), |_: &Scope| Function(function)).expect("a net");
    match net.eval().forward(&Tensor::zeros([2, 3])) {
        Ok(y) => y.shape().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn axes_are_checked() {
    type Case = (fn(&Var) -> Var, &'static str);
    let cases: &[Case] = &[
        (|x| x.sum_over([1, -1], Keep::Nothing), "sum: expected each axis once, got axis -1 again"),
        (|x| x.sum_over([2], Keep::Nothing), "sum: expected an axis from -2 to 1, got 2"),
        (|x| x.mean_over([-3], Keep::Extents), "mean: expected an axis from -2 to 1, got -3"),
        (|x| x.max_over([0usize; 0], Keep::Nothing), "max: expected one axis or more, got none"),
        (
            |x| x.argmin_over(usize::MAX, Keep::Nothing),
            "argmin: expected an axis from -2 to 1, got ",
        ),
        (|x| x.sum().sum_over([0], Keep::Nothing), "sum: expected a tensor that has axes, got one"),
        (|x| x.transpose(0, 2), "transpose: expected an axis from -2 to 1, got 2"),
        (|x| x.permute([0]), "permute: expected 2 axes for [2, 3], got 1"),
        (|x| x.permute([1, 1]), "permute: expected each axis once, got axis 1 again"),
        (|x| x.permute([0, 7]), "permute: expected an axis from -2 to 1, got 7"),
        (|x| x.squeeze(0), "squeeze: expected an extent of 1 at axis 0, got [2, 3]"),
        (|x| x.unsqueeze(4), "unsqueeze: expected an axis from -3 to 2, got 4"),
        (|x| x.pad(2, 1, 1), "pad: expected an axis from -2 to 1, got 2"),
        (|x| x.pad(1, usize::MAX, 1), "pad: expected a shape of at most "),
        (|x| x.narrow(1, 2, 2), "narrow: expected a range within the 3 of axis 1, got 2..4"),
        (|x| x.narrow(1, usize::MAX, 2), "narrow: expected a range within the 3 of axis 1, got "),
        (|x| x.slice(0, 1..5), "slice: expected a range within the 2 of axis 0, got 1..5"),
        (|x| x.slice(0, 3..), "slice: expected a range within the 2 of axis 0, got 3..3"),
        (
            |x| x.expand([3, 3]),
            "broadcast: expected a shape that broadcasts to [3, 3], got f32[2, 3]",
        ),
        (
            |x| x.argmax_over(1, Keep::Nothing).sum(),
            "sum_to: expected a floating-point tensor, got i32[2]",
        ),
        (|x| x.clamp(0.0, f64::NAN), "clamp: expected numbers as bounds, got NaN"),
        (
            |x| x.slice(1, ..0).max_over([1], Keep::Nothing),
            "max: expected elements along axis 1, got f32[2, 0]",
        ),
        (
            |x| Var::concat(&[x, &x.t()], 0),
            "concat: expected tensors that differ along axis 0 alone, got f32[2, 3] and f32[3, 2]",
        ),
        (
            |x| Var::stack(&[x, &x.t()], 0),
            "stack: expected values of one shape, [2, 3], got [3, 2]",
        ),
        (|x| Var::stack(&[x], -4), "stack: expected an axis from -3 to 2, got -4"),
        (|x| x.lt(x.t()), "less: expected shapes that broadcast to one another, got "),
        (|x| x.where_(x.t(), 0.0), "where: expected shapes that broadcast to one another, got "),
        (|x| x.take(0, x), "take: expected a floating-point tensor with an axis 0 and i32 indices"),
        (|x| x.index_select(0, x), "index_select: expected indices of rank 1, got [2, 3]"),
        (
            |x| x.gather(1, &x.argmax()),
            "gather: expected a tensor and i32 indices that differ along axis 1 alone, got ",
        ),
        (|x| x.argmax() + x, "add: expected two floating-point tensors of one shape, got i32"),
        (
            |x| x.unsqueeze(0).matmul(&x.expand([4, 2, 3])),
            "matmul: expected matrices with equal inner extents, got [1, 2, 3] and [4, 2, 3]",
        ),
        (
            |x| x.expand([3, 2, 3]).matmul_transposed(&x.expand([4, 2, 3])),
            "matmul: expected extents before the matrices that broadcast to one another, got ",
        ),
        (|x| x.sum().matmul(&x.unsqueeze(0)), "matmul: expected tensors of rank 2 or more, got "),
    ];
    for (function, message) in cases {
        let found = outcome(*function);
        assert!(found.starts_with(message), "{found}\nexpected {message}");
    }
}

#[test]
fn what_fits_has_the_shape_that_it_should() {
    type Case = (fn(&Var) -> Var, &'static str);
    let cases: &[Case] = &[
        (|x| x.sum_over(0..2, Keep::Extents), "[1, 1]"),
        (|x| x.sum_over(vec![0_usize, 1], Keep::Nothing), "[]"),
        (|x| x.slice(-1, ..=1), "[2, 2]"),
        (|x| x.slice(0, 2..), "[0, 3]"),
        (|x| x.slice(0, ..0).mean_over([0], Keep::Nothing), "[3]"),
        (|x| Var::concat(&[x.slice(0, ..0), x.clone()], 0), "[2, 3]"),
        (|x| x.unsqueeze(-1).unsqueeze(0), "[1, 2, 3, 1]"),
        (|x| x.transpose(0, 0), "[2, 3]"),
        (|x| x.sum().permute([0usize; 0]), "[]"),
        (|x| x.full([4, 1], 2.0) * x.narrow(0, 0, 1), "[4, 3]"),
        (|x| x.gather(1, &x.argmax_over(1, Keep::Extents).expand([2, 5])), "[2, 5]"),
    ];
    for (function, shape) in cases {
        assert_eq!(outcome(*function), *shape);
    }
}

const NONE: [&Var; 0] = [];

/// Without a value there is no trace to note a mistake in, so the one that meets it does.
#[test]
fn nothing_joined_is_a_mistake_of_the_trace_that_uses_it() {
    let expected = "concat: expected one value or more, got none";
    assert_eq!(outcome(|_| Var::concat(&NONE, 0)), expected);
    assert_eq!(outcome(|x| x + Var::concat(&NONE, 0)), expected);
    assert_eq!(outcome(|x| Var::concat(&NONE, 0) + x), expected);
    assert_eq!(outcome(|x| Var::concat(&NONE, 0).relu().matmul(x)), expected);
    assert!(outcome(|x| Var::stack(&NONE, 9) + x).starts_with("stack: expected one value"));
}
