// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the device reaches at most, and how near products of large matrices come.

use kiln::backend::cuda::lab::{Cache, Lab, PlacedLaunch, Repeats, Resident, Subject};
use kiln::backend::cuda::CudaOptions;
use kiln::nn::{Linear, Module, Scope, Sequential};
use kiln::optim::Sgd;
use kiln::plan::Plan;
use kiln::{loss, Device, Net, Precision, Seed, Tensor, Trainer, Var};

use super::peer::{Team, TORCH};
use super::row::{Row, CEILING, KILN};
use super::rows::{dtype, Amount, Report};
use super::{Result, Target};

/// How large the work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// As on a GPU.
    Full,
    /// As a simulated device does in moments.
    Small,
}

/// A device, and how large the work is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) ordinal: usize,
    pub(crate) size: Size,
}

impl Place {
    /// To train on.
    pub(crate) fn device(self, precision: Precision) -> Result<Device> {
        let options = CudaOptions { precision, ..CudaOptions::default() };
        Ok(Device::cuda_with(self.ordinal, options)?)
    }

    /// To time on.
    pub(crate) fn lab(self, precision: Precision) -> Result<Lab> {
        let options = CudaOptions { precision, ..CudaOptions::default() };
        Ok(Lab::open(self.ordinal, options)?)
    }
}

/// About how long a sample lasts, in microseconds, and how many there are.
const SAMPLE: f64 = 4000.0;
const SAMPLES: usize = 15;
const MOST_RUNS: f64 = 200.0;
/// Random parameters are scaled by this, so that nothing overflows however often it is repeated.
const SCALE: f32 = 0.03;

/// 10th, 50th and 90th percentile of a subject's time in microseconds; `None` of a simulated device.
pub(crate) fn time(lab: &mut Lab, subject: Subject<'_>, cache: Cache) -> Result<Option<[f64; 3]>> {
    let Some(first) = lab.time(subject, cache, Repeats { samples: 3, runs: 1 })? else {
        return Ok(None);
    };
    let runs = (SAMPLE / first[1].max(0.1)).clamp(1.0, MOST_RUNS) as usize;
    let times = lab.time(subject, cache, Repeats { samples: SAMPLES, runs })?;
    Ok(times.map(|times| percentiles(&times)))
}

/// Of values in rising order.
pub(crate) fn percentiles(sorted: &[f64]) -> [f64; 3] {
    let last = sorted.len() - 1;
    [last / 10, last / 2, last - last / 10].map(|at| sorted[at])
}

/// The copy, the launch that does nothing, and the multiply-adds, each of which later rows are told as a share of.
pub(crate) fn ceilings(lab: &mut Lab, size: Size, report: &mut Report) -> Result<()> {
    let bytes = if size == Size::Full { 1 << 30 } else { 1 << 16 };
    let row = |name: &str, dtype: &str| Row {
        group: CEILING.into(),
        name: name.into(),
        peer: KILN.into(),
        dtype: dtype.into(),
        cache: "warm".into(),
        ..Row::default()
    };
    let copy = lab.copy(bytes)?;
    let us = time(lab, Subject::Loose(&copy), Cache::Warm)?;
    let shape = format!("{} MiB", bytes >> 20);
    report.ceiling(Row { us, shape, ..row("copy", "") }, Amount { bytes: 2 * bytes, flops: 0 })?;
    drop(copy);
    let nothing = lab.nothing()?;
    for (cache, name) in [(Cache::Warm, "warm"), (Cache::Cold, "cold")] {
        let us = time(lab, Subject::Loose(&nothing), cache)?;
        let row = Row { us, cache: name.into(), ..row("launch of nothing", "") };
        report.ceiling(row, Amount::default())?;
    }
    let rounds = if size == Size::Full { 2000 } else { 1 };
    // Multiplications and additions of a thread in a round: kernels/ceilings.cu.
    for (precision, flops) in [("f32", 256), ("tf32", 4096), ("bf16", 8192), ("f16", 8192)] {
        let kernel = format!("ceiling_{precision}");
        let mut random = Noise::new(7);
        let word = || word_near_one(&mut random, precision);
        let work = lab.ceiling(&kernel, rounds, word)?;
        let us = time(lab, Subject::Loose(&work), Cache::Warm)?;
        let flops = flops * lab.ceiling_blocks() * 256 * rounds as usize;
        report.ceiling(Row { us, ..row(&kernel, precision) }, Amount { flops, bytes: 0 })?;
    }
    Ok(())
}

