// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running a plan on a backend step by step, each step judged by the meaning of the nodes that it
//! replaces, computed from the very numbers that the step was given.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln::backend::{
    counters_of, slots, words_of, Arena, Backend, Layout, Memory, PlanId, Run, Slot, Span,
};
use kiln::graph::reference::interpret;
use kiln::graph::{NodeId, ParamId, ParamRole, ParamSpec};
use kiln::op::{Array, Op, TensorType};
use kiln::plan::{Bytes, Place, Plan};
use kiln::{DType, Scalars, Shape, Tensor, TrainingState};

use super::close::{compare, Tolerance};
use super::reference::{array, Parameters};

const F32: usize = std::mem::size_of::<f32>();

/// A plan on a backend, with a network's state.
pub(crate) struct Stepper<'a> {
    backend: &'a mut dyn Backend,
    id: PlanId,
    plan: &'a Plan,
    memory: Memory,
    /// Number of the update under way in every run.
    update: u32,
    /// What a scaled loss is multiplied by in every run.
    loss_scale: f32,
    specs: Arc<Vec<ParamSpec>>,
}

/// What a run of a stepper found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Judged {
    /// Steps judged.
    pub(crate) steps: usize,
    /// Largest share of the tolerance that was used.
    pub(crate) worst: f64,
}

impl<'a> Stepper<'a> {
    /// Reserves memory for a plan and brings the parameters there.
    pub(crate) fn new(
        backend: &'a mut dyn Backend,
        plan: &'a Plan,
        parameters: &Parameters,
    ) -> Self {
        let specs = parameters.specs.clone();
        let alignment = backend.facts().alignment;
        let (slots, [size, of_state]) = slots(&specs, alignment, |spec| backend.layout(spec));
        let mut reserve = |bytes| backend.reserve(bytes).expect("memory");
        let counters = Bytes(TrainingState::BYTES);
        let sizes = [plan.arena, size, of_state, size, size, size, size, of_state, counters];
        let arenas = sizes.map(&mut reserve);
        let [arena, values, state, gradients, first, second, averages, of_state, training] = arenas;
        let memory = Memory {
            plan: arena,
            values,
            state,
            gradients: Some(gradients),
            moments: vec![first, second],
            averages: [Some(averages), Some(of_state)],
            training: Some(training),
            slots: Arc::new(slots),
        };
        let id = PlanId::fresh();
        let Parameters { update, loss_scale, .. } = *parameters;
        let mut stepper =
            Stepper { backend, id, plan, memory, update, loss_scale, specs: specs.clone() };
        for (index, value) in parameters.values.iter().enumerate() {
            stepper.write(stepper.home(index), index, value);
        }
        for index in (0..specs.len()).filter(|&index| specs[index].dtype == DType::F32) {
            let arena = stepper.home_of_average(index);
            stepper.write(arena, index, &parameters.averages[index]);
        }
        let trained = |index: &usize| specs[*index].role == ParamRole::Trained;
        for index in (0..specs.len()).filter(trained) {
            stepper.write(gradients, index, &parameters.gradients[index]);
            let moments = &parameters.moments[index];
            for (arena, value) in [first, second].into_iter().zip(moments) {
                stepper.write(arena, index, value);
            }
        }
        stepper
    }

