// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions in which each output sees one input, its own: sums over taps of whole vectors of
//! channels.

use super::base::{dispatch, load, store, Isa, KeepSchedule, Kernel, Vector};
use super::direct::Direct;
use super::products::PANEL;
use super::shape::{ConvShape, AXES};
use super::sweep::{tap_index, Sweep, Tap};
use super::tail::Spot;
use super::weight_gradient::{finish, Operands, Parts, Tails};
use super::{split, with_room, Pool};
use std::cell::RefCell;
use std::ops::Range;

/// Channels whose sums are kept side by side; whole vectors of every instruction set.
const CHANNELS: usize = 16;

/// Parts of a batch whose sums of the weights' gradient are taken apart.
const MOST_PARTS: usize = 8;

thread_local! {
    /// Weights as `[tap][channel]`, and sums of their gradients, of the thread that launches.
    static TAPS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// Sums of one image.
    static OF_IMAGE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes a convolution, forward or back.
pub(super) fn run(
    pool: &Pool,
    isa: Isa,
    direct: &Direct<'_>,
    sweeps: &[Sweep],
    shape: &ConvShape,
    weight: &[f32],
) {
    let (channels, taps) = (shape.inputs, shape.taps());
    let kernel = shape.extents.map(|extent| extent.kernel);
    with_room(&TAPS, channels * taps, |by_tap| {
        for (channel, weights) in weight.chunks_exact(taps.max(1)).enumerate() {
            for (tap, &weight) in weights.iter().enumerate() {
                // SAFETY: the scratch has so many elements.
                unsafe { *by_tap.add(tap * channels + channel) = weight };
            }
        }
        let weights = Weights(by_tap);
        pool.run(&|index| {
            for sweep in sweeps {
                let [depth, height, _] = sweep;
                let rows = direct.samples * depth.count * height.count;
                let rows = split(rows, pool.threads(), index);
                let share = Share { direct, sweep, kernel, weights, channels, rows };
                // SAFETY: `Conv` checked the lengths, and the threads' rows are disjoint.
                unsafe { dispatch(isa, share) }
            }
        });
    });
}

#[derive(Clone, Copy)]
struct Weights(*const f32);

// SAFETY: threads only read them.
unsafe impl Sync for Weights {}
// SAFETY: as above.
unsafe impl Send for Weights {}

/// Rows of targets.
struct Share<'a> {
    direct: &'a Direct<'a>,
    sweep: &'a Sweep,
    kernel: [usize; AXES],
    weights: Weights,
    channels: usize,
    rows: Range<usize>,
}

/// A row of the source that a row of targets sees, and the weights that go with it.
struct Line {
    start: usize,
    /// Taps of depth and height.
    taps: [usize; 2],
}

impl Kernel for Share<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let [depth, height, width] = self.sweep;
        let schedule = self.direct.tail.schedule();
        let mut lines = Vec::new();
        for row in self.rows.clone() {
            let (plane, row) = (row / height.count, row % height.count);
            let (sample, plane) = (plane / depth.count, plane % depth.count);
            lines.clear();
            for &depth_tap in &depth.taps {
                let Some(at_depth) = depth.at(plane, depth_tap) else { continue };
                for &height_tap in &height.taps {
                    let Some(at_height) = height.at(row, height_tap) else { continue };
                    let line = (sample * depth.source + at_depth) * height.source + at_height;
                    let start = line * width.source;
                    lines.push(Line { start, taps: [depth_tap.tap, height_tap.tap] });
                }
            }
            let plane = sample * depth.target + depth.first + plane * depth.step;
            let line = plane * height.target + height.first + row * height.step;
            for i in 0..width.count {
                let pixel = line * width.target + width.first + i * width.step;
                // SAFETY: the caller's.
                unsafe { self.pixel::<V>(pixel, i, &lines, schedule.as_ref()) };
            }
        }
    }
}

