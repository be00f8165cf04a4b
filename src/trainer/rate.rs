// SPDX-License-Identifier: MIT OR Apache-2.0
//! A learning rate that is set while a network is trained.

use super::Trainer;
use crate::loss::Loss;
use crate::nn::Module;
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

    /// The rate of the next update, if updates can be made with it.
    pub(super) fn checked_rate(&self) -> Result<f64> {
        let rate = self.rate();
        match is_rate(rate) {
            true => Ok(rate),
            false => {
                let what = format!("learning rate of update {}", self.updates + 1);
                Err(Error::argument(what, "0 or more", rate))
            }
        }
    }
}

pub(crate) fn is_rate(rate: f64) -> bool {
    rate >= 0.0 && rate.is_finite()
}
