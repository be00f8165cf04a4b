// SPDX-License-Identifier: MIT OR Apache-2.0
//! Monte Carlo dropout: a network whose dropout stays on, to see how sure it is.

use crate::net::{Call, Net};
use crate::nn::Module;
use crate::passes::{Draws, Dropouts, Goal, Masks, Mode, Request};
use crate::scalars::Scalars;
use crate::values::{Given, Tensors, Values};
use crate::view::given;
use crate::{Error, NonFiniteValue, Result, Tensor};

/// A network with dropout left on at inference; from [`Net::monte_carlo`] (Gal & Ghahramani 2015,
/// arXiv:1506.02142).
///
/// What no dropout comes before is computed once for all draws of a sample. Other layers behave as in eval
/// mode: batch norm takes its running statistics and changes none. Nothing else of a network's state is
/// changed either, and no passes in train mode are counted.
///
/// One view draws one set of masks. It counts the samples that it is given, through all batches: draw `j`
/// of its sample `s` has the mask of sample `s * draws + j` in pass [`pass`](MonteCarlo::pass), so it
/// depends neither on the batch that the sample is in nor on others. The next view draws other masks.
///
/// ```
/// use kiln::uncertainty::Spread;
/// use kiln::{models::SimpleNet, Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(p, 4, 16, 3, 0.5))?;
/// let mut spread = Spread::new(3)?;
/// let mut view = net.monte_carlo(32);
/// for batch in [Tensor::zeros([8, 4]), Tensor::zeros([5, 4])] {
///     let scores = view.forward(&batch)?;
///     assert_eq!(scores.shape().dims(), [32, batch.shape().samples(), 3]);
///     spread.add(&scores)?;
/// }
/// assert_eq!(spread.mean().samples(), 13);
/// assert!(spread.mutual_information().iter().all(|&bits| bits >= 0.0));
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// Draws have no gradients; train mode has:
///
/// ```compile_fail,E0599
/// # use kiln::{nn::Dropout, Device, Net, Seed, Tensor};
/// # let mut net = Net::new(Device::cpu(), Seed(7), |p| Dropout::new(&p.at("dropout"), 0.5))?;
/// net.monte_carlo(2).gradients(&Tensor::zeros([1, 3]), &Tensor::zeros([1, 3]))?;
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug)]
pub struct MonteCarlo<'n, M> {
    net: &'n mut Net<M>,
    draws: Draws,
    /// The pass of its masks, once it has drawn some.
    pass: Option<u32>,
    /// Samples that it was given.
    samples: usize,
}

impl<'n, M> MonteCarlo<'n, M> {
    pub(crate) fn new(net: &'n mut Net<M>, draws: Draws) -> Self {
        MonteCarlo { net, draws, pass: None, samples: 0 }
    }

    /// Says what has masks of its own; [`Masks::PerSample`] if nothing is said. Where they are
    /// [consistent](Masks::Consistent), draw `j` has the mask of sample `j` for all samples.
    ///
    /// ```
    /// use kiln::{nn::Dropout, Device, Masks, Net, Seed, Tensor};
    ///
    /// let mut net = Net::new(Device::cpu(), Seed(7), |p| Dropout::new(&p.at("dropout"), 0.5))?;
    /// let ones = Tensor::new([3, 16], vec![1.0; 48])?;
    /// let draws = net.monte_carlo(2).with_masks(Masks::Consistent).forward(&ones)?;
    /// let rows: Vec<&[f32]> = draws.values()?.chunks(16).collect();
    /// assert!(rows[0] == rows[1] && rows[1] == rows[2], "the samples of the first draw");
    /// assert!(rows[2] != rows[3], "another draw");
    /// # Ok::<(), kiln::Error>(())
    /// ```
    #[must_use]
    pub fn with_masks(mut self, masks: Masks) -> Self {
        self.draws.masks = masks;
        self
    }

    /// Says which dropouts drop; [`Dropouts::All`] if nothing is said. With [the last](Dropouts::Last)
    /// alone, a draw costs little more than the layers behind it.
    #[must_use]
    pub fn with_dropouts(mut self, dropouts: Dropouts) -> Self {
        self.draws.dropouts = dropouts;
        self
    }

    /// What it draws.
    pub fn draws(&self) -> Draws {
        self.draws
    }

    /// The number of the pass that its masks are of, with the bit
    /// [`MONTE_CARLO_PASS`](crate::MONTE_CARLO_PASS) set, once it has drawn some.
    pub fn pass(&self) -> Option<u32> {
        self.pass
    }