/// Random bits that are numbers between 1/2 and 1 in a format: two of them where it has 16 bits.
fn word_near_one(random: &mut Noise, precision: &str) -> u32 {
    let bits = random.bits();
    match precision {
        "bf16" => 0x3f00_3f00 | bits & 0x007f_007f,
        "f16" => 0x3800_3800 | bits & 0x03ff_03ff,
        _ => 0x3f00_0000 | bits & 0x007f_ffff,
    }
}

/// Products of square matrices, forward and backward, as two layers without a loss worth mentioning have them.
pub(crate) fn products(
    precision: Precision,
    target: Target,
    team: &mut Team,
    report: &mut Report,
) -> Result<()> {
    let extents: &[usize] = if target.place.size == Size::Full { &[4096, 8192] } else { &[64] };
    for &n in extents {
        let name = format!("product {n}");
        if !report.wants(&name) {
            continue;
        }
        if target.is_over() {
            report.left_out(&format!("{name} {precision}"), "no time");
            continue;
        }
        let device = target.place.device(precision)?;
        let make = |p: &Scope| -> Box<dyn Module> {
            Box::new(
                Sequential::new(p).with(|p| Linear::new(p, n, n)).with(|p| Linear::new(p, n, n)),
            )
        };
        let x = Tensor::new([n, n], Noise::new(1).values(n * n, 1.0))?;
        let squares = loss::from_fn(|output: &Var, _: &Var| output.square().mean());
        let labels = Tensor::labels([n], vec![0; n])?;
        // Only planned: the laboratory has memory of its own.
        let net = Net::new(device, Seed(7), make)?;
        let plan = {
            let mut trainer = Trainer::new(net, squares, Sgd::new(0.01))?;
            trainer.plan(&x.ty(), &labels.ty())?.clone()
        };
        let mut lab = target.place.lab(precision)?;
        let resident = load(&mut lab, &plan, &[x, labels])?;
        for placed in lab.launches(&resident) {
            let step = &plan.steps[placed.step];
            if step.flops == 0 || launches_of(&lab, &resident, placed.step) != 1 {
                continue;
            }
            let us = time(&mut lab, Subject::Launch(&resident, &placed), Cache::Warm)?;
            let count = step.flops / (2 * n * n * n);
            let row = Row {
                group: "product".into(),
                name: placed.launch.kernel.clone(),
                peer: KILN.into(),
                shape: format!("{count} x {n}^3"),
                dtype: dtype(precision),
                cache: "warm".into(),
                us,
                grid: Some(placed.launch.blocks),
                ..Row::default()
            };
            let amount = Amount { flops: step.flops, bytes: 0 };
            report.add(row.clone(), amount)?;
            if let (Some([_, us, _]), true) = (us, team.has(TORCH)) {
                let form = form_of(&placed.launch.kernel);
                let beside = team.product(n, precision, form);
                let row = Row { peer: TORCH.into(), us: None, grid: None, ..row };
                let row = Row { version: team.version(TORCH), ..row };
                report.add(of_torch(row, us, count, beside), amount)?;
            }
        }
    }
    Ok(())
}

/// PyTorch's row of `count` products beside kiln's of `us`.
fn of_torch(row: Row, us: f64, count: usize, beside: Result<f64>) -> Row {
    match beside.map(|torch| torch * count as f64) {
        Ok(torch) => Row { us: Some([torch; 3]), ratio: Some(torch / us), ..row },
        Err(why) => Row { broken: Some(why.to_string()), ..row },
    }
}

/// The operands' order, as names of kernels have it.
fn form_of(kernel: &str) -> &str {
    kernel.split('_').find(|word| ["nt", "nn", "tn"].contains(word)).unwrap_or("nn")
}

/// How many launches a step has.
pub(crate) fn launches_of(lab: &Lab, resident: &Resident, step: usize) -> usize {
    lab.launches(resident).iter().filter(|placed: &&PlacedLaunch| placed.step == step).count()
}

/// Lays a plan out with random parameters.
pub(crate) fn load(lab: &mut Lab, plan: &Plan, inputs: &[Tensor]) -> Result<Resident> {
    let mut random = Noise::new(3);
    Ok(lab.load(plan, inputs, |spec| random.values(spec.shape.elements(), SCALE))?)
}

/// A small generator: there is a lot to fill.
#[derive(Clone, Debug)]
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 32) as u32
    }

    /// This many numbers in [-scale, scale).
    pub(crate) fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        let next = |_| (self.bits() as i32 as f32) / (1u32 << 31) as f32 * scale;
        (0..count).map(next).collect()
    }
}
