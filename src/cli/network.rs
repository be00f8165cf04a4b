// SPDX-License-Identifier: MIT OR Apache-2.0
//! The networks and devices that the program knows, by name.

use std::num::NonZeroUsize;

use kiln::backend::cuda::{Capture, CudaImage, CudaOptions};
use kiln::data::{Batch, Dataset};
use kiln::loss::CrossEntropy;
use kiln::models::{
    Cnn, ImageClassifier, ResidualNet, ResnetSmall, SimpleNet, SpatialDropoutCnn,
    VariableDropoutNet,
};
use kiln::nn::Module;
use kiln::{Device, Error, Net, Precision, Result, Seed, Shape, Tensor, Trainer};

use super::args::{CaptureName, Common, DeviceName, ImageName, NetName, PrecisionName};
use super::settings::{NetSettings, StepSettings};

/// A network of any kind.
pub(super) type AnyNet = Net<Box<dyn Module>>;

/// A trainer of a network of any kind.
pub(super) type AnyTrainer = Trainer<Box<dyn Module>>;

/// Elements of a sample that fully connected networks take: 28 x 28 pixels.
const FEATURES: usize = 784;

/// A sample that networks with convolutions take.
const IMAGE: [usize; 3] = [3, 32, 32];

/// Classes that all networks tell apart.
const CLASSES: usize = 10;

/// Side of the squares over which the feature maps of a network without a head are averaged.
const SQUARE: usize = 4;

/// How a network takes samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feed {
    /// Each as one row.
    Rows,
    /// As the images that they are.
    Images,
}

impl Feed {
    /// A batch's inputs and labels.
    pub(super) fn tensors(self, batch: Batch) -> Result<(Tensor, Tensor)> {
        match self {
            Feed::Rows => batch.into_rows(),
            Feed::Images => batch.into_tensors(),
        }
    }

    /// The shape of so many samples of a data set.
    pub(super) fn shape(self, samples: usize, set: &dyn Dataset) -> Shape {
        let sample = set.sample_shape();
        match self {
            Feed::Rows => [samples, Shape::from(sample).elements()].into(),
            Feed::Images => [vec![samples], sample].concat().into(),
        }
    }
}

impl NetName {
    /// The name, as given on the command line.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            NetName::Simple => "simple",
            NetName::Variable => "variable",
            NetName::Cnn => "cnn",
            NetName::SpatialCnn => "spatial-cnn",
            NetName::Residual => "residual",
            NetName::ResnetSmall => "resnet-small",
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
            NetSettings::Cnn { .. } => format!("Cnn 3x32x32-64-128-512-{CLASSES}"),
            NetSettings::SpatialCnn { .. } => format!("SpatialDropoutCnn 3x32x32-64-128-{CLASSES}"),
            NetSettings::Residual { .. } => format!("ResidualNet 3x32x32-64-64-64-{CLASSES}"),
            NetSettings::ResnetSmall { .. } => format!("ResnetSmall 3x32x32-16-32-64-{CLASSES}"),
        }
    }

    /// How it takes samples.
    pub(super) fn feed(&self) -> Feed {
        match self {
            NetSettings::Simple { .. } | NetSettings::Variable => Feed::Rows,
            NetSettings::Cnn { .. }
            | NetSettings::SpatialCnn { .. }
            | NetSettings::Residual { .. }
            | NetSettings::ResnetSmall { .. } => Feed::Images,
        }
    }

    /// The shape of a batch of samples that it is made for.
    pub(super) fn batch(&self, samples: usize) -> Shape {
        match self.feed() {
            Feed::Rows => [samples, FEATURES].into(),
            Feed::Images => [samples, IMAGE[0], IMAGE[1], IMAGE[2]].into(),
        }
    }
}

/// The device that was asked for. A GPU that cannot be used is warned about before the CPU takes over.
pub(super) fn device(common: &Common) -> Result<Device> {
    let device = chosen(common)?;
    let is_auto = common.device == DeviceName::Auto && common.threads.is_none();
    if is_auto && !device.is_gpu() {
        Device::warn_without_gpu();
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
            NetSettings::Cnn { p: rate } => {
                let rates = rate.map_or(Cnn::RATES, |rate| [rate; 2]);
                Box::new(Cnn::with_rates(p, CLASSES, rates))
            }
            NetSettings::SpatialCnn { p: rate } => {
                let maps = [SpatialDropoutCnn::CHANNELS, IMAGE[1]];
                let features = SpatialDropoutCnn::new(p, rate);
                Box::new(ImageClassifier::new(p, features, maps, SQUARE, CLASSES))
            }
            NetSettings::Residual { p: rate } => Box::new(ResidualNet::new(p, CLASSES, rate)),
            NetSettings::ResnetSmall { p: rate } => Box::new(ResnetSmall::new(p, CLASSES, rate)),
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
