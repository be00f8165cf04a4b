// SPDX-License-Identifier: MIT OR Apache-2.0
//! Training some parameters in ways of their own: groups, freezing, moving averages.

use super::Trainer;
use crate::nn::Module;
use crate::optim::{Average, Group, Tuning};
use crate::values::Values;
use crate::{Error, Net, Predictor, Result};

impl<M, In, Out, Target> Trainer<M, In, Out, Target>
where
    M: Module<In, Out>,
    In: Values,
    Out: Values,
    Target: Values,
{
    /// Trains groups of parameters with a learning rate or a weight decay of their own, as the param
    /// groups of a PyTorch optimiser; see [`Group`]. They take the place of all groups before.
    ///
    /// The schedule's rate is multiplied by a group's factor, whatever the schedule: all of
    /// [`Schedule::OneCycle`](super::Schedule::OneCycle), and the minimum of a cosine, too. The norm of
    /// [clipping](Trainer::with_clipping) is that of all groups.
    ///
    /// # Errors
    /// [`Error::Argument`] for each group that no trained parameter belongs to, each parameter that
    /// belongs to two, and each option that is negative or not finite.
    pub fn with_groups(mut self, groups: impl IntoIterator<Item = Group>) -> Result<Self> {
        let groups: Vec<Group> = groups.into_iter().collect();
        self.tune(self.tuning.clone().with_groups(&groups)?)?;
        Ok(self)
    }

    /// Trains parameters of rank 1 and 0 without weight decay, whatever group they are in: biases, and
    /// what normalisation scales and shifts by.
    #[must_use]
    pub fn without_decay_for_biases_and_norms(mut self) -> Self {
        self.tuning = self.tuning.without_decay_of_vectors();
        self
    }

    /// Leaves the parameters as they are whose names match a pattern (see [`Group::of`]), from the next
    /// step on: no gradient is computed for them, nor for what only leads to them, they have no part in
    /// the norm of clipping, and their moments are forgotten.
    ///
    /// A frozen layer runs as before: dropout draws, and batch normalisation goes on with the
    /// statistics of the batch and moves its running statistics, as PyTorch's does without
    /// `requires_grad`.
    ///
    /// ```
    /// use kiln::{loss::CrossEntropy, models::SimpleNet, optim::Adam, Device, Net, Seed, Tensor, Trainer};
    ///
    /// let net = Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(p, 4, 8, 3, 0.5))?;
    /// let mut fit = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-3))?;
    /// fit.freeze("*")?;
    /// fit.unfreeze("fc3.*")?;
    /// let before = fit.net().parameter("fc1.weight")?;
    /// fit.step(&Tensor::zeros([2, 4]), &Tensor::labels([2], vec![0, 2])?)?;
    /// assert_eq!(fit.net().parameter("fc1.weight")?, before);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if no trained parameter's name matches; [`Error::Device`] if there is too
    /// little memory to move the moments of the others.
    pub fn freeze(&mut self, pattern: &str) -> Result<()> {
        self.tune(self.tuning.clone().with_frozen(pattern)?)
    }

    /// Trains the parameters again whose names match a pattern, from the next step on. Those that were
    /// frozen begin as in a new optimiser: with moments of zero, and with an update count of their
    /// own for the corrections of Adam and the beginning of a momentum. Others go on as they were.
    ///
    /// # Errors
    /// As [`freeze`](Trainer::freeze).
    pub fn unfreeze(&mut self, pattern: &str) -> Result<()> {
        let updates = u64::from(self.training_state()?.updates);
        self.tune(self.tuning.clone().with_thawed(pattern, updates)?)
    }

    /// Keeps moving averages of the parameters, which each step moves on the device; see [`Average`]
    /// and [`averaged`](Trainer::averaged). They begin with the next step.
    ///
    /// # Errors
    /// [`Error::Argument`] if the decay is not in [0, 1].
    pub fn with_average(mut self, average: Average) -> Result<Self> {
        average.check()?;
        self.note_skips(0)?;
        (self.average, self.averaged) = (Some(average), 0);
        Ok(self)
    }

    /// The network in eval mode with the averages of its parameters as they are now; before the first
    /// update of the averages, with the parameters themselves.
    ///
    /// ```
    /// use kiln::optim::{Average, Sgd};
    /// use kiln::{loss::Mse, nn::Linear, Device, Net, Seed, Tensor, Trainer};
    ///
    /// let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 3, 1))?;
    /// let fit = Trainer::new(net, Mse::default(), Sgd::new(0.1))?;
    /// let mut fit = fit.with_average(Average::new(0.9))?;
    /// let (x, target) = (Tensor::new([1, 3], vec![1.0; 3])?, Tensor::zeros([1, 1]));
    /// for _ in 0..5 {
    ///     fit.step(&x, &target)?;
    /// }
    /// let (averaged, latest) = (fit.averaged()?.forward(&x)?, fit.net().eval().forward(&x)?);
    /// assert!(averaged.values()?[0].abs() > latest.values()?[0].abs());
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if no averages are [kept](Trainer::with_average); [`Error::Device`] if the
    /// device has too little memory.
    pub fn averaged(&mut self) -> Result<Predictor<M>> {
        self.check_averages()?;
        match self.averaged {
            0 => self.net.predictor(),
            _ => self.net.averaged_predictor(),
        }
    }

    /// Gives the network back with the averages in the place of its parameters.
    ///
    /// # Errors
    /// As [`averaged`](Trainer::averaged).
    pub fn into_averaged(mut self) -> Result<Net<M>> {
        self.check_averages()?;
        if self.averaged > 0 {
            self.net.take_averages()?;
        }
        Ok(self.net)
    }

    /// The learning rate of a parameter's next update; 0 if it is frozen or not trained at all.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no parameter of this name.
    pub fn rate_of(&self, parameter: &str) -> Result<f64> {
        Ok(self.rate() * self.tuning.rate_factor(self.net.find(parameter)?))
    }

    pub(crate) fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    pub(crate) fn average(&self) -> Option<Average> {
        self.average
    }

    /// Updates that the averages have seen.
    pub(crate) fn averages_seen(&self) -> u64 {
        self.averaged
    }

    /// Sets what belongs to parameters and averages that were just replaced.
    pub(crate) fn set_counts(&mut self, tuning: Tuning, averaged: u64) {
        (self.tuning, self.averaged) = (tuning, averaged);
    }

    fn check_averages(&self) -> Result<()> {
        match self.average {
            Some(_) => Ok(()),
            None => Err(Error::argument("averaged", "a trainer with `with_average`", "none")),
        }
    }

    fn tune(&mut self, tuning: Tuning) -> Result<()> {
        self.net.keep_moments(&tuning.trained())?;
        self.tuning = tuning;
        Ok(())
    }
}
