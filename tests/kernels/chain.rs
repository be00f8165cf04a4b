// SPDX-License-Identifier: MIT OR Apache-2.0
//! chain: every function as a link of its own, every way to read an operand, kept and stored values,
//! every storage.

use crate::abi::*;
use crate::driver::{divider, Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::function::{derivative, value, FUNCTIONS, SECOND};
use crate::ledger::{Exactness, Want};
use crate::memory::Array;

const PARAMETER: f32 = 0.3;

pub(crate) fn run(gpu: &Gpu) {
    sure_logits(gpu);
    far_angles(gpu);
    powers(gpu);
    for storage in Storage::ALL {
        for &count in gpu.cases(&[1, 7, 8, 31, 33, 65, 1000, 2051], &[1, 31, 2051]) {
            unary(gpu, storage, count);
            pairs(gpu, storage, count);
        }
        views(gpu, storage);
        kept_and_stored(gpu, storage);
        mixed_storage(gpu, storage);
    }
}

/// A chain in the making.
struct Chain {
    storage: Storage,
    params: KilnChainParams,
    results: u32,
    operands: u32,
}

impl Chain {
    fn new(storage: Storage, count: usize) -> Self {
        let params = KilnChainParams { count: count as u32, ..KilnChainParams::default() };
        Chain { storage, params, results: 0, operands: 0 }
    }

    fn result(&mut self, array: &Array, storage: KilnChainStorage) -> u8 {
        let result = KilnChainResult { y: array.address(), storage };
        self.params.results[self.results as usize] = result;
        self.results += 1;
        self.results as u8 - 1
    }

    fn operand(&mut self, operand: KilnChainOperand) -> u8 {
        self.params.operands[self.operands as usize] = operand;
        self.operands += 1;
        (KILN_CHAIN_FIRST_OPERAND + self.operands - 1) as u8
    }

    fn dense(&mut self, array: &Array) -> u8 {
        let (storage, access) = (KILN_CHAIN_T, KILN_CHAIN_DENSE);
        let x = array.address();
        self.operand(KilnChainOperand { x, storage, access, ..KilnChainOperand::default() })
    }

    fn link(&mut self, (kind, function): (u32, u32), arguments: &[u8], keep: u8, store: u8) {
        let mut link = KilnChainLink {
            kind: kind as u8,
            function: function as u8,
            keep,
            store,
            parameters: [PARAMETER, SECOND as f32],
            ..KilnChainLink::default()
        };
        link.arguments[..arguments.len()].copy_from_slice(arguments);
        self.params.links[self.params.length as usize] = link;
        self.params.length += 1;
    }

    fn launch(&self, gpu: &Gpu) -> String {
        let kernel = format!("chain_{}", self.storage.name());
        let threads = (self.params.count as usize).div_ceil(self.storage.vector());
        gpu.launch(&kernel, Grid::of(threads.div_ceil(256)), &self.params);
        kernel
    }
}

const NOWHERE: u8 = KILN_CHAIN_NOWHERE as u8;
const LAST: u8 = KILN_CHAIN_LAST as u8;
const KEPT: u8 = KILN_CHAIN_FIRST_KEPT as u8;

/// One link over dense operands; the result may lie where an operand does.
fn one_link(
    gpu: &Gpu,
    storage: Storage,
    link: (u32, u32),
    operands: &[&Array],
    y: &Array,
) -> String {
    let mut chain = Chain::new(storage, operands[0].values.len());
    let arguments: Vec<u8> = operands.iter().map(|operand| chain.dense(operand)).collect();
    let store = chain.result(y, KILN_CHAIN_T);
    chain.link(link, &arguments, NOWHERE, store);
    chain.launch(gpu)
}

fn unary(gpu: &Gpu, storage: Storage, count: usize) {
    for function in FUNCTIONS {
        let mut numbers = Numbers::new(count + function as usize);
        let is_of_positive = [
            KILN_UNARY_LOG,
            KILN_UNARY_SQRT,
            KILN_UNARY_RSQRT,
            KILN_UNARY_RECIPROCAL,
            KILN_UNARY_POW,
        ]
        .contains(&function);
        let low = if is_of_positive { 0.1 } else { -4.0 };
        let mut inputs = numbers.between(low, 4.0, count);
        if let (false, Some(special)) = (is_of_positive, inputs.get_mut(3..6)) {
            special.copy_from_slice(&[0.0, -0.0, f32::NAN]);
        }
        let a = Array::new(storage, &inputs);
        let dy = Array::new(storage, &numbers.between(-1.0, 1.0, count));
        let y = Array::output(storage, count);
        let case = format!("function {function}, {count} elements");
        let exactness = Exactness::new(storage, 8.0);
        let parameter = f64::from(PARAMETER);

        let kernel = one_link(gpu, storage, (KILN_LINK_UNARY, function), &[&a], &y);
        let want = a.values.iter().map(|&x| {
            let value = value(function, x, parameter);
            Want { value, magnitude: value.abs().max(x.abs()).max(1.0) }
        });
        gpu.ledger().compare(&kernel, &case, &y.read(), &want.collect::<Vec<_>>(), exactness);

        let gradient = (KILN_LINK_UNARY_GRADIENT, function);
        let kernel = one_link(gpu, storage, gradient, &[&a, &dy], &y);
        let want = a.values.iter().zip(&dy.values).map(|(&x, &dy)| {
            let slope = derivative(function, x, parameter);
            Want { value: slope * dy, magnitude: slope.abs().max(1.0 + x * x) * dy.abs() }
        });
        let want: Vec<Want> = want.collect();
        gpu.ledger().compare(&kernel, &format!("{case}, gradient"), &y.read(), &want, exactness);
    }
}

/// Functions of two and three elements, also with the result in place of an operand.
fn pairs(gpu: &Gpu, storage: Storage, count: usize) {
    type Function = fn(f64, f64) -> f64;
    let truth = |holds: bool| f64::from(u8::from(holds));
    let functions: [(KilnBinary, Function); 12] = [
        (KILN_BINARY_ADD, |a, b| a + b),
        (KILN_BINARY_SUBTRACT, |a, b| a - b),
        (KILN_BINARY_MULTIPLY, |a, b| a * b),
        (KILN_BINARY_DIVIDE, |a, b| a / b),
        (KILN_BINARY_MINIMUM, f64::min),
        (KILN_BINARY_MAXIMUM, f64::max),
        (KILN_BINARY_LESS, |a, b| f64::from(u8::from(a < b))),
        (KILN_BINARY_LESS_EQUAL, |a, b| f64::from(u8::from(a <= b))),
        (KILN_BINARY_EQUAL, |a, b| f64::from(u8::from(a == b))),
        (KILN_BINARY_MAXIMUM_SHARE, |a, b| {
            (1.0 + (a - b).signum() * f64::from(u8::from(a != b))) / 2.0
        }),
        (KILN_BINARY_LOGISTIC_LOSS, |a, b| a.exp().ln_1p() - a * b),
        (KILN_BINARY_LOGISTIC_SLOPE, |a, b| 1.0 / (1.0 + (-a).exp()) - b),
    ];
    let is_rounded_once =
        |function| !matches!(function, KILN_BINARY_LOGISTIC_LOSS | KILN_BINARY_LOGISTIC_SLOPE);
    for (function, compute) in functions {
        let mut numbers = Numbers::new(count);
        let a = Array::new(storage, &numbers.nonzero(count));
        let mut others = numbers.nonzero(count);
        // Every third pair is of equal numbers.
        let equal = others.iter_mut().zip(&a.values).step_by(3);
        equal.for_each(|(b, a)| *b = *a as f32);
        let b = Array::new(storage, &others);
        let in_place = function == KILN_BINARY_SUBTRACT;
        let separate = Array::output(storage, count);
        let y = if in_place { &b } else { &separate };
        let kernel = one_link(gpu, storage, (KILN_LINK_BINARY, function), &[&a, &b], y);
        let want = a.values.iter().zip(&b.values).map(|(&a, &b)| match is_rounded_once(function) {
            true => Want::plain(compute(a, b)),
            false => Want { value: compute(a, b), magnitude: 1.0 + (a * b).abs() },
        });
        let case = format!("function {function}, {count} elements");
        let exactness = Exactness::new(storage, if is_rounded_once(function) { 1.0 } else { 8.0 });
        gpu.ledger().compare(&kernel, &case, &y.read(), &want.collect::<Vec<_>>(), exactness);
    }
    let mut numbers = Numbers::new(count);
    let a = Array::new(storage, &numbers.sparse(count));
    let (b, c) = (numbers.nonzero(count), numbers.nonzero(count));
    let (b, c) = (Array::new(storage, &b), Array::new(storage, &c));
    let y = Array::output(storage, count);
    let kernel = one_link(gpu, storage, (KILN_LINK_MASK_NONZERO, 0), &[&a, &b], &y);
    let scale = |&b: &f64| PARAMETER * b as f32;
    let masked = a.values.iter().zip(&b.values).map(|(a, b)| truth(*a != 0.0) as f32 * scale(b));
    let want = storage.encode(&masked.map(|x| if x == 0.0 { 0.0 } else { x }).collect::<Vec<_>>());
    gpu.ledger().compare_bytes(&kernel, "masked", &y.bytes(), &want);
    let kernel = one_link(gpu, storage, (KILN_LINK_WHERE, 0), &[&a, &b, &c], &y);
    let chosen = a.values.iter().zip(b.values.iter().zip(&c.values));
    let want = chosen.map(|(a, (b, c))| if *a != 0.0 { *b as f32 } else { *c as f32 });
    let want = storage.encode(&want.collect::<Vec<_>>());
    gpu.ledger().compare_bytes(&kernel, "where", &y.bytes(), &want);
}

/// Sure and right logits, whose loss and slope are far below what they are made of.
fn sure_logits(gpu: &Gpu) {
    let (a, b) = ([16.0, 20.0, 40.0, -16.0, -20.0, -40.0], [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    let storage = Storage::F32;
    let (a, b) = (Array::new(storage, &a), Array::new(storage, &b));
    for function in [KILN_BINARY_LOGISTIC_LOSS, KILN_BINARY_LOGISTIC_SLOPE] {
        let y = Array::output(storage, 6);
        let kernel = one_link(gpu, storage, (KILN_LINK_BINARY, function), &[&a, &b], &y);
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

/// Angles of many turns, and next to where sine and cosine are zero.
fn far_angles(gpu: &Gpu) {
    let sizes = (0x3f80_0000..0x7f80_0000).step_by(1_234_567).map(f32::from_bits);
    let near_zeros = (1..2000).map(|k| (f64::from(k) * std::f64::consts::FRAC_PI_2) as f32);
    let mut angles: Vec<f32> = sizes.chain(near_zeros).flat_map(|x| [x, -x]).collect();
    angles.extend([12_799.999, 12_800.0, f32::MAX, f32::INFINITY, f32::NAN, 0.0]);
    let x = Array::new(Storage::F32, &angles);
    let y = Array::output(Storage::F32, angles.len());
    for (function, exact) in
        [(KILN_UNARY_SIN, f64::sin as fn(f64) -> f64), (KILN_UNARY_COS, f64::cos)]
    {
        let kernel = one_link(gpu, Storage::F32, (KILN_LINK_UNARY, function), &[&x], &y);
        let want: Vec<Want> = x.values.iter().map(|&x| Want::plain(exact(x))).collect();
        let exactness = Exactness::new(Storage::F32, 4.0);
        gpu.ledger().compare(&kernel, "far angles", &y.read(), &want, exactness);
    }
}

/// Powers and their slopes, special values too.
fn powers(gpu: &Gpu) {
    let bases = [0.0, -0.0, 1.0, -1.0, 0.3, -2.0, 7.5, f32::INFINITY, f32::NAN];
    let exponents =
        [0.0, 1.0, -1.0, 2.0, 3.0, 0.5, -2.5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let pairs = bases.iter().flat_map(|&a| exponents.iter().map(move |&b| (a, b)));
    let (a, b): (Vec<f32>, Vec<f32>) = pairs.unzip();
    let (a, b) = (Array::new(Storage::F32, &a), Array::new(Storage::F32, &b));
    let y = Array::output(Storage::F32, a.values.len());
    for function in [KILN_BINARY_POWER, KILN_BINARY_POWER_SLOPE] {
        let kernel = one_link(gpu, Storage::F32, (KILN_LINK_BINARY, function), &[&a, &b], &y);
        let want = a.values.iter().zip(&b.values).map(|(&a, &b)| {
            Want::plain(match function {
                KILN_BINARY_POWER => a.powf(b),
                _ if a == 0.0 && b >= 0.0 => 0.0,
                _ => a.powf(b) * a.ln(),
            })
        });
        let exactness = Exactness::new(Storage::F32, 16.0);
        let want: Vec<Want> = want.collect();
        gpu.ledger().compare(&kernel, &format!("function {function}"), &y.read(), &want, exactness);
    }
}

/// Every way to read an operand: which one is decided by extents, innermost last, and strides.
fn views(gpu: &Gpu, storage: Storage) {
    type Axes = &'static [(usize, usize)];
    let cases: [(KilnChainAccess, Axes); 8] = [
        (KILN_CHAIN_NUMBER, &[(240, 0)]),
        (KILN_CHAIN_ALIGNED, &[(5, 0), (48, 1)]),
        (KILN_CHAIN_ALIGNED, &[(3, 16), (5, 0), (16, 1)]),
        (KILN_CHAIN_ROW, &[(5, 1), (48, 0)]),
        (KILN_CHAIN_ROW, &[(2, 0), (5, 48), (24, 2)]),
        (KILN_CHAIN_SINGLE, &[(7, 0), (33, 1)]),
        (KILN_CHAIN_SINGLE, &[(33, 1), (7, 0)]),
        (KILN_CHAIN_SINGLE, &[(2, 15), (3, 0), (5, 3), (3, 1), (2, 0)]),
    ];
    for (access, axes) in cases {
        let count: usize = axes.iter().map(|(extent, _)| extent).product();
        let last: usize = axes.iter().map(|(extent, stride)| (extent - 1) * stride).sum();
        let x = Array::new(storage, &Numbers::new(count).nonzero(last + 1));
        let y = Array::output(storage, count);
        let mut operand =
            KilnChainOperand { x: x.address(), access, ..KilnChainOperand::default() };
        if access != KILN_CHAIN_NUMBER {
            for (place, &(extent, stride)) in axes.iter().rev().enumerate() {
                operand.extents[place] = divider(extent);
                operand.strides[place] = stride as u32;
                operand.axes += 1;
            }
        }
        let mut chain = Chain::new(storage, count);
        let argument = chain.operand(operand);
        let store = chain.result(&y, KILN_CHAIN_T);
        chain.link((KILN_LINK_COPY, 0), &[argument], NOWHERE, store);
        let kernel = chain.launch(gpu);
        let from = |mut element: usize| {
            let mut from = 0;
            for &(extent, stride) in axes.iter().rev() {
                from += element % extent * stride;
                element /= extent;
            }
            x.values[from] as f32
        };
        let want = storage.encode(&(0..count).map(from).collect::<Vec<_>>());
        gpu.ledger().compare_bytes(&kernel, &format!("{axes:?}"), &y.bytes(), &want);
    }
}

/// `s = a + b; t = s * s; u = t - s; v = s + u`, of which `t` and `v` are stored.
fn kept_and_stored(gpu: &Gpu, storage: Storage) {
    for count in [5, 300] {
        let mut numbers = Numbers::new(count);
        // Small integers, so that nothing is rounded.
        let mut small = || -> Vec<f32> { (0..count).map(|_| numbers.below(5) as f32).collect() };
        let (a, b) = (Array::new(storage, &small()), Array::new(storage, &small()));
        let (t, v) = (Array::output(storage, count), Array::output(storage, count));
        let mut chain = Chain::new(storage, count);
        let (x, y) = (chain.dense(&a), chain.dense(&b));
        let (first, second) = (chain.result(&t, KILN_CHAIN_T), chain.result(&v, KILN_CHAIN_T));
        let binary = |function| (KILN_LINK_BINARY, function);
        chain.link(binary(KILN_BINARY_ADD), &[x, y], 3, NOWHERE);
        chain.link(binary(KILN_BINARY_MULTIPLY), &[LAST, LAST], NOWHERE, first);
        chain.link(binary(KILN_BINARY_SUBTRACT), &[LAST, KEPT + 3], NOWHERE, NOWHERE);
        chain.link(binary(KILN_BINARY_ADD), &[KEPT + 3, LAST], 0, second);
        let kernel = chain.launch(gpu);
        let squares = a.values.iter().zip(&b.values).map(|(a, b)| ((a + b) * (a + b)) as f32);
        let want = storage.encode(&squares.collect::<Vec<_>>());
        gpu.ledger().compare_bytes(&kernel, "first result", &t.bytes(), &want);
        gpu.ledger().compare_bytes(&kernel, "second result", &v.bytes(), &want);
    }
}

/// Operands and results in f32 beside those of the kernel's type, rounded and not.
fn mixed_storage(gpu: &Gpu, storage: Storage) {
    for count in [3, 8, 301] {
        let mut numbers = Numbers::new(count);
        let a = Array::new(storage, &numbers.nonzero(count));
        let b = Array::new(Storage::F32, &numbers.nonzero(count));
        let (wide, rounded) =
            (Array::output(Storage::F32, count), Array::output(Storage::F32, count));
        let narrow = Array::output(storage, count);
        let mut chain = Chain::new(storage, count);
        let x = chain.dense(&a);
        let y = chain.operand(KilnChainOperand {
            x: b.address(),
            storage: KILN_CHAIN_F32,
            access: KILN_CHAIN_DENSE,
            ..KilnChainOperand::default()
        });
        let stores = [
            chain.result(&wide, KILN_CHAIN_F32),
            chain.result(&rounded, KILN_CHAIN_ROUNDED),
            chain.result(&narrow, KILN_CHAIN_T),
        ];
        chain.link((KILN_LINK_BINARY, KILN_BINARY_ADD), &[x, y], NOWHERE, stores[0]);
        chain.link((KILN_LINK_COPY, 0), &[LAST], NOWHERE, stores[1]);
        chain.link((KILN_LINK_COPY, 0), &[LAST], NOWHERE, stores[2]);
        let kernel = chain.launch(gpu);
        let sums = a.values.iter().zip(&b.values).map(|(&a, &b)| a as f32 + b as f32);
        let sums: Vec<f32> = sums.collect();
        let nearest: Vec<f32> = sums.iter().map(|&sum| storage.round(sum)).collect();
        for (case, got, want) in [
            ("as f32", wide.bytes(), Storage::F32.encode(&sums)),
            ("rounded", rounded.bytes(), Storage::F32.encode(&nearest)),
            ("narrow", narrow.bytes(), storage.encode(&sums)),
        ] {
            gpu.ledger().compare_bytes(&kernel, case, &got, &want);
        }
    }
}
