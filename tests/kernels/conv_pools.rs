// SPDX-License-Identifier: MIT OR Apache-2.0
//! conv_pool and conv_unpool: a pool's windows of 2 x 2 behind a convolution, and its gradient behind that of
//! another. Factors are small integers, so that ties are ties whatever the order of sums.

use crate::abi::*;
use crate::abi_images::*;
use crate::conv::{Conv, Run, MASK_SCALE, ROUNDINGS, TILE};
use crate::driver::divider;
use crate::dropout::Site;
use crate::float::{Numbers, Storage};
use crate::function::value;
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};
use crate::pooling::add;

/// Logarithms of a window's extents, and where its elements lie, in order.
const SHIFTS: [u32; 3] = [0, 1, 1];
const WINDOW: [[usize; 2]; 4] = [[0, 0], [0, 1], [1, 0], [1, 1]];

pub(crate) fn run(run: &Run<'_>) {
    for planar in [false, true] {
        for fused in [false, true] {
            pooled(run, planar, fused);
        }
        if run.has_input_gradient() {
            unpooled(run, planar);
        }
    }
}

fn integers(storage: Storage, seed: usize, count: usize) -> Array {
    let mut numbers = Numbers::new(seed + count);
    let integers: Vec<f32> = (0..count).map(|_| numbers.below(5) as f32 - 2.0).collect();
    Array::new(storage, &integers)
}

/// `fused`: with a bias, ReLU and dropout; `planar`: what is read and written lies plane by plane.
fn pooled(run: &Run<'_>, planar: bool, fused: bool) {
    let Conv { images, outputs, groups } = run.conv;
    let [depth, height, width] = images.places;
    let windows = [depth, height / 2, width / 2];
    let count: usize = windows.iter().product();
    if count == 0 {
        return;
    }
    let storage = run.method.storage;
    let kernel = run.kernel("conv_pool");
    let (x, weights) = (integers(storage, 1, run.images()), integers(storage, 2, run.weights()));
    let bias = integers(Storage::F32, 3, outputs);
    let planes = Array::new(storage, &run.by_planes(&x));
    let results = images.samples * count * outputs;
    let (y, index) = (Array::output(storage, results), Memory::of_words(&vec![u32::MAX; results]));
    let dropped = fused && run.drops();
    let site = Site::new("conv2.dropout#0", 0.3);
    let (m, n) = (images.samples * count * WINDOW.len(), outputs / groups);
    let split = run.split(m, n);
    let gather = if planar { run.planar_elements() } else { run.image_elements() };
    let mut params = KilnConvParams {
        d: y.address(),
        a: if planar { planes.address() } else { x.address() },
        b: weights.address(),
        gather: KilnGather { positions: windows.map(divider), ..gather },
        m: m as i32,
        n: n as i32,
        k: (run.taps() * images.channels / groups) as i32,
        ld: outputs as i32,
        column_tiles: divider(n.div_ceil(TILE)),
        places: divider(count),
        split: split.params,
        windows: KilnWindows {
            shifts: SHIFTS,
            height: height as u32,
            width: width as u32,
            index: index.address(),
        },
        planar: u32::from(planar),
        ..KilnConvParams::default()
    };
    if fused {
        params.bias = bias.address();
        params.activation = KILN_UNARY_RELU;
    }
    if dropped {
        params.dropout = 2;
        params.scalars = run.gpu.scalars();
        params.mask = site.params;
    }
    run.launch(&kernel, &params);
    split.tickets.assert_zero(&kernel);
    let mut sums = vec![Want { value: 0.0, magnitude: 0.0 }; run.results()];
    run.each(|at| add(&mut sums[at.y], x.values[at.x] * weights.values[at.packed]));
    for (at, sum) in sums.iter_mut().enumerate().filter(|_| fused) {
        add(sum, bias.values[at % outputs]);
        sum.value = value(KILN_UNARY_RELU, sum.value, 0.0);
    }
    let mut wanted = vec![Want::plain(0.0); results];
    let mut indices = vec![0u32; results];
    for (at, index_of) in indices.iter_mut().enumerate() {
        let (window, channel) = (at / outputs, at % outputs);
        let (sample, place) = (window / count, window % count);
        let elements = elements_of(place, windows, [height, width]);
        let sum =
            |element: usize| sums[(sample * depth * height * width + element) * outputs + channel];
        let mut largest = elements[0];
        for element in elements {
            if sum(element).value > sum(largest).value {
                largest = element;
            }
        }
        let kept = !dropped || site.keeps(sample, channel);
        let scale = match (dropped, kept) {
            (false, _) => 1.0,
            (true, true) => f64::from(site.params.scale),
            (true, false) => 0.0,
        };
        let Want { value, magnitude } = sum(largest);
        let to = match planar {
            true => (sample * outputs + channel) * count + place,
            false => at,
        };
        wanted[to] = Want { value: scale * value, magnitude: scale * magnitude };
        *index_of = largest as u32;
    }
    let case = format!("{:?} in {} parts, {planar} {fused}", run.conv, run.splits);
    let exactness = Exactness::new(storage, ROUNDINGS);
    run.gpu.ledger().compare(&kernel, &case, &y.read(), &wanted, exactness);
    let bytes: Vec<u8> = indices.iter().flat_map(|index| index.to_ne_bytes()).collect();
    run.gpu.ledger().compare_bytes(&kernel, &case, &index.read(), &bytes);
}

