// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that networks run on.

use std::num::NonZeroUsize;

use crate::backend::cpu::Cpu;
use crate::backend::cuda::{self, Architecture, Cuda, CudaOptions, DeviceInfo, Paper};
use crate::backend::Backend;
use crate::{Convolutions, Error, Precision, Result};

/// Where a network lives and runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Cpu { threads: NonZeroUsize, precision: Precision, convolutions: Convolutions },
    Cuda { ordinal: usize, options: CudaOptions, held: cuda::Held },
    Paper { architecture: Architecture, precision: Precision },
}

impl Device {
    /// Most threads of the CPU.
    pub const MOST_THREADS: usize = 4096;

    /// The best device of this machine: the first GPU that can be used, else the CPU; where there is a
    /// driver, a warning says why no GPU can.
    ///
    /// # Errors
    /// None at present; a GPU that answers but cannot be used shows when a network is built.
    pub fn best() -> Result<Self> {
        match Self::first_gpu() {
            Some(gpu) => Self::cuda(gpu.ordinal),
            None => {
                Self::warn_without_gpu();
                Ok(Self::cpu())
            }
        }
    }

    /// The first GPU that kiln can use; `None` without one.
    pub fn first_gpu() -> Option<DeviceInfo> {
        let found = cuda::survey().unwrap_or_default();
        (0..found.len()).find_map(|ordinal| cuda::check(ordinal).ok())
    }

    /// Why no GPU can be used though there is a CUDA driver; `None` if one can, or without a driver.
    pub fn why_no_gpu() -> Option<String> {
        let found = match cuda::survey() {
            Ok(found) => found,
            Err(error) => return cuda::has_driver().then(|| error.to_string()),
        };
        let mut reasons = Vec::new();
        for ordinal in 0..found.len() {
            reasons.push(cuda::check(ordinal).err()?.to_string());
        }
        if reasons.is_empty() {
            reasons.push("the driver answers for no device".into());
        }
        Some(reasons.join("; "))
    }

    /// Warns where there is a driver and no GPU that can be used, before the CPU takes over.
    pub fn warn_without_gpu() {
        if let Some(why) = Self::why_no_gpu() {
            tracing::warn!("the CPU is used instead of a GPU: {why}");
        }
    }

    /// A GPU that need not be there: plans are made for it ([`Net::plan`](crate::Net::plan),
    /// [`Trainer::plan`](crate::Trainer::plan)), and running one is an error.
    pub fn on_paper(architecture: Architecture) -> Self {
        Device { kind: Kind::Paper { architecture, precision: Precision::default() } }
    }

    /// A GPU by its number, with default options. Once a network has opened it, it stays open as long
    /// as this value, a clone of it or a network on it lives: opening takes a part of a second.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if there is no CUDA driver or no such device.
    pub fn cuda(ordinal: usize) -> Result<Self> {
        Self::cuda_with(ordinal, CudaOptions::default())
    }

    /// A GPU by its number.
    ///
    /// # Errors
    /// As [`cuda`](Device::cuda).
    pub fn cuda_with(ordinal: usize, options: CudaOptions) -> Result<Self> {
        cuda::check(ordinal)?;
        Ok(Device { kind: Kind::Cuda { ordinal, options, held: cuda::Held::default() } })
    }

    /// The CPU, with as many threads as the machine runs at the same time.
    pub fn cpu() -> Self {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self::cpu_with_threads(threads)
    }

    /// The CPU with a given number of threads, at most [`MOST_THREADS`](Device::MOST_THREADS);
    /// with more the device does not open. Results do not depend on it.
    pub fn cpu_with_threads(threads: NonZeroUsize) -> Self {
        let (precision, convolutions) = (Precision::default(), Convolutions::default());
        Device { kind: Kind::Cpu { threads, precision, convolutions } }
    }

    /// The same device, computing in another precision. The CPU rounds where a GPU does and is no
    /// faster for it.
    ///
    /// ```
    /// use kiln::nn::Linear;
    /// use kiln::{Device, Net, Precision, Seed, Tensor};
    ///
    /// let device = Device::cpu().with_precision(Precision::Bf16);
    /// let mut net = Net::new(device, Seed(7), |p| Linear::new(&p.at("fc"), 3, 2))?;
    /// let y = net.eval().forward(&Tensor::zeros([1, 3]))?;
    /// let y = y.values()?[0];
    /// assert_eq!(y, Precision::Bf16.round(y));
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn with_precision(mut self, chosen: Precision) -> Self {
        match &mut self.kind {
            Kind::Cpu { precision, .. } | Kind::Paper { precision, .. } => *precision = chosen,
            Kind::Cuda { options, .. } => options.precision = chosen,
        }
        self
    }

    /// The same device, whose recurrent layers make their steps in one launch or not; other devices have no
    /// choice.
    pub(crate) fn with_walks(mut self, chosen: cuda::Walks) -> Self {
        if let Kind::Cuda { options, .. } = &mut self.kind {
            options.walks = chosen;
        }
        self
    }

    /// The same device, computing convolutions in another way; that of GPUs does not change.
    ///
    /// ```
    /// use kiln::{Convolutions, Device};
    ///
    /// let device = Device::cpu().with_convolutions(Convolutions::Precise);
    /// assert_eq!(device.convolutions(), Convolutions::Precise);
    /// ```
    pub fn with_convolutions(mut self, chosen: Convolutions) -> Self {
        if let Kind::Cpu { convolutions, .. } = &mut self.kind {
            *convolutions = chosen;
        }
        self
    }

