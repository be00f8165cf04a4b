// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask kernels`: compiles every kernel for every architecture and holds the machine code to the bars in
//! [`bars`], and what plans launch to those in [`plans`]. Needs CUDA's compiler, no GPU. Older compilers, named in
//! `OLDER_NVCC`, allocate registers otherwise; what they compile must not spill either.

mod banks;
mod bars;
mod device;
mod measure;
mod plans;
mod ptxas;
mod sass;
pub(crate) mod toolchain;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::Result;
use device::Device;
use measure::Measured;
use toolchain::Toolchain;

/// Kernels that nvcc 13.0 gives some bytes of stack on an architecture; later compilers do not.
const SPILLED_BY_OLDER: &[(&str, &str)] =
    &[("avg_pool_gradient_f32", "sm_120"), ("chain_f32", "sm_120")];

/// Compile the CUDA kernels and report registers, occupancy and instruction mix.
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
    /// Folder of the kernels.
    #[arg(long, default_value = "kernels")]
    kernels: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let toolchain = Toolchain::find()?;
    let older = Toolchain::older();
    let sources = toolchain::sources(&args.kernels)?;
    let mut missed = banks::misses();
    let mut count = 0;
    for arch in &args.arch {
        let device = Device::named(arch)?;
        println!("{}", measure::heading(arch));
        let mut found = BTreeMap::new();
        for built in toolchain.compile_all(&args.kernels, &sources, arch)? {
            let resources = ptxas::parse(&built.log);
            for function in sass::parse(&built.assembly) {
                if !function.name.contains(&args.only) {
                    continue;
                }
                let resources = resources.get(&function.name).copied().unwrap_or_default();
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
            for (name, resources) in older.resources(&args.kernels, &sources, arch)? {
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
