// SPDX-License-Identifier: MIT OR Apache-2.0
//! A learning rate that is set while a network is trained.

use super::Trainer;
use crate::loss::Loss;
use crate::nn::Module;
use crate::optim::ReduceOnPlateau;
use crate::values::Values;
use crate::{Error, Net, Result};

impl<M, In, Out, Target> Trainer<M, In, Out, Target>
where
    M: Module<In, Out>,
    In: Values,
    Out: Values,
    Target: Values,
{
    /// Sets the learning rate from the next update on, in the place of the optimiser's own: what the
    /// schedule begins with, and the rate itself without one. A checkpoint keeps it, so a resumed
    /// training goes on with it.
    ///
    /// ```
    /// use kiln::{loss::Mse, nn::Linear, optim::Sgd, Device, Net, Seed, Trainer};
    ///
    /// let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 1, 1))?;
    /// let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.1))?;
    /// fit.set_rate(0.01)?;
    /// assert_eq!(fit.rate(), 0.01);
    /// assert!(fit.set_rate(f64::NAN).is_err());
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] unless it is 0 or more and finite.
    pub fn set_rate(&mut self, rate: f64) -> Result<()> {
        if !is_rate(rate) {
            return Err(Error::argument("learning rate", "0 or more", rate));
        }
        self.rate_set = Some(rate);
        Ok(())
    }

    /// The learning rate that the schedule begins with: the one that was [set](Trainer::set_rate), or the
    /// optimiser's own.
    pub fn base_rate(&self) -> f64 {
        self.rate_set.unwrap_or(self.optimizer.rate)
    }

    /// Shows a figure, such as the test loss after an epoch, to what lets the rate fall on a plateau, and
    /// sets the rate if it falls: the [base rate](Trainer::base_rate), before schedule and groups. Returns
    /// the new one then.
    ///
    /// ```
    /// use kiln::optim::{Plateau, ReduceOnPlateau, Sgd};
    /// use kiln::{loss::Mse, nn::Linear, Device, Net, Seed, Trainer};
    ///
    /// let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 1, 1))?;
    /// let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.5))?;
    /// let options = Plateau { factor: 0.5, patience: 0, ..Plateau::default() };
    /// let mut falling = ReduceOnPlateau::new(options)?;
    /// assert_eq!(fit.reduce_on_plateau(&mut falling, 1.0)?, None);
    /// assert_eq!(fit.reduce_on_plateau(&mut falling, 2.0)?, Some(0.25));
    /// assert_eq!(fit.rate(), 0.25);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`set_rate`](Trainer::set_rate).
    pub fn reduce_on_plateau(
        &mut self,
        falling: &mut ReduceOnPlateau,
        value: f64,
    ) -> Result<Option<f64>> {
        let lower = falling.observe(value, self.base_rate());
        if let Some(rate) = lower {
            self.set_rate(rate)?;
        }
        Ok(lower)
    }

    /// The network and the loss, to evaluate between steps what [`Trainer::evaluate`] does not:
    ///
    /// ```
    /// use kiln::{loss::Mse, nn::Linear, optim::Sgd, Device, Net, Seed, Tensor, Trainer};
    ///
    /// let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 1, 1))?;
    /// let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.1))?;
    /// let (net, loss) = fit.net_and_loss();
    /// let saliency = net.eval().loss_gradients(loss, &Tensor::zeros([1, 1]), &Tensor::zeros([1, 1]))?;
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn net_and_loss(&mut self) -> (&mut Net<M>, &dyn Loss<Out, Target>) {
        (&mut self.net, &*self.loss)
    }

    /// The rate that was set, if one was.
    pub(crate) fn rate_set(&self) -> Option<f64> {
        self.rate_set
    }

    /// Sets the rate of a training that goes on.
    pub(crate) fn restore_rate(&mut self, rate: Option<f64>) {
        self.rate_set = rate;
    }
}

pub(crate) fn is_rate(rate: f64) -> bool {
    rate >= 0.0 && rate.is_finite()
}
