// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cross-entropy by PyTorch's definition, and the part of the parameters that all its kernels share.

use crate::abi::*;
use crate::driver::{Gpu, SCALARS};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};

const IGNORED: i32 = -100;

/// How a loss is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    pub(crate) reduction: KilnReduction,
    pub(crate) smoothing: f32,
    pub(crate) labels: Labels,
    pub(crate) weighted: bool,
    /// Whether the gradient of the loss is given, else it is the micro-batch's share.
    pub(crate) dloss: bool,
    /// Whether what a mean divides by is given, else it is summed up.
    pub(crate) divisor: bool,
}

/// Which labels rows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Labels {
    Known,
    /// Every third row is ignored.
    SomeIgnored,
    /// One row has a label that no class has.
    OneUnknown,
}

const MEAN: Variant = Variant {
    reduction: KILN_REDUCTION_MEAN,
    smoothing: 0.0,
    labels: Labels::Known,
    weighted: false,
    dloss: false,
    divisor: false,
};
/// Without smoothing, which some kernels do not have.
pub(crate) const SHARP: [Variant; 6] = [
    MEAN,
    Variant { labels: Labels::SomeIgnored, weighted: true, divisor: true, ..MEAN },
    Variant { labels: Labels::SomeIgnored, weighted: true, ..MEAN },
    Variant { reduction: KILN_REDUCTION_SUM, weighted: true, dloss: true, ..MEAN },
    Variant { reduction: KILN_REDUCTION_NONE, labels: Labels::SomeIgnored, dloss: true, ..MEAN },
    Variant { reduction: KILN_REDUCTION_NONE, labels: Labels::OneUnknown, dloss: true, ..MEAN },
];
pub(crate) const SMOOTH: [Variant; 3] = [
    Variant { smoothing: 0.1, ..MEAN },
    Variant { smoothing: 0.2, labels: Labels::SomeIgnored, weighted: true, dloss: true, ..MEAN },
    Variant { smoothing: 0.1, reduction: KILN_REDUCTION_SUM, labels: Labels::OneUnknown, ..MEAN },
];

/// What the rows of a loss hold.
#[derive(Clone, Copy, Debug)]
enum Given {
    /// Scores of any size.
    Scores,
    /// Logarithms of probabilities.
    Logarithms,
}

/// A loss on the device: what it reads and where it writes.
pub(crate) struct Loss {
    variant: Variant,
    given: Given,
    rows: usize,
    classes: usize,
    labels: Vec<i32>,
    labels_memory: Memory,
    weights: Array,
    dloss: Array,
    /// Factor of the share, in every other size.
    loss_scale: Option<Array>,
    loss: Array,
    divisor: Array,
    partials: Memory,
    tickets: Memory,
}

impl Loss {
    pub(crate) fn new(variant: Variant, rows: usize, classes: usize, blocks: usize) -> Self {
        let mut numbers = Numbers::new(rows + classes);
        let mut labels: Vec<i32> = (0..rows).map(|_| numbers.below(classes) as i32).collect();
        match variant.labels {
            Labels::Known => {}
            Labels::SomeIgnored => labels.iter_mut().step_by(3).for_each(|label| *label = IGNORED),
            Labels::OneUnknown => labels[rows / 2] = classes as i32,
        }
        let words: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
        let each_row = variant.reduction == KILN_REDUCTION_NONE;
        let weights = numbers.between(0.2, 2.0, classes);
        let weight = |&label: &i32| match weights.get(label as usize) {
            Some(&weight) => f64::from(if variant.weighted { weight } else { 1.0 }),
            None => 0.0,
        };
        let divisor: f64 = labels.iter().map(weight).sum();
        Loss {
            variant,
            given: Given::Scores,
            rows,
            classes,
            divisor: Array::new(Storage::F32, &[divisor as f32]),
            labels,
            labels_memory: Memory::of_words(&words),
            weights: Array::new(Storage::F32, &weights),
            dloss: Array::new(Storage::F32, &numbers.nonzero(if each_row { rows } else { 1 })),
            loss_scale: (rows % 2 == 1).then(|| Array::new(Storage::F32, &[8.0])),
            loss: Array::output(Storage::F32, if each_row { rows } else { 1 }),
            partials: Memory::partials(blocks),
            tickets: Memory::tickets(1),
        }
    }

    /// The loss of rows that hold logarithms already.
    pub(crate) fn of_logarithms(self) -> Self {
        Loss { given: Given::Logarithms, ..self }
    }