    /// Runs every step once and compares what it wrote.
    pub(crate) fn judge(
        &mut self,
        inputs: &[Tensor],
        scalars: &Scalars,
        tolerance: Tolerance,
    ) -> Result<Judged, String> {
        let mut outputs = self.empty_outputs();
        let mut values: BTreeMap<NodeId, Array> = BTreeMap::new();
        for (id, node) in self.plan.graph.nodes() {
            if let Op::Input(input) = node.op {
                values.insert(id, array(&inputs[input.index()]));
            }
        }
        let (updates, loss_scale) = (self.update - 1, self.loss_scale);
        let counted = TrainingState { updates, loss_scale, ..TrainingState::default() };
        let at = self.memory.training_state().expect("reserved");
        self.backend.write(at, &counted.words()).expect("a span of an arena");
        let mut judged = Judged::default();
        let (id, plan, memory) = (self.id, self.plan, self.memory.clone());
        let run = Run { id, plan, memory: &memory, scalars, inputs, outputs: &mut outputs };
        self.backend.begin(&run).map_err(|error| error.to_string())?;
        for index in 0..self.plan.steps.len() {
            let step = &self.plan.steps[index];
            let mut state = self.state();
            let mut meant = values.clone();
            interpret(&self.plan.graph, &step.nodes, scalars, &mut state, &mut meant);
            let mut run = Run { id, plan, memory: &memory, scalars, inputs, outputs: &mut outputs };
            self.backend.launch(&mut run, index).map_err(|error| error.to_string())?;
            let what = format!("step {index} {} ({})", step.kernel.name(), step.layer);
            for (&node, &buffer) in step.outputs.iter().zip(&step.writes) {
                let got = self.read_buffer(plan.buffer(buffer).place, node, &outputs);
                let what = format!("{what}, {node:?} {}", plan.graph.node(node).op.name());
                judged.note(&what, &got, &meant[&node], tolerance)?;
                values.insert(node, got);
            }
            judged.note_moments(&what, &self.state(), &state, tolerance)?;
            judged.steps += 1;
        }
        Ok(judged)
    }

    fn empty_outputs(&self) -> Vec<Vec<f32>> {
        let place = |(index, (node, buffer)): (usize, &(NodeId, _))| {
            let elements = self.plan.graph.node(*node).ty.shape.elements();
            match self.plan.buffer(*buffer).place {
                Place::Output(slot) if slot == index => vec![0.0; elements],
                _ => Vec::new(),
            }
        };
        self.plan.outputs.iter().enumerate().map(place).collect()
    }

    fn read_buffer(&mut self, place: Place, node: NodeId, outputs: &[Vec<f32>]) -> Array {
        let TensorType { shape, dtype } = self.plan.graph.node(node).ty.clone();
        let format = self.plan.graph.node(node).format;
        if let Place::Parameter(parameter) = place {
            return self.read(self.home(parameter.index()), parameter.index());
        }
        if let Place::Average(parameter) = place {
            return self.read(self.home_of_average(parameter.index()), parameter.index());
        }
        let stored = match place {
            Place::Arena(start) => {
                let length = Bytes(shape.elements() * F32);
                let span = Span { arena: self.memory.plan, start, length };
                self.backend.read(span).expect("a span of the arena")
            }
            Place::Output(slot) => outputs[slot].clone(),
            Place::Gradient(parameter) => {
                let arena = self.memory.gradients.expect("reserved");
                return self.read(arena, parameter.index());
            }
            Place::Input(_) | Place::Uploaded(..) | Place::Parameter(_) | Place::Average(_) => {
                panic!("a step writes to an input")
            }
        };
        let stored = format.unpack(&shape, stored);
        match dtype {
            DType::I32 => {
                let integers = stored.iter().map(|word| f64::from(word.to_bits() as i32));
                Array::new(shape, integers.collect())
            }
            _ => widened(shape, &stored),
        }
    }

    /// The parameters' state on the backend.
    fn state(&mut self) -> Parameters {
        let count = self.specs.len();
        let gradients = self.memory.gradients.expect("reserved");
        let moments = self.memory.moments.clone();
        let rule_moments = self.moments_in_use();
        Parameters {
            specs: self.specs.clone(),
            update: self.update,
            loss_scale: self.loss_scale,
            values: (0..count).map(|index| self.read(self.home(index), index)).collect(),
            gradients: (0..count).map(|index| self.read_trained(gradients, index)).collect(),
            averages: (0..count).map(|index| self.read_average(index)).collect(),
            moments: (0..count)
                .map(|index| {
                    let used = &moments[..rule_moments];
                    used.iter().map(|&arena| self.read_trained(arena, index)).collect()
                })
                .collect(),
        }
    }

