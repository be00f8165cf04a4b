// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking at what a step would do, without doing it.

use super::parts::Part;
use super::Trainer;
use crate::loss_scale::LossScale;
use crate::net::Call;
use crate::nn::Module;
use crate::op::Store;
use crate::passes::{Goal, Mode, Request, StepGoal};
use crate::values::{Tensors, Values};
use crate::{Result, Tensor};

impl<M, In, Out, Target> Trainer<M, In, Out, Target>
where
    M: Module<In, Out>,
    In: Values,
    Out: Values,
    Target: Values,
{
    /// The gradients that the next step on this batch would update with, before clipping: by name, in
    /// order of creation, with the masks of that step, and none of what is frozen; with a [loss scale](crate::LossScale)
    /// divided by it, and not finite where the step would be skipped. Nothing is updated and
    /// no pass is counted. It takes the memory of all gradients, from then on.
    ///
    /// ```
    /// use kiln::{loss::Mse, nn::Linear, optim::Sgd, Device, Net, Seed, Tensor, Trainer};
    ///
    /// let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 1, 1))?;
    /// let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.5))?;
    /// let (x, target) = (Tensor::new([1, 1], vec![2.0])?, Tensor::zeros([1, 1]));
    /// let before = fit.net().parameter("fc.bias")?.item()?;
    /// let gradients = fit.gradients(&x, &target)?;
    /// let (name, gradient) = &gradients[1];
    /// assert_eq!(name, "fc.bias");
    /// fit.step(&x, &target)?;
    /// assert_eq!(fit.net().parameter("fc.bias")?.item()?, before - 0.5 * gradient.item()?);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Trainer::step), without [`Error::NonFinite`](crate::Error::NonFinite).
    pub fn gradients(
        &mut self,
        inputs: impl Tensors<In>,
        targets: impl Tensors<Target>,
    ) -> Result<Vec<(String, Tensor)>> {
        let batch = self.batch_of(inputs, targets)?;
        let parts = Part::of::<Out, Target, In>(&batch, &*self.loss, self.micro_batches)?;
        let request = |store| {
            let groups = self.tuning.groups().clone();
            let goal = Goal::Step(StepGoal { store, update: None, groups, scale: self.scale });
            Request { mode: Mode::Train, goal }
        };
        let [first, more] = [Store::Overwrite, Store::Accumulate].map(request);
        match parts.len() {
            1 => {
                self.check_targets(&batch, &batch.clone().with(self.loss.inputs()), &first)?;
            }
            _ => self.check_parts(&batch, &parts[0], &first)?,
        }
        let (loss, scale) = (&*self.loss, self.scale);
        self.net.uncounted(|net| {
            let mut scalars = net.begin_pass(Mode::Train)?;
            let mut gradients = Vec::new();
            for (index, part) in parts.iter().enumerate() {
                part.tell(&mut scalars);
                let request = if index == 0 { first.clone() } else { more.clone() };
                let call = Call { request, loss: Some(loss), given: &part.given, scalars };
                let plan = net.run::<In, Out, Target>(call)?.plan;
                if index + 1 == parts.len() {
                    gradients = net.stored_gradients(plan)?;
                }
            }
            if scale != LossScale::Off {
                let inverse = 1.0 / net.training_state()?.loss_scale;
                for (_, gradient) in &mut gradients {
                    let values = gradient.values()?.iter().map(|value| value * inverse).collect();
                    *gradient = Tensor::new(gradient.shape().clone(), values)?;
                }
            }
            Ok(gradients)
        })
    }
}
