// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is measured, and the shares of the machine's ceilings that kiln holds itself to.

use kiln::plan::{Plan, Step};

use super::subject::Subject;

/// One row of the report.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) work: Work,
    /// For one thread with AVX-512.
    pub(super) floor: Option<Floor>,
}

/// What is repeated.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// Some steps of a training step's plan.
    Steps { of: Subject, picks: &'static [Pick] },
    /// The whole step of a case of `cargo xtask peers`.
    Whole(&'static str),
}

/// Shares of a ceiling: of the multiply-adds in registers, by the operations of the sums that a product
/// or a convolution means, so that another algorithm may exceed 1; or of a copy of as many bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    /// Less is a missed floor.
    pub(super) least: f64,
    pub(super) goal: f64,
    /// What the numbers come from.
    pub(super) origin: &'static str,
}

/// Chooses steps of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick {
    /// The kernel, whatever its way; any if empty.
    kernel: &'static str,
    /// The layer; any if empty.
    layer: &'static str,
    /// Extents of the first value that it takes; any if empty.
    from: &'static [usize],
    /// Bytes that it moves at least.
    bytes: usize,
}

/// Of two threads over one, in whole steps of images and texts on a machine that does nothing else.
pub(super) const SCALING: f64 = 1.7;

const CNN: Subject = Subject::Peers("c64sgd");
const RESIDUAL: Subject = Subject::Peers("e32sgd");
const RNN: Subject = Subject::Peers("d32adam");
const PASSES: Floor =
    floor(0.80, 0.95, "a pass does nothing but move; batch norm by hand 0.93 to 1, PyTorch 0.17");
const HOISTED: Floor = floor(0.68, 0.75, "the same products by the tile of dense layers");
const DIRECT: Floor = floor(0.70, 0.80, "sums by hand 0.76, oneDNN 0.77");

/// Numbers "by hand" come from throw-away kernels in intrinsics, those of oneDNN and PyTorch from
/// PyTorch 2.15, all with one thread on a Xeon with AVX-512 whose core multiplies at 235 GFLOP/s, in
/// turns with the multiply-adds.
pub(super) const CASES: &[Case] = &[
    steps(
        "conv1, pool",
        CNN,
        &[of("conv", "conv1"), from("max_pool", &[64, 64, 32, 32])],
        Some(floor(0.50, 0.65, "fused by hand 0.71, PyTorch 0.09")),
    ),
    steps(
        "conv1 weights, pool gradient",
        CNN,
        &[from("max_pool_gradient", &[64, 64, 16, 16]), of("conv_weight_gradient", "conv1")],
        Some(floor(0.25, 0.45, "by hand from the pooled gradient 0.33, PyTorch 0.17")),
    ),
    steps(
        "conv2, pool",
        CNN,
        &[of("conv", "conv2"), from("max_pool", &[64, 128, 16, 16])],
        Some(floor(1.10, 1.40, "by hand 1.37, oneDNN without ReLU and pool 0.85")),
    ),
    steps(
        "conv2 input",
        CNN,
        &[of("conv_input_gradient", "conv2")],
        Some(floor(1.05, 1.30, "as forward, with the mask; oneDNN 0.86")),
    ),
    steps(
        "conv2 weights",
        CNN,
        &[of("conv_weight_gradient", "conv2")],
        Some(floor(1.20, 1.60, "by hand 1.72, oneDNN 0.65")),
    ),
    steps(
        "residual conv2",
        RESIDUAL,
        &[of("conv", "conv2")],
        Some(floor(1.15, 1.45, "by hand 1.49, oneDNN 0.77")),
    ),
    steps(
        "residual conv2 input",
        RESIDUAL,
        &[of("conv_input_gradient", "conv2")],
        Some(floor(1.15, 1.45, "as forward; oneDNN 0.77")),
    ),
    steps(
        "residual conv2 weights",
        RESIDUAL,
        &[of("conv_weight_gradient", "conv2")],
        Some(floor(1.00, 1.30, "by hand 1.33, oneDNN 0.59")),
    ),
    steps(
        "spatial conv2",
        Subject::Spatial,
        &[of("conv", "conv2")],
        Some(floor(1.00, 1.30, "by hand 1.31, oneDNN 0.53")),
    ),
    steps(
        "spatial conv2 input",
        Subject::Spatial,
        &[of("conv_input_gradient", "conv2")],
        Some(floor(1.00, 1.30, "as forward; oneDNN 0.79")),
    ),
    steps(
        "spatial conv2 weights",
        Subject::Spatial,
        &[of("conv_weight_gradient", "conv2")],
        Some(floor(1.00, 1.30, "as residual; oneDNN 0.57")),
    ),
    steps("precise conv2", Subject::PreciseResidual, &[of("conv", "conv2")], Some(DIRECT)),
    steps(
        "precise conv2 input",
        Subject::PreciseResidual,
        &[of("conv_input_gradient", "conv2")],
        Some(DIRECT),
    ),
    steps(
        "precise conv2 weights",
        Subject::PreciseResidual,
        &[of("conv_weight_gradient", "conv2")],
        Some(DIRECT),
    ),
    steps("max pool", CNN, &[passes("max_pool")], Some(PASSES)),
    steps("max pool gradient", CNN, &[passes("max_pool_gradient")], Some(PASSES)),
    steps("order of images", CNN, &[passes("transpose")], Some(PASSES)),
    steps("channel dropout", RESIDUAL, &[passes("dropout")], Some(PASSES)),
    steps("elements", RESIDUAL, &[passes("chain")], Some(PASSES)),
    steps("batch statistics", RESIDUAL, &[passes("statistics")], Some(PASSES)),
    steps("batch norm", RESIDUAL, &[passes("normalize")], Some(PASSES)),
    steps("batch norm gradient", RESIDUAL, &[passes("normalize_gradient")], Some(PASSES)),
    steps("statistics gradient", RESIDUAL, &[passes("statistics_gradient")], Some(PASSES)),
    steps(
        "LSTM steps",
        RNN,
        &[of("recurrent", "lstm")],
        Some(floor(0.52, 0.62, "by hand 0.60, with gates; PyTorch in training 0.26")),
    ),
    steps(
        "LSTM steps back",
        RNN,
        &[of("recurrent_gradient", "lstm")],
        Some(floor(0.70, 0.80, "the product alone by hand 0.85")),
    ),
    steps("LSTM inputs", RNN, &[of("linear", "lstm")], Some(HOISTED)),
    steps("LSTM input gradients", RNN, &[of("linear_input_gradient", "lstm")], Some(HOISTED)),
    steps("LSTM weights", RNN, &[of("linear_weight_gradient", "lstm")], Some(HOISTED)),
    steps(
        "LSTM of 2 layers",
        RNN,
        &[of("", "lstm")],
        Some(floor(0.56, 0.64, "the sum of its parts; PyTorch 0.40")),
    ),
    steps(
        "GRU",
        Subject::Gru,
        &[of("", "gru")],
        Some(floor(0.52, 0.60, "the sum of its parts; PyTorch 0.24")),
    ),
    whole("c64sgd", Some(floor(0.62, 0.80, "the sum of its kernels 0.85; PyTorch 0.28 to 0.37"))),
    whole("e32sgd", Some(floor(0.75, 0.95, "the sum of its kernels 0.98; PyTorch 0.39"))),
    whole("d32adam", Some(floor(0.50, 0.62, "the sum of its kernels 0.63; PyTorch 0.33 to 0.37"))),
    // What skips zeros is given credit for all.
    whole("a64sgd", None),
    whole("a64adam", None),
    whole("a256sgd", None),
    whole("a256adam", None),
    whole("b128adam", None),
    whole("drop16m", None),
    whole("drop2d", Some(PASSES)),
];

