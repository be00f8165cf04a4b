// SPDX-License-Identifier: MIT OR Apache-2.0
//! Factors of the loss, so that small gradients survive 16 bits.

use crate::{Error, Precision, Result};

/// What a training multiplies its loss by before it takes gradients, which are divided by it again
/// before they are clipped and used: in `f16`, gradients below 6e-8 would be 0 otherwise.
///
/// Where a gradient is not finite, the whole update is skipped: parameters, moments and averages stay
/// as they are, and neither the optimiser's corrections nor the schedule count it. The device
/// decides, so a GPU waits for nobody. What is left of a scale is an overflow of the network itself:
/// a loss that is not finite stops the training as ever, and so does a gradient when the scale can
/// fall no further below 1 to any use ([`NonFinite`](crate::NonFinite)).
///
/// ```
/// use kiln::{loss::Mse, nn::Linear, optim::Sgd, Device, LossScale, Net, Precision, Seed, Tensor, Trainer};
///
/// let device = Device::cpu().with_precision(Precision::F16);
/// let net = Net::new(device, Seed(7), |p| Linear::new(&p.at("fc"), 1, 1))?;
/// let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.1))?;
/// assert_eq!(fit.loss_scale(), LossScale::dynamic()); // as always in f16
///
/// let init_scale = 2f32.powi(20); // far too large for this batch
/// let scale = LossScale::Dynamic {
///     init_scale, growth_factor: 2.0, backoff_factor: 0.5, growth_interval: 2000,
/// };
/// fit = fit.with_loss_scale(scale)?;
/// let (x, target) = (Tensor::new([1, 1], vec![1.0])?, Tensor::new([1, 1], vec![10.0])?);
/// let before = fit.net().parameter("fc.weight")?;
/// let loss = fit.step(&x, &target)?;
/// assert_eq!(loss.overflow()?, Some(init_scale)); // more than 65504 is infinite
/// assert_eq!(fit.net().parameter("fc.weight")?, before);
/// for _ in 0..20 {
///     fit.step(&x, &target)?;
/// }
/// let state = fit.training_state()?;
/// assert_eq!(u64::from(state.updates + state.skipped), fit.updates());
/// assert_eq!(state.loss_scale, init_scale * 0.5f32.powi(state.skipped as i32));
/// assert!(fit.net().parameter("fc.weight")? != before);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LossScale {
    /// The loss as it is: the default of every precision but `f16`.
    Off,
    /// Always this factor. Powers of two round nothing. An update with a gradient that is not finite
    /// is skipped.
    Static(f32),
    /// A factor that falls where a gradient is not finite and rises after many that are, as that of
    /// `torch.amp.GradScaler` (Micikevicius et al. 2018, arXiv:1710.03740).
    Dynamic {
        /// The first factor.
        init_scale: f32,
        /// What the factor is multiplied by after `growth_interval` updates.
        growth_factor: f32,
        /// What it is multiplied by after a skipped one.
        backoff_factor: f32,
        /// Updates without a skipped one after which it grows.
        growth_interval: u32,
    },
}

impl LossScale {
    /// As `torch.amp.GradScaler` begins: 65536, doubled after 2000 updates, halved after a skipped one.
    pub const fn dynamic() -> Self {
        LossScale::Dynamic {
            init_scale: 65536.0,
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 2000,
        }
    }

