// SPDX-License-Identifier: MIT OR Apache-2.0
//! The networks and devices that the program knows, by name.

use std::num::NonZeroUsize;

use kiln::backend::cuda::{Capture, CudaImage, CudaOptions};
use kiln::loss::CrossEntropy;
use kiln::models::{SimpleNet, VariableDropoutNet};
use kiln::nn::Module;
use kiln::{Device, Error, Net, Precision, Result, Seed, Trainer};

use super::args::{CaptureName, Common, DeviceName, ImageName, NetName, PrecisionName};
use super::settings::{NetSettings, StepSettings};

/// A network of any kind.
pub(super) type AnyNet = Net<Box<dyn Module>>;

/// A trainer of a network of any kind.
pub(super) type AnyTrainer = Trainer<Box<dyn Module>>;

/// Elements of a sample that both networks take: 28 x 28 pixels.
pub(super) const FEATURES: usize = 784;

/// Classes that both networks tell apart.
pub(super) const CLASSES: usize = 10;

impl NetName {
    /// The name, as given on the command line.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            NetName::Simple => "simple",
            NetName::Variable => "variable",
        }
    }
}

impl NetSettings {
    /// The sizes of the layers, for people.
    pub(super) fn describe(&self) -> String {
        match self {
            NetSettings::Simple { hidden, .. } => {
                format!("SimpleNet {FEATURES}-{hidden}-{hidden}-{CLASSES}")
            }
            NetSettings::Variable => format!("VariableDropoutNet {FEATURES}-1024-512-{CLASSES}"),
        }
    }
}

/// The device that was asked for. A GPU that cannot be used is warned about before the CPU takes over.
pub(super) fn device(common: &Common) -> Result<Device> {
    let device = chosen(common)?;
    let is_auto = common.device == DeviceName::Auto && common.threads.is_none();
    if is_auto && !device.is_gpu() {
        if let Some(why) = Device::why_no_gpu() {
            tracing::warn!("the CPU is used instead of a GPU: {why}");
        }
    }
    Ok(device)
}

/// The device that was asked for, without a word.
pub(super) fn chosen(common: &Common) -> Result<Device> {
    let gpu = match (common.device, common.threads) {
        (DeviceName::Cuda(ordinal), _) => Some(ordinal),
        (DeviceName::Auto, None) => Device::first_gpu().map(|gpu| gpu.ordinal),
        (DeviceName::Auto, Some(_)) | (DeviceName::Cpu, _) => None,
    };
    if let Some(ordinal) = gpu {
        return Device::cuda_with(ordinal, cuda_options(common));
    }
    let only_on_gpus = |option, given: bool| match given {
        true => Err(Error::argument(option, "a GPU with it", "the CPU")),
        false => Ok(()),
    };
    only_on_gpus("cuda-capture", common.cuda_capture == Some(CaptureName::Off))?;
    only_on_gpus("cuda-image", common.cuda_image.is_some_and(|name| name != ImageName::Auto))?;
    let cpu = common.threads.map_or_else(Device::cpu, Device::cpu_with_threads);
    Ok(cpu.with_precision(precision(common)))
}

/// What was asked of a GPU.
pub(super) fn cuda_options(common: &Common) -> CudaOptions {
    CudaOptions {
        precision: precision(common),
        image: common.cuda_image.map_or_else(CudaImage::default, ImageName::image),
        capture: common.cuda_capture.map_or_else(Capture::default, CaptureName::capture),
    }
}

fn precision(common: &Common) -> Precision {
    common.precision.map_or_else(Precision::default, PrecisionName::precision)
}

/// A network with its first parameters.
pub(super) fn net(settings: NetSettings, device: Device, seed: u64) -> Result<AnyNet> {
    Net::new(device, Seed(seed), |p| -> Box<dyn Module> {
        match settings {
            NetSettings::Simple { hidden, p: rate } => {
                Box::new(SimpleNet::new(p, FEATURES, hidden.get(), CLASSES, rate))
            }
            NetSettings::Variable => Box::new(VariableDropoutNet::new(p)),
        }
    })
}

/// A trainer of the network, without a schedule.
pub(super) fn trainer(
    net: AnyNet,
    step: &StepSettings,
    micro_batches: NonZeroUsize,
) -> Result<AnyTrainer> {
    let trainer = Trainer::new(net, CrossEntropy::default(), step.optimizer())?
        .with_micro_batches(micro_batches.get())?;
    match step.clip {
        Some(norm) => trainer.with_clipping(norm),
        None => Ok(trainer),
    }
}
