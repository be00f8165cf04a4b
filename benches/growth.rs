// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the time of a training step grows: over the batch, the width and the depth of a network, the side of its images
//! and the length of its texts.
//!
//! Beside each time stands its share of what the machine could do at best: the step's multiply-adds at the rate of
//! multiply-adds in registers, measured at the same moment, and its bytes at that of a large copy, whichever takes
//! longer. One thread is timed by what processors work for it, several by the time that passes. Neighbouring points whose
//! times differ by more than 1.5 times as much as that bound are marked as cliffs; `--check` turns one into exit code 1.
//! Each series has an exponent: 1 if twice as much takes twice as long.
//!
//! Where `TORCH_PYTHON` names a Python with PyTorch, it makes the same steps with its fused optimiser and images in
//! channels_last, each point right after kiln's, by the same clock.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "growth/axis.rs"]
mod axis;
#[path = "../xtask/src/clock.rs"]
mod clock;
#[path = "growth/measure.rs"]
mod measure;
#[path = "growth/plot.rs"]
mod plot;
#[path = "../xtask/src/peers/process.rs"]
#[expect(dead_code, reason = "its number is for those who measure its memory")]
mod process;
#[path = "growth/torch.rs"]
mod torch;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use axis::Axis;
use clap::Parser;
use measure::{Meter, Point};
use torch::Torch;

/// What everything here returns.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// More than this times what the bound grows by is a cliff.
const CLIFF: f64 = 1.5;

/// Time training steps of growing networks.
#[derive(Debug, Parser)]
struct Args {
    /// Every other point, and a short look at each.
    #[arg(long)]
    quick: bool,
    /// Numbers of threads; one and all by default.
    #[arg(long, value_delimiter = ',')]
    threads: Vec<NonZeroUsize>,
    /// A folder for a plot of each axis.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Exit with 1 if there is a cliff.
    #[arg(long)]
    check: bool,
    /// Axes whose names hold one of these words; all by default.
    axes: Vec<String>,
    /// What cargo tells every bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// What the others are told when all of them run: nothing is kept or compared here.
    #[arg(long, hide = true)]
    save_baseline: Option<String>,
    #[arg(long, hide = true)]
    baseline: Option<String>,
}

/// The points of an axis with one number of threads.
struct Series {
    threads: NonZeroUsize,
    points: Vec<Point>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let all = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let mut threads = match args.threads.is_empty() {
        true => vec![NonZeroUsize::MIN, all],
        false => args.threads.clone(),
    };
    threads.dedup();
    let is_wanted = |axis: &&Axis| {
        args.axes.is_empty() || args.axes.iter().any(|word| axis.name().contains(word.as_str()))
    };
    let mut peers: Vec<Option<Torch>> = Torch::of(&threads);
    let mut cliffs = 0;
    for axis in Axis::ALL.iter().filter(is_wanted) {
        println!("\n{}: {}", axis.name(), axis.subject());
        let mut series = Vec::new();
        for (&threads, peer) in threads.iter().zip(&mut peers) {
            let mut meter = Meter::new(threads, args.quick);
            println!("  threads {threads}, by {}", meter.clock().name());
            let mut points = Vec::new();
            for size in axis.sizes(args.quick) {
                let mut point = meter.point(*axis, size)?;
                if let Some(torch) = peer {
                    match torch.ms(*axis, &point, &meter) {
                        Ok(ms) => point.torch_ms = Some(ms),
                        Err(why) => {
                            println!(
                                "  threads {threads}: from here on PyTorch is left out: {why}"
                            );
                            *peer = None;
                        }
                    }
                }
                points.push(point);
            }
            cliffs += print(threads, &points);
            series.push(Series { threads, points });
        }
        if let Some(folder) = &args.out {
            std::fs::create_dir_all(folder)?;
            let path = folder.join(format!("growth-{}.svg", axis.name()));
            std::fs::write(&path, plot::draw(*axis, &series)?)?;
            println!("{}", path.display());
        }
    }
    match cliffs {
        0 => println!("\nno cliffs"),
        cliffs => println!("\n{cliffs} cliffs"),
    }
    Ok(if args.check && cliffs > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints a series; how many cliffs it has.
fn print(threads: NonZeroUsize, points: &[Point]) -> usize {
    let mut cliffs = 0;
    let mut last: Option<&Point> = None;
    for point in points {
        let steep = last.map(|last| (point.ms / last.ms) / (point.bound_ms / last.bound_ms));
        let is_cliff = steep.is_some_and(|steep| steep > CLIFF);
        cliffs += usize::from(is_cliff);
        let steep = steep.map_or("-".into(), |steep| format!("{steep:.2}"));
        let mark = if is_cliff { "  a cliff" } else { "" };
        let torch = point.torch_ms.map_or(String::new(), |ms| {
            format!("   PyTorch {ms:>10.3} ms, {:>5.2} of kiln's", ms / point.ms)
        });
        println!(
            "  threads {threads} {:>6} {:>10.3} ms, {:>5.1} % of the machine, {steep:>5} of what the work grew{torch}{mark}",
            point.size,
            point.ms,
            100.0 * point.share()
        );
        last = Some(point);
    }
    let kilns: Vec<(usize, f64)> = points.iter().map(|point| (point.size, point.ms)).collect();
    let peers = points.iter().filter_map(|point| Some((point.size, point.torch_ms?)));
    let peers: Vec<(usize, f64)> = peers.collect();
    let torch = match peers.len() == points.len() {
        true => format!(", PyTorch as size^{:.2}", measure::exponent(&peers)),
        false => String::new(),
    };
    println!("  threads {threads}: grows as size^{:.2}{torch}", measure::exponent(&kilns));
    cliffs
}