    /// The network's outputs for all draws of each sample, each `[draws, ...]` of what it is in eval mode.
    ///
    /// # Errors
    /// As [`View::forward`](crate::View::forward). [`Error::Argument`] for less than 2 draws, whose spread
    /// would say nothing, for more samples and draws than masks have numbers (2^32), and for a network
    /// without a dropout that drops anything. [`Error::Shape`] with the layer where something behind a
    /// dropout does not keep samples apart, such as a mean over the batch, and where a dropout finds
    /// samples elsewhere than along the first extent.
    pub fn forward<I: Values, O: Values>(&mut self, x: impl Tensors<I>) -> Result<O::Of<Tensor>>
    where
        M: Module<I, O>,
    {
        let given = given::<I>("forward", &x)?;
        self.check(&given)?;
        let (mode, pass, samples) = (self.mode(), self.pass, self.samples);
        let (pass, outputs) = self.net.attempt(|net| {
            let scalars = scalars(net, mode, pass, samples)?;
            let request = Request { mode, goal: Goal::Forward };
            let call = Call { request, loss: None, given: &given, scalars };
            let outputs = net.run::<I, O, ()>(call)?;
            Ok((scalars.pass, outputs.structured::<O>()?))
        })?;
        self.pass = Some(pass);
        self.samples += given.samples();
        Ok(outputs)
    }

    /// The first layer's output of the next pass on `x` that has NaN or an infinity in it in any draw, or
    /// `x` itself. The samples are not counted. Much slower than [`forward`](MonteCarlo::forward).
    ///
    /// # Errors
    /// As [`forward`](MonteCarlo::forward).
    pub fn first_non_finite<I: Values, O: Values>(
        &mut self,
        x: impl Tensors<I>,
    ) -> Result<Option<NonFiniteValue>>
    where
        M: Module<I, O>,
    {
        let given = given::<I>("first_non_finite", &x)?;
        self.check(&given)?;
        let (mode, pass, samples) = (self.mode(), self.pass, self.samples);
        self.net.uncounted(|net| {
            let scalars = scalars(net, mode, pass, samples)?;
            net.examine::<I, O, ()>(mode, None, &given, scalars)
        })
    }

    fn mode(&self) -> Mode {
        Mode::MonteCarlo(self.draws)
    }

    fn check(&self, given: &Given) -> Result<()> {
        let count = self.draws.count;
        if count < 2 {
            return Err(Error::argument("draws", "2 or more, whose spread tells something", count));
        }
        if let Some(number) = given.of_network().iter().find(|x| x.shape().rank() == 0) {
            return Err(Error::Shape {
                layer: String::new(),
                op: "monte_carlo".into(),
                expected: "inputs with an extent of samples".into(),
                got: number.ty().to_string(),
            });
        }
        given.of_network().iter().try_for_each(Tensor::check)?;
        // Masks know a draw of a sample by a number of 32 bits.
        let samples = self.samples.saturating_add(given.samples());
        let most = u32::MAX as usize / samples.max(1);
        if count > most {
            let expected = format!("at most {most} of {samples} samples");
            return Err(Error::argument("draws", expected, count));
        }
        Ok(())
    }
}

/// Scalars for draws of samples behind those that are counted, in the pass of the view or a new one.
fn scalars<M>(net: &mut Net<M>, mode: Mode, pass: Option<u32>, samples: usize) -> Result<Scalars> {
    let mut scalars = match pass {
        Some(pass) => {
            let dropout = net.rates().of_pass(net.pass())?;
            Scalars { pass, dropout, ..Scalars::new(net.seed().0) }
        }
        None => net.begin_pass(mode)?,
    };
    if let Mode::MonteCarlo(Draws { count, masks: Masks::PerSample, .. }) = mode {
        // Within 32 bits, as was checked.
        scalars.sample_offset = (samples * count) as u32;
    }
    Ok(scalars)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::Mask;
    use crate::nn::Dropout;
    use crate::scalars::MONTE_CARLO_PASS;
    use crate::{Device, Seed};

    /// Masks count to the last number that they have, and no further.
    #[test]
    fn samples_are_counted_as_long_as_masks_can_tell_them_apart() -> Result<()> {
        let mut net = Net::new(Device::cpu(), Seed(7), |p| Dropout::new(&p.at("dropout"), 0.5))?;
        let ones = Tensor::new([1, 40], vec![1.0; 40])?;
        let mut view = net.monte_carlo(3);
        view.samples = u32::MAX as usize / 3 - 1;
        let last = view.forward(&ones)?;
        let mask = Mask::new(7, "dropout#0", 0.5);
        for (index, &y) in last.values()?.iter().enumerate() {
            let sample = u32::MAX - 3 + index as u32 / 40;
            let kept = mask.keeps(MONTE_CARLO_PASS, sample, index as u32 % 40);
            assert_eq!(y != 0.0, kept, "{index}");
        }
        let error = view.forward(&ones).unwrap_err().to_string();
        assert_eq!(error, "draws: expected at most 2 of 1431655766 samples, got 3");
        Ok(())
    }
}