/// The elements of the window with a number, in order, by their numbers in the image.
fn elements_of(place: usize, windows: [usize; 3], [height, width]: [usize; 2]) -> [usize; 4] {
    let (plane, row) = (place / windows[2] / windows[1], place / windows[2] % windows[1]);
    let corner = (plane * height + 2 * row) * width + 2 * (place % windows[2]);
    WINDOW.map(|[down, across]| corner + down * width + across)
}

/// The images that the convolution reads come from a pool. `masked`: with another gradient and a mask.
fn unpooled(run: &Run<'_>, masked: bool) {
    let Conv { images, outputs, groups } = run.conv;
    let kernel = run.kernel("conv_unpool");
    let storage = run.method.storage;
    let (dy, weights) = (run.numbers(run.results(), 4), run.numbers(run.weights(), 5));
    let skip = Array::new(storage, &Numbers::new(6).between(-1.0, 1.0, run.images()));
    let source = Array::new(storage, &Numbers::new(7).sparse(run.images()));
    let [depth, height, width] = images.image;
    let [tall, wide] = [2 * height, 2 * width];
    let pixels = depth * tall * wide;
    let mut numbers = Numbers::new(8);
    let index: Vec<u32> = (0..run.images())
        .map(|at| {
            let place = at / images.channels % images.pixels();
            elements_of(place, images.image, [tall, wide])[numbers.below(4)] as u32
        })
        .collect();
    let from = Memory::of_words(&index);
    let dx = Array::output(storage, images.samples * pixels * images.channels);
    let (m, n) = (images.samples * images.pixels(), images.channels / groups);
    let split = run.split(m, n);
    let mut params = KilnConvParams {
        d: dx.address(),
        a: dy.address(),
        b: weights.address(),
        gather: run.result_places(),
        m: m as i32,
        n: n as i32,
        k: (run.taps() * outputs / groups) as i32,
        ld: images.channels as i32,
        column_tiles: divider(n.div_ceil(TILE)),
        split: split.params,
        windows: KilnWindows {
            shifts: SHIFTS,
            height: tall as u32,
            width: wide as u32,
            index: from.address(),
        },
        ..KilnConvParams::default()
    };
    if masked {
        params.residual = skip.address();
        params.mask_source = source.address();
        params.mask_scale = MASK_SCALE;
    }
    run.launch(&kernel, &params);
    split.tickets.assert_zero(&kernel);
    let mut sums = vec![Want { value: 0.0, magnitude: 0.0 }; run.images()];
    run.each(|at| add(&mut sums[at.x], run.seen(&dy, at.y) * run.seen(&weights, at.packed)));
    let mut wanted = vec![Want::plain(0.0); images.samples * pixels * images.channels];
    for (at, mut sum) in sums.into_iter().enumerate() {
        if masked {
            add(&mut sum, skip.values[at]);
            let scale = if source.values[at] == 0.0 { 0.0 } else { f64::from(MASK_SCALE) };
            sum = Want { value: scale * sum.value, magnitude: scale * sum.magnitude };
        }
        let (sample, channel) = (at / images.channels / images.pixels(), at % images.channels);
        wanted[(sample * pixels + index[at] as usize) * images.channels + channel] = sum;
    }
    let case = format!("{:?} in {} parts, masked: {masked}", run.conv, run.splits);
    let exactness = Exactness::new(storage, ROUNDINGS);
    run.gpu.ledger().compare(&kernel, &case, &dx.read(), &wanted, exactness);
}
