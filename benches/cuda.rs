// SPDX-License-Identifier: MIT OR Apache-2.0
//! How fast kiln is on a GPU, by the GPU's own clock: what the device reaches at most (copies, multiply-adds in registers,
//! a launch that does nothing), products of large matrices, every kernel of training steps, and whole steps, captured, in
//! turns with PyTorch. Events around captured graphs; with the second-level cache as the work left it, and emptied; random
//! data. Each row is a line of JSON with `--json`.
//!
//! A simulated device does everything once at small sizes; nothing is timed there. Without a GPU nothing is done.

#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "cuda/measure.rs"]
mod measure;
#[path = "cuda/networks.rs"]
mod networks;
#[path = "cuda/parity.rs"]
mod parity;
#[path = "cuda/peer.rs"]
mod peer;
#[path = "cuda/rows.rs"]
mod rows;
#[path = "cuda/steps.rs"]
mod steps;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use kiln::backend::cuda::lab::Lab;
use kiln::backend::cuda::{check, CudaOptions};
use kiln::Precision;

use measure::Size;
use peer::Peer;
use rows::Report;

/// What everything here returns.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Tf32, Precision::Bf16];

#[derive(Debug, Parser)]
#[command(about = "Times kiln on a GPU")]
struct Args {
    /// File that gets a line of JSON for each row.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only rows whose names hold this.
    #[arg(long, default_value = "")]
    only: String,
    /// When this is over, nothing new begins.
    #[arg(long, default_value_t = 225)]
    seconds: u64,
    /// PyTorch's side, `benches/peers/pytorch_cuda.py`, with which training steps take turns.
    #[arg(long)]
    peer: Option<PathBuf>,
    /// The Python that runs it.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Where it computes.
    #[arg(long, default_value = "cuda")]
    peer_device: String,
    /// How it runs a step: as it is, with its fused optimiser, with that captured as a CUDA graph, with that compiled,
    /// which takes minutes.
    #[arg(long, value_delimiter = ',', default_value = "eager,fused,graph,compile")]
    modes: Vec<String>,
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

fn main() -> ExitCode {
    let args = Args::parse();
    let device = match check(0) {
        Ok(device) => device,
        Err(error) if args.json.is_none() => {
            println!("nothing is measured: {error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let size = if device.simulated { Size::Small } else { Size::Full };
    match Report::new(&device, &args).and_then(|report| run(&args, size, report)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, size: Size, mut report: Report) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(args.seconds);
    // Holds the device open, so that what is loaded there stays.
    let mut lab = Lab::open(0, CudaOptions::default())?;
    measure::ceilings(&mut lab, size, &mut report)?;
    let mut peer = match &args.peer {
        Some(script) => {
            Some(Peer::start(&args.python, script, &args.peer_device, args.modes.clone())?)
        }
        None => None,
    };
    // What most depends on comes first; what there is no time for is told.
    for precision in PRECISIONS {
        steps::networks(precision, size, peer.as_mut(), &mut report, deadline)?;
    }
    for precision in PRECISIONS {
        measure::products(precision, size, peer.as_mut(), &mut report, deadline)?;
    }
    for precision in [Precision::F32, Precision::Bf16] {
        steps::kernels(precision, size, &mut report, deadline)?;
    }
    drop(lab);
    report.finish()
}
