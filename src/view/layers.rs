// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every layer of a network gives.

use std::collections::BTreeSet;

use super::{given, View};
use crate::graph::{Graph, NodeId};
use crate::nn::Module;
use crate::passes::{Goal, Request};
use crate::values::{Tensors, Values};
use crate::{Result, Tensor};

/// A value that leaves a layer, from [`View::layers`].
#[derive(Clone, Debug)]
pub struct LayerOutput {
    /// Path of the layer; for an operation outside all layers, of the layer before it.
    pub layer: String,
    /// The operation that computes it: `"relu"`.
    pub op: &'static str,
    /// The value.
    pub output: Tensor,
}

impl<M> View<'_, M> {
    /// What every layer gives for `x`, in the order in which it is computed. Slower than
    /// [`forward`](View::forward), and takes memory for all of it. In train mode it counts as a pass.
    ///
    /// ```
    /// use kiln::{models::SimpleNet, Device, Net, Seed, Tensor};
    ///
    /// let mut net = Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(p, 4, 8, 3, 0.5))?;
    /// let layers = net.eval().layers(&Tensor::zeros([2, 4]))?;
    /// let relu = layers.iter().find(|layer| layer.op == "relu").expect("one behind fc1");
    /// assert_eq!((relu.layer.as_str(), relu.output.shape().dims()), ("fc1", &[2, 8][..]));
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`forward`](View::forward).
    pub fn layers<I: Values, O: Values>(&mut self, x: impl Tensors<I>) -> Result<Vec<LayerOutput>>
    where
        M: Module<I, O>,
    {
        let given = given::<I>("layers", &x)?;
        let request = Request { mode: self.mode, goal: Goal::Layers };
        self.run::<I, O, (), _>(request, None, &given, |net, outputs| {
            let plan = net.planned_as(outputs.plan)?;
            let mut seen = BTreeSet::new();
            let mut layers = Vec::new();
            for (&(node, _), output) in plan.outputs.iter().zip(outputs.tensors) {
                // Where nothing is dropped, what goes into a dropout comes out of it.
                if seen.insert(node) {
                    let (layer, op) = origin(&plan.graph, node);
                    layers.push(LayerOutput { layer, op, output });
                }
            }
            Ok(layers)
        })
    }
}

/// The layer and the operation that a value comes from.
fn origin(graph: &Graph, id: NodeId) -> (String, &'static str) {
    let op = graph.node(id).op.name();
    let mut at = id;
    while graph.layer(at).path.is_empty() {
        match graph.node(at).inputs.first() {
            Some(&input) => at = input,
            None => break,
        }
    }
    (graph.layer(at).path.clone(), op)
}