impl Share<'_> {
    /// # Safety
    /// As the share's own kernel; the lines are the pixel's.
    #[inline(always)]
    unsafe fn pixel<V: Vector>(
        &self,
        pixel: usize,
        i: usize,
        lines: &[Line],
        schedule: Option<&KeepSchedule>,
    ) {
        let width = &self.sweep[2];
        let tail = &self.direct.tail;
        for panel in (0..self.channels).step_by(PANEL) {
            let spot = Spot {
                target: self.direct.target,
                element: pixel * self.channels + panel,
                step: 0,
                channel: panel,
                columns: (self.channels - panel).min(PANEL),
            };
            let kept = tail.kept::<V>(schedule, &spot, 1, self.channels);
            for column in (0..spot.columns).step_by(2 * V::LANES) {
                let spot = spot.beyond(column);
                let lanes = [0, 1].map(|vector: usize| {
                    spot.columns.saturating_sub(vector * V::LANES).min(V::LANES)
                });
                // SAFETY: the caller's; lanes stop at the last channel.
                unsafe {
                    let mut tile = tail.start::<V, 1, 2>(&spot);
                    for line in lines {
                        for &tap in &width.taps {
                            let Some(at) = width.at(i, tap) else { continue };
                            let [source, weights] = self.operands(line, at, tap, spot.channel);
                            for vector in 0..2 {
                                let at = vector * V::LANES;
                                let source: V = load(source.wrapping_add(at), lanes[vector]);
                                let weights = load(weights.wrapping_add(at), lanes[vector]);
                                tile[0][vector] = source.mul_add(weights, tile[0][vector]);
                            }
                        }
                    }
                    tail.finish(tile, &spot, column, kept.as_ref());
                }
            }
        }
    }

    /// Where a pixel of the source and a tap's weights begin.
    #[inline(always)]
    fn operands(&self, line: &Line, at: usize, tap: Tap, channel: usize) -> [*const f32; 2] {
        let tap = tap_index(&self.kernel, [line.taps[0], line.taps[1], tap.tap]);
        let source = (line.start + at) * self.channels + channel;
        let weights = tap * self.channels + channel;
        [self.direct.source.wrapping_add(source), self.weights.0.wrapping_add(weights)]
    }
}

/// Computes the gradients of weights and bias. A thread owns channels and goes through all images of a
/// part of the batch in order; parts are added up in order.
pub(super) fn weight_gradient(pool: &Pool, isa: Isa, operands: &Operands<'_>, tails: &Tails) {
    let shape = operands.shape;
    let (channels, taps) = (shape.inputs, shape.taps());
    let parts = shape.samples.clamp(1, MOST_PARTS);
    let chunks = channels.div_ceil(CHANNELS);
    // The bias is one tap more, of nothing but gradients.
    let of_chunk = CHANNELS * (taps + 1);
    let len = chunks * of_chunk;
    with_room(&TAPS, parts * len, |sums| {
        let job = Job {
            shape,
            x: operands.x.as_ptr(),
            dy: operands.dy.as_ptr(),
            bias_dy: operands.bias_dy.as_ptr(),
            sums,
        };
        pool.run(&|index| {
            for unit in split(parts * chunks, pool.threads(), index) {
                let (part, chunk) = (unit / chunks, unit % chunks);
                let share = Sum {
                    job: &job,
                    samples: split(shape.samples, parts, part),
                    channel: chunk * CHANNELS,
                    to: part * len + chunk * of_chunk,
                };
                // SAFETY: the lengths were checked, and units write disjoint sums.
                unsafe { dispatch(isa, share) }
            }
        });
        let parts = Parts { count: parts, len, sums };
        let place = |channel: usize, tap: usize| {
            channel / CHANNELS * of_chunk + tap * CHANNELS + channel % CHANNELS
        };
        finish(pool, isa, &shape, (&parts, tails), place, |channel| place(channel, taps));
    });
}

struct Job {
    shape: ConvShape,
    x: *const f32,
    dy: *const f32,
    bias_dy: *const f32,
    sums: *mut f32,
}

// SAFETY: threads read images and gradients and write disjoint sums.
unsafe impl Sync for Job {}

