// SPDX-License-Identifier: MIT OR Apache-2.0
//! First contact with a device: every kernel and whole training steps, compared with the CPU.

mod images;
mod layers;
mod margin;
mod networks;
mod steps;
mod walks;

use std::num::NonZeroUsize;

pub use crate::backend::cuda::Check;
pub use images::images;
pub use networks::{networks, wide_layer};

use crate::backend::notice;
use crate::{Device, Precision, Result, Seed, Tensor};

/// Runs every kernel and a few training steps on a device and on the CPU. `size` is about the
/// extent of the matrices; sizes that are no multiple of anything try the edges.
///
/// Nothing that is compared hangs on the sign of a sum that is nearly 0, which two good devices may
/// see differently.
///
/// # Errors
/// [`crate::Error::Device`] if the device fails rather than computes something else.
pub fn kernels(device: &Device, size: usize) -> Result<Vec<Check>> {
    let mut checks = layers::compare(device, size.max(1))?;
    checks.extend(steps::compare(device, size.max(1))?);
    checks.extend(images(device, Seed(0))?);
    checks.push(walks::compare(device)?);
    Ok(checks)
}

/// How far a device may be from the CPU: `full` where it computes in full precision.
fn tolerance(device: &Device, full: f32) -> f32 {
    match device.precision() {
        Precision::F32 => full,
        // Sums in another order are now and then rounded to the neighbouring number, 2^-7 or 2^-10
        // apart, and later layers take it from there.
        Precision::Bf16 => full.max(2e-2),
        Precision::Tf32 | Precision::F16 => full.max(5e-3),
    }
}

/// What to compare with: the CPU, rounding where the device does. What is slow there need not be told.
fn by_reference<T>(device: &Device, run: impl FnOnce(Device) -> T) -> T {
    let cpu = Device::cpu_with_threads(NonZeroUsize::MIN).with_precision(device.precision());
    notice::hushed(|| run(cpu))
}

/// Numbers in [-1, 1) that are never zero, so that zeros in a result are a mask's.
fn numbers(seed: u64, shape: impl Into<crate::Shape>) -> Result<Tensor> {
    let shape = shape.into();
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 + 0.5) / (1 << 23) as f32 - 1.0
    };
    let data = std::iter::repeat_with(next).take(shape.elements()).collect();
    Tensor::new(shape, data)
}

/// Class labels, some of them -100.
fn labels(count: usize, classes: usize) -> Result<Tensor> {
    let label = |index: usize| match index % 11 {
        10 => -100,
        _ => (index * 7 % classes) as i32,
    };
    Tensor::labels([count], (0..count).map(label).collect())
}

/// The largest difference, relative to the reference's largest element.
fn difference(got: &Tensor, reference: &Tensor) -> Result<f32> {
    let (got, reference) = (got.values()?, reference.values()?);
    let scale = reference.iter().fold(1e-6f32, |largest, x| largest.max(x.abs()));
    let error = |(got, reference): (&f32, &f32)| match got == reference {
        true => 0.0,
        false => (got - reference).abs() / scale,
    };
    Ok(got.iter().zip(reference).map(error).fold(0.0, largest))
}

/// The larger number, NaN if either is.
fn largest(a: f32, b: f32) -> f32 {
    match a.is_nan() || a > b {
        true => a,
        false => b,
    }
}
