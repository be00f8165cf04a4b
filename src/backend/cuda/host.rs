// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps without a kernel, computed by the host by the plain meaning of their nodes. They are rare
//! and slow: their operands travel to the host and their results back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::driver::CudaStream;
use half::{bf16, f16};

use super::gpu::Gpu;
use super::lower::{address, Places};
use super::sizes::single;
use super::transfer::{read_now, write_now};
use crate::backend::Run;
use crate::graph::reference::{interpret, State};
use crate::graph::{Node, NodeId, ParamId};
use crate::op::{Array, TensorType};
use crate::plan::{Buffer, BufferId, Plan, Step};
use crate::{DType, Error, Result};

/// Computes a step and returns when its results are on the device.
///
/// # Errors
/// [`Error::Device`] that names the operation and the layer if the step changes parameters.
pub(super) fn compute(
    gpu: &Gpu,
    lane: &Arc<CudaStream>,
    run: &Run<'_>,
    places: &Places<'_>,
    step: &Step,
) -> Result<()> {
    let (plan, graph) = (run.plan, &run.plan.graph);
    let changes = |id: &&NodeId| graph.node(**id).op.is_effect();
    if let Some(node) = step.nodes.iter().find(changes) {
        return Err(Error::Device {
            device: gpu.name().into(),
            message: format!(
                "no kernel for {} of layer {:?}",
                graph.node(*node).op.name(),
                step.layer
            ),
        });
    }
    tracing::debug!(layer = %step.layer, kernel = step.kernel.name(), "computed by the host");
    let mut values = BTreeMap::new();
    for (&node, read) in step.inputs.iter().zip(&step.reads) {
        if let Some(buffer) = read {
            values.insert(node, load(gpu, lane, plan, places, (node, *buffer))?);
        }
    }
    interpret(graph, &step.nodes, run.scalars, &mut Untouched, &mut values);
    for (node, &buffer) in step.outputs.iter().zip(&step.writes) {
        let Buffer { ty, rounded, .. } = plan.buffer(buffer);
        let Node { format, ty: TensorType { shape, .. }, .. } = graph.node(*node);
        let stored = format.pack(shape, values[node].data.clone());
        #[allow(
            clippy::cast_possible_truncation,
            reason = "what is stored so are integers of this size"
        )]
        let integers = stored.iter().map(|&x| x as i32);
        let results = stored.iter().map(|&x| rounded.round(single(x)));
        let bytes = match ty.dtype {
            DType::Bf16 => results.flat_map(|x| bf16::from_f32(x).to_ne_bytes()).collect(),
            DType::F16 => results.flat_map(|x| f16::from_f32(x).to_ne_bytes()).collect(),
            DType::I32 => integers.flat_map(i32::to_ne_bytes).collect(),
            DType::F32 | DType::I64 => results.flat_map(f32::to_ne_bytes).collect::<Vec<u8>>(),
        };
        write_now(gpu, lane, address(plan, places, buffer)?, &bytes)?;
    }
    Ok(())
}

fn load(
    gpu: &Gpu,
    lane: &Arc<CudaStream>,
    plan: &Plan,
    places: &Places<'_>,
    (node, buffer): (NodeId, BufferId),
) -> Result<Array> {
    let ty = &plan.buffer(buffer).ty;
    let Node { format, ty: TensorType { shape, .. }, .. } = plan.graph.node(node);
    let mut bytes = vec![0; ty.dtype.bytes() * shape.elements()];
    read_now(gpu, lane, address(plan, places, buffer)?, &mut bytes)?;
    let words = || bytes.as_chunks::<4>().0.iter();
    let longs = || bytes.as_chunks::<8>().0.iter();
    let halves = || bytes.as_chunks::<2>().0.iter();
    let data: Vec<f64> = match ty.dtype {
        DType::F32 => words().map(|word| f64::from(f32::from_ne_bytes(*word))).collect(),
        DType::I32 => words().map(|word| f64::from(i32::from_ne_bytes(*word))).collect(),
        DType::I64 => longs().map(|long| i64::from_ne_bytes(*long) as f64).collect(),
        DType::Bf16 => halves().map(|half| bf16::from_ne_bytes(*half).to_f64()).collect(),
        DType::F16 => halves().map(|half| f16::from_ne_bytes(*half).to_f64()).collect(),
    };
    Ok(Array::new(shape.clone(), format.unpack(shape, data)))
}

/// The state of steps that have none: parameters come as values, and nothing is stored.
struct Untouched;

impl State for Untouched {
    fn value(&self, _: ParamId) -> Array {
        Array::scalar(f64::NAN)
    }
    fn gradient(&self, _: ParamId) -> Array {
        Array::scalar(f64::NAN)
    }
    fn moments(&self, _: ParamId) -> Vec<Array> {
        Vec::new()
    }
    fn average(&self, _: ParamId) -> Array {
        Array::scalar(f64::NAN)
    }
    fn set_average(&mut self, _: ParamId, _: &Array) {}
    fn update(&self) -> u32 {
        1
    }
    fn loss_scale(&self) -> f32 {
        f32::NAN
    }
    fn set_gradient(&mut self, _: ParamId, _: &Array) {}
    fn set_state(&mut self, _: ParamId, _: &Array) {}
    fn set_value(&mut self, _: ParamId, _: &Array, _: &[Array]) {}
}
