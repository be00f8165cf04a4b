// SPDX-License-Identifier: MIT OR Apache-2.0
//! sgd, sgd_momentum and adam by PyTorch's rules, over stretches, and moving averages.

use crate::abi::*;
use crate::corrections::weight_so_far;
use crate::driver::{divider, scalars_memory, Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Address, Array, Memory};

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
    update: u32,
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

/// All of so many elements, trained as most are.
fn whole(count: usize) -> KilnStretch {
    let count = count as u32;
    KilnStretch { count, rate_factor: 1.0, weight_decay: DECAY, ..KilnStretch::default() }
}

/// Stretches in the place of their parameters, each with blocks of its own; how many blocks in all.
fn stretched(params: &mut KilnOptimizerParams, stretches: &[KilnStretch]) -> usize {
    let mut blocks = 0;
    for (place, stretch) in params.stretches.iter_mut().zip(stretches) {
        *place = KilnStretch { first_block: blocks, ..*stretch };
        blocks += stretch.count.div_ceil(1024);
    }
    params.stretch_count = stretches.len() as u32;
    blocks as usize
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
        in_several_launches(gpu, kernel);
    }
    corrected_as_by_the_host(gpu);
    for case in [plain, Case { update: 5, ..momentum }, Case { update: 5, ..adam }] {
        several(gpu, case);
        several(gpu, Case { decay: KILN_DECAY_DECOUPLED, ..case });
    }
    averages(gpu);
    for storage in Storage::ALL {
        for case in [plain, momentum, adam] {
            turned(gpu, case, storage);
        }
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
    let (scalars_memory, progress) = (scalars_memory(&scalars(kernel)), Progress::before(2));
    let mut params = KilnOptimizerParams {
        values: values.address(),
        gradients: gradients.address(),
        moment1: moment1.address(),
        moment2: moment2.address(),
        scalars: scalars_memory.address(),
        eps: EPS,
        ..progress.params(1)
    };
    stretched(&mut params, &[KilnStretch { weight_decay: 0.0, ..whole(4) }]);
    gpu.launch(kernel, Grid::of(1), &params);
    progress.assert(kernel, 2);
    assert_eq!(values.read()[..2], [f64::INFINITY, f64::NEG_INFINITY], "{kernel}");
    assert!(moment1.read().iter().chain(&moment2.read()).all(|x| x.is_finite()), "{kernel}");
}

/// All launches of an update read how far the training is before one of their blocks advances it; where
/// a gradient is not finite, nothing is updated, averaged or counted.
fn in_several_launches(gpu: &Gpu, kernel: &'static str) {
    let count = 2100;
    for found_inf in [0, 1] {
        let one = |value: f32| Array::new(Storage::F32, &vec![value; count]);
        let (arrays, gradients) = ([one(0.5), one(0.25), one(0.125), one(0.0)], one(1.0));
        let begun = [6, found_inf, 5, 6];
        let rates = KilnScalars { average: 0.5, ..scalars(kernel) };
        let (scalars_memory, progress) = (scalars_memory(&rates), Progress::of(begun));
        let at = |array: &Array, first: usize| Address(array.address().0 + 4 * first as u64);
        for (first, length) in [(0, 1024usize), (1024, 1076)] {
            let [values, moment1, moment2, averages] = [0, 1, 2, 3].map(|i| at(&arrays[i], first));
            let mut params = KilnOptimizerParams {
                values,
                moment1,
                moment2,
                averages,
                gradients: at(&gradients, first),
                scalars: scalars_memory.address(),
                eps: EPS,
                ..progress.params(3)
            };
            let blocks = stretched(&mut params, &[whole(length)]);
            progress.assert_holds(kernel, begun);
            gpu.launch(kernel, Grid::of(blocks), &params);
        }
        progress.assert(kernel, if found_inf == 0 { 7 } else { 6 });
        let values = arrays[0].read();
        assert!(values.iter().all(|&value| value == values[0]), "{kernel}");
        let changed = arrays.iter().any(|array| array.read() != array.values);
        assert_eq!(changed, found_inf == 0, "{kernel}");
    }
}

