// SPDX-License-Identifier: MIT OR Apache-2.0
//! The networks and devices that the program knows, by name.

use std::num::NonZeroUsize;

use kiln::backend::cuda::{Capture, CudaImage, CudaOptions};
use kiln::data::{Batch, Dataset, OnDevice, SampleShape, Vowels};
use kiln::loss::CrossEntropy;
use kiln::models::{
    Cnn, ImageClassifier, ResidualNet, ResnetSmall, RnnClassifier, SimpleNet, SpatialDropoutCnn,
    VariableDropoutNet,
};
use kiln::nn::{Module, RecurrentOptions};
use kiln::op::TensorType;
use kiln::{Device, Error, Net, Precision, Result, Seed, Shape, Tensor, Trainer, Var};

use super::args::{CaptureName, Common, DeviceName, ImageName, NetName, PrecisionName};
use super::data::{Source, TextClasses};
use super::dropout::DropoutSettings;
use super::rates::Rates;
use super::settings::{NetSettings, StepSettings};

/// A network of any kind, of however many inputs.
pub(super) type AnyNet = Net<AnyModule>;

/// A trainer of a network of any kind.
pub(super) type AnyTrainer = Trainer<AnyModule, Vec<Var>>;

/// A network of any kind, before it has parameters.
pub(super) type AnyModule = Box<dyn Module<Vec<Var>>>;

/// A network that takes an image.
struct OfImages<M>(M);

/// A network that takes tokens or features, and the number of steps of each sequence.
struct OfTexts(RnnClassifier);

/// Elements of a sample that fully connected networks take: 28 x 28 pixels.
pub(super) const FEATURES: usize = 784;

/// A sample that networks with convolutions take.
const IMAGE: [usize; 3] = [3, 32, 32];

/// Classes that networks of images tell apart unless the data has others.
const CLASSES: usize = 10;

/// Tokens of a text for which a step of training is planned without data.
const STEPS: usize = 64;

/// Side of the squares over which the feature maps of a network without a head are averaged.
const SQUARE: usize = 4;

/// How a network takes samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feed {
    /// Each as one row.
    Rows,
    /// As the images that they are.
    Images,
    /// As sequences with their lengths: of tokens, or of features.
    Texts,
}

/// Sizes of a network that depend on its data: tokens of the vocabulary, or features of a step, and classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) tokens: usize,
    /// 0 where steps are tokens.
    pub(super) features: usize,
    pub(super) classes: usize,
}

impl Feed {
    /// The shape that samples have in batches.
    pub(super) fn sample_shape(self) -> SampleShape {
        match self {
            Feed::Rows => SampleShape::Row,
            Feed::Images | Feed::Texts => SampleShape::Own,
        }
    }

    /// A batch's inputs and labels.
    pub(super) fn tensors(self, batch: Batch) -> Result<(Vec<Tensor>, Tensor)> {
        match self {
            Feed::Rows => batch.into_rows().map(|(x, labels)| (vec![x], labels)),
            Feed::Images => batch.into_tensors().map(|(x, labels)| (vec![x], labels)),
            Feed::Texts => {
                let ((tokens, lengths), labels) = batch.into_typed::<(Var, Var), Var>()?;
                Ok((vec![tokens, lengths], labels))
            }
        }
    }

    /// The types of so many samples of a data set; of texts, of the longest.
    pub(super) fn types(self, samples: usize, set: &dyn Dataset) -> Vec<TensorType> {
        let sample = set.sample_shape();
        match self {
            Feed::Rows => {
                vec![TensorType::f32([samples, Shape::from(sample).elements()].into())]
            }
            Feed::Images => vec![TensorType::f32([vec![samples], sample].concat().into())],
            Feed::Texts => match sample[..] {
                [steps, features] => features_of(samples, steps, features),
                _ => texts(samples, Shape::from(sample).elements()),
            },
        }
    }

    /// Checks that data of this kind go into the network.
    pub(super) fn check(self, net: NetName, data: &Source) -> Result<()> {
        match (self, data.is_of_sequences()) {
            (Feed::Texts, false) => {
                let got = format!("{} with --net {}", data.name(), net.as_str());
                Err(Error::argument("data", "words, text:FILE or vowels:DIR", got))
            }
            (Feed::Rows | Feed::Images, true) => {
                let got = format!("{} with --data {}", net.as_str(), data.name());
                let takes = if data.is_of_texts() { "texts" } else { "sequences" };
                Err(Error::argument("net", format!("rnn, which takes {takes}"), got))
            }
            _ => Ok(()),
        }
    }
}

