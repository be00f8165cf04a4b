// SPDX-License-Identifier: MIT OR Apache-2.0
//! How fast kiln is on a GPU, by the GPU's own clock: what the device reaches at most (copies, multiply-adds in registers,
//! a launch that does nothing), products of large matrices, every kernel of training steps, and whole steps, captured, in
//! turns with PyTorch and burn. Events around captured graphs; with the second-level cache as the work left it, and
//! emptied; random data. Each row is a line of JSON with `--json`.
//!
//! A simulated device does everything once at small sizes; nothing is timed there. Without a GPU nothing is done.

#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "cuda/measure.rs"]
pub(crate) mod measure;
#[path = "cuda/networks.rs"]
pub(crate) mod networks;
#[path = "../xtask/src/peers/noise.rs"]
mod noise;
#[path = "cuda/parity.rs"]
pub(crate) mod parity;
#[path = "cuda/peer.rs"]
pub(crate) mod peer;
#[path = "../xtask/src/peers/process.rs"]
mod process;
#[path = "cuda/row.rs"]
pub(crate) mod row;
#[path = "cuda/rows.rs"]
mod rows;
#[path = "cuda/steps.rs"]
mod steps;
#[path = "../xtask/src/peers/talk.rs"]
#[expect(dead_code, reason = "its number is for those who measure its memory")]
mod talk;
#[path = "cuda/turns.rs"]
pub(crate) mod turns;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use kiln::backend::cuda::lab::Lab;
use kiln::backend::cuda::{check, CudaOptions};
use kiln::Precision;

use measure::{Place, Size};
use peer::Team;
use rows::Report;

/// What everything here returns.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Debug, Parser)]
#[command(about = "Times kiln on a GPU")]
pub(crate) struct Args {
    /// Which of the GPUs.
    #[arg(long, value_name = "ORDINAL", default_value_t = 0)]
    device: usize,
    /// File that gets a line of JSON for each row.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only rows whose names hold this.
    #[arg(long, default_value = "")]
    only: String,
    /// What is measured, beside the ceilings.
    #[arg(long, value_delimiter = ',', default_value = "steps,products,kernels")]
    parts: Vec<Part>,
    /// In which precisions.
    #[arg(long, value_delimiter = ',', default_value = "f32,tf32,bf16", value_parser = precision)]
    precisions: Vec<Precision>,
    /// When this is over, nothing new begins.
    #[arg(long, default_value_t = 225)]
    seconds: u64,
    /// How often kiln and its peers take turns.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// How long a peer's turn lasts.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    milliseconds: u64,
    /// The Python of a PyTorch with which training steps take turns.
    #[arg(long, value_name = "PYTHON")]
    torch: Option<PathBuf>,
    /// PyTorch's side.
    #[arg(long, value_name = "FILE", default_value = "benches/peers/pytorch_cuda.py")]
    torch_script: PathBuf,
    /// How it runs a step: as it is, with its fused optimiser, with that captured as a CUDA graph, with that compiled,
    /// which takes minutes.
    #[arg(long, value_delimiter = ',', default_value = "eager,fused,graph")]
    modes: Vec<String>,
    /// burn's side, with which training steps take turns.
    #[arg(long, value_name = "PROGRAM")]
    burn: Option<PathBuf>,
    /// Where peers compute, if not on the same GPU: to try them.
    #[arg(long, value_name = "NAME")]
    peer_device: Option<String>,
    /// Seconds that a peer has for each answer, beside what a turn lasts; then it is ended and its row says so.
    #[arg(long, value_name = "SECONDS", default_value_t = talk::PATIENCE, value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
    /// What the others are told when all of them run: nothing is kept or compared here.
    #[arg(long, hide = true)]
    save_baseline: Option<String>,
    #[arg(long, hide = true)]
    baseline: Option<String>,
    #[arg(long, hide = true)]
    quick: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Training steps, their inputs on the device and given by the host.
    Steps,
    /// Products of large matrices.
    Products,
    /// Every kernel of the steps.
    Kernels,
}

fn precision(name: &str) -> std::result::Result<Precision, String> {
    let all = [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16];
    let found = all.into_iter().find(|precision| precision.to_string() == name);
    found.ok_or_else(|| "expected one of f32, tf32, bf16, f16".into())
}

/// What is measured where, how often, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    place: Place,
    rounds: usize,
    milliseconds: u64,
    deadline: Instant,
}

impl Target {
    /// Whether nothing new may begin.
    fn is_over(self) -> bool {
        Instant::now() >= self.deadline
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let device = match check(args.device) {
        Ok(device) => device,
        Err(error) if args.json.is_none() => {
            println!("nothing is measured: {error}");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    let size = if device.simulated { Size::Small } else { Size::Full };
    let target = Target {
        place: Place { ordinal: args.device, size },
        rounds: args.rounds as usize,
        milliseconds: args.milliseconds,
        deadline: Instant::now() + Duration::from_secs(args.seconds),
    };
    let mut report = Report::new(&device, args)?;
    // Holds the device open, so that what is loaded there stays.
    let mut lab = Lab::open(args.device, CudaOptions::default())?;
    measure::ceilings(&mut lab, size, &mut report)?;
    let mut team = Team::new(args);
    // What most depends on comes first; what there is no time for is told.
    let of = |part| args.precisions.iter().filter(move |_| args.parts.contains(&part));
    for &precision in of(Part::Steps) {
        steps::networks(precision, target, &mut team, &mut report)?;
    }
    for &precision in of(Part::Products) {
        measure::products(precision, target, &mut team, &mut report)?;
    }
    // Those of tf32 are the same ones in another mode.
    for &precision in of(Part::Kernels).filter(|&&precision| precision != Precision::Tf32) {
        steps::kernels(precision, target, &mut report)?;
    }
    drop(lab);
    report.finish()
}