/// Corrections of Adam's moments have the bits of the host's, also those of parameters that were left
/// out at first. The momentum that moments are made with is 1 here, so that they stay what they are
/// and the corrections alone are seen.
fn corrected_as_by_the_host(gpu: &Gpu) {
    let seen = |exact: [f64; 2], update: u32, skipped: u32| {
        let one = |value: f32| Array::new(Storage::F32, &[value; 4]);
        let (values, gradients, moment1, moment2) = (one(0.0), one(0.0), one(1.0), one(1.0));
        let rates = KilnScalars {
            learning_rate: 1.0,
            momentum: 1.0,
            exact_momentum: exact[0],
            ..KilnScalars::default()
        };
        let (scalars_memory, progress) = (scalars_memory(&rates), Progress::before(update));
        let mut params = KilnOptimizerParams {
            values: values.address(),
            gradients: gradients.address(),
            moment1: moment1.address(),
            moment2: moment2.address(),
            scalars: scalars_memory.address(),
            beta2: 1.0,
            exact_beta2: exact[1],
            one_minus_beta2: 0.0,
            ..progress.params(1)
        };
        stretched(&mut params, &[KilnStretch { skipped, weight_decay: 0.0, ..whole(4) }]);
        gpu.launch("adam", Grid::of(1), &params);
        progress.assert("adam", update);
        values.read()[0] as f32
    };
    for update in [1, 2, 3, 10, 999, 1000, 4097, 100_000, u32::MAX] {
        for beta in [0.0, 0.5, 0.85, 0.9, 0.95, 0.999, 0.999_99] {
            for skipped in [0, 7] {
                let count = update.saturating_sub(skipped).max(1);
                let first = (1.0 / weight_so_far(beta, count)) as f32;
                assert_eq!(seen([beta, 0.0], update, skipped), -first, "{beta}^{count}");
                let second = (1.0 / weight_so_far(beta, count).sqrt()) as f32;
                assert_eq!(seen([0.0, beta], update, skipped), -(1.0 / second), "{beta}^{count}");
            }
        }
    }
}

/// How far a training is, in device memory, with the ticket of its optimisers.
struct Progress {
    memory: Memory,
    tickets: Memory,
}

impl Progress {
    /// Before the update of this number.
    fn before(update: u32) -> Self {
        Self::of([update - 1, 0, 5, 6])
    }

    fn of(words: [u32; 4]) -> Self {
        Progress { memory: Memory::of_words(&words), tickets: Memory::tickets(1) }
    }

    /// What concerns it of the parameters of launches with so many blocks in all, and Adam's decay.
    fn params(&self, blocks: u32) -> KilnOptimizerParams {
        KilnOptimizerParams {
            progress: self.memory.address(),
            tickets: self.tickets.address(),
            blocks,
            beta2: BETA2,
            exact_beta2: f64::from(BETA2),
            one_minus_beta2: (1.0 - f64::from(BETA2)) as f32,
            ..KilnOptimizerParams::default()
        }
    }

    /// Fails unless so many updates are counted now and everything else is as it was at first.
    fn assert(&self, kernel: &str, updates: u32) {
        self.assert_holds(kernel, [updates, 0, 5, 6]);
        self.tickets.assert_zero(kernel);
    }

    fn assert_holds(&self, kernel: &str, words: [u32; 4]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(self.memory.read(), bytes, "{kernel}");
    }
}

fn scalars(kernel: &str) -> KilnScalars {
    let momentum = if kernel == "adam" { BETA1 } else { MOMENTUM };
    KilnScalars {
        learning_rate: RATE,
        momentum,
        one_minus_momentum: (1.0 - f64::from(momentum)) as f32,
        exact_momentum: f64::from(momentum),
        ..KilnScalars::default()
    }
}

