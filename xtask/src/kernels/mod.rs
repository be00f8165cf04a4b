// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask kernels`: holds the machine code of every kernel on every architecture to the bars in [`bars`], and what
//! plans launch to those in [`plans`]. Takes the machine code that it was built with, and compiles what it lacks. Needs
//! CUDA's compiler, no GPU. Older compilers, named in `OLDER_NVCC`, allocate registers otherwise; what they compile must
//! not spill either.

mod banks;
mod bars;
mod device;
mod measure;
mod plans;
mod resources;
mod sass;
pub(crate) mod toolchain;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::Result;
use device::Device;
use measure::Measured;
use toolchain::Toolchain;

/// Kernels that nvcc 13.0 gives some bytes of stack on an architecture; later compilers do not.
const SPILLED_BY_OLDER: &[(&str, &str)] =
    &[("avg_pool_gradient_f32", "sm_120"), ("chain_f32", "sm_120")];

/// Report registers, occupancy and instruction mix of the CUDA kernels' machine code.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fail where a bar is missed.
    #[arg(long)]
    check: bool,
    /// Architectures, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = device::ALL)]
    arch: Vec<String>,
    /// Only kernels whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Compile the kernels of a folder [default: what this program was built with, and the rest from `kernels`].
    #[arg(long)]
    kernels: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let toolchain = Toolchain::find()?;
    let older = Toolchain::older();
    let kernels = args.kernels.as_deref().unwrap_or(Path::new("kernels"));
    let sources = toolchain::sources(kernels)?;
    let carried = match args.kernels {
        Some(_) => Vec::new(),
        None => kiln::backend::cuda::embedded().cubins,
    };
    let mut missed = banks::misses();
    let mut count = 0;
    for arch in &args.arch {
        let device = Device::named(arch)?;
        println!("{}", measure::heading(arch));
        let mut found = BTreeMap::new();
        let built = match carried.iter().any(|number| *arch == format!("sm_{number}")) {
            true => toolchain.carried(arch)?,
            false => toolchain.compile_all(kernels, &sources, arch)?,
        };
        for built in built {
            for function in sass::parse(&built.assembly) {
                if !function.name.contains(&args.only) {
                    continue;
                }
                let resources = built.resources.get(&function.name).copied();
                let resources =
                    resources.ok_or_else(|| format!("{}: no resources", function.name))?;
                let measured = Measured::new(&function, resources, &device);
                println!("{measured}");
                missed.extend(bars::misses(&measured, arch));
                count += 1;
                found.insert(measured.name.clone(), measured);
            }
        }
        if args.only.is_empty() {
            missed.extend(plans::misses(arch, &found)?);
        }
        for older in &older {
            for (name, resources) in older.resources(kernels, &sources, arch)? {
                if SPILLED_BY_OLDER.contains(&(name.as_str(), arch.as_str())) {
                    continue;
                }
                let older = format!("{name} on {arch} by {}", older.name());
                missed.extend(bars::spills(resources).map(|what| format!("{older}: {what}")));
            }
        }
    }
    for miss in &missed {
        println!("missed: {miss}");
    }
    println!("{count} kernels, {} bars missed", missed.len());
    let failed = args.check && (count == 0 || !missed.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
