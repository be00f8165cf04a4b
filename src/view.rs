// SPDX-License-Identifier: MIT OR Apache-2.0
//! Views: a network in a mode. Only a view runs.

use crate::loss::Loss;
use crate::net::{Call, Net};
use crate::nn::Module;
use crate::passes::{Goal, Mode, Request, Seed};
use crate::{allocate, Error, NonFiniteValue, Result, Tensor};

/// A network in a mode; from [`Net::train`], [`Net::eval`] or [`Net::monte_carlo`].
///
/// The mode and the wish for gradients are independent: [`gradients`](View::gradients) works in
/// every mode, for saliency maps in eval as for training loops of one's own.
#[derive(Debug)]
pub struct View<'n, M> {
    net: &'n mut Net<M>,
    mode: Mode,
    draws: usize,
}

/// Results of a pass with gradients.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// The network's output; the loss, if a loss was given.
    pub output: Tensor,
    /// Gradient with respect to the input; `None` if the input is not floating-point or has no
    /// influence.
    pub input: Option<Tensor>,
    /// Gradient with respect to each parameter that has influence, by name, in order of creation.
    pub parameters: Vec<(String, Tensor)>,
}

impl<'n, M: Module> View<'n, M> {
    pub(crate) fn new(net: &'n mut Net<M>, mode: Mode, draws: usize) -> Self {
        View { net, mode, draws }
    }

    /// The network's output for `x`.
    ///
    /// # Errors
    /// [`Error::Shape`] with the layer's path if a layer cannot take its input.
    pub fn forward(&mut self, x: &Tensor) -> Result<Tensor> {
        let tiled = self.tile(x)?;
        let request = Request { mode: self.mode, goal: Goal::Forward };
        let (mode, draws) = (self.mode, self.draws);
        self.run(request, None, &[tiled], |_, outputs| {
            let output = first(outputs)?;
            match mode {
                Mode::MonteCarlo => {
                    let mut dims = vec![draws, output.shape().samples() / draws.max(1)];
                    dims.extend(output.shape().dims().iter().skip(1));
                    output.reshaped(dims)
                }
                Mode::Train | Mode::Eval => Ok(output),
            }
        })
    }

    /// Output and gradients, given the gradient `dy` with respect to the output.
    ///
    /// # Errors
    /// As [`forward`](View::forward); [`Error::Shape`] if `dy` has not the output's shape;
    /// [`Error::Argument`] in Monte Carlo mode.
    pub fn gradients(&mut self, x: &Tensor, dy: &Tensor) -> Result<Gradients> {
        self.backward(&[x.clone(), dy.clone()], None, Seed::Input)
    }

    /// Loss and gradients for inputs and targets.
    ///
    /// # Errors
    /// As [`forward`](View::forward), and what the loss reports about the targets.
    pub fn loss_gradients(
        &mut self,
        loss: &dyn Loss,
        x: &Tensor,
        target: &Tensor,
    ) -> Result<Gradients> {
        loss.check(target)?;
        let mut inputs = vec![x.clone(), target.clone()];
        inputs.extend(loss.inputs());
        self.backward(&inputs, Some(loss), Seed::One)
    }

    /// Losses and gradients for a loss with one value per sample or element, given the gradient
    /// `dloss` with respect to those values.
    ///
    /// # Errors
    /// As [`loss_gradients`](View::loss_gradients); [`Error::Shape`] if `dloss` has not the loss's
    /// shape.
    pub fn loss_gradients_from(
        &mut self,
        loss: &dyn Loss,
        x: &Tensor,
        target: &Tensor,
        dloss: &Tensor,
    ) -> Result<Gradients> {
        loss.check(target)?;
        let mut inputs = vec![x.clone(), target.clone()];
        inputs.extend(loss.inputs());
        inputs.push(dloss.clone());
        self.backward(&inputs, Some(loss), Seed::Input)
    }

    /// Loss of outputs against targets, without gradients.
    ///
    /// # Errors
    /// As [`loss_gradients`](View::loss_gradients).
    pub fn loss(&mut self, loss: &dyn Loss, x: &Tensor, target: &Tensor) -> Result<Tensor> {
        Ok(self.loss_and_output(loss, x, target)?.0)
    }