    /// How the device computes convolutions.
    pub fn convolutions(&self) -> Convolutions {
        match self.kind {
            Kind::Cpu { convolutions, .. } => convolutions,
            Kind::Cuda { .. } | Kind::Paper { .. } => Convolutions::default(),
        }
    }

    /// How exactly the device computes.
    pub fn precision(&self) -> Precision {
        match self.kind {
            Kind::Cpu { precision, .. } | Kind::Paper { precision, .. } => precision,
            Kind::Cuda { options, .. } => options.precision,
        }
    }

    /// The device with its model and what drives it, for records of what ran where. Asks the driver.
    ///
    /// ```
    /// use std::num::NonZeroUsize;
    ///
    /// let cpu = kiln::Device::cpu_with_threads(NonZeroUsize::MIN);
    /// assert!(cpu.describe().starts_with("cpu, 1 thread, "));
    /// ```
    pub fn describe(&self) -> String {
        let Kind::Cuda { ordinal, .. } = self.kind else {
            return match self.kind {
                Kind::Cpu { .. } => format!("{self}, {}", Cpu::instruction_set()),
                _ => self.to_string(),
            };
        };
        match cuda::check(ordinal) {
            Ok(gpu) => format!("{gpu}, driver of CUDA {}.{}", gpu.driver.0, gpu.driver.1),
            Err(_) => self.to_string(),
        }
    }

    /// Whether it is a GPU of this machine.
    pub fn is_gpu(&self) -> bool {
        matches!(self.kind, Kind::Cuda { .. })
    }

    /// What the driver says of it, if it is a GPU of this machine.
    pub fn gpu(&self) -> Option<DeviceInfo> {
        match self.kind {
            Kind::Cuda { ordinal, .. } => cuda::check(ordinal).ok(),
            Kind::Cpu { .. } | Kind::Paper { .. } => None,
        }
    }

    /// How many threads compute; `None` for GPUs.
    pub fn threads(&self) -> Option<NonZeroUsize> {
        match self.kind {
            Kind::Cpu { threads, .. } => Some(threads),
            Kind::Cuda { .. } | Kind::Paper { .. } => None,
        }
    }

    /// Whether it is not there.
    pub(crate) fn is_on_paper(&self) -> bool {
        matches!(self.kind, Kind::Paper { .. })
    }

    /// To bring data to the device before a network asks for them; `None` where kernels use the host's memory
    /// or there is no device.
    ///
    /// # Errors
    /// [`Error::Device`] if it cannot be opened.
    pub(crate) fn depot(&self) -> Result<Option<cuda::Depot>> {
        match &self.kind {
            Kind::Cuda { ordinal, held, .. } => cuda::Depot::open(*ordinal, held).map(Some),
            Kind::Cpu { .. } | Kind::Paper { .. } => Ok(None),
        }
    }

    /// Opens the device.
    pub(crate) fn open(&self) -> Result<Box<dyn Backend>> {
        match &self.kind {
            &Kind::Cpu { threads, .. } if threads.get() > Self::MOST_THREADS => {
                let expected = format!("at most {}", Self::MOST_THREADS);
                Err(Error::argument("threads", expected, threads))
            }
            &Kind::Cpu { threads, precision, convolutions } => {
                let cpu = Cpu::with_precision(threads, precision);
                Ok(Box::new(cpu.with_convolutions(convolutions)))
            }
            Kind::Cuda { ordinal, options, held } => {
                Ok(Box::new(held.hold(Cuda::new(*ordinal, *options)?)))
            }
            &Kind::Paper { architecture, precision } => {
                Ok(Box::new(Paper::new(architecture, precision)))
            }
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Cpu { threads: NonZeroUsize::MIN, .. } => write!(f, "cpu, 1 thread"),
            Kind::Cpu { threads, .. } => write!(f, "cpu, {threads} threads"),
            Kind::Cuda { ordinal, .. } => write!(f, "cuda:{ordinal}"),
            Kind::Paper { architecture, .. } => write!(f, "{architecture}, on paper"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a machine without a driver this is the message; on one with a driver the device opens.
    #[test]
    fn a_missing_driver_is_one_clear_line() {
        match Device::cuda(0) {
            Ok(device) => assert_eq!(device.to_string(), "cuda:0"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.starts_with("cuda:0: ") && !text.contains('\n'), "{text}");
                assert_eq!(Device::best().ok(), Some(Device::cpu()));
            }
        }
        assert!(Device::cuda(1000).is_err());
    }

    #[test]
    fn a_device_on_paper_takes_plans_and_runs_none() -> Result<()> {
        let device = Device::on_paper(Architecture::SM_90);
        let make = |p: &crate::nn::Scope| crate::nn::Linear::new(&p.at("fc"), 4, 3);
        let mut net = crate::Net::new(device, crate::Seed(1), make)?;
        let x = crate::Tensor::zeros([2, 4]);
        assert_eq!(net.plan(crate::Mode::Eval, &[x.ty()])?.steps.len(), 1);
        let refused =
            net.eval().forward(&x).map_or_else(|error| error.to_string(), |_| String::new());
        assert_eq!(refused, "sm_90: plans are made for this architecture, not run");
        Ok(())
    }
}
