// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chains against their plain meaning, element by element in f64.

use super::super::chain;
use super::*;
use crate::kernel::chain::{Axis, Chain, Function, Link, Source, View, MOST_KEPT};
use crate::op::{Binary, Unary};

/// One link over dense operands.
pub(super) fn one_link(function: Function, elements: usize, arguments: usize) -> Chain {
    Chain {
        elements,
        operands: vec![View::dense(elements); arguments],
        links: vec![Link {
            function,
            arguments: (0..arguments).map(Source::Operand).collect(),
            keep: None,
            store: Some(0),
        }],
    }
}

/// `y = function(x)`.
pub(super) fn function_of(pool: &Pool, isa: Isa, function: Unary, x: &[f32], y: &mut [f32]) {
    chain(pool, isa, &one_link(Function::Unary(function), x.len(), 1), &[x], vec![y]);
}

/// `dx = dy * function'`, from what the forward pass saved.
pub(super) fn gradient_of(
    pool: &Pool,
    isa: Isa,
    function: Unary,
    saved: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) {
    let link = one_link(Function::UnaryGrad(function), dy.len(), 2);
    chain(pool, isa, &link, &[saved, dy], vec![dx]);
}

/// What a link means.
fn meaning(function: Function, x: &[f64]) -> f64 {
    match function {
        Function::Copy => x[0],
        Function::Unary(function) => function.value(x[0]),
        Function::UnaryGrad(function) => function.backward(x[0], x[1]),
        Function::Binary(function) => function.value(x[0], x[1]),
        Function::MaskNonZero(_) if x[0] == 0.0 => 0.0,
        Function::MaskNonZero(scale) => scale * x[1],
        Function::Where => x[if x[0] == 0.0 { 2 } else { 1 }],
    }
}

/// What an element of each result should be.
fn meant(chain: &Chain, operands: &[&[f32]], element: usize, results: &mut [f64]) {
    let place = |view: &View| {
        let (mut from, mut rest) = (0, element);
        for axis in view.axes().iter().rev() {
            from += rest % axis.extent * axis.stride;
            rest /= axis.extent;
        }
        from
    };
    let (mut last, mut kept) = (f64::NAN, [f64::NAN; MOST_KEPT]);
    for link in &chain.links {
        let argument = |argument: &Source| match *argument {
            Source::Last => last,
            Source::Kept(place) => kept[place],
            Source::Operand(index) => f64::from(operands[index][place(&chain.operands[index])]),
        };
        let arguments: Vec<f64> = link.arguments.iter().map(argument).collect();
        last = meaning(link.function, &arguments);
        if let Some(place) = link.keep {
            kept[place] = last;
        }
        if let Some(result) = link.store {
            results[result] = last;
        }
    }
}

/// Runs a chain on noise and compares.
fn check(chain_of: &Chain, results: usize) {
    let operands: Vec<Vec<f32>> = chain_of
        .operands
        .iter()
        .enumerate()
        .map(|(index, view)| noise(view.span(), 7 + index as u32))
        .collect();
    let operands: Vec<&[f32]> = operands.iter().map(Vec::as_slice).collect();
    let mut want = vec![vec![0.0; chain_of.elements]; results];
    let mut each = vec![0.0; results];
    for element in 0..chain_of.elements {
        meant(chain_of, &operands, element, &mut each);
        want.iter_mut().zip(&each).for_each(|(want, &value)| want[element] = value);
    }
    everywhere(|pool, isa| {
        let mut got = vec![vec![f32::NAN; chain_of.elements]; results];
        let places = got.iter_mut().map(Vec::as_mut_slice).collect();
        chain(pool, isa, chain_of, &operands, places);
        for (got, want) in got.iter().zip(&want) {
            assert_close(got, want, 2e-6);
        }
    });
}

fn view(axes: &[(usize, usize)]) -> View {
    View::new(axes.iter().map(|&(extent, stride)| Axis { extent, stride }))
}

fn link(
    function: Function,
    arguments: &[Source],
    keep: Option<usize>,
    store: Option<usize>,
) -> Link {
    Link { function, arguments: arguments.to_vec(), keep, store }
}

const ADD: Function = Function::Binary(Binary::Add);
const MULTIPLY: Function = Function::Binary(Binary::Multiply);