const fn steps(
    name: &'static str,
    of: Subject,
    picks: &'static [Pick],
    floor: Option<Floor>,
) -> Case {
    Case { name, work: Work::Steps { of, picks }, floor }
}

const fn whole(name: &'static str, floor: Option<Floor>) -> Case {
    Case { name, work: Work::Whole(name), floor }
}

const fn floor(least: f64, goal: f64, origin: &'static str) -> Floor {
    Floor { least, goal, origin }
}

/// Steps of a layer.
const fn of(kernel: &'static str, layer: &'static str) -> Pick {
    Pick { kernel, layer, from: &[], bytes: 0 }
}

/// Steps that take a value of these extents.
const fn from(kernel: &'static str, from: &'static [usize]) -> Pick {
    Pick { kernel, layer: "", from, bytes: 0 }
}

/// Steps of any layer that move a lot.
const fn passes(kernel: &'static str) -> Pick {
    Pick { kernel, layer: "", from: &[], bytes: 1 << 20 }
}

impl Pick {
    pub(super) fn takes(&self, plan: &Plan, step: &Step) -> bool {
        let kernel = step.kernel.name();
        let kernel = kernel.strip_suffix("_winograd").unwrap_or(kernel);
        let from = step.inputs.first().map(|id| plan.graph.node(*id).ty.shape.dims());
        (self.kernel.is_empty() || self.kernel == kernel)
            && (self.layer.is_empty() || self.layer == step.layer)
            && (self.from.is_empty() || from == Some(self.from))
            && step.bytes >= self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_steps_and_a_name_of_its_own() {
        let mut last: Option<(Subject, Plan)> = None;
        for (index, case) in CASES.iter().enumerate() {
            assert!(CASES[..index].iter().all(|other| other.name != case.name), "{}", case.name);
            if let Some(Floor { least, goal, origin }) = case.floor {
                assert!(least < goal && !origin.is_empty(), "{}", case.name);
            }
            let Work::Steps { of, picks } = case.work else {
                assert!(crate::peers::case::Case::parse(case.name).is_ok(), "{}", case.name);
                continue;
            };
            let (_, plan) = match last.take() {
                Some(same) if same.0 == of => last.insert(same),
                _ => last.insert((of, of.plan().expect("a plan").0)),
            };
            for pick in picks {
                let found = plan.steps.iter().any(|step| pick.takes(plan, step));
                assert!(found, "{}: no step of {pick:?}", case.name);
            }
            // A row is in one unit.
            let is_chosen = |step: &&Step| picks.iter().any(|pick| pick.takes(plan, step));
            let has_products = plan.steps.iter().filter(is_chosen).any(|step| step.flops > 0);
            let is_pass = case.floor.is_some_and(|floor| floor.origin == PASSES.origin);
            assert_ne!(has_products, is_pass, "{}", case.name);
        }
    }
}
