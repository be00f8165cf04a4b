// SPDX-License-Identifier: MIT OR Apache-2.0
//! unary, unary_gradient, mask_nonzero and binary.

use crate::abi::*;
use crate::driver::{Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::function::{derivative, value, FUNCTIONS};
use crate::ledger::{Exactness, Want};
use crate::memory::{Address, Array};

const PARAMETER: f32 = 0.3;

pub(crate) fn run(gpu: &Gpu) {
    sure_logits(gpu);
    for storage in Storage::ALL {
        for &count in gpu.cases(&[1, 7, 8, 31, 33, 65, 1000, 2051], &[1, 31, 2051]) {
            unary(gpu, storage, count);
            binary(gpu, storage, count);
            mask_nonzero(gpu, storage, count);
        }
    }
}

fn launch(gpu: &Gpu, family: &str, storage: Storage, params: KilnElementwiseParams) -> String {
    let kernel = format!("{family}_{}", storage.name());
    let blocks = (params.count as usize).div_ceil(256 * storage.vector());
    gpu.launch(&kernel, Grid::of(blocks), &params);
    kernel
}

fn unary(gpu: &Gpu, storage: Storage, count: usize) {
    for function in FUNCTIONS {
        let mut numbers = Numbers::new(count + function as usize);
        let low = if function == KILN_UNARY_LOG { 0.1 } else { -4.0 };
        let mut inputs = numbers.between(low, 4.0, count);
        if let (true, Some(special)) = (function != KILN_UNARY_LOG, inputs.get_mut(3..6)) {
            special.copy_from_slice(&[0.0, -0.0, f32::NAN]);
        }
        let a = Array::new(storage, &inputs);
        let b = Array::new(storage, &numbers.between(-1.0, 1.0, count));
        let y = Array::output(storage, count);
        let params = KilnElementwiseParams {
            y: y.address(),
            a: a.address(),
            b: Address::default(),
            count: count as u32,
            function,
            parameter: PARAMETER,
        };
        let case = format!("function {function}, {count} elements");
        let exactness = Exactness::new(storage, 8.0);
        let parameter = f64::from(PARAMETER);

        let kernel = launch(gpu, "unary", storage, params);
        let want = a.values.iter().map(|&x| {
            let value = value(function, x, parameter);
            Want { value, magnitude: value.abs().max(x.abs()).max(1.0) }
        });
        gpu.ledger().compare(&kernel, &case, &y.read(), &want.collect::<Vec<_>>(), exactness);

        let params = KilnElementwiseParams { b: b.address(), ..params };
        let kernel = launch(gpu, "unary_gradient", storage, params);
        let want = a.values.iter().zip(&b.values).map(|(&x, &dy)| {
            let slope = derivative(function, x, parameter);
            Want { value: slope * dy, magnitude: slope.abs().max(1.0 + x * x) * dy.abs() }
        });
        gpu.ledger().compare(&kernel, &case, &y.read(), &want.collect::<Vec<_>>(), exactness);
    }
}

/// Also with the result in place of an operand.
fn binary(gpu: &Gpu, storage: Storage, count: usize) {
    type Function = fn(f64, f64) -> f64;
    let functions: [(KilnBinary, Function); 6] = [
        (KILN_BINARY_ADD, |a, b| a + b),
        (KILN_BINARY_SUBTRACT, |a, b| a - b),
        (KILN_BINARY_MULTIPLY, |a, b| a * b),
        (KILN_BINARY_DIVIDE, |a, b| a / b),
        (KILN_BINARY_LOGISTIC_LOSS, |a, b| a.exp().ln_1p() - a * b),
        (KILN_BINARY_LOGISTIC_SLOPE, |a, b| 1.0 / (1.0 + (-a).exp()) - b),
    ];
    for (function, compute) in functions {
        let mut numbers = Numbers::new(count);
        let a = Array::new(storage, &numbers.nonzero(count));
        let b = Array::new(storage, &numbers.nonzero(count));
        let in_place = function == KILN_BINARY_SUBTRACT;
        let separate = Array::output(storage, count);
        let y = if in_place { &b } else { &separate };
        let params = KilnElementwiseParams {
            y: y.address(),
            a: a.address(),
            b: b.address(),
            count: count as u32,
            function,
            parameter: 0.0,
        };
        let kernel = launch(gpu, "binary", storage, params);
        let is_rounded_once = function <= KILN_BINARY_DIVIDE;
        let want = a.values.iter().zip(&b.values).map(|(&a, &b)| match is_rounded_once {
            true => Want::plain(compute(a, b)),
            false => Want { value: compute(a, b), magnitude: 1.0 + (a * b).abs() },
        });
        let case = format!("function {function}, {count} elements");
        let exactness = Exactness::new(storage, if is_rounded_once { 1.0 } else { 8.0 });
        gpu.ledger().compare(&kernel, &case, &y.read(), &want.collect::<Vec<_>>(), exactness);
    }
}

/// Sure and right logits, whose loss and slope are far below what they are made of.
fn sure_logits(gpu: &Gpu) {
    let (a, b) = ([16.0, 20.0, 40.0, -16.0, -20.0, -40.0], [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    let storage = Storage::F32;
    let (a, b) = (Array::new(storage, &a), Array::new(storage, &b));
    for function in [KILN_BINARY_LOGISTIC_LOSS, KILN_BINARY_LOGISTIC_SLOPE] {
        let y = Array::output(storage, 6);
        let params = KilnElementwiseParams {
            y: y.address(),
            a: a.address(),
            b: b.address(),
            count: 6,
            function,
            parameter: 0.0,
        };
        let kernel = launch(gpu, "binary", storage, params);
        let want = a.values.iter().map(|&a| {
            let wrong = (-a.abs()).exp();
            Want::plain(match function {
                KILN_BINARY_LOGISTIC_LOSS => wrong.ln_1p(),
                _ if a > 0.0 => -wrong / (1.0 + wrong),
                _ => wrong / (1.0 + wrong),
            })
        });
        let (case, exactness) =
            (format!("function {function}, sure"), Exactness::new(storage, 4.0));
        gpu.ledger().compare(&kernel, &case, &y.read(), &want.collect::<Vec<_>>(), exactness);
    }
}

fn mask_nonzero(gpu: &Gpu, storage: Storage, count: usize) {
    let mut numbers = Numbers::new(count);
    let a = Array::new(storage, &numbers.sparse(count));
    let b = Array::new(storage, &numbers.nonzero(count));
    let y = Array::output(storage, count);
    let params = KilnElementwiseParams {
        y: y.address(),
        a: a.address(),
        b: b.address(),
        count: count as u32,
        function: 0,
        parameter: 2.0,
    };
    let kernel = launch(gpu, "mask_nonzero", storage, params);
    let pairs = a.values.iter().zip(&b.values);
    let want: Vec<f32> =
        pairs.map(|(&a, &b)| if a != 0.0 { 2.0 * b as f32 } else { 0.0 }).collect();
    let case = format!("{count} elements");
    gpu.ledger().compare_bytes(&kernel, &case, &y.bytes(), &storage.encode(&want));
}
