// SPDX-License-Identifier: MIT OR Apache-2.0
//! sgd, sgd_momentum and adam by PyTorch's rules.

use crate::abi::*;
use crate::driver::{scalars_memory, Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};

const MOMENTUM: f32 = 0.8;
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const DECAY: f32 = 0.1;
const RATE: f32 = 0.01;
const EPS: f32 = 1e-8;

/// One update of one kernel.
#[derive(Clone, Copy, Debug)]
struct Case {
    kernel: &'static str,
    update: i32,
    dampening: f32,
    nesterov: KilnNesterov,
    decay: KilnDecay,
    /// Factor of all gradients.
    coefficient: Option<f32>,
    shadow: bool,
}

/// What a case leaves behind.
struct Wanted {
    value: Want,
    moment1: Want,
    moment2: Want,
}

pub(crate) fn run(gpu: &Gpu) {
    let plain = Case {
        kernel: "sgd",
        update: 3,
        dampening: 0.0,
        nesterov: KILN_NESTEROV_OFF,
        decay: KILN_DECAY_GRADIENT,
        coefficient: None,
        shadow: false,
    };
    let momentum = Case { kernel: "sgd_momentum", shadow: true, ..plain };
    let adam = Case { kernel: "adam", ..plain };
    let cases = [
        plain,
        Case { coefficient: Some(0.5), shadow: true, ..plain },
        Case { update: 1, dampening: 0.1, ..momentum },
        Case { dampening: 0.1, ..momentum },
        Case { nesterov: KILN_NESTEROV_ON, coefficient: Some(0.25), ..momentum },
        Case { update: 1, ..adam },
        Case { shadow: true, coefficient: Some(0.5), ..adam },
        Case { decay: KILN_DECAY_DECOUPLED, shadow: true, ..adam },
    ];
    for kernel in ["sgd", "sgd_momentum", "adam"] {
        without_decay(gpu, kernel);
    }
    for &count in gpu.cases(&[4, 36, 1028, 4096], &[4, 1028]) {
        for case in cases {
            update(gpu, count, case);
        }
    }
}

/// Without weight decay an infinite value stays what it is, and moments follow the gradient alone.
fn without_decay(gpu: &Gpu, kernel: &str) {
    let one = |value: f32| Array::new(Storage::F32, &[value, -value, 1.0, 0.0]);
    let (values, gradients) = (one(f32::INFINITY), one(0.5));
    let (moment1, moment2) = (one(0.0), one(0.0));
    let scalars_memory = scalars_memory(&scalars(kernel, 2));
    let params = KilnOptimizerParams {
        values: values.address(),
        gradients: gradients.address(),
        moment1: moment1.address(),
        moment2: moment2.address(),
        scalars: scalars_memory.address(),
        count: 4,
        beta2: BETA2,
        one_minus_beta2: (1.0 - f64::from(BETA2)) as f32,
        eps: EPS,
        ..KilnOptimizerParams::default()
    };
    gpu.launch(kernel, Grid::of(1), &params);
    assert_eq!(values.read()[..2], [f64::INFINITY, f64::NEG_INFINITY], "{kernel}");
    assert!(moment1.read().iter().chain(&moment2.read()).all(|x| x.is_finite()), "{kernel}");
}

fn scalars(kernel: &str, update: i32) -> KilnScalars {
    let momentum = if kernel == "adam" { BETA1 } else { MOMENTUM };
    KilnScalars {
        update: update as u32,
        learning_rate: RATE,
        moment1_correction: (1.0 / (1.0 - f64::from(BETA1).powi(update))) as f32,
        moment2_correction_root: (1.0 / (1.0 - f64::from(BETA2).powi(update)).sqrt()) as f32,
        momentum,
        one_minus_momentum: (1.0 - f64::from(momentum)) as f32,
        ..KilnScalars::default()
    }
}