    fn moments_in_use(&self) -> usize {
        let rule = self.plan.graph.nodes().find_map(|(_, node)| match &node.op {
            Op::Update(_, rule) => Some(*rule),
            _ => None,
        });
        rule.map_or(0, |rule| rule.moments())
    }

    fn read(&mut self, arena: Arena, index: usize) -> Array {
        let (span, layout) = self.span(arena, index);
        let shape = self.specs[index].shape.clone();
        let stored = self.backend.read(span).expect("a span of an arena");
        if self.specs[index].dtype == DType::I64 {
            let counters = counters_of(&stored);
            return Array::new(shape, counters.into_iter().map(|count| count as f64).collect());
        }
        let values = layout.unpack(&shape, &stored);
        widened(shape, &values)
    }

    /// Gradients and moments, which state has none of.
    fn read_trained(&mut self, arena: Arena, index: usize) -> Array {
        match self.specs[index].role {
            ParamRole::Trained => self.read(arena, index),
            ParamRole::State => Array::zeros(&self.specs[index].shape),
        }
    }

    /// Averages, which counters have none of.
    fn read_average(&mut self, index: usize) -> Array {
        match self.specs[index].dtype {
            DType::I64 => Array::zeros(&self.specs[index].shape),
            _ => self.read(self.home_of_average(index), index),
        }
    }

    fn home_of_average(&self, index: usize) -> Arena {
        self.memory.home_of_average(ParamId::at(index)).expect("reserved")
    }

    fn home(&self, index: usize) -> Arena {
        self.memory.home(ParamId::at(index))
    }

    fn write(&mut self, arena: Arena, index: usize, value: &Array) {
        let (span, layout) = self.span(arena, index);
        let values: Vec<f32> = value.data.iter().map(|&x| x as f32).collect();
        let stored = match self.specs[index].dtype {
            DType::I64 => words_of(&value.data.iter().map(|&x| x as i64).collect::<Vec<_>>()),
            _ => layout.pack(&self.specs[index].shape, &values),
        };
        self.backend.write(span, &stored).expect("a span of an arena");
    }

    fn span(&self, arena: Arena, index: usize) -> (Span, Layout) {
        let Slot { start, layout, .. } = self.memory.slots[index].clone();
        let spec = &self.specs[index];
        let length = Bytes(layout.elements(&spec.shape) * spec.dtype.bytes());
        (Span { arena, start, length }, layout)
    }
}

impl Judged {
    fn note(
        &mut self,
        what: &str,
        got: &Array,
        meant: &Array,
        tolerance: Tolerance,
    ) -> Result<(), String> {
        // Rounding errors of a sum are in proportion to its terms, not to what they cancel to.
        let largest =
            meant.data.iter().filter(|x| x.is_finite()).fold(1.0, |m: f64, x| m.max(x.abs()));
        let scaled = Tolerance { absolute: tolerance.absolute * largest, ..tolerance };
        let share = compare(what, meant.shape.dims(), &got.data, &meant.data, scaled)?;
        self.worst = self.worst.max(share);
        Ok(())
    }

    /// Moments change with values, in the same steps.
    fn note_moments(
        &mut self,
        what: &str,
        got: &Parameters,
        meant: &Parameters,
        tolerance: Tolerance,
    ) -> Result<(), String> {
        for (index, spec) in got.specs.iter().enumerate() {
            let name = format!("{what}, value of {}", spec.name);
            self.note(&name, &got.values[index], &meant.values[index], tolerance)?;
            let name = format!("{what}, average of {}", spec.name);
            self.note(&name, &got.averages[index], &meant.averages[index], tolerance)?;
            for (moment, array) in got.moments[index].iter().enumerate() {
                let name = format!("{what}, moment {moment} of {}", spec.name);
                self.note(&name, array, &meant.moments[index][moment], tolerance)?;
            }
        }
        Ok(())
    }
}

fn widened(shape: Shape, values: &[f32]) -> Array {
    Array::new(shape, values.iter().map(|&x| f64::from(x)).collect())
}
