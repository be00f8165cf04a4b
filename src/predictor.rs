// SPDX-License-Identifier: MIT OR Apache-2.0
//! Predicting on several threads.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::exec::Frozen;
use crate::net::{record, Seed};
use crate::nn::Module;
use crate::passes::{Goal, Mode, Request};
use crate::runner::{Runner, Types, Wanted};
use crate::scalars::Scalars;
use crate::values::{Flat, Given, Tensors, Values};
use crate::{Error, Result, Tensor};

/// A network in eval mode for other threads, from [`Net::predictor`](crate::Net::predictor).
///
/// It has the parameters of the moment when it was made, and training the network further does not
/// change them. Clones share these parameters; each has memory of its own to run in and goes to a
/// thread of its own. On the CPU a predictor computes on the thread that calls it, on a GPU on
/// streams of its own. What it returns has the bits that [`Net::eval`](crate::Net::eval) would give.
///
/// ```
/// use kiln::nn::Linear;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 3, 2))?;
/// let predictor = net.predictor()?;
/// let threads: Vec<_> = (0..4)
///     .map(|_| {
///         let mut predictor = predictor.clone();
///         std::thread::spawn(move || predictor.forward(&Tensor::zeros([1, 3])))
///     })
///     .collect();
/// let expected = net.eval().forward(&Tensor::zeros([1, 3]))?;
/// for thread in threads {
///     assert_eq!(thread.join().expect("no panic")?, expected);
/// }
/// # Ok::<(), kiln::Error>(())
/// ```
pub struct Predictor<M> {
    module: Arc<M>,
    frozen: Frozen,
    seed: Seed,
    most_plans: NonZeroUsize,
    /// Opened at the first run.
    runner: Option<Runner>,
}

impl<M> Predictor<M> {
    pub(crate) fn new(
        module: Arc<M>,
        frozen: Frozen,
        seed: Seed,
        most_plans: NonZeroUsize,
    ) -> Self {
        Predictor { module, frozen, seed, most_plans, runner: None }
    }

    /// The network's output for `x`, in eval mode.
    ///
    /// # Errors
    /// [`Error::Shape`] with the layer's path if a layer cannot take its input; [`Error::Device`] if
    /// the device has too little memory.
    pub fn forward<I: Values, O: Values>(&mut self, x: impl Tensors<I>) -> Result<O::Of<Tensor>>
    where
        M: Module<I, O>,
    {
        let given = Given::inputs::<I>(x.tensors("inputs")?);
        given.check("forward")?;
        let runner = match &mut self.runner {
            Some(runner) => runner,
            none => {
                let (store, backend) = self.frozen.open()?;
                let runner = none.insert(Runner::new(store, backend));
                runner.keep(self.most_plans);
                runner
            }
        };
        let request = Request { mode: Mode::Eval, goal: Goal::Forward };
        let (form, inputs) = (given.form::<I, O, ()>(), Types::Of(given.tensors()));
        let wanted = Wanted { request: &request, loss: None, form, inputs };
        let specs = runner.store().specs().clone();
        let module = &*self.module;
        let id =
            runner.plan_for(&wanted, || record::<M, I, O, ()>(module, specs, None, &wanted))?;
        let leaves = runner.run(id, &Scalars::new(self.seed.0), given.tensors())?;
        let lists = runner.lists(id).to_vec();
        Flat { leaves, lists }.join::<O>().ok_or_else(no_output)
    }
}

impl<M> Clone for Predictor<M> {
    fn clone(&self) -> Self {
        Predictor {
            module: self.module.clone(),
            frozen: self.frozen.clone(),
            seed: self.seed,
            most_plans: self.most_plans,
            runner: None,
        }
    }
}

impl<M> fmt::Debug for Predictor<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Predictor").field("parameters", &self.frozen).finish_non_exhaustive()
    }
}

fn no_output() -> Error {
    Error::Internal { pass: "predictor", message: "a run returned too few outputs".into() }
}
