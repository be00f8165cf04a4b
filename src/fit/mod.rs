// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole epochs: training on the batches of a loader, and measuring on those of another.

mod evaluate;

use std::collections::VecDeque;
use std::ops::ControlFlow;

pub use evaluate::Evaluation;

use crate::data::{Loader, Position};
use crate::nn::Module;
use crate::values::Values;
use crate::{Result, StepLoss, Trainer};

/// Where [`Trainer::fit`] stands when it calls.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step is made.
    Step {
        /// The number of its update, from 1.
        update: u64,
        /// The place of its batch.
        position: Position,
        /// Its loss; asking for the value may wait for a GPU.
        loss: &'a StepLoss,
    },
    /// The last step of an epoch is made, and the call for it.
    Epoch {
        /// Epochs that are completed: 1 after the first.
        epoch: u64,
        /// The mean loss of the epoch's steps, in train mode and each as it was before its update;
        /// of those that this call made, if the epoch began before.
        loss: f64,
    },
}

impl<M, In, Out, Target> Trainer<M, In, Out, Target>
where
    M: Module<In, Out>,
    In: Values,
    Out: Values,
    Target: Values,
{
    /// Trains until the loader has completed `epochs` epochs, counted from its first: a step for each
    /// batch, with its inputs and targets as they are; the loader [serves](Loader::serve) the network's device.
    /// It calls after each step and each epoch, and
    /// ends early, with what it was given, when a call breaks: an epoch that was left then goes on
    /// with the next call.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use std::sync::Arc;
    /// use kiln::data::{Digits, Loader, LoaderConfig, SampleShape, Shuffle};
    /// use kiln::{loss::CrossEntropy, models::SimpleNet, optim::Adam, Device, Event, Net, Seed, Trainer};
    ///
    /// let net = Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(p, 64, 32, 10, 0.1))?;
    /// let mut fit = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-2))?;
    /// let (train, test) = Digits::load().to_8x8().shuffled(7).split(1500)?;
    /// let config = LoaderConfig {
    ///     batch_size: 100,
    ///     shuffle: Shuffle::Seeded(7),
    ///     sample_shape: SampleShape::Row,
    ///     ..LoaderConfig::default()
    /// };
    /// let mut test = Loader::new(Arc::new(test), config.clone())?;
    /// let mut train = Loader::new(Arc::new(train), config)?;
    ///
    /// let mut best = f64::INFINITY;
    /// let ended = fit.fit(&mut train, 20, |fit, event| {
    ///     let Event::Epoch { epoch, .. } = event else { return Ok(ControlFlow::Continue(())) };
    ///     let loss = fit.evaluate(&mut test)?.loss;
    ///     if loss > best {
    ///         return Ok(ControlFlow::Break(epoch)); // early stopping
    ///     }
    ///     best = loss;
    ///     Ok(ControlFlow::Continue(()))
    /// })?;
    /// assert!(best < 0.5, "{ended:?}");
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the loader and of [`serve`](Loader::serve), of [`step`](Trainer::step), of
    /// [`check_finite`](Trainer::check_finite) after each epoch, and of the calls.
    pub fn fit<B>(
        &mut self,
        loader: &mut Loader,
        epochs: u64,
        mut call: impl FnMut(&mut Self, Event<'_>) -> Result<ControlFlow<B>>,
    ) -> Result<ControlFlow<B>> {
        loader.serve(self.net().device())?;
        let mut mean = Mean::default();
        while loader.position().epoch < epochs {
            let batch = loader.next_batch()?;
            let loss = self.step(&batch.inputs, &batch.targets)?;
            mean.add(&loss, batch.samples())?;
            let (update, position) = (self.updates(), batch.position);
            if let broken @ ControlFlow::Break(_) =
                call(self, Event::Step { update, position, loss: &loss })?
            {
                return Ok(broken);
            }
            let epoch = loader.position().epoch;
            if epoch > position.epoch {
                self.check_finite()?;
                let loss = std::mem::take(&mut mean).value()?;
                if let broken @ ControlFlow::Break(_) = call(self, Event::Epoch { epoch, loss })? {
                    return Ok(broken);
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// A mean of losses by the samples of their batches, which waits for none before it has to.
#[derive(Default)]
struct Mean {
    sum: f64,
    samples: f64,
    /// Losses that a device may be at work on.
    unread: VecDeque<(StepLoss, usize)>,
}

impl Mean {
    fn add(&mut self, loss: &StepLoss, samples: usize) -> Result<()> {
        self.unread.push_back((loss.clone(), samples));
        while self.unread.front().is_some_and(|(loss, _)| loss.is_there()) {
            self.read_next()?;
        }
        Ok(())
    }

    fn value(mut self) -> Result<f64> {
        while !self.unread.is_empty() {
            self.read_next()?;
        }
        Ok(self.sum / self.samples)
    }

    fn read_next(&mut self) -> Result<()> {
        if let Some((loss, samples)) = self.unread.pop_front() {
            self.sum += f64::from(loss.value()?) * samples as f64;
            self.samples += samples as f64;
        }
        Ok(())
    }
}