/// The sums of some channels over some samples.
struct Sum<'a> {
    job: &'a Job,
    samples: Range<usize>,
    channel: usize,
    to: usize,
}

impl Kernel for Sum<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let len = (self.job.shape.taps() + 1) * CHANNELS;
        let mut totals = vec![0.0f64; len];
        with_room(&OF_IMAGE, len, |of_image| {
            for sample in self.samples.clone() {
                // SAFETY: the caller's; the scratch holds all taps.
                let of_image = unsafe {
                    of_image.write_bytes(0, len);
                    V::enter(OfImage { sum: &self, sample, sums: of_image });
                    std::slice::from_raw_parts(of_image, len)
                };
                let sums = totals.iter_mut().zip(of_image);
                sums.for_each(|(total, &sum)| *total += f64::from(sum));
            }
        });
        for (at, total) in totals.into_iter().enumerate() {
            // SAFETY: the caller's.
            unsafe { *self.job.sums.add(self.to + at) = total as f32 };
        }
    }
}

/// The sums of one image, which are added to `sums`.
struct OfImage<'a> {
    sum: &'a Sum<'a>,
    sample: usize,
    sums: *mut f32,
}

impl Kernel for OfImage<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's.
        unsafe { self.sum.image::<V>(self.sample, self.sums) }
    }
}

impl Sum<'_> {
    /// # Safety
    /// As the kernel; `sums` holds all taps.
    #[inline(always)]
    unsafe fn image<V: Vector>(&self, sample: usize, sums: *mut f32) {
        let ConvShape { inputs, extents, .. } = self.job.shape;
        let [depth, height, width] = extents;
        let kernel = extents.map(|extent| extent.kernel);
        let columns = (inputs - self.channel).min(CHANNELS);
        for row in 0..depth.places * height.places {
            let (at_depth, at_height) = (row / height.places, row % height.places);
            let dy = (sample * depth.places * height.places + row) * width.places;
            for at in (0..columns).step_by(V::LANES) {
                let lanes = (columns - at).min(V::LANES);
                let from = self.job.bias_dy.wrapping_add(dy * inputs + self.channel + at);
                // SAFETY: the caller's; lanes stop at the last channel.
                unsafe {
                    let mut sum = V::splat(0.0);
                    for place in 0..width.places {
                        sum = sum.add(load(from.wrapping_add(place * inputs), lanes));
                    }
                    let to = sums.add(self.job.shape.taps() * CHANNELS + at);
                    store(V::load(to).add(sum), to, V::LANES);
                }
            }
            for depth_tap in 0..depth.kernel {
                let Some(plane) = depth.source(at_depth, depth_tap) else { continue };
                for height_tap in 0..height.kernel {
                    let Some(line) = height.source(at_height, height_tap) else { continue };
                    let line = (sample * depth.image + plane) * height.image + line;
                    for width_tap in 0..width.kernel {
                        let [from, end] = width.places_of(width_tap);
                        if from >= end {
                            continue;
                        }
                        let column =
                            from * width.stride + width_tap * width.dilation - width.before;
                        let x = (line * width.image + column) * inputs + self.channel;
                        let dy = (dy + from) * inputs + self.channel;
                        let tap = tap_index(&kernel, [depth_tap, height_tap, width_tap]);
                        for at in (0..columns).step_by(V::LANES) {
                            let lanes = (columns - at).min(V::LANES);
                            let x = self.job.x.wrapping_add(x + at);
                            let dy = self.job.dy.wrapping_add(dy + at);
                            // SAFETY: the caller's; lanes stop at the last channel.
                            unsafe {
                                let mut sum = V::splat(0.0);
                                for place in 0..end - from {
                                    let x = x.wrapping_add(place * width.stride * inputs);
                                    let dy = dy.wrapping_add(place * inputs);
                                    sum = load::<V>(x, lanes).mul_add(load(dy, lanes), sum);
                                }
                                let to = sums.add(tap * CHANNELS + at);
                                store(V::load(to).add(sum), to, V::LANES);
                            }
                        }
                    }
                }
            }
        }
    }
}