/// The types of so many texts of so many tokens, and of their lengths.
fn texts(samples: usize, tokens: usize) -> Vec<TensorType> {
    vec![TensorType::i32([samples, tokens].into()), TensorType::i32([samples].into())]
}

/// The types of so many sequences of features, and of their lengths.
fn features_of(samples: usize, steps: usize, features: usize) -> Vec<TensorType> {
    let steps = TensorType::f32([samples, steps, features].into());
    vec![steps, TensorType::i32([samples].into())]
}

impl<M: Module> Module<Vec<Var>> for OfImages<M> {
    fn forward(&self, inputs: &Vec<Var>) -> Var {
        self.0.forward(&inputs[0])
    }
}

impl Module<Vec<Var>> for OfTexts {
    fn forward(&self, inputs: &Vec<Var>) -> Var {
        self.0.forward(&(inputs[0].clone(), inputs[1].clone()))
    }
}

impl Sizes {
    /// Of networks of images, which take no tokens.
    pub(super) const OF_IMAGES: Self = Sizes { tokens: 0, features: 0, classes: CLASSES };

    /// Of networks of spoken vowels.
    pub(super) const OF_VOWELS: Self =
        Sizes { tokens: 0, features: Vowels::FEATURES, classes: Vowels::SPEAKERS };
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
            NetName::Rnn => "rnn",
        }
    }
}

impl NetSettings {
    /// The sizes of the layers, for people.
    pub(super) fn describe(&self, sizes: Sizes) -> String {
        let Sizes { tokens, features, classes } = sizes;
        match self {
            NetSettings::Simple { hidden, .. } => {
                format!("SimpleNet {FEATURES}-{hidden}-{hidden}-{classes}")
            }
            NetSettings::Variable { .. } => {
                format!("VariableDropoutNet {FEATURES}-1024-512-{classes}")
            }
            NetSettings::Cnn { .. } => format!("Cnn 3x32x32-64-128-512-{classes}"),
            NetSettings::SpatialCnn { .. } => format!("SpatialDropoutCnn 3x32x32-64-128-{classes}"),
            NetSettings::Residual { .. } => format!("ResidualNet 3x32x32-64-64-64-{classes}"),
            NetSettings::ResnetSmall { .. } => format!("ResnetSmall 3x32x32-16-32-64-{classes}"),
            NetSettings::Rnn(rnn) => {
                let widths = vec![rnn.hidden.to_string(); rnn.layers.get()].join("-");
                let cell = rnn.cell.describe(rnn.directions);
                let first = match features {
                    0 => format!("{tokens}-{}", rnn.embedding),
                    features => features.to_string(),
                };
                format!("RnnClassifier {first}-{widths}-{classes} ({cell})")
            }
        }
    }

    /// The layers that drop, in the order of their rates.
    pub(super) fn dropouts(&self) -> Vec<String> {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        match self {
            NetSettings::Simple { .. } | NetSettings::Variable { .. } => {
                names(&["dropout1", "dropout2"])
            }
            NetSettings::Cnn { .. } => names(&["dropout_conv", "dropout_fc"]),
            NetSettings::SpatialCnn { .. } => names(&["spatial_dropout"]),
            NetSettings::Residual { .. } => names(&["features.1.dropout"]),
            NetSettings::ResnetSmall { .. } => (0..ResnetSmall::DROPOUTS)
                .map(|block| format!("layer{}.{}.dropout", block / 3 + 1, block % 3))
                .collect(),
            NetSettings::Rnn(rnn) => match rnn.layers.get() {
                1 => names(&["dropout"]),
                _ => names(&["dropout", rnn.cell.layer()]),
            },
        }
    }

    /// Checks that there is a rate for each layer that drops.
    fn check_rates(&self) -> Result<()> {
        let layers = self.dropouts();
        match self.given_rates() {
            Some(Rates::Each(list)) if list.as_slice().len() != layers.len() => {
                let expected = format!("a rate for each of {}", layers.join(", "));
                Err(Error::argument("rates", expected, self.rates()))
            }
            _ => Ok(()),
        }
    }

