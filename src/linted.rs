// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks and trainings under lint.

use crate::graph::Graph;
use crate::lint::{self, Case, Report};
use crate::net::Net;
use crate::nn::Module;
use crate::op::TensorType;
use crate::passes::{self, Mode};
use crate::trainer::Trainer;
use crate::values::{structured, Flat, Values};
use crate::Result;

impl<M> Net<M> {
    /// Looks for mistakes with dropout, and some beside it, in what the network records for inputs of these
    /// types. Nothing is run; it takes a few milliseconds at most.
    ///
    /// ```
    /// use kiln::lint::Code;
    /// use kiln::{models::SimpleNet, op::TensorType, Device, Net, Seed};
    ///
    /// let net = |rate| Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(p, 784, 512, 10, rate));
    /// let inputs = [TensorType::f32([64, 784].into())];
    /// assert!(net(0.5)?.lint(&inputs)?.findings.is_empty());
    /// let report = net(0.8)?.lint(&inputs)?;
    /// assert_eq!(report.findings[0].code, Code::RateHigh);
    /// assert!(report.to_string().starts_with("warn[D101] dropout1: drops 0.80 of its input"));
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// What tracing reports.
    pub fn lint<I: Values, O: Values>(&self, inputs: &[TensorType]) -> Result<Report>
    where
        M: Module<I, O>,
    {
        self.lint_in(&Case::default(), inputs)
    }

    /// As [`lint`](Net::lint), knowing what the network is for, and what is to become of what is found.
    ///
    /// # Errors
    /// What tracing reports.
    pub fn lint_in<I: Values, O: Values>(
        &self,
        case: &Case,
        inputs: &[TensorType],
    ) -> Result<Report>
    where
        M: Module<I, O>,
    {
        let inputs = structured::<I, TensorType>("inputs", inputs.to_vec())?;
        self.judge(case, self.traced::<I, O, ()>(None, &Flat::of::<I>(inputs)))
    }

    fn judge(&self, case: &Case, traced: Result<Graph>) -> Result<Report> {
        let graph = match traced {
            Ok(graph) => graph,
            Err(error) => return lint::refused(&error, case, self.remarks()).ok_or(error),
        };
        let eval = passes::in_mode(&graph, Mode::Eval)?;
        Ok(lint::checked(&graph, &eval, case, self.remarks()))
    }
}

impl<M, In, Out, Target> Trainer<M, In, Out, Target>
where
    M: Module<In, Out>,
    In: Values,
    Out: Values,
    Target: Values,
{
    /// As [`Net::lint_in`], with the loss: it knows what the network's outputs are taken for.
    ///
    /// ```
    /// use kiln::lint::{Batches, Case, Code, LastBatch};
    /// use kiln::nn::{Linear, Sequential, Softmax};
    /// use kiln::{loss::CrossEntropy, op::TensorType, optim::Sgd, Device, Net, Seed, Trainer};
    ///
    /// let net = Net::new(Device::cpu(), Seed(7), |p| {
    ///     Sequential::new(p).with(|p| Linear::new(p, 784, 10)).with(|_| Softmax)
    /// })?;
    /// let mut fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.1))?;
    /// let batches = Batches { samples: 1000, batch: 64, last: LastBatch::Kept };
    /// let case = Case { batches: Some(batches), ..Case::default() };
    /// let types = (TensorType::f32([64, 784].into()), TensorType::i32([64].into()));
    /// let report = fit.lint_in(&case, &types.0, &types.1)?;
    /// assert_eq!(report.findings[0].code, Code::SoftmaxBeforeLoss);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// What tracing reports.
    pub fn lint_in(
        &mut self,
        case: &Case,
        inputs: &In::Of<TensorType>,
        targets: &Target::Of<TensorType>,
    ) -> Result<Report> {
        let mut given = Flat::of::<In>(inputs.clone());
        let of_targets = Flat::of::<Target>(targets.clone());
        given.leaves.extend(of_targets.leaves);
        given.lists.extend(of_targets.lists);
        let traced = self.traced_loss(given);
        self.net().judge(case, traced)
    }
}
