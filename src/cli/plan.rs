// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln plan`: the steps of a compiled plan and their sums.

use std::fmt::Write;
use std::num::NonZeroUsize;

use kiln::backend::cpu::{self, Path};
use kiln::backend::cuda::{
    work_fed, Apart, Architecture, CopyWay, Feed, Moved, PlanWork, WorkItem,
};
use kiln::data::OnDevice;
use kiln::graph::NodeId;
use kiln::op::TensorType;
use kiln::plan::{BufferId, Place, Plan, Step};
use kiln::{grouped, Device, Error, Mode, Precision, Result};
use serde_json::{json, Value};

use super::args::{Common, DeviceName, GraphFormat, PlanArgs, PlanMode};
use super::network;
use super::output::Output;
use super::settings::{NetSettings, StepSettings};
use super::table::{aligned, Alignment};

pub(super) fn run(args: &PlanArgs, common: &Common, output: &mut Output) -> Result<()> {
    let settings = NetSettings::new(&args.net)?;
    let step = StepSettings::new(&args.step, settings.feed())?;
    let target = Target::new(args, common)?;
    let net = network::net(settings, settings.usual_sizes()?, target.device.clone(), 0)?;
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
    /// Where samples are.
    feed: Feed,
}

/// Which way each step takes.
enum Ways {
    /// Loops of the CPU.
    Loops(Vec<Path>),
    /// What a GPU is given to do.
    Work(PlanWork),
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
        let feed = match common.on_device {
            Some(OnDevice::Always) => Feed::Device,
            Some(OnDevice::Auto | OnDevice::Never) | None => Feed::Host,
        };
        Ok(match architecture {
            Some(architecture) => {
                let precision = network::cuda_options(common).precision;
                let device = Device::on_paper(architecture).with_precision(precision);
                Target { device, gpu: Some((architecture, precision)), feed }
            }
            None => Target { device: network::device(common)?, gpu: None, feed: Feed::Host },
        })
    }

    fn ways(&self, plan: &Plan) -> Result<Ways> {
        Ok(match self.gpu {
            Some((architecture, precision)) => {
                Ways::Work(work_fed(plan, architecture, precision, self.feed)?)
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
                Ways::Work(work) => item_names(&work.steps[index]),
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
                Ways::Work(_) => String::new(),
            },
        ]);
    }
    if let Ways::Work(_) = ways {
        rows[0][HEADINGS.len() - 1].clear(); // the kernel's name says it
    }
    aligned(&rows, ALIGNMENTS)
}

const HEADINGS: [&str; 10] =
    ["step", "kernel", "ops", "layer", "shapes", "bytes", "flops", "lane", "writes", "path"];

const ALIGNMENTS: [Alignment; 10] = {
    use Alignment::{Left, Right};
    [Right, Left, Left, Left, Left, Right, Right, Right, Left, Left]
};

/// What a piece of work is called: a launch by its kernel.
fn item_name(item: &WorkItem) -> &str {
    match item {
        WorkItem::Launch(launch) => &launch.kernel,
        WorkItem::Copy { way: CopyWay::Up, .. } => "(copy up)",
        WorkItem::Copy { way: CopyWay::Within, .. } => "(copy)",
        WorkItem::Copy { way: CopyWay::Down, .. } => "(copy down)",
        WorkItem::Fill { .. } => "(fill)",
        WorkItem::Host { .. } => "(host)",
    }
}

/// What several pieces of work are called; those of one name in a row are counted.
pub(super) fn item_names(items: &[WorkItem]) -> String {
    let name = |run: &[WorkItem]| match run {
        [one] => item_name(one).to_owned(),
        run => format!("{}x {}", run.len(), run.first().map_or("", item_name)),
    };
    let runs = items.chunk_by(|a, b| item_name(a) == item_name(b));
    runs.map(name).collect::<Vec<_>>().join(" ")
}

/// Number of launches: on the CPU each step is one.
fn launches(ways: &Ways) -> usize {
    match ways {
        Ways::Loops(paths) => paths.len(),
        Ways::Work(work) => work.totals().launches,
    }
}

/// The operations of steps that no loop and no kernel computes.
fn plain(plan: &Plan, ways: &Ways) -> Vec<String> {
    let is_plain = |index: usize| match ways {
        Ways::Loops(paths) => paths[index].is_plain(),
        Ways::Work(work) => {
            work.steps[index].iter().any(|item| matches!(item, WorkItem::Host { .. }))
        }
    };
    let steps = plan.steps.iter().enumerate().filter(|(index, _)| is_plain(*index));
    steps.map(|(_, step)| ops(plan, step).join("+")).collect()
}

fn sums(plan: &Plan, ways: &Ways) -> String {
    let totals = plan.totals();
    let beside = match ways {
        Ways::Loops(_) => String::new(),
        Ways::Work(work) => beside_steps(work),
    };
    let mut text = format!(
        "steps {}, of them random {}, launches {}\nbytes moved {}\n{beside}flops {}\n\
         arena {} bytes, without sharing {}\nmasks {} bytes",
        totals.steps,
        totals.random_steps,
        launches(ways),
        grouped(totals.bytes),
        grouped(totals.flops),
        grouped(totals.arena_bytes),
        grouped(totals.unshared_bytes),
        totals.mask_bytes,
    );
    if let Ways::Work(work) = ways {
        let together =
            |item: &WorkItem| matches!(item, WorkItem::Launch(launch) if launch.cooperative);
        if work.items().any(together) {
            text.push_str(
                "\nrecurrent layers make all steps in one launch, as on a GPU whose self-test has passed",
            );
        }
        for (layer, why) in &work.apart {
            let _ = write!(text, "\n{layer} makes a launch for each step: {why}");
        }
    }
    let plain = plain(plan, ways);
    if !plain.is_empty() {
        let _ = write!(text, "\nby their plain meaning, which is slow: {}", plain.join(", "));
    }
    text
}

