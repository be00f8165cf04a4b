// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient of a recurrent layer as further graph: one operation that goes back over the steps, and
//! products over all of them at once.

use super::{Cell, Operand, Presence, Recurrent, Slope, Upstream};
use crate::op::{MatMul, Mismatch, NodeId, Op, Record};

impl Recurrent {
    pub(in crate::op) fn gradient(
        &self,
        graph: &mut dyn Record,
        node: NodeId,
        dys: &[Option<NodeId>],
    ) -> Result<Vec<Option<NodeId>>, Mismatch> {
        let inputs = graph.inputs(node).to_vec();
        let operands = self.operands();
        let cell = dys.get(2).copied().flatten().filter(|_| self.cell == Cell::Lstm);
        let upstream = Upstream {
            output: Presence::of(dys[0]),
            hidden: Presence::of(dys[1]),
            cell: Presence::of(cell),
        };
        let mut taken = Vec::new();
        for operand in self.gradient_operands(upstream) {
            taken.extend(match operand {
                Operand::Output => Some(node),
                Operand::Saved => Some(graph.result(node, self.place_of_saved())?),
                Operand::OutputGradient => dys[0],
                Operand::HiddenGradient => dys[1],
                Operand::CellGradient => cell,
                given => {
                    inputs.iter().zip(&operands).find(|(_, of)| **of == given).map(|(id, _)| *id)
                }
            });
        }
        let back = graph.add(Op::RecurrentGrad(*self, upstream), &taken)?;
        let slopes = Slopes { recurrent: *self, back };
        let recurrent = match self.cell {
            Cell::Gru => Slope::Recurrent,
            Cell::Lstm | Cell::Tanh | Cell::Relu => Slope::Projected,
        };
        let mut gradients = Vec::with_capacity(inputs.len());
        for operand in operands {
            gradients.push(match operand {
                Operand::Projected => Some(slopes.of(graph, Slope::Projected)?),
                Operand::Weight => Some(slopes.product(graph, recurrent, Slope::Previous)?),
                Operand::Projection => {
                    Some(slopes.product(graph, Slope::Output, Slope::Unprojected)?)
                }
                Operand::Bias => {
                    let rows = slopes.rows(graph, recurrent)?;
                    let width = graph.shape(rows).last();
                    Some(graph.add(Op::SumTo([width].into()), &[rows])?)
                }
                Operand::Hidden => Some(slopes.of(graph, Slope::Hidden)?),
                Operand::Cell => Some(slopes.of(graph, Slope::Cell)?),
                _ => None,
            });
        }
        Ok(gradients)
    }

    /// Number of the result that backward needs.
    pub(crate) fn place_of_saved(&self) -> usize {
        match self.cell {
            Cell::Lstm => 3,
            Cell::Gru | Cell::Tanh | Cell::Relu => 2,
        }
    }
}

/// The results of the operation that goes back over the steps.
struct Slopes {
    recurrent: Recurrent,
    back: NodeId,
}

impl Slopes {
    fn of(&self, graph: &mut dyn Record, slope: Slope) -> Result<NodeId, Mismatch> {
        let place = self.recurrent.slopes().iter().position(|&of| of == slope);
        let missing = || Mismatch::new("a gradient of this cell", format!("{slope:?}"));
        graph.result(self.back, place.ok_or_else(missing)?)
    }

    /// All steps of all samples as the rows of a matrix.
    fn rows(&self, graph: &mut dyn Record, slope: Slope) -> Result<NodeId, Mismatch> {
        let slope = self.of(graph, slope)?;
        let shape = graph.shape(slope);
        let rows = [shape.dims()[0] * shape.dims()[1], shape.dims()[2]];
        graph.add(Op::Reshape(rows.into()), &[slope])
    }

    /// A weight's gradient: the sum over all steps of the products of what came out, back, and what
    /// went in.
    fn product(&self, graph: &mut dyn Record, dy: Slope, x: Slope) -> Result<NodeId, Mismatch> {
        let (dy, x) = (self.rows(graph, dy)?, self.rows(graph, x)?);
        graph.add(Op::MatMul(MatMul::WEIGHT_GRADIENT), &[dy, x])
    }
}