fn update(gpu: &Gpu, count: usize, case: Case) {
    let mut numbers = Numbers::new(count);
    let mut array = |low| Array::new(Storage::F32, &numbers.between(low, 1.0, count));
    let (values, gradients, moment1, moment2) = (array(-1.0), array(-1.0), array(-1.0), array(0.0));
    let shadow = Array::output(Storage::Bf16, count);
    let coefficient = Memory::of_words(&[case.coefficient.unwrap_or(1.0).to_bits()]);
    let scalars = scalars(case.kernel, case.update);
    let scalars_memory = scalars_memory(&scalars);
    let params = KilnOptimizerParams {
        values: values.address(),
        gradients: gradients.address(),
        moment1: moment1.address(),
        moment2: moment2.address(),
        shadow: if case.shadow { shadow.address() } else { Default::default() },
        coefficient: case.coefficient.map(|_| coefficient.address()).unwrap_or_default(),
        scalars: scalars_memory.address(),
        count: count as u32,
        dampening: case.dampening,
        beta2: BETA2,
        one_minus_beta2: (1.0 - f64::from(BETA2)) as f32,
        eps: EPS,
        weight_decay: DECAY,
        nesterov: case.nesterov,
        decay: case.decay,
    };
    gpu.launch(case.kernel, Grid::of(count.div_ceil(1024)), &params);
    let element = |at: usize| {
        let [value, gradient] = [&values, &gradients].map(|array| array.values[at]);
        let moments = [&moment1, &moment2].map(|array| array.values[at]);
        match case.kernel {
            "adam" => adam(&case, &scalars, value, gradient, moments),
            _ => sgd(&case, value, gradient, moments),
        }
    };
    let wanted: Vec<Wanted> = (0..count).map(element).collect();
    let compare = |what: &str, array: &Array, pick: fn(&Wanted) -> Want| {
        let want: Vec<Want> = wanted.iter().map(pick).collect();
        let what = format!("{what} of {count}, {case:?}");
        gpu.ledger().compare(
            case.kernel,
            &what,
            &array.read(),
            &want,
            Exactness::new(Storage::F32, 8.0),
        );
    };
    compare("values", &values, |wanted| wanted.value);
    compare("first moments", &moment1, |wanted| wanted.moment1);
    compare("second moments", &moment2, |wanted| wanted.moment2);
    if case.shadow {
        let rounded: Vec<f32> = values.read().iter().map(|&x| x as f32).collect();
        let want = Storage::Bf16.encode(&rounded);
        gpu.ledger().compare_bytes(case.kernel, "the bf16 copy", &shadow.bytes(), &want);
    }
}

/// A number and the size of what it was made of.
fn want(value: f64, parts: &[f64]) -> Want {
    Want { value, magnitude: parts.iter().map(|part| part.abs()).sum() }
}

fn sgd(case: &Case, value: f64, gradient: f64, moments: [f64; 2]) -> Wanted {
    let gradient = gradient * f64::from(case.coefficient.unwrap_or(1.0));
    let (rate, momentum) = (f64::from(RATE), f64::from(MOMENTUM));
    let slope = gradient + f64::from(DECAY) * value;
    let [held, unused] = moments;
    let buffer = match (case.kernel, case.update) {
        ("sgd", _) => held,
        (_, 1) => slope,
        _ => momentum * held + (1.0 - f64::from(case.dampening)) * slope,
    };
    let step = match (case.kernel, case.nesterov) {
        ("sgd", _) => slope,
        (_, KILN_NESTEROV_ON) => slope + momentum * buffer,
        _ => buffer,
    };
    let moment1 = want(buffer, &[held, gradient, value]);
    let value = want(value - rate * step, &[value, rate * (moment1.magnitude + gradient.abs())]);
    Wanted { value, moment1, moment2: Want::plain(unused) }
}

fn adam(
    case: &Case,
    scalars: &KilnScalars,
    value: f64,
    gradient: f64,
    moments: [f64; 2],
) -> Wanted {
    let gradient = gradient * f64::from(case.coefficient.unwrap_or(1.0));
    let (rate, decay) = (f64::from(RATE), f64::from(DECAY));
    let (beta1, beta2) = (f64::from(BETA1), f64::from(BETA2));
    let (shrink, penalty) = match case.decay {
        KILN_DECAY_DECOUPLED => (1.0 - rate * decay, 0.0),
        _ => (1.0, decay),
    };
    let slope = gradient + penalty * value;
    let first = beta1 * moments[0] + (1.0 - beta1) * slope;
    let second = beta2 * moments[1] + (1.0 - beta2) * slope * slope;
    let denominator = second.sqrt() * f64::from(scalars.moment2_correction_root) + f64::from(EPS);
    let rate = rate * f64::from(scalars.moment1_correction);
    let moment1 = want(first, &[moments[0], gradient, value]);
    let moment2 = want(second, &[moments[1], gradient * gradient, value * value]);
    let step_size = rate * moment1.magnitude / denominator;
    let value = want(shrink * value - rate * first / denominator, &[value, step_size]);
    Wanted { value, moment1, moment2 }
}
