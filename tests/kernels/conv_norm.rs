// SPDX-License-Identifier: MIT OR Apache-2.0
//! conv with normalisation by known statistics and a residual in its tail.

use crate::abi::*;
use crate::abi_images::*;
use crate::conv::{Conv, Run, ROUNDINGS};
use crate::driver::divider;
use crate::float::{Numbers, Storage};
use crate::function::value;
use crate::ledger::{Exactness, Want};
use crate::memory::Array;
use crate::pooling::add;

const EPS: f32 = 1e-3;

/// `affine`: with a bias, weight and shift, a residual and ReLU.
pub(crate) fn run(run: &Run<'_>, affine: bool) {
    let Conv { images, outputs, groups } = run.conv;
    let kernel = run.kernel("conv");
    let storage = run.method.storage;
    let (x, weights) = (run.numbers(run.images(), 1), run.numbers(run.weights(), 2));
    let numbers = |seed: usize, low: f32, high: f32| {
        Array::new(Storage::F32, &Numbers::new(seed).between(low, high, outputs))
    };
    let (bias, mean, variance) =
        (numbers(3, -1.0, 1.0), numbers(4, -1.0, 1.0), numbers(5, 0.1, 2.0));
    let (gamma, beta) = (numbers(6, -1.0, 1.0), numbers(7, -1.0, 1.0));
    let skip = run.numbers(run.results(), 8);
    let y = Array::output(storage, run.results());
    let (m, n) = (images.samples * images.spots(), outputs / groups);
    let split = run.split(m, n);
    let mut params = KilnConvParams {
        d: y.address(),
        a: x.address(),
        b: weights.address(),
        places: divider(images.spots()),
        split: split.params,
        mean: mean.address(),
        variance: variance.address(),
        eps: EPS,
        ..run.forward_extents()
    };
    if affine {
        (params.bias, params.residual) = (bias.address(), skip.address());
        (params.gamma, params.beta) = (gamma.address(), beta.address());
        params.activation = KILN_UNARY_RELU;
    }
    run.launch(&kernel, &params);
    split.tickets.assert_zero(&kernel);
    let mut sums = vec![Want { value: 0.0, magnitude: 0.0 }; run.results()];
    run.each(|at| add(&mut sums[at.y], run.seen(&x, at.x) * run.seen(&weights, at.packed)));
    for (at, sum) in sums.iter_mut().enumerate() {
        let channel = at % outputs;
        let scale = 1.0 / (variance.values[channel] + f64::from(EPS)).sqrt();
        let scale = if affine { scale * gamma.values[channel] } else { scale };
        add(sum, -mean.values[channel]);
        if affine {
            add(sum, bias.values[channel]);
        }
        *sum = Want { value: sum.value * scale, magnitude: sum.magnitude * scale.abs() };
        if affine {
            add(sum, beta.values[channel]);
            add(sum, skip.values[at]);
            sum.value = value(KILN_UNARY_RELU, sum.value, 0.0);
        }
    }
    let case = format!("{:?} in {} parts, normalised, {affine}", run.conv, run.splits);
    let exactness = Exactness::new(storage, ROUNDINGS);
    run.gpu.ledger().compare(&kernel, &case, &y.read(), &sums, exactness);
}
