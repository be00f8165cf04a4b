// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rates of dropout that change, of networks and of trainings.

use crate::net::Net;
use crate::nn::Module;
use crate::trainer::Trainer;
use crate::values::Values;
use crate::Result;

impl<M> Net<M> {
    /// The rates that the layers whose rate changes drop at in a train-mode pass, in order of creation; in a
    /// pass that has been, those that were used. [`pass`](Net::pass) is the next. Masks round them to the
    /// nearest 1/32768.
    ///
    /// ```
    /// use kiln::nn::{Dropout, DropoutSchedule};
    /// use kiln::{Device, Net, Seed};
    ///
    /// let table = DropoutSchedule::Table(vec![(0, 0.1), (100, 0.3)]);
    /// let net = Net::new(Device::cpu(), Seed(7), |p| Dropout::scheduled(&p.at("drop"), table))?;
    /// assert_eq!(net.dropout_rates(99)?, [("drop", 0.1)]);
    /// assert_eq!(net.dropout_rates(100)?, [("drop", 0.3)]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) with the layer's path for a rate outside `[0, 1)`.
    pub fn dropout_rates(&self, pass: u32) -> Result<Vec<(&str, f32)>> {
        self.rates().of_layers(pass)
    }

    /// Sets the rate of a layer from the next train-mode pass on, whatever its schedule says. The layer is
    /// one that was made with a schedule, which may be
    /// [`DropoutSchedule::Constant`](crate::nn::DropoutSchedule::Constant). Every change is kept, in
    /// checkpoints too, so that the masks of past passes stay known. Nothing is planned anew.
    ///
    /// ```
    /// use kiln::nn::{Dropout, DropoutSchedule};
    /// use kiln::{Device, Net, Seed, Tensor};
    ///
    /// let rate = DropoutSchedule::Constant(0.5);
    /// let mut net = Net::new(Device::cpu(), Seed(7), |p| Dropout::scheduled(&p.at("drop"), rate))?;
    /// let ones = Tensor::new([1, 8], vec![1.0; 8])?;
    /// net.train().forward(&ones)?;
    /// net.set_dropout_rate("drop", 0.0)?;
    /// assert_eq!(net.train().forward(&ones)?, ones);
    /// assert_eq!((net.dropout_rates(0)?[0].1, net.dropout_rates(1)?[0].1), (0.5, 0.0));
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) if the rate is not in `[0, 1)`, and, with the layers that
    /// have one, if this layer has no rate that changes.
    pub fn set_dropout_rate(&mut self, layer: &str, p: f32) -> Result<()> {
        let from = self.pass();
        self.rates_mut().set(layer, from, p)
    }
}

impl<M, In, Out, Target> Trainer<M, In, Out, Target>
where
    M: Module<In, Out>,
    In: Values,
    Out: Values,
    Target: Values,
{
    /// Sets the rate at which a layer drops from the next step on: see [`Net::set_dropout_rate`].
    ///
    /// ```
    /// use kiln::models::SimpleNet;
    /// use kiln::nn::DropoutSchedule;
    /// use kiln::{loss::CrossEntropy, optim::Sgd, Device, Net, Seed, Trainer};
    ///
    /// let net = Net::new(Device::cpu(), Seed(7), |p| {
    ///     let p = p.with_dropout_schedule(|_, p| DropoutSchedule::Constant(p));
    ///     SimpleNet::new(&p, 4, 8, 3, 0.5)
    /// })?;
    /// let mut fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.1))?;
    /// fit.set_dropout_rate("dropout1", 0.2)?;
    /// assert_eq!(fit.net().dropout_rates(0)?, [("dropout1", 0.2), ("dropout2", 0.5)]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Net::set_dropout_rate`].
    pub fn set_dropout_rate(&mut self, layer: &str, p: f32) -> Result<()> {
        self.net().set_dropout_rate(layer, p)
    }
}
