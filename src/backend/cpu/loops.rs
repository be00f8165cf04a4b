// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain loops for what is rare or small. Sums are taken in one fixed order, whatever the pool.

use crate::op::{mean_divisor, Nll, Reduction, Softmax};

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

/// What a negative log-likelihood takes: logarithms or the loss's gradient, labels, class weights.
pub(super) type Likelihood<'a> = (&'a [f32], &'a [i32], Option<&'a [f32]>);

/// The negative log-likelihood of labels; NaN where a label names no class.
pub(super) fn nll(
    nll: &Nll,
    classes: usize,
    (logarithms, labels, weights): Likelihood<'_>,
    loss: &mut [f32],
) {
    let weight = |class: usize| weights.map_or(1.0, |weights| f64::from(weights[class]));
    let of_row = |(sample, &label): (usize, &i32)| -> f64 {
        let row = &logarithms[sample * classes..(sample + 1) * classes];
        let Some(class) = class_of(nll, classes, label) else { return 0.0 };
        let Some(class) = class else { return f64::NAN };
        let chosen = -(1.0 - nll.smoothing) * weight(class) * f64::from(row[class]);
        if nll.smoothing == 0.0 {
            return chosen;
        }
        let all = row.iter().enumerate().map(|(class, &x)| weight(class) * f64::from(x));
        chosen - nll.smoothing / classes as f64 * all.sum::<f64>()
    };
    let losses = labels.iter().enumerate().map(of_row);
    match nll.reduction {
        Reduction::None => loss.iter_mut().zip(losses).for_each(|(loss, of)| *loss = of as f32),
        Reduction::Sum => loss[0] = losses.sum::<f64>() as f32,
        Reduction::Mean => {
            loss[0] = (losses.sum::<f64>() / divisor(nll, classes, labels, weight)) as f32;
        }
    }
}

/// The gradient of [`nll`].
pub(super) fn nll_gradient(
    nll: &Nll,
    classes: usize,
    (dloss, labels, weights): Likelihood<'_>,
    dx: &mut [f32],
) {
    let weight = |class: usize| weights.map_or(1.0, |weights| f64::from(weights[class]));
    let divisor = match nll.reduction {
        Reduction::Mean => divisor(nll, classes, labels, weight),
        Reduction::Sum | Reduction::None => 1.0,
    };
    let share = nll.smoothing / classes as f64;
    let rows = labels.iter().zip(dx.chunks_exact_mut(classes.max(1)));
    for (sample, (&label, row)) in rows.enumerate() {
        let class = match class_of(nll, classes, label) {
            None => {
                row.fill(0.0);
                continue;
            }
            Some(None) => {
                row.fill(f32::NAN);
                continue;
            }
            Some(Some(class)) => class,
        };
        let dy = match f64::from(dloss[if dloss.len() == 1 { 0 } else { sample }]) {
            // A part of a batch without weight takes no part in the whole.
            0.0 => 0.0,
            dloss => dloss / divisor,
        };
        for (column, value) in row.iter_mut().enumerate() {
            let chosen = if column == class { 1.0 - nll.smoothing } else { 0.0 };
            *value = (-weight(column) * (chosen + share) * dy) as f32;
        }
    }
}

/// The class that a label names: `None` for a sample that is ignored, `Some(None)` for no class.
fn class_of(nll: &Nll, classes: usize, label: i32) -> Option<Option<usize>> {
    let class = usize::try_from(label).ok().filter(|&class| class < classes);
    (label != nll.ignore_index).then_some(class)
}

/// What a mean divides by: the weights of all labels that name a class.
fn divisor(nll: &Nll, classes: usize, labels: &[i32], weight: impl Fn(usize) -> f64) -> f64 {
    let named = labels.iter().filter_map(|&label| class_of(nll, classes, label).flatten());
    mean_divisor(named.map(weight).sum())
}
