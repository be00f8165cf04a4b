// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixtures of the functions that networks are written with: output and gradients.

use kiln::nn::{Correction, Init, Keep, Module, Param, Scope};
use kiln::{DType, Device, Net, Seed, Var};

use crate::common::close::{assert_close, Tolerance};
use crate::common::golden::Fixture;

/// A function of the input and of its other operands.
type Function = fn(&Var, &[Var]) -> Var;

struct Recorded {
    function: Function,
    others: Vec<Param>,
}

impl Module for Recorded {
    fn forward(&self, x: &Var) -> Var {
        let others: Vec<Var> = self.others.iter().map(|other| x.parameter(other)).collect();
        (self.function)(x, &others)
    }
}

pub(super) fn agree(fixture: &Fixture, device: &Device) -> f64 {
    let stem = &fixture.stem;
    let others: Vec<_> = fixture.below("param.").collect();
    let make = |p: &Scope| Recorded {
        function: function(fixture.option("name")),
        others: others
            .iter()
            .map(|(name, value)| p.parameter(name, &value.shape[..], Init::Constant(0.0)))
            .collect(),
    };
    let mut net = Net::new(device.clone(), Seed(7), make).expect("a network");
    for (name, value) in &others {
        net.set_parameter(name, &value.tensor()).expect("a parameter of this shape");
    }
    let x = fixture.tensor("input");
    let output = net.eval().forward(&x).unwrap_or_else(|error| panic!("{stem}: {error}"));
    let gradients = net.eval().gradients(&x, &fixture.tensor("cotangent"));
    let gradients = gradients.unwrap_or_else(|error| panic!("{stem}: {error}"));

    let t = match stem.contains("matmul") || stem.contains("var") {
        true => Tolerance::balanced(DType::F32),
        false => Tolerance::strict(DType::F32),
    };
    let what = |part: &str| format!("{stem}: {part}");
    assert_eq!(output.shape().dims(), fixture.get("output").shape, "{stem}");
    let mut worst = assert_close(&what("output"), &output, &fixture.get("output").values, t);
    if let Some(expected) = fixture.tensors.get("grad.input") {
        let input = gradients.input.unwrap_or_else(|| panic!("{stem}: no gradient of the input"));
        worst = worst.max(assert_close(&what("input gradient"), &input, &expected.values, t));
    }
    for (name, expected) in fixture.below("grad.param.") {
        let found = gradients.parameters.iter().find(|(parameter, _)| parameter == name);
        match found {
            Some((_, got)) => {
                worst = worst.max(assert_close(&what(name), got, &expected.values, t));
            }
            None => {
                let is_constant = expected.values.iter().all(|&gradient| gradient == 0.0);
                assert!(is_constant, "{stem}: no gradient of {name}");
            }
        }
    }
    worst
}

/// The name tells the function; what follows it tells the case.
fn function(name: &str) -> Function {
    let name = name.trim_end_matches("_special").trim_end_matches("_normal");
    let name = name.trim_end_matches("_stretched").trim_end_matches("_ties");
    elementwise(name)
        .or_else(|| of_pairs(name))
        .or_else(|| reduction(name))
        .or_else(|| movement(name))
        .or_else(|| indexing(name))
        .or_else(|| match name {
            name if name.starts_with("matmul_transposed") => {
                Some(|x, o| x.matmul_transposed(&o[0]))
            }
            name if name.starts_with("matmul") => Some(|x, o| x.matmul(&o[0])),
            _ => None,
        })
        .unwrap_or_else(|| panic!("nothing computes {name}"))
}

fn elementwise(name: &str) -> Option<Function> {
    let function: Function = match name {
        "abs" => |x, _| x.abs(),
        "sqrt" => |x, _| x.sqrt(),
        "rsqrt" => |x, _| x.rsqrt(),
        "reciprocal" => |x, _| x.reciprocal(),
        "sin" => |x, _| x.sin(),
        "cos" => |x, _| x.cos(),
        "erf" => |x, _| x.erf(),
        "exp" => |x, _| x.exp(),
        "log" => |x, _| x.log(),
        "square" => |x, _| x.square(),
        "softplus" => |x, _| x.softplus(),
        "pow_3" => |x, _| x.powf(3.0),
        "pow_1_5" => |x, _| x.powf(1.5),
        "pow_minus_1_5" => |x, _| x.powf(-1.5),
        "pow_minus_1" => |x, _| x.powf(-1.0),
        "pow_half" => |x, _| x.powf(0.5),
        "pow_0" => |x, _| x.powf(0.0),
        "clamp" => |x, _| x.clamp(-0.5, 0.75),
        "clamp_min" => |x, _| x.clamp_min(0.5),
        "clamp_max" => |x, _| x.clamp_max(0.5_f32),
        "clamp_crossed" => |x, _| x.clamp(0.75, -0.5),
        "numbers" => |x, _| 2.0 * (1.0 - x) + (x - 3.0) / 4.0 + 0.5 - (-x) * 1.5_f32,
        "number_over" => |x, _| 3.0 / x,
        "hardswish" => |x, _| x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        _ => return None,
    };
    Some(function)
}