#[test]
fn operands_are_read_by_any_view() {
    use Source::{Last, Operand};
    for (rows, columns) in [(1, 1), (3, 5), (40, 64), (7, 1000), (2000, 3), (5, 3000)] {
        let count = rows * columns;
        let mut operands = vec![
            View::dense(count),
            view(&[(rows, 0), (columns, 1)]),
            view(&[(rows, 1), (columns, 0)]),
            view(&[(count, 0)]),
            view(&[(rows, 1), (columns, rows)]),
        ];
        if rows % 2 == 0 {
            operands.push(view(&[(2, 0), (rows / 2, columns), (columns, 1)]));
        }
        let first = link(MULTIPLY, &[Operand(0), Operand(1)], None, None);
        let others = (2..operands.len()).map(|operand| {
            let store = (operand + 1 == operands.len()).then_some(0);
            link(ADD, &[Last, Operand(operand)], None, store)
        });
        let links = std::iter::once(first).chain(others).collect();
        check(&Chain { elements: count, operands, links }, 1);
    }
}

/// `s = a + b; t = s * s, stored; u = tanh(t), kept; v = u * s; w = v + u + t, stored`.
#[test]
fn values_are_kept_and_stored() {
    use Source::{Kept, Last, Operand};
    for elements in [1, 15, 16, 17, 1024, 1025, 40_000] {
        let links = vec![
            link(ADD, &[Operand(0), Operand(1)], Some(3), None),
            link(MULTIPLY, &[Last, Last], Some(0), Some(1)),
            link(Function::Unary(Unary::Tanh), &[Last], Some(1), None),
            link(MULTIPLY, &[Last, Kept(3)], None, None),
            link(ADD, &[Last, Kept(1)], Some(2), None),
            link(ADD, &[Kept(2), Kept(0)], None, Some(0)),
        ];
        let operands = vec![View::dense(elements), View::dense(elements)];
        check(&Chain { elements, operands, links }, 2);
    }
}

/// Too many for any cache: results are written past it, wherever they begin.
#[test]
fn large_results_are_the_same() {
    use Source::{Kept, Last, Operand};
    let elements = (4 << 20) + 5;
    let links = vec![
        link(MULTIPLY, &[Operand(0), Operand(1)], Some(0), Some(0)),
        link(ADD, &[Last, Kept(0)], None, Some(1)),
    ];
    let operands = vec![View::dense(elements), view(&[(elements, 0)])];
    let chain_of = Chain { elements, operands, links };
    let x = noise(elements, 3);
    let mut memory = vec![f32::NAN; 2 * elements + 64];
    for isa in Isa::available() {
        for (threads, start) in [(1, 0), (2, 3)] {
            memory.fill(f32::NAN);
            let (first, second) = memory[start..].split_at_mut(elements + 8);
            let results = vec![&mut first[..elements], &mut second[..elements]];
            chain(&pool(threads), isa, &chain_of, &[&x, &[0.5]], results);
            for (index, &x) in x.iter().enumerate() {
                let got = [memory[start + index], memory[start + elements + 8 + index]];
                assert_eq!(got, [0.5 * x, x], "{isa} element {index}");
            }
        }
    }
}

#[test]
fn no_elements_are_no_work() {
    let chain_of = one_link(ADD, 0, 2);
    everywhere(|pool, isa| chain(pool, isa, &chain_of, &[&[], &[]], vec![&mut []]));
}

#[test]
fn the_mask_of_zeros_passes_nan_outputs() {
    let y = [0.0, -0.0, 1.0, f32::NAN, -2.0, 0.0, 3.0];
    let dy = [1.0, 2.0, 3.0, 4.0, 5.0, f32::NAN, 7.0];
    everywhere(|pool, isa| {
        let mut dx = [f32::NAN; 7];
        let mask = one_link(Function::MaskNonZero(2.0), 7, 2);
        chain(pool, isa, &mask, &[&y, &dy], vec![&mut dx]);
        assert_eq!(dx, [0.0, 0.0, 6.0, 8.0, 10.0, 0.0, 14.0]);
    });
}

const PAIRS: [Binary; 14] = [
    Binary::Add,
    Binary::Subtract,
    Binary::Multiply,
    Binary::Divide,
    Binary::LogisticLoss,
    Binary::LogisticSlope,
    Binary::Minimum,
    Binary::Maximum,
    Binary::Power,
    Binary::PowerSlope,
    Binary::Less,
    Binary::LessEqual,
    Binary::Equal,
    Binary::MaximumShare,
];

