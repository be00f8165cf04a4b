// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network at a glance: its layers with shapes, parameters and work.

use std::fmt;

use crate::graph::{Graph, NodeId, ParamRole};
use crate::net::Net;
use crate::nn::Module;
use crate::op::{Op, TensorType};
use crate::passes::{Draws, Mode};
use crate::values::Values;
use crate::{grouped, Result, Shape};

/// What [`Net::summary`] tells: a row per layer, in the order in which they are
/// first used.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The layers.
    pub layers: Vec<LayerSummary>,
}

/// A layer of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSummary {
    /// Path from the network's root; empty for what the root itself does.
    pub path: String,
    /// Type of the layer.
    pub kind: &'static str,
    /// Shape of what the layer yields last; `None` if nothing is computed there.
    pub output: Option<Shape>,
    /// Number of its trained numbers. Shared parameters count once, where they are registered.
    pub parameters: usize,
    /// Multiplications, each with an addition, of its convolutions and matrix products.
    pub multiply_adds: usize,
}

impl<M> Net<M> {
    /// The network's layers with their output shapes, parameters and work, for inputs of these types.
    /// It prints as a table.
    ///
    /// ```
    /// use kiln::{models::SimpleNet, op::TensorType, Device, Net, Seed};
    ///
    /// let mut net = Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(p, 784, 512, 10, 0.5))?;
    /// let summary = net.summary(&[TensorType::f32([64, 784].into())])?;
    /// // Five layers, and the network's own activations between them.
    /// assert_eq!((summary.layers.len(), summary.parameters()), (6, 669_706));
    /// assert_eq!(summary.layers[0].output, Some([64, 512].into()));
    /// let table = summary.to_string();
    /// assert!(table.starts_with("layer      kind     output     parameters"), "{table}");
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// What tracing and compiling report.
    pub fn summary<I: Values, O: Values>(&mut self, inputs: &[TensorType]) -> Result<Summary>
    where
        M: Module<I, O>,
    {
        // Dropout is a layer like others, and batches of one sample are no mistake.
        Ok(Summary::of(&self.plan(Mode::MonteCarlo(Draws::ONE), inputs)?.graph))
    }
}

impl Summary {
    fn of(graph: &Graph) -> Self {
        let mut summary = Summary { layers: Vec::new() };
        for (id, node) in graph.nodes() {
            let is_none_of_a_layer = matches!(
                node.op,
                Op::Input(_) | Op::Parameter(_) | Op::Constant(_) | Op::Result(_) | Op::ToFormat(_)
            );
            if is_none_of_a_layer {
                continue;
            }
            let layer = graph.layer(id);
            let row = summary.layer(&layer.path, layer.kind);
            row.output = Some(node.ty.shape.clone());
            row.multiply_adds = row.multiply_adds.saturating_add(multiply_adds(graph, id));
        }
        for spec in graph.parameters().iter().filter(|spec| spec.role == ParamRole::Trained) {
            let path = spec.name.rsplit_once('.').map_or("", |(path, _)| path);
            let row = summary.layer(path, "");
            row.parameters += spec.shape.elements();
        }
        summary
    }

    /// All trained numbers.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|layer| layer.parameters).sum()
    }

    /// All multiplications of convolutions and matrix products, each with an addition.
    pub fn multiply_adds(&self) -> usize {
        self.layers.iter().map(|layer| layer.multiply_adds).fold(0, usize::saturating_add)
    }

    /// The first row of a layer, added if there is none.
    fn layer(&mut self, path: &str, kind: &'static str) -> &mut LayerSummary {
        let known = self.layers.iter().position(|layer| layer.path == path);
        let place = known.unwrap_or_else(|| {
            let path = path.into();
            let row = LayerSummary { path, kind, output: None, parameters: 0, multiply_adds: 0 };
            self.layers.push(row);
            self.layers.len() - 1
        });
        &mut self.layers[place]
    }
}

/// Products that a node adds up.
fn multiply_adds(graph: &Graph, id: NodeId) -> usize {
    let node = graph.node(id);
    let input = |index: usize| -> &TensorType { &graph.node(node.inputs[index]).ty };
    let terms = match &node.op {
        Op::MatMul(_) | Op::BatchMatMul(_) => {
            input(0).shape.elements().checked_div(node.ty.shape.rows()).unwrap_or(0)
        }
        // Each output meets the filter of its channel.
        Op::Conv(_) => input(1).shape.sample_elements(),
        _ => 0,
    };
    terms.saturating_mul(node.ty.shape.elements())
}

impl fmt::Display for Summary {
    /// A table with a line per layer and one for all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape =
            |layer: &LayerSummary| layer.output.as_ref().map_or("".into(), Shape::to_string);
        let mut rows: Vec<[String; 5]> =
            vec![["layer", "kind", "output", "parameters", "multiply-adds"].map(String::from)];
        rows.extend(self.layers.iter().map(|layer| {
            let path = if layer.path.is_empty() { "(network)" } else { &layer.path };
            let (parameters, work) = (grouped(layer.parameters), grouped(layer.multiply_adds));
            [path.into(), layer.kind.into(), shape(layer), parameters, work]
        }));
        let all = (grouped(self.parameters()), grouped(self.multiply_adds()));
        rows.push(["all".into(), String::new(), String::new(), all.0, all.1]);
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        for [path, kind, output, parameters, work] in &rows {
            let [a, b, c, d, e] = widths;
            writeln!(f, "{path:<a$}  {kind:<b$}  {output:<c$}  {parameters:>d$}  {work:>e$}")?;
        }
        Ok(())
    }
}
