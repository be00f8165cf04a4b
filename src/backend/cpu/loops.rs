// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain loops for what is rare or small. Sums are taken in one fixed order, whatever the pool.

use crate::op::Softmax;

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
