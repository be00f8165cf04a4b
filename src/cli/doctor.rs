// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln doctor`: what the engine found on this machine and, on request, whether a GPU computes what
//! the CPU does.

use std::fs;
use std::thread;

use kiln::backend::cpu::Cpu;
use kiln::backend::cuda::{self, Check, Cuda, DeviceInfo, Embedded, LoadedImage, Verdict};
use kiln::{self_test, Device, Error, Precision, Result, Seed};
use serde_json::{json, Value};

use super::args::{Common, DeviceName, DoctorArgs};
use super::network;
use super::output::Output;

/// Extents that the self-test tries: one that is no multiple of anything, for the edges, and one
/// that fills whole tiles, for the kernels that demand it.
const SELF_TEST_SIZES: [usize; 2] = [33, 128];
/// Seed of the networks of a self-test.
const SELF_TEST_SEED: Seed = Seed(7);

pub(super) fn run(args: &DoctorArgs, common: &Common, output: &mut Output) -> Result<()> {
    match args.self_test {
        true => run_self_test(common, output),
        false => report(common, output),
    }
}

fn report(common: &Common, output: &mut Output) -> Result<()> {
    let device = network::chosen(common)?;
    let cpu = cpu_model();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let instruction_set = Cpu::instruction_set();
    let gpus = cuda::devices();
    let looked: Vec<Looked> = gpus.iter().flatten().map(|gpu| Looked::at(gpu, common)).collect();
    let nvrtc = cuda::nvrtc_version().map(|(major, minor)| format!("{major}.{minor}"));
    let embedded = cuda::embedded();
    let mut lines = vec![
        format!("kiln    {}", env!("CARGO_PKG_VERSION")),
        format!("cpu     {cpu}"),
        format!("kernels {instruction_set}"),
        format!("threads {cores}"),
    ];
    match &gpus {
        Ok(found) if found.is_empty() => lines.push("cuda    a driver, and no device".into()),
        Ok(found) => {
            let (major, minor) = found[0].driver;
            lines.push(format!("driver  CUDA {major}.{minor}"));
            lines.extend(found.iter().zip(&looked).map(|(gpu, found)| found.line(gpu)));
        }
        Err(Error::Device { message, .. }) => lines.push(format!("cuda    {message}")),
        Err(error) => lines.push(format!("cuda    {error}")),
    }
    lines.push(format!("images  {}", images_line(&embedded)));
    lines.push(format!("nvrtc   {}", nvrtc.as_deref().unwrap_or("not found")));
    lines.push(format!("device  {device}"));
    output.result(&lines.join("\n"))?;
    let devices = gpus.iter().flatten().zip(&looked);
    let devices: Vec<Value> = devices.map(|(gpu, found)| found.object(gpu)).collect();
    output.json(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cpu": cpu,
        "instruction_set": instruction_set,
        "threads": cores,
        "cuda": {
            "devices": devices,
            "error": gpus.as_ref().err().map(ToString::to_string),
            "cubins": embedded.cubins.iter().map(|number| format!("sm_{number}")).collect::<Vec<_>>(),
            "ptx": embedded.ptx.map(|number| format!("compute_{number}")),
            "kernels": embedded.kernels,
            "kernel_hash": cuda::kernel_hash(),
            "nvrtc": nvrtc,
        },
        "device": device.to_string(),
    }))
}

/// What opening a device told.
struct Looked {
    /// The form in which its kernels load, or why there is none.
    image: Result<LoadedImage>,
    /// What an earlier self-test found.
    verdict: Option<Verdict>,
    /// The most bytes of a data set that lies there without being asked for.
    room: Option<usize>,
}

impl Looked {
    fn at(gpu: &DeviceInfo, common: &Common) -> Self {
        let options = network::cuda_options(common);
        let opened = Cuda::new(gpu.ordinal, options);
        let room = opened.as_ref().ok().and_then(|device| device.room_for_samples().ok());
        let image = opened.map(|device| device.image());
        let recall = |image| Verdict::recall(gpu, image, options.precision).ok().flatten();
        let verdict = image.as_ref().ok().and_then(|image| recall(*image));
        Looked { image, verdict, room }
    }

    fn line(&self, gpu: &DeviceInfo) -> String {
        let image = match &self.image {
            Ok(image) => format!("image: {image}"),
            Err(Error::Device { message, .. }) => return format!("cuda    {gpu}: {message}"),
            Err(error) => return format!("cuda    {gpu}: {error}"),
        };
        let tested = match &self.verdict {
            Some(verdict) if verdict.passed() => "self-test passed",
            Some(_) => "self-test FAILED",
            None => "self-test not run",
        };
        let room = self.room.map_or_else(String::new, |room| {
            format!("; data sets of up to {} MiB lie there unless they are augmented", room >> 20)
        });
        format!("cuda    {gpu}; {image}; {tested}{room}")
    }