fn update(gpu: &Gpu, count: usize, case: Case) {
    let mut numbers = Numbers::new(count);
    let mut array = |low| Array::new(Storage::F32, &numbers.between(low, 1.0, count));
    let (values, gradients, moment1, moment2) = (array(-1.0), array(-1.0), array(-1.0), array(0.0));
    let shadow = Array::output(Storage::Bf16, count);
    let coefficient = Memory::of_words(&[case.coefficient.unwrap_or(1.0).to_bits()]);
    let (scalars_memory, progress) =
        (scalars_memory(&scalars(case.kernel)), Progress::before(case.update));
    let mut params = KilnOptimizerParams {
        values: values.address(),
        gradients: gradients.address(),
        moment1: moment1.address(),
        moment2: moment2.address(),
        shadow: if case.shadow { shadow.address() } else { Default::default() },
        shadow_type: KILN_COPY_BF16,
        coefficient: case.coefficient.map(|_| coefficient.address()).unwrap_or_default(),
        scalars: scalars_memory.address(),
        dampening: case.dampening,
        eps: EPS,
        nesterov: case.nesterov,
        decay: case.decay,
        ..progress.params(count.div_ceil(1024) as u32)
    };
    let blocks = stretched(&mut params, &[whole(count)]);
    gpu.launch(case.kernel, Grid::of(blocks), &params);
    progress.assert(case.kernel, case.update);
    let element = |at: usize| {
        let [value, gradient] = [&values, &gradients].map(|array| array.values[at]);
        let moments = [&moment1, &moment2].map(|array| array.values[at]);
        updated(&case, &whole(count), value, gradient, moments)
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

/// Stretches with options of their own, moments in other places than values, and averages; what lies
/// between is left alone.
fn several(gpu: &Gpu, case: Case) {
    const VALUES: usize = 4200;
    const MOMENTS: usize = 2600;
    let stretch = |start, moments, count, skipped, rate_factor, weight_decay| KilnStretch {
        first_block: 0,
        count,
        start,
        moments,
        skipped,
        rate_factor,
        weight_decay,
    };
    let stretches = [
        stretch(4, 0, 12, 0, 1.0, DECAY),
        stretch(64, 64, 0, 0, 1.0, DECAY),
        stretch(64, 64, 2052, 4, 10.0, 0.0),
        stretch(2944, 2200, 256, 3, 0.5, 2.0 * DECAY),
        stretch(4196, 2596, 4, 0, 0.0, DECAY),
    ];
    let mut numbers = Numbers::new(VALUES);
    let mut array = |low, count: usize| Array::new(Storage::F32, &numbers.between(low, 1.0, count));
    let (values, gradients) = (array(-1.0, VALUES), array(-1.0, VALUES));
    let (moment1, moment2) = (array(-1.0, MOMENTS), array(0.1, MOMENTS));
    let averages = array(-1.0, VALUES);
    let scalars = KilnScalars { average: 0.25, ..scalars(case.kernel) };
    let (scalars_memory, progress) = (scalars_memory(&scalars), Progress::before(case.update));
    let mut params = KilnOptimizerParams {
        values: values.address(),
        gradients: gradients.address(),
        moment1: moment1.address(),
        moment2: moment2.address(),
        averages: averages.address(),
        scalars: scalars_memory.address(),
        dampening: case.dampening,
        eps: EPS,
        nesterov: case.nesterov,
        decay: case.decay,
        ..progress.params(6)
    };
    let blocks = stretched(&mut params, &stretches);
    assert_eq!(blocks, 6);
    gpu.launch(case.kernel, Grid::of(blocks), &params);
    progress.assert(case.kernel, case.update);
    let plain = |array: &Array| array.values.iter().map(|&x| Want::plain(x)).collect::<Vec<_>>();
    let (mut value, mut average) = (plain(&values), plain(&averages));
    let (mut first, mut second) = (plain(&moment1), plain(&moment2));
    for stretch in &stretches {
        for element in 0..stretch.count as usize {
            let (at, moment) =
                (stretch.start as usize + element, stretch.moments as usize + element);
            let moments = [&moment1, &moment2].map(|array| array.values[moment]);
            let wanted = updated(&case, stretch, values.values[at], gradients.values[at], moments);
            let old = averages.values[at];
            average[at] =
                want(old + 0.25 * (wanted.value.value - old), &[old, wanted.value.magnitude]);
            (value[at], first[moment], second[moment]) =
                (wanted.value, wanted.moment1, wanted.moment2);
        }
    }
    let exactness = Exactness::new(Storage::F32, 8.0);
    for (what, array, want) in [
        ("values", &values, value),
        ("averages", &averages, average),
        ("first moments", &moment1, first),
        ("second moments", &moment2, second),
    ] {
        let what = format!("{what} of several stretches, {case:?}");
        gpu.ledger().compare(case.kernel, &what, &array.read(), &want, exactness);
    }
}

/// Copies of new values with rows as columns, of two of the parameters that a launch updates; and of all
/// values in 16 bits. What lies between has no copy.
fn turned(gpu: &Gpu, case: Case, storage: Storage) {
    const COUNT: usize = 2200;
    let mut numbers = Numbers::new(COUNT);
    let mut array = |low| Array::new(Storage::F32, &numbers.between(low, 1.0, COUNT));
    let (values, gradients, moment1, moment2) = (array(-1.0), array(-1.0), array(-1.0), array(0.0));
    let parameters = [(8, [3, 5, 2]), (64, [2, 1000, 1]), (2080, [2, 4, 9])];
    let copies = parameters
        .map(|(_, extents): (usize, [usize; 3])| Array::output(storage, extents.iter().product()));
    let kind = match storage {
        Storage::F32 => KILN_COPY_F32,
        Storage::Bf16 => KILN_COPY_BF16,
        Storage::F16 => KILN_COPY_F16,
    };
    let mut words = Vec::new();
    for ((start, extents), copy) in parameters.iter().zip(&copies) {
        let [columns, rows] = [extents[2], extents[1]].map(divider);
        let address = copy.address().0;
        words.extend([*start as u32, extents.iter().product::<usize>() as u32]);
        words.extend([columns.divisor, columns.multiplier, columns.shift]);
        words.extend([rows.divisor, rows.multiplier, rows.shift]);
        words.extend([kind, 0, address as u32, (address >> 32) as u32]);
    }
    let table = Memory::of_words(&words);
    let shadow = (storage != Storage::F32).then(|| Array::output(storage, COUNT));
    let (scalars_memory, progress) =
        (scalars_memory(&scalars(case.kernel)), Progress::before(case.update));
    let mut params = KilnOptimizerParams {
        values: values.address(),
        gradients: gradients.address(),
        moment1: moment1.address(),
        moment2: moment2.address(),
        shadow: shadow.as_ref().map(Array::address).unwrap_or_default(),
        shadow_type: kind,
        turned: table.address(),
        turned_count: parameters.len() as u32,
        scalars: scalars_memory.address(),
        eps: EPS,
        ..progress.params(COUNT.div_ceil(1024) as u32)
    };
    let blocks = stretched(&mut params, &[whole(COUNT)]);
    gpu.launch(case.kernel, Grid::of(blocks), &params);
    progress.assert(case.kernel, case.update);
    let new: Vec<f32> = values.read().iter().map(|&x| x as f32).collect();
    assert!(new.iter().zip(&values.values).any(|(&new, &old)| f64::from(new) != old));
    for ((start, [batch, rows, columns]), copy) in parameters.into_iter().zip(&copies) {
        let mut want = Vec::with_capacity(batch * rows * columns);
        for matrix in 0..batch {
            for column in 0..columns {
                for row in 0..rows {
                    want.push(new[start + (matrix * rows + row) * columns + column]);
                }
            }
        }
        let want = storage.encode(&want);
        gpu.ledger().compare_bytes(case.kernel, "a turned copy", &copy.bytes(), &want);
    }
    if let Some(shadow) = shadow {
        let want = storage.encode(&new);
        gpu.ledger().compare_bytes(case.kernel, "the 16-bit copy", &shadow.bytes(), &want);
    }
}

/// Averages of values that nothing updates: begun, moved a little and most of the way.
fn averages(gpu: &Gpu) {
    const COUNT: usize = 1032;
    for weight in [1.0f32, 0.001, 0.75] {
        let mut numbers = Numbers::new(COUNT);
        let values = Array::new(Storage::F32, &numbers.between(-1.0, 1.0, COUNT));
        let mut held = numbers.between(-1.0, 1.0, COUNT);
        if weight == 1.0 {
            held[..2].copy_from_slice(&[f32::NAN, f32::INFINITY]);
        }
        let averages = Array::new(Storage::F32, &held);
        let scalars = KilnScalars { average: weight, ..KilnScalars::default() };
        let scalars_memory = scalars_memory(&scalars);
        let mut params = KilnOptimizerParams {
            values: values.address(),
            averages: averages.address(),
            scalars: scalars_memory.address(),
            ..KilnOptimizerParams::default()
        };
        let blocks = stretched(&mut params, &[whole(COUNT)]);
        // Of an update that is skipped nothing is moved.
        for (overflow, moves) in [(1024.0f32, false), (0.0, true)] {
            let overflow = Memory::of_words(&[overflow.to_bits()]);
            let held = averages.bytes();
            let params = KilnOptimizerParams { overflow: overflow.address(), ..params };
            gpu.launch("average_f32", Grid::of(blocks), &params);
            assert_eq!(averages.bytes() != held, moves);
        }
        let moved = |(&value, &old): (&f64, &f64)| match weight {
            1.0 => Want::plain(value),
            weight => want(old + f64::from(weight) * (value - old), &[value, old]),
        };
        let want: Vec<Want> = values.values.iter().zip(&averages.values).map(moved).collect();
        let what = format!("averages by {weight}");
        let exactness = Exactness::new(Storage::F32, 4.0);
        gpu.ledger().compare("average_f32", &what, &averages.read(), &want, exactness);
    }
}

fn updated(case: &Case, own: &KilnStretch, value: f64, gradient: f64, moments: [f64; 2]) -> Wanted {
    match case.kernel {
        "adam" => adam(case, own, value, gradient, moments),
        _ => sgd(case, own, value, gradient, moments),
    }
}

/// Updates that a stretch has seen with this one.
fn seen_by(case: &Case, own: &KilnStretch) -> u32 {
    case.update.saturating_sub(own.skipped).max(1)
}

/// A number and the size of what it was made of.
fn want(value: f64, parts: &[f64]) -> Want {
    Want { value, magnitude: parts.iter().map(|part| part.abs()).sum() }
}

fn sgd(case: &Case, own: &KilnStretch, value: f64, gradient: f64, moments: [f64; 2]) -> Wanted {
    let gradient = gradient * f64::from(case.coefficient.unwrap_or(1.0));
    let (rate, momentum) = (f64::from(RATE) * f64::from(own.rate_factor), f64::from(MOMENTUM));
    let slope = gradient + f64::from(own.weight_decay) * value;
    let [held, unused] = moments;
    let buffer = match (case.kernel, seen_by(case, own)) {
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

fn adam(case: &Case, own: &KilnStretch, value: f64, gradient: f64, moments: [f64; 2]) -> Wanted {
    let gradient = gradient * f64::from(case.coefficient.unwrap_or(1.0));
    let (rate, decay) = (f64::from(RATE) * f64::from(own.rate_factor), f64::from(own.weight_decay));
    let (beta1, beta2) = (f64::from(BETA1), f64::from(BETA2));
    let (shrink, penalty) = match case.decay {
        KILN_DECAY_DECOUPLED => (1.0 - rate * decay, 0.0),
        _ => (1.0, decay),
    };
    let slope = gradient + penalty * value;
    let first = beta1 * moments[0] + (1.0 - beta1) * slope;
    let second = beta2 * moments[1] + (1.0 - beta2) * slope * slope;
    let count = seen_by(case, own) as i32;
    let denominator = (second / (1.0 - beta2.powi(count))).sqrt() + f64::from(EPS);
    let rate = rate / (1.0 - beta1.powi(count));
    let moment1 = want(first, &[moments[0], gradient, value]);
    let moment2 = want(second, &[moments[1], gradient * gradient, value * value]);
    let step_size = rate * moment1.magnitude / denominator;
    let value = want(shrink * value - rate * first / denominator, &[value, step_size]);
    Wanted { value, moment1, moment2 }
}
