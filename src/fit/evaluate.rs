// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measuring in eval mode with the trainer's own loss.

use crate::data::Batch;
use crate::nn::Module;
use crate::values::{structured, Values};
use crate::{Error, Result, Tensor, Trainer};

/// What [`Trainer::evaluate`] measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// The loss over all samples, however they came in batches: the mean of those of the batches, each
    /// by what its samples weigh, or their sum where losses add up.
    pub loss: f64,
    /// Number of samples.
    pub samples: usize,
}

impl<M, In, Out, Target> Trainer<M, In, Out, Target>
where
    M: Module<In, Out>,
    In: Values,
    Out: Values,
    Target: Values,
{
    /// The loss over batches, in eval mode: those left in a loader's epoch, or others.
    ///
    /// ```
    /// use kiln::data::{Array, Arrays, Batch, Pass};
    /// use kiln::{loss::Mse, nn::Linear, optim::Sgd, Device, Net, Seed, Tensor, Trainer};
    ///
    /// let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 1, 1))?;
    /// let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.1))?;
    /// fit.net().set_parameter("fc.weight", &Tensor::zeros([1, 1]))?;
    /// fit.net().set_parameter("fc.bias", &Tensor::zeros([1]))?;
    /// let set = Arrays::new([Array::f32([0.0; 3], &[1])], [Array::f32([1.0, 2.0, 3.0], &[1])])?;
    /// let batches = [&[0, 1][..], &[2]].map(|few| Batch::read(&set, few, Pass::default()));
    /// let measured = fit.evaluate(batches)?;
    /// assert_eq!((measured.loss, measured.samples), ((1.0 + 4.0 + 9.0) / 3.0, 3));
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// The first error of the batches; [`Error::Argument`] if there are none or the loss has several
    /// values; what [`View::loss`](crate::View::loss) reports.
    pub fn evaluate(
        &mut self,
        batches: impl IntoIterator<Item = Result<Batch>>,
    ) -> Result<Evaluation> {
        self.evaluate_with(batches, |_, _| Ok(()))
    }

    /// As [`evaluate`](Trainer::evaluate), and shows each batch with the network's output for it, such
    /// as to [count](crate::metrics::Confusion) right answers.
    ///
    /// # Errors
    /// As there, and those of `look`.
    pub fn evaluate_with(
        &mut self,
        batches: impl IntoIterator<Item = Result<Batch>>,
        mut look: impl FnMut(&Batch, Out::Of<Tensor>) -> Result<()>,
    ) -> Result<Evaluation> {
        let (net, loss) = self.net_and_loss();
        let (mut sum, mut weights, mut samples, mut is_mean) = (0.0, 0.0, 0, false);
        for batch in batches {
            let batch = batch?;
            let (inputs, targets) = (&batch.inputs, &batch.targets);
            let (value, output) = net.eval().loss_and_output(loss, inputs, targets)?;
            let targets = structured::<Target, Tensor>("targets", targets.clone())?;
            let weight = loss.weight(batch.samples(), &targets);
            let value = f64::from(one(&value)?);
            match weight {
                // Nothing to take a mean of gives NaN.
                Some(0.0) => {}
                Some(weight) => sum += value * weight,
                None => sum += value,
            }
            weights += weight.unwrap_or(0.0);
            is_mean |= weight.is_some();
            samples += batch.samples();
            look(&batch, output)?;
        }
        match (samples, is_mean) {
            (0, _) => Err(Error::argument("batches", "one sample or more", "none")),
            (_, true) => Ok(Evaluation { loss: sum / weights, samples }),
            (_, false) => Ok(Evaluation { loss: sum, samples }),
        }
    }
}

fn one(loss: &Tensor) -> Result<f32> {
    match loss.shape().elements() {
        1 => loss.item(),
        _ => Err(Error::argument("loss", "one value for a batch", loss.shape())),
    }
}
