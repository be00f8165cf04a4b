// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks by their plain meaning, in `f64`.

use std::sync::Arc;

use kiln::backend::{Facts, Fusion, Grouping, HostMemory, ImageKernels, Storage, UpdatePlace};
use kiln::graph::reference::{evaluate, State};
use kiln::graph::{trace, Graph, MemoryFormat, ParamId, ParamSpec, Traced, Var};
use kiln::loss::Loss;
use kiln::nn::Module;
use kiln::op::{Array, TensorType};
use kiln::passes::{self, Goal, Request};
use kiln::plan::Plan;
use kiln::{Mode, Net, Precision, Scalars, Tensor, Values};

use super::close::doubles;

/// Parameters and what belongs to them, row-major.
#[derive(Clone, Debug)]
pub(crate) struct Parameters {
    pub(crate) specs: Arc<Vec<ParamSpec>>,
    pub(crate) values: Vec<Array>,
    pub(crate) gradients: Vec<Array>,
    pub(crate) moments: Vec<Vec<Array>>,
    pub(crate) averages: Vec<Array>,
    /// Number of the update under way, counted from 1.
    pub(crate) update: u32,
    /// What a scaled loss is multiplied by.
    pub(crate) loss_scale: f32,
}

impl State for Parameters {
    fn value(&self, parameter: ParamId) -> Array {
        self.values[parameter.index()].clone()
    }

    fn gradient(&self, parameter: ParamId) -> Array {
        self.gradients[parameter.index()].clone()
    }

    fn moments(&self, parameter: ParamId) -> Vec<Array> {
        self.moments[parameter.index()].clone()
    }

    fn update(&self) -> u32 {
        self.update
    }

    fn loss_scale(&self) -> f32 {
        self.loss_scale
    }

    fn average(&self, parameter: ParamId) -> Array {
        self.averages[parameter.index()].clone()
    }

    fn set_average(&mut self, parameter: ParamId, average: &Array) {
        self.averages[parameter.index()] = average.clone();
    }

    fn set_gradient(&mut self, parameter: ParamId, gradient: &Array) {
        self.gradients[parameter.index()] = gradient.clone();
    }

    fn set_state(&mut self, parameter: ParamId, value: &Array) {
        self.values[parameter.index()] = value.clone();
    }

    fn set_value(&mut self, parameter: ParamId, value: &Array, moments: &[Array]) {
        self.values[parameter.index()] = value.clone();
        self.moments[parameter.index()] = moments.to_vec();
    }
}

impl Parameters {
    /// The parameters of a network as they are now; no moments, no gradients.
    pub(crate) fn of<M: Module>(net: &mut Net<M>, x: &TensorType) -> Self {
        Self::of_all(net, std::slice::from_ref(x))
    }

    /// The same for a network that takes inputs of these types.
    pub(crate) fn of_all<M, I: Values, O: Values>(net: &mut Net<M>, inputs: &[TensorType]) -> Self
    where
        M: Module<I, O>,
    {
        let plan = net.plan(Mode::Eval, inputs).expect("a network that traces");
        let specs = Arc::new(plan.graph.parameters().to_vec());
        let read = |spec: &ParamSpec| array(&net.parameter(&spec.name).expect("its own name"));
        let values: Vec<Array> = specs.iter().map(read).collect();
        let gradients: Vec<Array> = specs.iter().map(|spec| Array::zeros(&spec.shape)).collect();
        let (moments, averages) = (vec![vec![]; specs.len()], gradients.clone());
        let (update, loss_scale) = (1, 8.0);
        Parameters { specs, values, gradients, moments, averages, update, loss_scale }
    }
}

/// Records a network and, with a loss, `[loss, output]`. Inputs that neither takes (the gradient
/// of the result) come last.
pub(crate) fn record(
    module: &dyn Module,
    loss: Option<&dyn Loss>,
    specs: &Arc<Vec<ParamSpec>>,
    inputs: &[TensorType],
) -> Traced {
    let function = |inputs: &[Var]| {
        let output = module.forward(&inputs[0]);
        match loss {
            None => vec![output],
            Some(loss) => {
                let taken = 2 + loss.inputs().len();
                vec![loss.forward(&output, &inputs[1], &inputs[2..taken]), output]
            }
        }
    };
    trace(specs.clone(), inputs, function).expect("a network that traces")
}

/// Facts of a backend that exists only here, with kernels that compute within one layer.
pub(crate) fn facts(lanes: usize, host_memory: HostMemory, update_place: UpdatePlace) -> Facts {
    let (name, fusion) = ("imagined".into(), Fusion::WithinLayers);
    let (precision, storage) = (Precision::F32, Storage::Typed);
    Facts {
        name,
        lanes,
        alignment: 256,
        host_memory,
        given: 0,
        update_place,
        fusion,
        grouping: Grouping::NONE,
        precision,
        storage,
        image_format: MemoryFormat::Contiguous,
        images: ImageKernels::Absent,
    }
}

/// Facts of one that resembles the CPU.
pub(crate) fn one_lane() -> Facts {
    facts(1, HostMemory::Direct, UpdatePlace::WeightGradient)
}

/// A plan that must compile.
pub(crate) fn compiled(traced: Traced, mode: Mode, goal: Goal, facts: &Facts) -> Plan {
    passes::compile(traced, &Request { mode, goal }, facts).expect("a plan")
}

/// Outputs of a graph in the first pass of a network of the zoo.
pub(crate) fn run(graph: &Graph, inputs: &[Array], parameters: &mut Parameters) -> Vec<Array> {
    evaluate(graph, inputs, &Scalars::new(super::zoo::SEED), parameters)
}

/// A host tensor, widened.
pub(crate) fn array(tensor: &Tensor) -> Array {
    Array::new(tensor.shape().clone(), doubles(tensor))
}
