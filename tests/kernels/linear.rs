// SPDX-License-Identifier: MIT OR Apache-2.0
//! gemm_nt and gemm_nt_relu_dropout: a linear layer with what follows it.

use crate::abi::*;
use crate::driver::{divider, Gpu};
use crate::dropout::Site;
use crate::float::{Numbers, Storage};
use crate::function::{derivative, value};
use crate::ledger::{Exactness, Want};
use crate::memory::Array;
use crate::product::{product, Matrix, Method, Split};

/// f32 additions that lie between a product and a sum in any order.
const ROUNDINGS: f64 = 8.0;
const PARAMETER: f32 = 0.3;

/// What follows the product.
#[derive(Clone, Copy, Debug)]
struct Tail {
    family: &'static str,
    bias: bool,
    activation: KilnUnary,
    dropout: KilnRate,
    /// Rows of outputs that one sample has.
    rows: usize,
    residual: bool,
    pre_activation: bool,
    /// Numbers between the rows of all matrices.
    gap: usize,
}

const PLAIN: Tail = Tail {
    family: "gemm_nt",
    bias: false,
    activation: KILN_UNARY_NONE,
    dropout: KILN_RATE_NONE,
    rows: 1,
    residual: false,
    pre_activation: false,
    gap: 0,
};
const RELU_DROPOUT: Tail =
    Tail { bias: true, activation: KILN_UNARY_RELU, dropout: KILN_RATE_CONSTANT, ..PLAIN };
const TAILS: [Tail; 6] = [
    PLAIN,
    RELU_DROPOUT,
    Tail {
        bias: true,
        activation: KILN_UNARY_GELU,
        residual: true,
        pre_activation: true,
        gap: 8,
        ..PLAIN
    },
    Tail { activation: KILN_UNARY_TANH, dropout: KILN_RATE_CONSTANT, residual: true, ..PLAIN },
    Tail { rows: 3, ..RELU_DROPOUT },
    Tail { rows: 2, gap: 8, dropout: KILN_RATE_SCHEDULED, ..PLAIN },
];
/// Functions that no other tail has.
const OTHERS: [KilnUnary; 8] = [
    KILN_UNARY_LEAKY_RELU,
    KILN_UNARY_GELU_TANH,
    KILN_UNARY_SILU,
    KILN_UNARY_SIGMOID,
    KILN_UNARY_SOFTPLUS,
    KILN_UNARY_EXP,
    KILN_UNARY_SQUARE,
    KILN_UNARY_SCALE,
];

pub(crate) fn run(gpu: &Gpu) {
    for method in Method::all() {
        for shape in method.shapes(gpu) {
            for &splits in method.splits(gpu) {
                for tail in TAILS {
                    linear(gpu, &method, shape, splits, tail);
                }
                if !method.guarded {
                    let special = Tail { family: "gemm_nt_relu_dropout", ..RELU_DROPOUT };
                    linear(gpu, &method, shape, splits, special);
                }
            }
        }
        let smallest = if method.guarded { [9, 11, 5] } else { [method.tile, method.tile, 8] };
        for activation in OTHERS {
            linear(gpu, &method, smallest, 1, Tail { activation, bias: true, ..PLAIN });
        }
    }
}

