// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments as they are given. What they mean together is checked in `settings.rs`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kiln::backend::cuda::{Architecture, Capture, CudaImage};
use kiln::data::{OnDevice, Unit};
use kiln::lint::Code;
use kiln::models::RnnCell;
use kiln::nn::Directions;
use kiln::{Device, NonFinite, Precision};
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

use super::compare::CompareArgs;
use super::data::Source;
use super::monte_carlo::MonteCarloArgs;
use super::plot::PlotArgs;
use super::train::TrainArgs;
use super::verify::VerifyArgs;

/// Trains neural networks as compiled plans. Without a command: compare.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, about)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Args)]
pub(super) struct Common {
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Print the result only
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    /// Write logs to the standard error
    #[arg(long, global = true, value_enum, value_name = "LEVEL", default_value_t = Level::Warn)]
    pub(super) log: Level,
    /// Number of threads of the CPU, which is then the device unless --device names another; all
    /// that the machine has if not given. Results do not depend on it
    #[arg(long, global = true, value_name = "N", value_parser = threads)]
    pub(super) threads: Option<NonZeroUsize>,
    /// auto (the first GPU that a driver answers for, else the CPU), cpu or cuda:N
    #[arg(long, global = true, default_value = "auto")]
    pub(super) device: DeviceName,
    /// How exactly products are computed and activations stored; the CPU rounds as a GPU does, and is
    /// no faster for it
    #[arg(long, global = true, value_enum)]
    pub(super) precision: Option<PrecisionName>,
    /// The form in which kernels are loaded on a GPU
    #[arg(long, global = true, value_enum)]
    pub(super) cuda_image: Option<ImageName>,
    /// Whether a GPU replays captured steps or gets each kernel by itself; the results are the same
    #[arg(long, global = true, value_enum)]
    pub(super) cuda_capture: Option<CaptureName>,
    /// Where samples lie while a GPU trains on them: auto (there, if they do not change and fit in a quarter
    /// of what is free), always or never; the results are the same
    #[arg(long, global = true, value_parser = on_device)]
    pub(super) on_device: Option<OnDevice>,
}

