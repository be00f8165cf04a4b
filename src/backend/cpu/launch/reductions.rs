// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sums, softmax and the loss of classification.

use super::super::loops::Likelihood;
use super::super::operands::Operands;
use super::super::{loops, simd};
use super::{internal, write, Launch};
use crate::kernel::{LossGradient, Reduce, Reducer};
use crate::op::{mean_divisor, Nll, Reduction, Softmax};
use crate::Result;

impl<'a> Launch<'a> {
    pub(super) fn sum(self) -> Result<()> {
        let elements = self.shape(self.step.inputs[0]).elements();
        self.reduce(&Reduce::all(Reducer::Sum, elements))
    }

    pub(super) fn reduce(mut self, reduce: &Reduce) -> Result<()> {
        let x = self.operands.reads[0].values()?;
        let y = write(&mut self.operands, 0)?;
        simd::reduce(&self.engine.pool, self.engine.isa, reduce, x, y);
        Ok(())
    }

    pub(super) fn column_sum(mut self) -> Result<()> {
        let [rows, columns] = self.plan.graph.node(self.step.inputs[0]).matrix();
        let x = self.operands.reads[0].values()?;
        let sums = write(&mut self.operands, 0)?;
        simd::column_sums(&self.engine.pool, self.engine.isa, rows, columns, x, sums);
        Ok(())
    }

    pub(super) fn softmax(mut self, kind: Softmax) -> Result<()> {
        let width = self.shape(self.step.inputs[0]).last();
        let x = self.operands.reads[0].values()?;
        let y = write(&mut self.operands, 0)?;
        let (pool, isa) = (&self.engine.pool, self.engine.isa);
        match kind {
            Softmax::Plain => simd::softmax_rows(pool, isa, width, x, y),
            Softmax::Log => simd::log_softmax_rows(pool, isa, width, x, y),
        }
        Ok(())
    }

    pub(super) fn softmax_gradient(mut self, kind: Softmax) -> Result<()> {
        let width = self.shape(self.step.inputs[0]).last();
        let (y, dy) = (self.operands.reads[0].values()?, self.operands.reads[1].values()?);
        loops::softmax_gradient(kind, width, y, dy, write(&mut self.operands, 0)?);
        Ok(())
    }

    pub(super) fn cross_entropy(self, nll: &Nll, gradient: LossGradient) -> Result<()> {
        let classes = self.shape(self.step.inputs[0]).last();
        let Operands { reads, writes, .. } = self.operands;
        let (scores, labels) = (reads[0].values()?, reads[1].indices());
        let class_weights = reads.get(2).map(|weights| weights.values()).transpose()?;
        let loss = simd::CrossEntropy {
            ignore_index: nll.ignore_index,
            label_smoothing: nll.smoothing as f32,
            class_weights,
        };
        let divisor = match nll.reduction {
            Reduction::Mean => mean_divisor(simd::target_weight(&loss, classes, labels)),
            Reduction::Sum | Reduction::None => 1.0,
        };
        let mut writes = writes.into_iter();
        let total = writes.next().ok_or_else(|| internal("a loss goes nowhere"))?;
        let scale = match self.scalars.share {
            // A part of a batch without weight takes no part in the whole.
            0.0 => 0.0,
            share => (f64::from(share) / divisor) as f32,
        };
        let gradient = match gradient {
            LossGradient::Computed => writes.next().map(|gradient| (gradient, scale)),
            LossGradient::Scaled => {
                let scale = scale * self.training.loss_scale;
                writes.next().map(|gradient| (gradient, scale))
            }
            LossGradient::Absent => None,
        };
        let mut losses = vec![0.0; labels.len()];
        let (pool, isa) = (&self.engine.pool, self.engine.isa);
        simd::cross_entropy(pool, isa, &loss, classes, scores, labels, &mut losses, gradient);
        total[0] = (losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / divisor) as f32;
        Ok(())
    }

    pub(super) fn nll(mut self, nll: &Nll) -> Result<()> {
        let classes = self.shape(self.step.inputs[0]).last();
        let likelihood = self.likelihood()?;
        loops::nll(nll, classes, likelihood, write(&mut self.operands, 0)?);
        Ok(())
    }

    pub(super) fn nll_gradient(mut self, nll: &Nll) -> Result<()> {
        let classes = self.shape(self.step.outputs[0]).last();
        let likelihood = self.likelihood()?;
        loops::nll_gradient(nll, classes, likelihood, write(&mut self.operands, 0)?);
        Ok(())
    }

    fn likelihood(&self) -> Result<Likelihood<'a>> {
        let reads = &self.operands.reads;
        let class_weights = reads.get(2).map(|weights| weights.values()).transpose()?;
        Ok((reads[0].values()?, reads[1].indices(), class_weights))
    }
}