fn linear(gpu: &Gpu, method: &Method, [m, n, k]: [usize; 3], splits: usize, tail: Tail) {
    let (storage, gap) = (method.storage, tail.gap);
    let a = Matrix::random(method, m, k, gap, 1);
    let b = Matrix::random(method, n, k, gap, 2);
    let residual = Matrix::random(method, m, n, gap, 3);
    let bias = Array::new(Storage::F32, &Numbers::new(n).between(-1.0, 1.0, n));
    let empty = vec![f32::NAN; m * n];
    let d = Matrix::new(storage, m, n, gap, &empty);
    let pre_activation = Matrix::new(storage, m, n, gap, &empty);
    let site = Site::new("fc1.dropout#0", 0.3);
    let (scheduled, given) = site.scheduled();
    let (mask, scalars) = match tail.dropout {
        KILN_RATE_SCHEDULED => (scheduled, given.address()),
        _ => (site.params, gpu.scalars()),
    };
    let blocks = [method.tiles(m), method.tiles(n), splits];
    let split = Split::new(method, blocks[0] * blocks[1], splits);
    let address = |matrix: &Matrix, wanted: bool| {
        if wanted {
            matrix.array.address()
        } else {
            Default::default()
        }
    };
    let params = KilnLinearParams {
        d: d.array.address(),
        a: a.array.address(),
        b: b.array.address(),
        m: m as i32,
        n: n as i32,
        k: k as i32,
        lda: a.stride as i32,
        ldb: b.stride as i32,
        ldd: d.stride as i32,
        split: split.params(),
        batch: KilnBatch::default(),
        tail: KilnLinearTail {
            bias: if tail.bias { bias.address() } else { Default::default() },
            pre_activation: address(&pre_activation, tail.pre_activation),
            residual: address(&residual, tail.residual),
            scalars,
            activation: tail.activation,
            activation_parameter: PARAMETER,
            dropout: tail.dropout,
            rows: divider(tail.rows),
            columns: n as u32,
            mask,
        },
    };
    let kernel = format!("{}_{}", tail.family, method.name);
    gpu.launch(&kernel, method.grid(blocks), &params);
    split.assert_finished(&kernel);

    let mut before = product(method, (&a, false), (&b, false));
    if tail.bias {
        for (at, sum) in before.iter_mut().enumerate() {
            let bias = bias.values[at % n];
            *sum = Want { value: sum.value + bias, magnitude: sum.magnitude + bias.abs() };
        }
    }
    let case = format!("{m} x {n} x {k} in {splits} parts, {tail:?}");
    let exactness = Exactness::new(storage, ROUNDINGS);
    if tail.pre_activation {
        let got = pre_activation.read(&kernel);
        gpu.ledger().compare(&kernel, &format!("before, {case}"), &got, &before, exactness);
    }
    let drops = tail.dropout != KILN_RATE_NONE;
    let kept =
        |at: usize| !drops || site.keeps(at / n / tail.rows, at / n % tail.rows * n + at % n);
    let finish = |(at, sum): (usize, &Want)| {
        let scale = if drops { f64::from(site.params.scale) } else { 1.0 };
        let residual = if tail.residual { residual.at(at / n, at % n) } else { 0.0 };
        let done = if kept(at) { activate(tail.activation, *sum) } else { Want::plain(0.0) };
        let magnitude = scale * done.magnitude + residual.abs();
        Want { value: scale * done.value + residual, magnitude }
    };
    let want: Vec<Want> = before.iter().enumerate().map(finish).collect();
    let got = d.read(&kernel);
    gpu.ledger().compare(&kernel, &case, &got, &want, exactness);
    if drops && !tail.residual {
        for (at, (&got, want)) in got.iter().zip(&want).enumerate() {
            let visible = want.value.abs() > exactness.tolerance(want);
            assert!(kept(at) || got == 0.0, "{kernel} {case} [{at}] is dropped, but {got}");
            assert!(!visible || got != 0.0, "{kernel} {case} [{at}] is kept, but zero");
        }
    }
}

/// The function of a sum whose error is a part of its magnitude.
fn activate(activation: KilnUnary, sum: Want) -> Want {
    let parameter = f64::from(PARAMETER);
    let value = value(activation, sum.value, parameter);
    let kept = match activation {
        KILN_UNARY_RELU | KILN_UNARY_TANH | KILN_UNARY_SIGMOID | KILN_UNARY_EXP => value,
        _ => sum.value,
    };
    let slope = derivative(activation, kept, parameter).abs().max(1.0);
    Want { value, magnitude: value.abs() + slope * sum.magnitude }
}