fn on_device(text: &str) -> Result<OnDevice, String> {
    match text {
        "auto" => Ok(OnDevice::Auto),
        "always" => Ok(OnDevice::Always),
        "never" => Ok(OnDevice::Never),
        _ => Err("expected auto, always or never".into()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceName {
    Auto,
    Cpu,
    Cuda(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PrecisionName {
    /// In full f32
    F32,
    /// On tensor cores, factors rounded to 10 bits of mantissa
    Tf32,
    /// On tensor cores, factors and activations in bfloat16
    Bf16,
    /// On tensor cores, factors and activations in 16-bit IEEE floating point; no loss scaling yet
    F16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CaptureName {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ImageName {
    /// The first of the others that this program has for the GPU
    Auto,
    /// Machine code that the program was built with
    Cubin,
    /// PTX that the program was built with, compiled by the driver
    Ptx,
    /// Compiled from source for the GPU found
    Nvrtc,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Train a network; checkpoints, metrics and curves go to a run directory
    Train(TrainArgs),
    /// Measure accuracy and loss of a checkpoint
    Eval(EvalArgs),
    /// Tell the class of each line of a text, by a checkpoint of a network that takes texts
    Predict(PredictArgs),
    /// Train the same network without and with dropout, from several seeds, and tell whether dropout helps
    Compare(CompareArgs),
    /// Print the compiled plan of a step, and which way each part of it takes
    Plan(PlanArgs),
    /// Look for mistakes with dropout in a network, before it is trained
    Lint(LintArgs),
    /// Write any mask of any pass, as it was or will be drawn
    Mask(MaskArgs),
    /// Train some steps here and in PyTorch, and compare all outputs, gradients and parameters
    Verify(VerifyArgs),
    /// Draw the curves of several runs
    Plot(PlotArgs),
    /// Show what the engine found on this machine
    Doctor(DoctorArgs),
}

#[derive(Debug, Default, Args)]
pub(super) struct NetArgs {
    /// The network
    #[arg(long, value_enum)]
    pub(super) net: Option<NetName>,
    /// Width of the hidden layers of --net simple, units of those of --net rnn
    #[arg(long, value_name = "N")]
    pub(super) hidden: Option<NonZeroUsize>,
    /// Dropout rate, of any network but --net variable
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub(super) p: Option<f32>,
    /// Cell of --net rnn
    #[arg(long, value_enum)]
    pub(super) cell: Option<CellName>,
    /// Recurrent layers of --net rnn
    #[arg(long, value_name = "N")]
    pub(super) layers: Option<NonZeroUsize>,
    /// Features of a token in --net rnn
    #[arg(long, value_name = "N")]
    pub(super) embedding: Option<NonZeroUsize>,
    /// Let the layers of --net rnn read texts from the end too
    #[arg(long)]
    pub(super) bidirectional: bool,
}

#[derive(Debug, Default, Args)]
pub(super) struct DataArgs {
    /// digits, digits32 (as 3x32x32, for convolutions), emoji (3x32x32, nine groups, tested in another
    /// drawing style); mnist:DIR, fashion:DIR, kmnist:DIR or emnist-digits:DIR, where DIR holds the four
    /// IDX files, or torchvision's folder with them; cifar10:DIR or cifar100:DIR with the binary files;
    /// folder:DIR with PNG and JPEG files in a folder for each class, or in such folders in train and
    /// test; for --net rnn words (which language is it of?), text:FILE, where lines of FILE are a
    /// label, a tab and a text, or vowels:DIR with the files ae.train, size_ae.train, ae.test and size_ae.test of
    /// Japanese Vowels (who speaks?)
    #[arg(long)]
    pub(super) data: Option<Source>,
    /// What becomes of files in folder:DIR that are no pictures, or cut off; refuse if not given
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(super) bad_images: Option<BadImagesName>,
    /// Train on this many samples; of the digits and of text:FILE, the others are the test set
    #[arg(long, value_name = "N")]
    pub(super) train_samples: Option<NonZeroUsize>,
    /// What a token of a text is; words in text:FILE if not given
    #[arg(long, value_enum)]
    pub(super) tokens: Option<UnitName>,
    /// Tokens that the training texts hold less often count as unknown
    #[arg(long, value_name = "N")]
    pub(super) min_count: Option<NonZeroUsize>,
}

#[derive(Debug, Default, Args)]
pub(super) struct StepArgs {
    /// Samples in a batch
    #[arg(long, value_name = "N")]
    pub(super) batch: Option<NonZeroUsize>,
    /// The optimiser
    #[arg(long, value_enum)]
    pub(super) optimizer: Option<OptimizerName>,
    /// Learning rate
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub(super) lr: Option<f64>,
    /// Momentum of --optimizer sgd
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub(super) momentum: Option<f64>,
    /// Weight decay
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub(super) weight_decay: Option<f64>,
    /// Largest global norm of the gradients
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    pub(super) clip: Option<f64>,
}

#[derive(Debug, Default, Args)]
pub(super) struct FitArgs {
    #[command(flatten)]
    pub(super) net: NetArgs,
    #[command(flatten)]
    pub(super) data: DataArgs,
    #[command(flatten)]
    pub(super) step: StepArgs,
    /// Share of the training labels to make wrong
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub(super) label_noise: Option<f64>,
    /// Change training images at random, differently in each epoch: shift by up to an eighth of the
    /// side, mirror, cover a square with a quarter of the side
    #[arg(long, value_enum, value_name = "HOW", value_delimiter = ',')]
    pub(super) augment: Vec<AugmentName>,
    /// Passes over the training set
    #[arg(long, value_name = "N")]
    pub(super) epochs: Option<NonZeroUsize>,
    /// Seed of parameters, masks and the order of the samples
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// How the learning rate changes
    #[arg(long, value_enum)]
    pub(super) schedule: Option<ScheduleName>,
    /// Run each batch in this many parts
    #[arg(long, value_name = "K")]
    pub(super) micro_batches: Option<NonZeroUsize>,
    /// What to do when a loss or the gradient norm is NaN or infinite; stop if not given
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(super) non_finite: Option<NonFiniteName>,
}

#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// A run directory or a safetensors file
    #[arg(long, value_name = "DIR|FILE")]
    pub(super) checkpoint: PathBuf,
    #[command(flatten)]
    pub(super) net: NetArgs,
    #[command(flatten)]
    pub(super) data: DataArgs,
    #[command(flatten)]
    pub(super) draws: MonteCarloArgs,
}

#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    /// A run directory
    #[arg(long, value_name = "DIR")]
    pub(super) checkpoint: PathBuf,
    /// The lines to label; those of the standard input if not given
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) net: NetArgs,
    #[command(flatten)]
    pub(super) step: StepArgs,
    /// A training step or an eval-mode forward pass
    #[arg(long, value_enum, default_value_t = PlanMode::Train)]
    pub(super) mode: PlanMode,
    /// Print the plan's graph instead
    #[arg(long, value_enum)]
    pub(super) graph: Option<GraphFormat>,
    /// Plan for a GPU of this architecture, which need not be there: sm_80, sm_86, sm_89, sm_90,
    /// sm_100 or sm_120; sm_90 if --device is a GPU
    #[arg(long)]
    pub(super) arch: Option<Architecture>,
}

#[derive(Debug, Args)]
pub(super) struct LintArgs {
    #[command(flatten)]
    pub(super) net: NetArgs,
    /// Samples in a batch
    #[arg(long, value_name = "N")]
    pub(super) batch: Option<NonZeroUsize>,
    /// Samples of the data set, to see what its last batch is left with
    #[arg(long, value_name = "N")]
    pub(super) samples: Option<NonZeroUsize>,
    /// The network is also to predict with dropout left on
    #[arg(long)]
    pub(super) monte_carlo: bool,
    /// Say nothing of this code, given by its number or its name; may be given again
    #[arg(long, value_name = "CODE")]
    pub(super) allow: Vec<Code>,
    /// Warn of this code wherever it is found
    #[arg(long, value_name = "CODE")]
    pub(super) warn: Vec<Code>,
    /// Fail where this code is found
    #[arg(long, value_name = "CODE")]
    pub(super) deny: Vec<Code>,
    /// Settings in TOML; kiln.toml, if it is there, if not given
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Say what a code means, why it is a mistake, what to do and where the rule comes from
    #[arg(long, value_name = "CODE")]
    pub(super) explain: Option<Code>,
}

#[derive(Debug, Args)]
pub(super) struct MaskArgs {
    /// Path of the layer that drops: dropout1
    #[arg(long, value_name = "LAYER")]
    pub(super) layer: String,
    /// Number of the pass in train mode, counted from 0; a training makes one per batch
    #[arg(long, value_name = "N")]
    pub(super) pass: u32,
    /// Which of the layer's dropouts, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) call: usize,
    /// A run directory, whose network, seed and batch are meant
    #[arg(long, value_name = "DIR", conflicts_with = "NetArgs")]
    pub(super) checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub(super) net: NetArgs,
    /// Samples in a batch
    #[arg(long, value_name = "N")]
    pub(super) batch: Option<NonZeroUsize>,
    /// Seed of the network
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// A file to write: .npy, one byte per element, or .png, one row per sample
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Load every kernel on the GPU, run every layer, loss and optimiser and a training step of each
    /// network in all precisions, or in the --precision given, and compare with the CPU
    #[arg(long)]
    pub(super) self_test: bool,
}

/// A random change of training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum AugmentName {
    /// Shifted by up to an eighth of its side, black behind it
    Crop,
    /// Mirrored left to right, every other time
    Flip,
    /// A black square with a quarter of its side, anywhere
    Cutout,
}

/// What becomes of pictures that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BadImagesName {
    /// The first of them ends the program
    #[default]
    Refuse,
    /// They are left out, with a warning each
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum NetName {
    /// 784-512-512-10, one dropout rate
    Simple,
    /// 784-1024-512-10, dropout 0.2 and 0.5
    Variable,
    /// 3x32x32, two convolutions and two linear layers, dropout 0.25 of feature maps and 0.5
    Cnn,
    /// 3x32x32, two convolutions with dropout 0.2 of feature maps between them
    SpatialCnn,
    /// 3x32x32, a residual block with batch norm and dropout 0.1 of feature maps
    Residual,
    /// 3x32x32, ResNet-20 with dropout 0.1 of feature maps in its blocks
    ResnetSmall,
    /// Texts: an embedding and recurrent layers, dropout 0.5 between all of them
    Rnn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CellName {
    /// Long short-term memory
    Lstm,
    /// Gated recurrent units
    Gru,
}

/// In which directions recurrent layers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DirectionsName {
    Forward,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum UnitName {
    /// Each character
    Characters,
    /// Each run of letters, digits and apostrophes, in lower case
    Words,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OptimizerName {
    Sgd,
    Adam,
    Adamw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ScheduleName {
    /// The same throughout
    Constant,
    /// Down to 0 along half a cosine
    Cosine,
    /// A tenth after each third of the updates
    Step,
    /// Up to --lr and down again; the momentum (Adam: beta1) goes from 0.95 to 0.85 and back
    OneCycle,
    /// Up to --lr over the first tenth of the updates
    Warmup,
    /// Lower each time the figure that --monitor names has not got better for a while
    Plateau,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum NonFiniteName {
    /// Keep the last checkpoint, say which layer was the first, and fail
    Stop,
    /// Go on; what is measured of NaN is written as null
    Continue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PlanMode {
    Train,
    Eval,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum GraphFormat {
    Text,
    Dot,
}

impl Level {
    pub(super) fn filter(self) -> LevelFilter {
        match self {
            Level::Off => LevelFilter::OFF,
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        }
    }
}

impl CellName {
    pub(super) fn cell(self) -> RnnCell {
        match self {
            CellName::Lstm => RnnCell::Lstm,
            CellName::Gru => RnnCell::Gru,
        }
    }

    /// The name of its layers in the network.
    pub(super) fn layer(self) -> &'static str {
        match self {
            CellName::Lstm => "lstm",
            CellName::Gru => "gru",
        }
    }

    /// For people.
    pub(super) fn describe(self, directions: DirectionsName) -> &'static str {
        match (self, directions) {
            (CellName::Lstm, DirectionsName::Forward) => "LSTM",
            (CellName::Lstm, DirectionsName::Both) => "LSTM in both directions",
            (CellName::Gru, DirectionsName::Forward) => "GRU",
            (CellName::Gru, DirectionsName::Both) => "GRU in both directions",
        }
    }
}

impl DirectionsName {
    pub(super) fn directions(self) -> Directions {
        match self {
            DirectionsName::Forward => Directions::Forward,
            DirectionsName::Both => Directions::Both,
        }
    }
}

impl UnitName {
    pub(super) fn unit(self) -> Unit {
        match self {
            UnitName::Characters => Unit::Characters,
            UnitName::Words => Unit::Words,
        }
    }
}

impl PrecisionName {
    pub(super) fn precision(self) -> Precision {
        match self {
            PrecisionName::F32 => Precision::F32,
            PrecisionName::Tf32 => Precision::Tf32,
            PrecisionName::Bf16 => Precision::Bf16,
            PrecisionName::F16 => Precision::F16,
        }
    }
}

impl NonFiniteName {
    pub(super) fn policy(self) -> NonFinite {
        match self {
            NonFiniteName::Stop => NonFinite::Stop,
            NonFiniteName::Continue => NonFinite::Continue,
        }
    }
}

impl CaptureName {
    pub(super) fn capture(self) -> Capture {
        match self {
            CaptureName::On => Capture::On,
            CaptureName::Off => Capture::Off,
        }
    }
}

impl ImageName {
    pub(super) fn image(self) -> CudaImage {
        match self {
            ImageName::Auto => CudaImage::Auto,
            ImageName::Cubin => CudaImage::Cubin,
            ImageName::Ptx => CudaImage::Ptx,
            ImageName::Nvrtc => CudaImage::Nvrtc,
        }
    }
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse::<NonZeroUsize>().map_err(|error| error.to_string())?;
    match number.get() <= Device::MOST_THREADS {
        true => Ok(number),
        false => Err(format!("expected at most {}", Device::MOST_THREADS)),
    }
}

impl std::str::FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(DeviceName::Auto),
            "cpu" => Ok(DeviceName::Cpu),
            "cuda" => Ok(DeviceName::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(DeviceName::Cuda)
                .ok_or_else(|| "expected auto, cpu or cuda:N".into()),
        }
    }
}