/// What a device does beside the steps' kernels.
fn beside_steps(work: &PlanWork) -> String {
    let totals = work.totals();
    let text = |moved: Moved| format!("{} of {} bytes", moved.count, grouped(moved.bytes));
    let [up, within, down] = totals.copies.map(text);
    let (fills, host) = (text(totals.fills), text(totals.host));
    let feed = match work.feed {
        Feed::Host => "samples come from the host, as augmented ones do; --on-device always: they lie on the device",
        Feed::Device => "samples lie on the device, and are not augmented",
    };
    format!(
        "{feed}\ncasts {}, bytes of casts and turned weights {}\ncopies up {up}, within the device {within}, down {down}\n\
         fills {fills}, steps on the host {host}\n",
        text(totals.casts),
        grouped(totals.extra_bytes)
    )
}

fn object(plan: &Plan, target: &Target, ways: &Ways) -> Value {
    let totals = plan.totals();
    let mut steps: Vec<Value> = plan.steps.iter().map(|step| step_object(plan, step)).collect();
    for (index, step) in steps.iter_mut().enumerate() {
        match ways {
            Ways::Loops(paths) => step["path"] = paths[index].to_string().into(),
            Ways::Work(work) => step["work"] = item_objects(&work.steps[index]),
        }
    }
    let mut object = json!({
        "device": target.device.to_string(),
        "arch": target.gpu.map(|(architecture, _)| architecture.to_string()),
        "steps": totals.steps,
        "launches": launches(ways),
        "bytes": totals.bytes,
        "flops": totals.flops,
        "arena_bytes": totals.arena_bytes,
        "unshared_bytes": totals.unshared_bytes,
        "mask_bytes": totals.mask_bytes,
        "random_steps": totals.random_steps,
        "plain_steps": plain(plan, ways),
        "lanes": plan.lanes,
        "plan": steps,
    });
    if let Ways::Work(work) = ways {
        let totals = work.totals();
        let moved = |moved: Moved| json!({ "count": moved.count, "bytes": moved.bytes });
        let [up, within, down] = totals.copies.map(moved);
        object["once"] = item_objects(&work.once);
        object["before"] = item_objects(&work.before);
        object["after"] = item_objects(&work.after);
        object["copies"] = json!({ "up": up, "within": within, "down": down });
        object["casts"] = moved(totals.casts);
        object["samples_on"] = match work.feed {
            Feed::Host => "host",
            Feed::Device => "device",
        }
        .into();
        object["fills"] = moved(totals.fills);
        object["host"] = moved(totals.host);
        object["cast_bytes"] = totals.extra_bytes.into();
        let apart =
            |(layer, why): &(String, Apart)| json!({ "layer": layer, "why": why.to_string() });
        object["launch_for_each_step"] = work.apart.iter().map(apart).collect();
    }
    object
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

fn item_objects(items: &[WorkItem]) -> Value {
    items.iter().map(item_object).collect()
}

fn item_object(item: &WorkItem) -> Value {
    match item {
        WorkItem::Launch(launch) => json!({
            "kernel": launch.kernel,
            "blocks": launch.blocks,
            "threads": launch.threads,
            "shared_bytes": launch.shared,
            "cooperative": launch.cooperative,
            "cluster": launch.cluster,
        }),
        WorkItem::Copy { way, bytes } => {
            let way = match way {
                CopyWay::Up => "up",
                CopyWay::Within => "within",
                CopyWay::Down => "down",
            };
            json!({ "copy": way, "bytes": bytes })
        }
        WorkItem::Fill { bytes } => json!({ "fill": true, "bytes": bytes }),
        WorkItem::Host { bytes } => json!({ "host": true, "bytes": bytes }),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use kiln::kernel::Kernel;

    #[test]
    fn pieces_of_work_of_one_name_are_counted() {
        let (fill, copy) =
            (WorkItem::Fill { bytes: 4 }, WorkItem::Copy { way: CopyWay::Within, bytes: 4 });
        let items = [copy.clone(), fill.clone(), fill.clone(), fill, copy];
        assert_eq!(item_names(&items), "(copy) 3x (fill) (copy)");
    }

    /// What a kernel of one's own is missing for is named, in text and as JSON.
    #[test]
    fn steps_without_a_loop_are_named() -> Result<()> {
        let net = |p: &kiln::nn::Scope| kiln::nn::Linear::new(&p.at("fc"), 3, 2);
        let mut net = kiln::Net::new(Device::cpu(), kiln::Seed(7), net)?;
        let mut plan = net.plan(Mode::Eval, &[TensorType::f32([4, 3].into())])?.clone();
        let target = Target { device: Device::cpu(), gpu: None, feed: Feed::Host };
        let fast = target.ways(&plan)?;
        assert!(!sums(&plan, &fast).contains("plain"));
        plan.steps[0].kernel = Kernel::Plain;
        let ways = target.ways(&plan)?;
        let named = "by their plain meaning, which is slow: matmul";
        assert!(sums(&plan, &ways).contains(named), "{}", sums(&plan, &ways));
        assert!(table(&plan, &ways).contains("plain meaning"));
        let gpu = Some((Architecture::SM_90, Precision::F32));
        let ways = Target { device: Device::cpu(), gpu, feed: Feed::Host }.ways(&plan)?;
        assert!(sums(&plan, &ways).contains(named) && table(&plan, &ways).contains("(host)"));
        let object = object(&plan, &target, &ways);
        assert!(object["plain_steps"][0].as_str().is_some_and(|ops| ops.starts_with("matmul")));
        Ok(())
    }
}
