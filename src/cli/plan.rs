// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln plan`: the steps of a compiled plan and their sums.

use std::fmt::Write;
use std::num::NonZeroUsize;

use kiln::backend::cpu::{self, Path};
use kiln::backend::cuda::{launches, Architecture, KernelLaunch};
use kiln::graph::NodeId;
use kiln::op::TensorType;
use kiln::plan::{BufferId, Place, Plan, Step};
use kiln::{grouped, Device, Error, Mode, Precision, Result};
use serde_json::{json, Value};

use super::args::{Common, DeviceName, GraphFormat, PlanArgs, PlanMode};
use super::data::TextClasses;
use super::network::{self, Feed, Sizes};
use super::output::Output;
use super::settings::{NetSettings, StepSettings};

pub(super) fn run(args: &PlanArgs, common: &Common, output: &mut Output) -> Result<()> {
    let settings = NetSettings::new(&args.net)?;
    let step = StepSettings::new(&args.step, settings.feed())?;
    let target = Target::new(args, common)?;
    let sizes = match settings.feed() {
        Feed::Texts => TextClasses::of_words()?.sizes(),
        Feed::Rows | Feed::Images => Sizes::OF_IMAGES,
    };
    let net = network::net(settings, sizes, target.device.clone(), 0)?;
    let mut trainer = network::trainer(net, &step, NonZeroUsize::MIN)?;
    let batch = step.batch.get();
    let x = settings.batch(batch);
    let plan = match args.mode {
        PlanMode::Train => trainer.plan(&x, &TensorType::i32([batch].into()))?,
        PlanMode::Eval => trainer.net().plan(Mode::Eval, &x)?,
    };
    let ways = target.ways(plan)?;
    match args.graph {
        Some(GraphFormat::Text) => output.result(plan.graph.to_string().trim_end()),
        Some(GraphFormat::Dot) => output.result(plan.graph.to_dot().trim_end()),
        None => {
            output.result(&table(plan, &ways))?;
            output.result(&sums(plan, &ways))
        }
    }?;
    output.json(&object(plan, &target, &ways))
}

/// What a plan is made for.
struct Target {
    device: Device,
    /// For GPUs, which need not be there.
    gpu: Option<(Architecture, Precision)>,
}

/// Which way each step takes.
enum Ways {
    /// Loops of the CPU.
    Loops(Vec<Path>),
    /// The kernels that a step launches; none where the host computes it.
    Launches(Vec<Option<Vec<KernelLaunch>>>),
}

impl Target {
    fn new(args: &PlanArgs, common: &Common) -> Result<Self> {
        let found = || Device::first_gpu().as_ref().map(Architecture::from);
        let architecture = match (args.arch, common.device, common.threads) {
            (Some(_), DeviceName::Cpu, _) => {
                return Err(Error::argument("arch", "a GPU with it", "--device cpu"))
            }
            (Some(architecture), ..) => Some(architecture),
            (None, DeviceName::Cuda(_), _) => Some(Architecture::SM_90),
            (None, DeviceName::Auto, None) => found(),
            (None, DeviceName::Auto, Some(_)) | (None, DeviceName::Cpu, _) => None,
        };
        Ok(match architecture {
            Some(architecture) => {
                let precision = network::cuda_options(common).precision;
                let device = Device::on_paper(architecture).with_precision(precision);
                Target { device, gpu: Some((architecture, precision)) }
            }
            None => Target { device: network::device(common)?, gpu: None },
        })
    }

    fn ways(&self, plan: &Plan) -> Result<Ways> {
        Ok(match self.gpu {
            Some((architecture, precision)) => {
                Ways::Launches(launches(plan, architecture, precision)?)
            }
            None => {
                Ways::Loops(cpu::paths(plan, self.device.threads().unwrap_or(NonZeroUsize::MIN)))
            }
        })
    }
}