    pub(crate) fn params(&self, gpu: &Gpu) -> KilnCrossEntropyLoss {
        let variant = &self.variant;
        KilnCrossEntropyLoss {
            labels: self.labels_memory.address(),
            class_weights: if variant.weighted {
                self.weights.address()
            } else {
                Default::default()
            },
            dloss: if variant.dloss { self.dloss.address() } else { Default::default() },
            loss_scale: self.loss_scale.as_ref().map(Array::address).unwrap_or_default(),
            scalars: gpu.scalars(),
            divisor: if variant.divisor { self.divisor.address() } else { Default::default() },
            loss: self.loss.address(),
            partials: self.partials.address(),
            tickets: self.tickets.address(),
            rows: self.rows as u32,
            classes: self.classes as u32,
            ignore_index: IGNORED,
            smoothing: variant.smoothing,
            reduction: variant.reduction,
        }
    }

    fn weight(&self, class: usize) -> f64 {
        if self.variant.weighted {
            self.weights.values[class]
        } else {
            1.0
        }
    }

    /// The weight of a row's label: `None` if it is ignored, NaN if no class has it.
    fn label_weight(&self, row: usize) -> Option<f64> {
        match self.labels[row] {
            IGNORED => None,
            label if (label as usize) < self.classes => Some(self.weight(label as usize)),
            _ => Some(f64::NAN),
        }
    }

    /// Compares loss and gradient of scores with these values; `size` bounds what they were summed
    /// up from.
    pub(crate) fn compare(
        &self,
        gpu: &Gpu,
        kernel: &str,
        scores: &[f64],
        size: f64,
        d_scores: (&[f64], Storage),
    ) {
        self.tickets.assert_zero(kernel);
        let known = |row| self.label_weight(row).filter(|weight| !weight.is_nan());
        let divisor = match self.variant.reduction {
            KILN_REDUCTION_MEAN => (0..self.rows).filter_map(known).sum(),
            _ => 1.0,
        };
        let (mut losses, mut gradient) = (Vec::new(), Vec::new());
        for (row, scores) in scores.chunks(self.classes).enumerate() {
            losses.push(self.row(row, scores, size, divisor, &mut gradient));
        }
        let case = format!("{} x {}, {:?}", self.rows, self.classes, self.variant);
        if self.variant.reduction != KILN_REDUCTION_NONE {
            let sum = |pick: fn(&Want) -> f64| losses.iter().map(pick).sum::<f64>() / divisor;
            let total =
                Want { value: sum(|loss| loss.value), magnitude: sum(|loss| loss.magnitude) };
            losses = vec![total];
        }
        let mut ledger = gpu.ledger();
        let exactness = Exactness::new(Storage::F32, 8.0);
        ledger.compare(kernel, &format!("loss, {case}"), &self.loss.read(), &losses, exactness);
        let exactness = Exactness::new(d_scores.1, 8.0);
        ledger.compare(kernel, &format!("gradient, {case}"), d_scores.0, &gradient, exactness);
    }

    /// The loss of a row; adds its gradient to the others.
    fn row(
        &self,
        row: usize,
        scores: &[f64],
        size: f64,
        divisor: f64,
        gradient: &mut Vec<Want>,
    ) -> Want {
        let Some(label_weight) = self.label_weight(row) else {
            gradient.extend(scores.iter().map(|_| Want::plain(0.0)));
            return Want::plain(0.0);
        };
        let smoothing = f64::from(self.variant.smoothing);
        let share = smoothing / self.classes as f64;
        // Relative to the largest score.
        let (largest, log_sum) = match self.given {
            Given::Logarithms => (0.0, 0.0),
            Given::Scores => {
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
                (largest, sum.ln())
            }
        };
        let scale = match (self.variant.dloss, self.variant.reduction) {
            (true, KILN_REDUCTION_NONE) => self.dloss.values[row],
            (true, _) => self.dloss.values[0],
            (false, _) => {
                let scale = self.loss_scale.as_ref().map_or(1.0, |scale| scale.values[0]);
                scale * f64::from(SCALARS.share)
            }
        } / divisor;
        let label = self.labels[row] as usize;
        let target = (1.0 - smoothing) * label_weight;
        let weights: f64 = (0..self.classes).map(|class| self.weight(class)).sum();
        let at_label = scores.get(label).copied().unwrap_or(f64::NAN);
        let mut loss = target * (log_sum + (largest - at_label));
        for (class, score) in scores.iter().enumerate() {
            loss += share * self.weight(class) * (log_sum + (largest - score));
            let probability = (score - largest - log_sum).exp();
            let hit = if class == label { target } else { 0.0 };
            let smooth = share * self.weight(class);
            let pull = match self.given {
                Given::Scores => (target + share * weights) * probability,
                // NaN where the label is unknown.
                Given::Logarithms => 0.0 * target,
            };
            // An error of a score is one of the probability, relative to it.
            let magnitude = scale.abs() * (pull * (1.0 + 2.0 * size) + hit + smooth);
            gradient.push(Want { value: scale * (pull - hit - smooth), magnitude });
        }
        Want { value: loss, magnitude: (target + share * weights) * (2.0 * size + log_sum.abs()) }
    }
}
