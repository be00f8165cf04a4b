// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln doctor`.

use std::fs;
use std::path::Path;
use std::thread;

use kiln::backend::cpu::Cpu;
use kiln::{Device, Result};
use serde_json::json;

use super::output::Output;

/// Where the NVIDIA driver of Linux tells its version.
const NVIDIA_DRIVER: &str = "/proc/driver/nvidia/version";

pub(super) fn run(device: &Device, output: &mut Output) -> Result<()> {
    let cpu = cpu_model();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let instruction_set = Cpu::instruction_set();
    let cuda = match Path::new(NVIDIA_DRIVER).exists() {
        true => "an NVIDIA driver is installed, but this build has no CUDA backend yet",
        false => "no CUDA backend in this build",
    };
    output.result(&format!(
        "kiln    {}\ncpu     {cpu}\nkernels {instruction_set}\nthreads {cores}\ncuda    {cuda}\n\
         device  {device}",
        env!("CARGO_PKG_VERSION"),
    ))?;
    output.json(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cpu": cpu,
        "instruction_set": instruction_set,
        "threads": cores,
        "cuda": cuda,
        "device": device.to_string(),
    }))
}

/// The processor's name where Linux tells it, else its architecture.
fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split_once(':')).map(|(_, model)| model.trim());
    model.unwrap_or(std::env::consts::ARCH).to_string()
}