fn table(plan: &Plan, ways: &Ways) -> String {
    let mut rows = vec![HEADINGS.map(String::from)];
    for (index, step) in plan.steps.iter().enumerate() {
        rows.push([
            index.to_string(),
            match ways {
                Ways::Loops(_) => step.kernel.name().into(),
                Ways::Launches(launches) => kernels(&launches[index]).join(" "),
            },
            ops(plan, step).join("+"),
            step.layer.clone(),
            shapes(plan, step),
            grouped(step.bytes),
            grouped(step.flops),
            step.lane.index().to_string(),
            step.writes.iter().map(|&buffer| place(plan, buffer)).collect::<Vec<_>>().join(" "),
            match ways {
                Ways::Loops(paths) => paths[index].to_string(),
                Ways::Launches(_) => String::new(),
            },
        ]);
    }
    if let Ways::Launches(_) = ways {
        rows[0][HEADINGS.len() - 1].clear(); // the kernel's name says it
    }
    let mut widths = [0; HEADINGS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for ((cell, width), alignment) in row.iter().zip(widths).zip(ALIGNMENTS) {
            let _ = match alignment {
                Alignment::Left => write!(line, "{cell:<width$}  "),
                Alignment::Right => write!(line, "{cell:>width$}  "),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

const HEADINGS: [&str; 10] =
    ["step", "kernel", "ops", "layer", "shapes", "bytes", "flops", "lane", "writes", "path"];

#[derive(Clone, Copy)]
enum Alignment {
    Left,
    Right,
}

const ALIGNMENTS: [Alignment; 10] = {
    use Alignment::{Left, Right};
    [Right, Left, Left, Left, Left, Right, Right, Right, Left, Left]
};

/// Names of the kernels that a step launches.
fn kernels(launches: &Option<Vec<KernelLaunch>>) -> Vec<&str> {
    match launches {
        Some(launches) => launches.iter().map(|launch| launch.kernel.as_str()).collect(),
        None => vec!["(host)"],
    }
}

/// Number of launches of a step: on the CPU each step is one.
fn count(ways: &Ways) -> usize {
    match ways {
        Ways::Loops(paths) => paths.len(),
        Ways::Launches(launches) => launches.iter().flatten().map(Vec::len).sum(),
    }
}

fn sums(plan: &Plan, ways: &Ways) -> String {
    let totals = plan.totals();
    format!(
        "steps {}, of them random {}, launches {}\nbytes moved {}\nflops {}\n\
         arena {} bytes, without sharing {}\nmasks {} bytes",
        totals.steps,
        totals.random_steps,
        count(ways),
        grouped(totals.bytes),
        grouped(totals.flops),
        grouped(totals.arena_bytes),
        grouped(totals.unshared_bytes),
        totals.mask_bytes,
    )
}

fn object(plan: &Plan, target: &Target, ways: &Ways) -> Value {
    let totals = plan.totals();
    let mut steps: Vec<Value> = plan.steps.iter().map(|step| step_object(plan, step)).collect();
    for (index, step) in steps.iter_mut().enumerate() {
        match ways {
            Ways::Loops(paths) => step["path"] = paths[index].to_string().into(),
            Ways::Launches(launches) => {
                step["kernels"] = json!(kernels(&launches[index]));
                step["launches"] = launches[index].iter().flatten().map(launch_object).collect();
            }
        }
    }
    json!({
        "device": target.device.to_string(),
        "arch": target.gpu.map(|(architecture, _)| architecture.to_string()),
        "steps": totals.steps,
        "launches": count(ways),
        "bytes": totals.bytes,
        "flops": totals.flops,
        "arena_bytes": totals.arena_bytes,
        "unshared_bytes": totals.unshared_bytes,
        "mask_bytes": totals.mask_bytes,
        "random_steps": totals.random_steps,
        "lanes": plan.lanes,
        "plan": steps,
    })
}

fn step_object(plan: &Plan, step: &Step) -> Value {
    let types = |nodes: &[NodeId]| -> Vec<String> {
        nodes.iter().map(|&id| plan.graph.node(id).ty.to_string()).collect()
    };
    let buffers = |ids: &mut dyn Iterator<Item = BufferId>| -> Vec<Value> {
        ids.map(|id| {
            let buffer = plan.buffer(id);
            let offset = match buffer.place {
                Place::Arena(offset) => Some(offset.0),
                _ => None,
            };
            json!({ "buffer": id.index(), "place": place(plan, id), "arena_offset": offset })
        })
        .collect()
    };
    json!({
        "kernel": step.kernel.name(),
        "ops": ops(plan, step),
        "layer": step.layer,
        "inputs": types(&step.inputs),
        "outputs": types(&step.outputs),
        "reads": buffers(&mut step.reads.iter().flatten().copied()),
        "writes": buffers(&mut step.writes.iter().copied()),
        "bytes": step.bytes,
        "flops": step.flops,
        "lane": step.lane.index(),
        "waits": step.waits.iter().map(|event| event.index()).collect::<Vec<_>>(),
        "records": step.records.map(|event| event.index()),
    })
}

fn launch_object(launch: &KernelLaunch) -> Value {
    json!({
        "kernel": launch.kernel,
        "blocks": launch.blocks,
        "threads": launch.threads,
        "shared_bytes": launch.shared,
    })
}

fn ops(plan: &Plan, step: &Step) -> Vec<&'static str> {
    step.nodes.iter().map(|&id| plan.graph.node(id).op.name()).collect()
}

/// `[256, 784] [512, 784] -> [256, 512]`
fn shapes(plan: &Plan, step: &Step) -> String {
    let list = |nodes: &[NodeId]| {
        let shapes = nodes.iter().map(|&id| plan.graph.node(id).ty.shape.to_string());
        shapes.collect::<Vec<_>>().join(" ")
    };
    format!("{} -> {}", list(&step.inputs), list(&step.outputs)).trim().to_string()
}

fn place(plan: &Plan, id: BufferId) -> String {
    let parameter = |index: usize| plan.graph.parameters()[index].name.as_str();
    match plan.buffer(id).place {
        Place::Arena(offset) => format!("arena+{}", offset.0),
        Place::Input(input) => format!("input {}", input.index()),
        Place::Uploaded(input, at) => format!("input {} at arena+{}", input.index(), at.0),
        Place::Output(slot) => format!("output {slot}"),
        Place::Parameter(id) => parameter(id.index()).into(),
        Place::Gradient(id) => format!("gradient of {}", parameter(id.index())),
        Place::Average(id) => format!("average of {}", parameter(id.index())),
    }
}