/// Compares functions of all combinations of some numbers, NaN and infinities among them.
#[test]
fn special_numbers_mean_what_they_mean_in_f64() {
    let numbers = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        2.0,
        -3.0,
        2.5,
        1e-40,
        1e30,
        -1e30,
        f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    let all = || numbers.iter();
    let (a, b): (Vec<f32>, Vec<f32>) = all().flat_map(|&a| all().map(move |&b| (a, b))).unzip();
    let clamps = [(-1.0, 2.0), (f64::NEG_INFINITY, 0.5), (0.5, f64::INFINITY), (2.0, -1.0)];
    let clamps = clamps.map(|(min, max)| Unary::Clamp { min, max });
    let powers = [0.0, 0.5, -0.5, 1.0, 2.0, 3.0, -1.0, 1.5].map(Unary::Pow);
    let plain = [
        Unary::Relu,
        Unary::Exp,
        Unary::Log,
        Unary::Abs,
        Unary::Sqrt,
        Unary::Rsqrt,
        Unary::Reciprocal,
        Unary::Sin,
        Unary::Cos,
        Unary::Erf,
        Unary::Not,
        Unary::Square,
        Unary::Offset(0.25),
        Unary::Softplus,
    ];
    let unary = || plain.into_iter().chain(clamps).chain(powers);
    // ReLU's is a mask of its own, and what is constant has none.
    let has_slope = |function: &Unary| !matches!(function, Unary::Not | Unary::Relu);
    let functions = unary()
        .map(Function::Unary)
        .chain(unary().filter(has_slope).map(Function::UnaryGrad))
        .chain(PAIRS.map(Function::Binary))
        .chain([Function::MaskNonZero(0.5), Function::Where]);
    let mut wrong = Vec::new();
    for function in functions {
        let arguments = match function {
            Function::Copy | Function::Unary(_) => 1,
            Function::Where => 3,
            _ => 2,
        };
        let operands = &[&a[..], &b[..], &a[..]][..arguments];
        for isa in Isa::available() {
            let mut got = vec![f32::NAN; a.len()];
            let link = one_link(function, a.len(), arguments);
            chain(&pool(1), isa, &link, operands, vec![&mut got]);
            for (at, &got) in got.iter().enumerate() {
                let x: Vec<f64> = operands.iter().map(|x| f64::from(x[at])).collect();
                let want = meaning(function, &x) as f32;
                // A slope that is no f32 is worth nothing, even where its product is one.
                let is_f32 = |slope: f64| slope == 0.0 || (1e-37..3e38).contains(&slope.abs());
                let has_slope = match function {
                    Function::UnaryGrad(function) => is_f32(function.derivative(x[0])),
                    _ => true,
                };
                if !has_slope {
                    continue;
                }
                let is_close = (got - want).abs() <= 1e-6 * want.abs() + 1e-38;
                if got != want && !is_close && !(got.is_nan() && want.is_nan()) {
                    wrong.push(format!("{function:?} of {x:?} on {isa}: {got:e}, not {want:e}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn pairs_mean_what_they_say() {
    for function in PAIRS.into_iter().filter(|function| *function != Binary::Power) {
        check(&one_link(Function::Binary(function), 1000, 2), 1);
    }
    check(&one_link(Function::Where, 1000, 3), 1);
    // Sure and right logits, whose loss and slope are far below what they are made of.
    let (logits, targets) = ([20.0, 60.0, -20.0, -60.0], [1.0, 1.0, 0.0, 0.0]);
    for function in [Binary::LogisticLoss, Binary::LogisticSlope] {
        let pair = |(&a, &b): (&f32, &f32)| function.value(f64::from(a), f64::from(b));
        let want: Vec<f64> = logits.iter().zip(&targets).map(pair).collect();
        everywhere(|pool, isa| {
            let mut got = [f32::NAN; 4];
            let link = one_link(Function::Binary(function), 4, 2);
            chain(pool, isa, &link, &[&logits, &targets], vec![&mut got]);
            for (got, want) in got.iter().zip(&want) {
                let error = (f64::from(*got) - want).abs() / want.abs();
                assert!(error < 5e-7, "{function:?} on {isa}: {got} for {want}");
            }
        });
    }
}