fn of_pairs(name: &str) -> Option<Function> {
    let function: Function = match name {
        "minimum" => |x, o| x.minimum(&o[0]),
        "maximum" => |x, o| x.maximum(&o[0]),
        "less" => |x, o| x * x.lt(&o[0]),
        "less_equal" => |x, o| x * x.le(&o[0]),
        "greater" => |x, o| x * x.gt(&o[0]),
        "greater_equal" => |x, o| x * x.ge(&o[0]),
        "equal" => |x, o| x * x.eq(&o[0]),
        "not_equal" => |x, o| x * x.ne(&o[0]),
        "power" => |x, o| x.pow(&o[0]),
        "where" => |x, o| x.gt(0.0).where_(&o[0], &o[1] * x),
        "where_guarded" => |x, o| {
            let is_there = x.ne(0.0);
            is_there.where_(1.0 / is_there.where_(x, 1.0), &o[0])
        },
        "huber" => |x, _| {
            let distance = x.abs();
            distance.lt(1.0).where_(0.5 * x.square(), &distance - 0.5)
        },
        _ => return None,
    };
    Some(function)
}

fn reduction(name: &str) -> Option<Function> {
    use Correction::{Population, Sample};
    use Keep::{Extents, Nothing};
    let function: Function = match name {
        "sum_over_1" => |x, _| x.sum_over([1], Nothing),
        "sum_over_0_2_kept" => |x, _| x.sum_over([2, 0], Extents),
        "mean_over_last" => |x, _| x.mean_over([-1], Nothing),
        "mean_over_0_1" => |x, _| x.mean_over([0, 1], Nothing),
        "var_over_1" => |x, _| x.var_over([1], Sample, Nothing),
        "var_over_0_2_population" => |x, _| x.var_over([0, 2], Population, Extents),
        "var" => |x, _| x.var(Sample),
        "max_over_1" => |x, _| x.max_over([1], Nothing),
        "max_over_0_2_kept" => |x, _| x.max_over([0, 2], Extents),
        "max_over_last" => |x, _| x.max_over([-1], Nothing),
        "max" => |x, _| x.max(),
        "min_over_1" => |x, _| x.min_over([1], Nothing),
        "min_over_0_2_kept" => |x, _| x.min_over([0, -1], Extents),
        "min_over_last" => |x, _| x.min_over([-1], Nothing),
        "min" => |x, _| x.min(),
        "argmax_over_1" => |x, o| o[0].take(0, &x.argmax_over(1, Nothing)) + x.sum(),
        "argmax_over_last" => {
            |x, o| o[0].take(0, &x.argmax_over(-1, Nothing)) + x.narrow(1, 0, 1).sum()
        }
        "argmax_over_0_nan" => |x, o| {
            let corner = x.narrow(0, 0, 1).narrow(1, 3, 1).reshape([]);
            o[0].take(0, &x.argmax_over(0, Extents)).squeeze(0) + corner
        },
        "argmax" => |x, o| o[0].take(0, &x.argmax()) + x.sum(),
        "argmin_over_1" => |x, o| o[0].take(0, &x.argmin_over(1, Nothing)) + x.sum(),
        "argmin_over_last" => {
            |x, o| o[0].take(0, &x.argmin_over(-1, Nothing)) + x.narrow(1, 0, 1).sum()
        }
        "argmin_over_0_nan" => |x, o| {
            let corner = x.narrow(0, 0, 1).narrow(1, 3, 1).reshape([]);
            o[0].take(0, &x.argmin_over(0, Extents)).squeeze(0) + corner
        },
        "argmin" => |x, o| o[0].take(0, &x.argmin()) + x.sum(),
        _ => return None,
    };
    Some(function)
}

fn movement(name: &str) -> Option<Function> {
    let function: Function = match name {
        "permute" => |x, _| x.permute([2, 0, 3, 1]),
        "transpose_last" => |x, _| x.transpose(-2, -1),
        "transpose_0_2" => |x, _| x.transpose(0, 2),
        "transpose_matrix" => |x, _| x.t(),
        "narrow" => |x, _| x.narrow(1, 1, 2),
        "slice" => |x, _| x.slice(1, 1..).slice(-1, ..2),
        "pad" => |x, _| x.pad(-1, 0, 3).pad(-2, 2, 1),
        "concat" => |x, o| Var::concat(&[x, &o[0], x], 1),
        "concat_last" => |x, o| Var::concat(&[x, &o[0]], -1),
        "stack" => |x, o| Var::stack(&[x, &o[0], x], 1),
        "stack_behind" => |x, o| Var::stack(&[x, &o[0]], -1),
        "squeeze" => |x, _| x.squeeze(1).unsqueeze(-1),
        "expand" => |x, _| x.expand([5, 4, 3]),
        _ => return None,
    };
    Some(function)
}

fn indexing(name: &str) -> Option<Function> {
    let function: Function = match name {
        "take_0" | "take_one" => |i, o| o[0].take(0, i),
        "take_1" => |i, o| o[0].take(1, i),
        "index_select_last" => |i, o| o[0].index_select(-1, i),
        "gather_1" => |i, o| o[0].gather(1, i),
        "gather_0" => |i, o| o[0].gather(0, i),
        "gather_smaller" => |i, o| o[0].gather(2, i),
        _ => return None,
    };
    Some(function)
}
