// SPDX-License-Identifier: MIT OR Apache-2.0
//! Losses made of closures.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Loss, Noted, Reduction};
use crate::graph::Var;
use crate::values::Values;
use crate::{Result, Tensor};

/// A loss made of a closure; from [`from_fn`].
#[derive(Clone)]
pub struct FromFn<Outputs, Targets, F> {
    record: F,
    /// Number of the call of [`from_fn`] in this process.
    number: u64,
    reduction: Reduction,
    compared: PhantomData<fn(Outputs, Targets)>,
}

/// Makes a loss of a closure from outputs and targets to one number. The types of its arguments say
/// what it compares, in the [structures](Values) of the network's outputs and of the targets; `&()`
/// is for a loss without targets.
///
/// ```
/// use kiln::loss;
/// use kiln::nn::Linear;
/// use kiln::optim::Sgd;
/// use kiln::{Device, Net, Seed, Tensor, Trainer, Var};
///
/// // The logarithm of the hyperbolic cosine, and a constant.
/// let log_cosh = loss::from_fn(|y: &Var, t: &Var| {
///     let difference = y - t;
///     (&difference + &difference.scale(-2.0).softplus()).mean()
/// });
/// let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 3, 1))?;
/// let mut fit = Trainer::new(net, log_cosh, Sgd::new(0.1))?;
/// fit.step(&Tensor::zeros([4, 3]), &Tensor::new([4, 1], vec![1.0; 4])?)?;
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// Each call makes a loss with a key of its own, by which plans are kept: closures that hold other
/// numbers are never taken for one another, and neither are equal ones. So make a loss once, not in
/// every step. A [clone](Clone) keeps the key. A checkpoint notes the operations that the closure
/// records and their numbers, which is how a resumed training finds that the closure is another.
///
/// Micro-batches need to know how the losses of a batch's parts add up: as means over the samples,
/// unless [`with_reduction`](FromFn::with_reduction) says that they are sums.
pub fn from_fn<Outputs, Targets, F>(record: F) -> FromFn<Outputs, Targets, F>
where
    Outputs: Values,
    Targets: Values,
    F: Fn(&Outputs, &Targets) -> Var + Send + Sync,
{
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let number = CALLS.fetch_add(1, Ordering::Relaxed);
    FromFn { record, number, reduction: Reduction::Mean, compared: PhantomData }
}

impl<Outputs, Targets, F> FromFn<Outputs, Targets, F> {
    /// Says how the closure joins the losses of samples: a [`Mean`](Reduction::Mean) over all samples
    /// alike, or a [`Sum`](Reduction::Sum). With [`None`](Reduction::None) it yields one loss per
    /// sample, for [`loss_gradients_from`](crate::View::loss_gradients_from).
    #[must_use]
    pub fn with_reduction(self, reduction: Reduction) -> Self {
        FromFn { reduction, ..self }
    }
}

impl<Outputs, Targets, F> Loss<Outputs, Targets> for FromFn<Outputs, Targets, F>
where
    Outputs: Values,
    Targets: Values,
    F: Fn(&Outputs, &Targets) -> Var + Send + Sync,
{
    fn forward(&self, outputs: &Outputs, targets: &Targets, _own: &[Var]) -> Var {
        (self.record)(outputs, targets)
    }

    fn check(&self, _targets: &Targets::Of<Tensor>) -> Result<()> {
        Ok(())
    }

    fn weight(&self, samples: usize, _targets: &Targets::Of<Tensor>) -> Option<f64> {
        (self.reduction == Reduction::Mean).then_some(samples as f64)
    }

    fn key(&self) -> String {
        format!("from_fn {}", self.number)
    }

    fn noted(&self) -> Noted {
        Noted::Operations
    }
}

impl<Outputs, Targets, F> fmt::Debug for FromFn<Outputs, Targets, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").field("number", &self.number).finish_non_exhaustive()
    }
}