    fn object(&self, gpu: &DeviceInfo) -> Value {
        json!({
            "ordinal": gpu.ordinal,
            "model": gpu.model,
            "capability": [gpu.capability.0, gpu.capability.1],
            "multiprocessors": gpu.multiprocessors,
            "memory_bytes": gpu.memory,
            "driver": [gpu.driver.0, gpu.driver.1],
            "latest_ptx": [gpu.latest_ptx().0, gpu.latest_ptx().1],
            "usable": self.image.is_ok(),
            "image": self.image.as_ref().ok().map(|image| image.to_string()),
            "error": self.image.as_ref().err().map(ToString::to_string),
            "room_for_samples": self.room,
            "self_test": self.verdict.as_ref().map(Verdict::passed),
        })
    }
}

fn images_line(embedded: &Embedded) -> String {
    let Some(ptx) = embedded.ptx else {
        return format!(
            "none: built without nvcc; {} kernels are compiled by NVRTC when needed",
            embedded.kernels
        );
    };
    let cubins: Vec<String> = embedded.cubins.iter().map(|number| format!("sm_{number}")).collect();
    format!("{} kernels: cubin for {}; PTX for compute_{ptx}", embedded.kernels, cubins.join(", "))
}

/// Compares a GPU with the CPU, one line per comparison, and remembers the verdict.
fn run_self_test(common: &Common, output: &mut Output) -> Result<()> {
    let gpu = match common.device {
        DeviceName::Cuda(ordinal) => cuda::check(ordinal)?,
        DeviceName::Auto => {
            // Without a GPU the reason is the driver's, if there is none.
            let count = cuda::devices()?.len();
            Device::first_gpu().ok_or_else(|| Error::Device {
                device: "cuda".into(),
                message: format!("nothing to test: none of {count} devices can be used"),
            })?
        }
        DeviceName::Cpu => {
            return Err(Error::argument(
                "self-test",
                "a GPU to compare with the CPU",
                "--device cpu",
            ))
        }
    };
    let options = network::cuda_options(common);
    // Held to the end, so that all comparisons share what is loaded.
    let mut open = Cuda::new(gpu.ordinal, options)?;
    let (image, loaded) = (open.image(), open.load_kernels()?);
    output.note(&format!("{gpu}; image: {image}; {loaded} kernels loaded"))?;
    let device = Device::cuda_with(gpu.ordinal, options)?;
    let precisions = match common.precision {
        Some(name) => vec![name.precision()],
        None => vec![Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16],
    };
    let mut verdicts = Vec::new();
    let mut told = Vec::new();
    for precision in precisions {
        let checks = compare(&gpu, &device.clone().with_precision(precision))?;
        for check in &checks {
            output.result(&format!("{precision:<5} {check}"))?;
            told.push(json!({
                "precision": precision.to_string(),
                "what": check.what,
                "worst": check.worst,
                "tolerance": check.tolerance,
                "passed": check.passed(),
            }));
        }
        let verdict = Verdict::new(&gpu, image, precision, &checks);
        let file = verdict.remember()?;
        output.note(&format!("remembered in {}", file.display()))?;
        verdicts.push(verdict);
    }
    output.json(&json!({
        "device": gpu.model,
        "image": image.to_string(),
        "checks": told,
        "passed": verdicts.iter().all(Verdict::passed),
    }))?;
    conclude(&gpu, &verdicts, output)
}

/// All comparisons in one precision.
fn compare(gpu: &DeviceInfo, device: &Device) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for size in SELF_TEST_SIZES {
        checks.extend(self_test::kernels(device, size)?);
    }
    checks.extend(self_test::networks(device, SELF_TEST_SEED)?);
    if !gpu.simulated {
        checks.push(self_test::wide_layer(device)?);
    }
    Ok(checks)
}

/// Tells whether all comparisons passed; an error if one did not.
fn conclude(gpu: &DeviceInfo, verdicts: &[Verdict], output: &mut Output) -> Result<()> {
    let checks: usize = verdicts.iter().map(|verdict| verdict.checks).sum();
    let failed: usize = verdicts.iter().map(|verdict| verdict.failed.len()).sum();
    if verdicts.iter().all(Verdict::passed) {
        return output.result(&format!("{checks} checks passed"));
    }
    Err(Error::Device {
        device: format!("cuda:{}", gpu.ordinal),
        message: format!(
            "{failed} of {checks} checks failed: do not trust results of this device; please report \
             the lines above together with the output of `kiln doctor --json`"
        ),
    })
}

/// The processor's name where Linux tells it, else its architecture.
fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split_once(':')).map(|(_, model)| model.trim());
    model.unwrap_or(std::env::consts::ARCH).to_string()
}