    /// What a training in a precision does unless told otherwise.
    pub const fn of(precision: Precision) -> Self {
        match precision {
            Precision::F16 => LossScale::dynamic(),
            Precision::F32 | Precision::Tf32 | Precision::Bf16 => LossScale::Off,
        }
    }

    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Argument`] for each that is out of range: a factor of the loss is a positive number
    /// of full precision, it grows by more than 1 and falls by less, and intervals are not 0.
    pub fn check(&self) -> Result<()> {
        let mut errors = Vec::new();
        let mut demand = |what: &str, expected: &str, value: f64, fits: bool| {
            if !fits {
                errors.push(Error::argument(what, expected, value));
            }
        };
        let normal = |scale: f32| scale > 0.0 && scale.is_normal();
        let expected = "a positive number of full precision";
        match *self {
            LossScale::Off => {}
            LossScale::Static(scale) => {
                demand("loss scale", expected, scale.into(), normal(scale));
            }
            LossScale::Dynamic { init_scale, growth_factor, backoff_factor, growth_interval } => {
                demand("init_scale", expected, init_scale.into(), normal(init_scale));
                let grows = growth_factor > 1.0 && growth_factor.is_finite();
                demand("growth_factor", "a finite number above 1", growth_factor.into(), grows);
                let falls = backoff_factor > 0.0 && backoff_factor < 1.0;
                demand("backoff_factor", "a number in (0, 1)", backoff_factor.into(), falls);
                let interval = f64::from(growth_interval);
                demand("growth_interval", "1 or more", interval, growth_interval > 0);
            }
        }
        Error::check(errors)
    }

    /// The first factor; 0 where there is none.
    pub(crate) fn first(self) -> f32 {
        match self {
            LossScale::Off => 0.0,
            LossScale::Static(scale) => scale,
            LossScale::Dynamic { init_scale, .. } => init_scale,
        }
    }

    /// The factor after an update and how many updates it has lasted, in the very operations of
    /// `kernels/unscale.cu`. It stays a number of full precision.
    pub(crate) fn next(self, (scale, lasted): (f32, u32), overflow: Overflow) -> (f32, u32) {
        let LossScale::Dynamic { growth_factor, backoff_factor, growth_interval, .. } = self else {
            return (scale, lasted);
        };
        let kept_within = |next: f32| if next.is_normal() { next } else { scale };
        match overflow {
            Overflow::Found => (kept_within(scale * backoff_factor), 0),
            Overflow::None if lasted.saturating_add(1) < growth_interval => (scale, lasted + 1),
            Overflow::None => (kept_within(scale * growth_factor), 0),
        }
    }
}

/// By default as `torch.amp.GradScaler`.
impl Default for LossScale {
    fn default() -> Self {
        LossScale::dynamic()
    }
}

/// Whether a gradient of a scaled loss is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    Found,
    None,
}

impl Overflow {
    /// What a step returns says: the scale at which one was found, or 0.
    pub(crate) fn of(number: f32) -> Self {
        if number == 0.0 {
            Overflow::None
        } else {
            Overflow::Found
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scales of `torch._amp_update_scale_` (PyTorch 2.15) from 4, with a growth interval of 3, for
    /// updates of which the 4th, 5th and 11th overflow.
    #[test]
    fn scales_follow_pytorch() {
        let scale = LossScale::Dynamic {
            init_scale: 4.0,
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 3,
        };
        let mut now = (scale.first(), 0);
        let mut seen = Vec::new();
        for update in 1..=12 {
            let overflow =
                if [4, 5, 11].contains(&update) { Overflow::Found } else { Overflow::None };
            now = scale.next(now, overflow);
            seen.push(now);
        }
        let want = [
            (4.0, 1),
            (4.0, 2),
            (8.0, 0),
            (4.0, 0),
            (2.0, 0),
            (2.0, 1),
            (2.0, 2),
            (4.0, 0),
            (4.0, 1),
            (4.0, 2),
            (2.0, 0),
            (2.0, 1),
        ];
        assert_eq!(seen, want);
    }

    #[test]
    fn scales_stay_numbers_of_full_precision() {
        let LossScale::Dynamic { growth_factor, backoff_factor, .. } = LossScale::dynamic() else {
            panic!("dynamic")
        };
        let scale = |init_scale| LossScale::Dynamic {
            init_scale,
            growth_factor,
            backoff_factor,
            growth_interval: 1,
        };
        let (large, small) = (2f32.powi(127), f32::MIN_POSITIVE);
        assert_eq!(scale(large).next((large, 0), Overflow::None), (large, 0));
        assert_eq!(scale(small).next((small, 0), Overflow::Found), (small, 0));
        assert_eq!(LossScale::Static(3.0).next((3.0, 0), Overflow::Found), (3.0, 0));
    }

    #[test]
    fn options_out_of_range_are_named() {
        for scale in [LossScale::Off, LossScale::dynamic(), LossScale::Static(128.0)] {
            assert!(scale.check().is_ok(), "{scale:?}");
        }
        for scale in [0.0, -1.0, f32::INFINITY, f32::NAN, 1e-40] {
            assert!(LossScale::Static(scale).check().is_err(), "{scale}");
        }
        let wrong = LossScale::Dynamic {
            init_scale: 0.0,
            growth_factor: 1.0,
            backoff_factor: 1.0,
            growth_interval: 0,
        };
        let error = wrong.check().unwrap_err().to_string();
        for option in ["init_scale", "growth_factor", "backoff_factor", "growth_interval"] {
            assert!(error.contains(option), "{error}");
        }
    }
}