    /// Loss and output in one pass, without gradients.
    ///
    /// # Errors
    /// As [`loss_gradients`](View::loss_gradients).
    pub fn loss_and_output(
        &mut self,
        loss: &dyn Loss,
        x: &Tensor,
        target: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        self.forbid_monte_carlo("loss")?;
        loss.check(target)?;
        let mut inputs = vec![x.clone(), target.clone()];
        inputs.extend(loss.inputs());
        let request = Request { mode: self.mode, goal: Goal::Forward };
        self.run(request, Some(loss), &inputs, |_, outputs| {
            match <[Tensor; 2]>::try_from(outputs) {
                Ok([loss, output]) => Ok((loss, output)),
                Err(outputs) => Err(missing(outputs.len())),
            }
        })
    }

    /// The first layer's output of the next pass on `x` that has NaN or an infinity in it, or `x`
    /// itself. The pass is not counted. Much slower than [`forward`](View::forward).
    ///
    /// ```
    /// use kiln::{models::SimpleNet, Device, Net, Origin, Seed, Tensor};
    ///
    /// let mut net = Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(p, 4, 8, 3, 0.5))?;
    /// net.set_parameter("fc2.bias", &Tensor::new([8], vec![f32::INFINITY; 8])?)?;
    /// let found = net.eval().first_non_finite(&Tensor::zeros([1, 4]))?.expect("an infinity");
    /// assert!(matches!(found.origin, Origin::Layer { path, .. } if path == "fc2"));
    /// assert_eq!(found.parameters, ["fc2.bias"]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`forward`](View::forward).
    pub fn first_non_finite(&mut self, x: &Tensor) -> Result<Option<NonFiniteValue>> {
        let tiled = self.tile(x)?;
        let mode = self.mode;
        self.net.uncounted(|net| {
            let scalars = net.begin_pass(mode);
            net.examine(mode, None, &[tiled], scalars)
        })
    }

    fn backward(
        &mut self,
        inputs: &[Tensor],
        loss: Option<&dyn Loss>,
        seed: Seed,
    ) -> Result<Gradients> {
        self.forbid_monte_carlo("gradients")?;
        let request = Request { mode: self.mode, goal: Goal::Gradients(seed) };
        self.run(request.clone(), loss, inputs, |net, outputs| {
            let mut outputs = outputs.into_iter();
            let output = outputs.next().ok_or_else(|| missing(0))?;
            if loss.is_some() {
                outputs.next(); // the network's own output
            }
            let input = outputs.next();
            let parameters = net.stored_gradients(&request, loss, inputs)?;
            Ok(Gradients { output, input, parameters })
        })
    }

    /// Runs a request as the next pass of this mode, which counts only if its outputs can be taken.
    fn run<T>(
        &mut self,
        request: Request,
        loss: Option<&dyn Loss>,
        inputs: &[Tensor],
        take: impl FnOnce(&mut Net<M>, Vec<Tensor>) -> Result<T>,
    ) -> Result<T> {
        let mode = self.mode;
        self.net.attempt(|net| {
            let scalars = net.begin_pass(mode);
            let outputs = net.run(Call { request, loss, inputs, scalars })?;
            take(net, outputs)
        })
    }

    fn forbid_monte_carlo(&self, what: &str) -> Result<()> {
        match self.mode {
            Mode::MonteCarlo => Err(Error::argument(what, "train or eval mode", "monte_carlo")),
            Mode::Train | Mode::Eval => Ok(()),
        }
    }

    /// In Monte Carlo mode, the batch repeated once per draw.
    fn tile(&self, x: &Tensor) -> Result<Tensor> {
        if self.mode != Mode::MonteCarlo {
            return Ok(x.clone());
        }
        if self.draws == 0 || x.shape().rank() == 0 {
            return Err(Error::argument("draws", "1 or more, of a batch", self.draws));
        }
        let values = x.values()?;
        // Masks know a sample of a run by a number of 32 bits.
        let most = u32::MAX as usize / x.shape().samples().max(1);
        if self.draws > most {
            let expected = format!("at most {most} of {} samples", x.shape().samples());
            return Err(Error::argument("draws", expected, self.draws));
        }
        let samples = x.shape().samples() * self.draws;
        let all = values.len().saturating_mul(self.draws);
        let mut repeated = allocate::room(all, "the draws of a batch")?;
        (0..self.draws).for_each(|_| repeated.extend_from_slice(values));
        Tensor::new(x.shape().with_samples(samples), repeated)
    }
}

fn first(outputs: Vec<Tensor>) -> Result<Tensor> {
    outputs.into_iter().next().ok_or_else(|| missing(0))
}

fn missing(got: usize) -> Error {
    Error::Internal { pass: "view", message: format!("a run returned only {got} outputs") }
}