    /// How it takes samples.
    pub(super) fn feed(&self) -> Feed {
        match self {
            NetSettings::Simple { .. } | NetSettings::Variable { .. } => Feed::Rows,
            NetSettings::Cnn { .. }
            | NetSettings::SpatialCnn { .. }
            | NetSettings::Residual { .. }
            | NetSettings::ResnetSmall { .. } => Feed::Images,
            NetSettings::Rnn(_) => Feed::Texts,
        }
    }

    /// Sizes where no data are given: those of the words.
    pub(super) fn usual_sizes(&self) -> Result<Sizes> {
        match self.feed() {
            Feed::Texts => TextClasses::of_words().map(|texts| texts.sizes()),
            Feed::Rows | Feed::Images => Ok(Sizes::OF_IMAGES),
        }
    }

    /// The types of a batch of samples of these sizes.
    pub(super) fn batch_of(&self, samples: usize, sizes: Sizes) -> Vec<TensorType> {
        match (self.feed(), sizes.features) {
            (Feed::Texts, 1..) => features_of(samples, STEPS, sizes.features),
            _ => self.batch(samples),
        }
    }

    /// The types of a batch of samples that it is made for.
    pub(super) fn batch(&self, samples: usize) -> Vec<TensorType> {
        match self.feed() {
            Feed::Rows => vec![TensorType::f32([samples, FEATURES].into())],
            Feed::Images => {
                vec![TensorType::f32([samples, IMAGE[0], IMAGE[1], IMAGE[2]].into())]
            }
            Feed::Texts => texts(samples, STEPS),
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
    only_on_gpus("on-device", common.on_device == Some(OnDevice::Always))?;
    let cpu = common.threads.map_or_else(Device::cpu, Device::cpu_with_threads);
    Ok(cpu.with_precision(precision(common)))
}

/// What was asked of a GPU.
pub(super) fn cuda_options(common: &Common) -> CudaOptions {
    CudaOptions {
        precision: precision(common),
        image: common.cuda_image.map_or_else(CudaImage::default, ImageName::image),
        capture: common.cuda_capture.map_or_else(Capture::default, CaptureName::capture),
        ..CudaOptions::default()
    }
}

fn precision(common: &Common) -> Precision {
    common.precision.map_or_else(Precision::default, PrecisionName::precision)
}

/// A network with its first parameters.
pub(super) fn net(
    settings: NetSettings,
    sizes: Sizes,
    device: Device,
    seed: u64,
) -> Result<AnyNet> {
    net_within(|module| module, settings, sizes, device, seed, None)
}

/// A network within another module, whose dropout rates change if that is said.
pub(super) fn net_within(
    outer: impl FnOnce(AnyModule) -> AnyModule,
    settings: NetSettings,
    sizes: Sizes,
    device: Device,
    seed: u64,
    dropout: Option<DropoutSettings>,
) -> Result<AnyNet> {
    let Sizes { tokens, features, classes } = sizes;
    settings.check_rates()?;
    if settings.name() == NetName::Variable && classes != CLASSES {
        let expected = format!("{CLASSES} classes for --net variable");
        return Err(Error::argument("data", expected, classes));
    }
    Net::new(device, Seed(seed), |p| -> AnyModule {
        let scheduled = dropout.map(|of| p.with_dropout_schedule(move |_, p| of.of_layer(p)));
        let p = scheduled.as_ref().unwrap_or(p);
        outer(match settings {
            NetSettings::Simple { hidden, p: rates } => {
                let sizes = [FEATURES, hidden.get(), classes];
                Box::new(OfImages(SimpleNet::with_rates(p, sizes, rates.of_layers())))
            }
            NetSettings::Variable { p: rates } => {
                let rates = rates.map_or(VariableDropoutNet::RATES, Rates::of_layers);
                Box::new(OfImages(VariableDropoutNet::with_rates(p, rates)))
            }
            NetSettings::Cnn { p: rates } => {
                let rates = rates.map_or(Cnn::RATES, Rates::of_layers);
                Box::new(OfImages(Cnn::with_rates(p, classes, rates)))
            }
            NetSettings::SpatialCnn { p: rates } => {
                let maps = [SpatialDropoutCnn::CHANNELS, IMAGE[1]];
                let [rate] = rates.of_layers();
                let features = SpatialDropoutCnn::new(p, rate);
                let net = ImageClassifier::new(p, features, maps, SQUARE, classes);
                Box::new(OfImages(net))
            }
            NetSettings::Residual { p: rates } => {
                let [rate] = rates.of_layers();
                Box::new(OfImages(ResidualNet::new(p, classes, rate)))
            }
            NetSettings::ResnetSmall { p: rates } => {
                Box::new(OfImages(ResnetSmall::with_rates(p, classes, rates.of_layers())))
            }
            NetSettings::Rnn(rnn) => {
                let [rate, between] = rnn.p.of_layers();
                let options = RecurrentOptions {
                    layers: rnn.layers.get(),
                    directions: rnn.directions.directions(),
                    dropout: between,
                    ..RecurrentOptions::default()
                };
                let (cell, hidden) = (rnn.cell.cell(), rnn.hidden.get());
                Box::new(OfTexts(match features {
                    0 => {
                        let sizes = [tokens, rnn.embedding.get(), hidden, classes];
                        RnnClassifier::with_rate(p, cell, sizes, options, rate)
                    }
                    features => {
                        let sizes = [features, hidden, classes];
                        RnnClassifier::of_features(p, cell, sizes, options, rate)
                    }
                }))
            }
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use kiln::data::BadPictures;

    use crate::cli::args::NetArgs;
    use crate::cli::data::Choice;
    use crate::cli::rates::RateList;
    use crate::cli::settings::TokenSettings;

    #[test]
    fn networks_of_images_have_as_many_classes_as_their_data() -> Result<()> {
        let source: Source = "emoji".parse().expect("a name");
        let choice = Choice {
            train_samples: NonZeroUsize::new(24),
            label_noise: 0.25,
            tokens: TokenSettings::default(),
            bad_images: BadPictures::default(),
            augment: vec![],
        };
        let sets = source.load(&choice, None)?;
        assert_eq!(sets.train.len(), 24);
        let settings = NetSettings::ResnetSmall { p: Rates::All(0.1) };
        let mut net = net(settings, sets.sizes(), Device::cpu(), 7)?;
        assert_eq!(net.parameter("fc.bias")?.shape().dims(), [9]);
        Ok(())
    }

    /// Each rate reaches the layer that it is of: masks of a layer whose rate is 0 keep everything, and
    /// those of the others do not.
    #[test]
    fn every_layer_that_drops_has_a_rate_of_its_own() -> Result<()> {
        let all = [
            NetName::Simple,
            NetName::Variable,
            NetName::Cnn,
            NetName::SpatialCnn,
            NetName::Residual,
            NetName::ResnetSmall,
            NetName::Rnn,
        ];
        for name in all {
            let settings = NetSettings::new(&NetArgs { net: Some(name), ..NetArgs::default() })?;
            let layers = settings.dropouts();
            let rates = |count: usize, kept: usize| {
                let rates = (0..count).map(|layer| if layer == kept { 0.0 } else { 0.5 });
                Rates::Each(RateList::try_from(rates.collect::<Vec<f32>>()).expect("a few"))
            };
            for (kept, layer) in layers.iter().enumerate() {
                let settings = settings.with_rates(rates(layers.len(), kept));
                let made = net(settings, settings.usual_sizes()?, Device::cpu(), 7)?;
                let dropping = |layer: &String| -> Result<bool> {
                    // Where nothing is dropped there may be no masks.
                    let masks = made.mask(layer, 0, &settings.batch(2)).unwrap_or_default();
                    let values: Result<Vec<&[f32]>> = masks.iter().map(Tensor::values).collect();
                    Ok(values?.concat().contains(&0.0))
                };
                assert!(!dropping(layer)?, "{name:?} {layer}");
                for other in layers.iter().filter(|other| *other != layer) {
                    assert!(dropping(other)?, "{name:?} {other}, without {layer}");
                }
            }
            let wrong = settings.with_rates(rates(layers.len() + 1, 0));
            let refused = net(wrong, settings.usual_sizes()?, Device::cpu(), 7).map(drop);
            let text = refused.expect_err("one too many").to_string();
            assert!(text.starts_with("rates: ") && text.contains(&layers[0]), "{text}");
        }
        Ok(())
    }
}
