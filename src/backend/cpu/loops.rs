// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain loops for what is rare or small. Sums are taken in one fixed order, whatever the pool.

use crate::op::{Binary, Softmax, Unary};

/// Elements summed in `f32` before a sum goes on in `f64`.
const SUM_CHUNK: usize = 64;

/// `y = a op b`.
pub(super) fn zip(function: Binary, a: &[f32], b: &[f32], y: &mut [f32]) {
    let pairs = y.iter_mut().zip(a.iter().zip(b));
    match function {
        Binary::Add => pairs.for_each(|(y, (a, b))| *y = a + b),
        Binary::Subtract => pairs.for_each(|(y, (a, b))| *y = a - b),
        Binary::Multiply => pairs.for_each(|(y, (a, b))| *y = a * b),
        Binary::Divide => pairs.for_each(|(y, (a, b))| *y = a / b),
        _ => pairs.for_each(|(y, (&a, &b))| {
            *y = function.value(f64::from(a), f64::from(b)) as f32;
        }),
    }
}

/// A function of each element that has no vector form; computed in `f64`.
pub(super) fn map(function: Unary, x: &[f32], y: &mut [f32]) {
    match function {
        Unary::Square => y.iter_mut().zip(x).for_each(|(y, x)| *y = x * x),
        Unary::Scale(factor) => {
            let factor = factor as f32;
            y.iter_mut().zip(x).for_each(|(y, x)| *y = factor * x);
        }
        _ => y.iter_mut().zip(x).for_each(|(y, &x)| *y = function.value(f64::from(x)) as f32),
    }
}

/// The gradient of a function that has no vector form.
pub(super) fn map_gradient(function: Unary, saved: &[f32], dy: &[f32], dx: &mut [f32]) {
    let elements = dx.iter_mut().zip(saved.iter().zip(dy));
    match function {
        Unary::Square => elements.for_each(|(dx, (x, dy))| *dx = 2.0 * x * dy),
        _ => elements.for_each(|(dx, (&saved, &dy))| {
            *dx = function.backward(f64::from(saved), f64::from(dy)) as f32;
        }),
    }
}

/// The gradient of softmax or its logarithm, row by row.
pub(super) fn softmax_gradient(kind: Softmax, width: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let rows = y.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
    for ((y, dy), dx) in rows {
        let elements = dx.iter_mut().zip(y.iter().zip(dy));
        match kind {
            Softmax::Plain => {
                let dot: f64 = y.iter().zip(dy).map(|(&y, &dy)| f64::from(y) * f64::from(dy)).sum();
                elements.for_each(|(dx, (y, dy))| *dx = y * (dy - dot as f32));
            }
            Softmax::Log => {
                let sum: f64 = dy.iter().map(|&dy| f64::from(dy)).sum();
                elements.for_each(|(dx, (y, dy))| *dx = dy - y.exp() * sum as f32);
            }
        }
    }
}

/// One number, or one row, repeated.
pub(super) fn repeat(x: &[f32], y: &mut [f32]) {
    match *x {
        [value] => y.fill(value),
        _ => y.chunks_exact_mut(x.len().max(1)).for_each(|row| row.copy_from_slice(x)),
    }
}

/// Sum of all elements.
pub(super) fn sum(x: &[f32]) -> f32 {
    x.chunks(SUM_CHUNK).map(|chunk| f64::from(chunk.iter().sum::<f32>())).sum::<f64>() as f32
}
