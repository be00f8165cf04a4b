// SPDX-License-Identifier: MIT OR Apache-2.0
//! Views: a network in a mode. Only a view runs.

mod layers;

pub use layers::LayerOutput;

use crate::graph::Var;
use crate::loss::Loss;
use crate::net::{Call, Net, Outputs};
use crate::nn::Module;
use crate::passes::{Goal, Mode, Request, Seed};
use crate::values::{join, Flat, Given, Tensors, Values};
use crate::{Error, NonFiniteValue, Result, Tensor};

/// A network in a mode; from [`Net::train`] or [`Net::eval`].
///
/// What it is given and what it returns has the structure that the network's
/// [`Module`] declares: `forward(&x)`, or `forward((&a, &b))` for two inputs.
///
/// The mode and the wish for gradients are independent: [`gradients`](View::gradients) works in
/// every mode, for saliency maps in eval as for training loops of one's own.
#[derive(Debug)]
pub struct View<'n, M> {
    net: &'n mut Net<M>,
    mode: Mode,
}

/// Results of a pass with gradients, for a network from `In` to `Out`; `Out` is one [`Var`] where the
/// result is a loss.
#[derive(Clone, Debug)]
pub struct Gradients<In: Values = Var, Out: Values = Var> {
    /// The network's output; the loss, if a loss was given.
    pub output: Out::Of<Tensor>,
    /// Gradient with respect to each input; `None` if the input is not floating-point or has no
    /// influence.
    pub input: In::Of<Option<Tensor>>,
    /// Gradient with respect to each parameter that has influence, by name, in order of creation.
    pub parameters: Vec<(String, Tensor)>,
}

/// Losses and the outputs that they are of.
type LossAndOutput<Out> = (Tensor, <Out as Values>::Of<Tensor>);

impl<'n, M> View<'n, M> {
    pub(crate) fn new(net: &'n mut Net<M>, mode: Mode) -> Self {
        View { net, mode }
    }

    /// The network's output for `x`.
    ///
    /// # Errors
    /// [`Error::Shape`] with the layer's path if a layer cannot take its input, and if one of several
    /// inputs has another number of samples than the first.
    pub fn forward<I: Values, O: Values>(&mut self, x: impl Tensors<I>) -> Result<O::Of<Tensor>>
    where
        M: Module<I, O>,
    {
        let given = given::<I>("forward", &x)?;
        let request = Request { mode: self.mode, goal: Goal::Forward };
        self.run::<I, O, (), _>(request, None, &given, |_, outputs| outputs.structured::<O>())
    }

    /// Output and gradients, given the gradient `dy` with respect to the output; where there are
    /// several, with respect to each. Those of integers are not looked at.
    ///
    /// # Errors
    /// As [`forward`](View::forward); [`Error::Shape`] if `dy` has not the output's shape.
    pub fn gradients<I: Values, O: Values>(
        &mut self,
        x: impl Tensors<I>,
        dy: impl Tensors<O>,
    ) -> Result<Gradients<I, O>>
    where
        M: Module<I, O>,
    {
        let Flat { leaves: dy, lists } = Flat::of::<O>(dy.tensors("gradients")?);
        let given = given::<I>("gradients", &x)?.with(dy);
        self.backward::<I, O, O, ()>(&given, None, Seed::Input, |returned| {
            match returned.lists == lists {
                true => returned.next_structure::<O>(),
                false => {
                    let expected = format!("lists of {:?} tensors", returned.lists);
                    Err(Error::argument("gradients", expected, format!("{lists:?}")))
                }
            }
        })
    }

    /// Loss and gradients for inputs and targets.
    ///
    /// # Errors
    /// As [`forward`](View::forward), and what the loss reports about the targets.
    pub fn loss_gradients<I: Values, O: Values, T: Values>(
        &mut self,
        loss: &dyn Loss<O, T>,
        x: impl Tensors<I>,
        target: impl Tensors<T>,
    ) -> Result<Gradients<I>>
    where
        M: Module<I, O>,
    {
        let given = with_loss(loss, given_pair("loss", loss, &x, &target)?);
        self.backward::<I, Var, O, T>(&given, Some(loss), Seed::One, Returned::loss)
    }

    /// Losses and gradients for a loss with one value per sample or element, given the gradient
    /// `dloss` with respect to those values.
    ///
    /// # Errors
    /// As [`loss_gradients`](View::loss_gradients); [`Error::Shape`] if `dloss` has not the loss's
    /// shape.
    pub fn loss_gradients_from<I: Values, O: Values, T: Values>(
        &mut self,
        loss: &dyn Loss<O, T>,
        x: impl Tensors<I>,
        target: impl Tensors<T>,
        dloss: &Tensor,
    ) -> Result<Gradients<I>>
    where
        M: Module<I, O>,
    {
        let given = with_loss(loss, given_pair("loss", loss, &x, &target)?).with([dloss.clone()]);
        self.backward::<I, Var, O, T>(&given, Some(loss), Seed::Input, Returned::loss)
    }

    /// Loss of outputs against targets, without gradients.
    ///
    /// # Errors
    /// As [`loss_gradients`](View::loss_gradients).
    pub fn loss<I: Values, O: Values, T: Values>(
        &mut self,
        loss: &dyn Loss<O, T>,
        x: impl Tensors<I>,
        target: impl Tensors<T>,
    ) -> Result<Tensor>
    where
        M: Module<I, O>,
    {
        Ok(self.loss_and_output(loss, x, target)?.0)
    }

    /// Loss and output in one pass, without gradients.
    ///
    /// # Errors
    /// As [`loss_gradients`](View::loss_gradients).
    pub fn loss_and_output<I: Values, O: Values, T: Values>(
        &mut self,
        loss: &dyn Loss<O, T>,
        x: impl Tensors<I>,
        target: impl Tensors<T>,
    ) -> Result<LossAndOutput<O>>
    where
        M: Module<I, O>,
    {
        let given = with_loss(loss, given_pair("loss", loss, &x, &target)?);
        let request = Request { mode: self.mode, goal: Goal::Forward };
        self.run(request, Some(loss), &given, |_, outputs| {
            let mut returned = Returned::new(outputs);
            Ok((returned.loss()?, returned.next_structure::<O>()?))
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
    pub fn first_non_finite<I: Values, O: Values>(
        &mut self,
        x: impl Tensors<I>,
    ) -> Result<Option<NonFiniteValue>>
    where
        M: Module<I, O>,
    {
        let given = given::<I>("first_non_finite", &x)?;
        let mode = self.mode;
        self.net.uncounted(|net| {
            let scalars = net.begin_pass(mode)?;
            net.examine::<I, O, ()>(mode, None, &given, scalars)
        })
    }

    fn backward<I: Values, R: Values, O: Values, T: Values>(
        &mut self,
        given: &Given,
        loss: Option<&dyn Loss<O, T>>,
        seed: Seed,
        result: impl FnOnce(&mut Returned) -> Result<R::Of<Tensor>>,
    ) -> Result<Gradients<I, R>>
    where
        M: Module<I, O>,
    {
        let request = Request { mode: self.mode, goal: Goal::Gradients(seed) };
        let inputs = given.of_network().len();
        self.run::<I, O, T, _>(request, loss, given, |net, outputs| {
            let plan = outputs.plan;
            let mut by_input = vec![None; inputs];
            for (input, gradient) in
                outputs.gradients.iter().rev().zip(outputs.tensors.iter().rev())
            {
                by_input[input.index()] = Some(gradient.clone());
            }
            let output = result(&mut Returned::new(outputs))?;
            let mut lists = given.lists().iter().copied();
            let input = join::<I, _>(&mut by_input.into_iter(), &mut lists).ok_or_else(missing)?;
            Ok(Gradients { output, input, parameters: net.stored_gradients(plan)? })
        })
    }

    /// Runs a request as the next pass of this mode, which counts only if its outputs can be taken.
    fn run<I: Values, O: Values, T: Values, R>(
        &mut self,
        request: Request,
        loss: Option<&dyn Loss<O, T>>,
        given: &Given,
        take: impl FnOnce(&mut Net<M>, Outputs) -> Result<R>,
    ) -> Result<R>
    where
        M: Module<I, O>,
    {
        let mode = self.mode;
        self.net.attempt(|net| {
            let scalars = net.begin_pass(mode)?;
            let outputs = net.run::<I, O, T>(Call { request, loss, given, scalars })?;
            take(net, outputs)
        })
    }
}

impl Outputs {
    /// The outputs of a forward pass.
    pub(crate) fn structured<O: Values>(self) -> Result<O::Of<Tensor>> {
        Flat { leaves: self.tensors, lists: self.lists }.join::<O>().ok_or_else(missing)
    }
}

/// What a run returned, taken one after another.
struct Returned {
    tensors: std::vec::IntoIter<Tensor>,
    lists: Vec<usize>,
}

impl Returned {
    fn new(outputs: Outputs) -> Self {
        Returned { tensors: outputs.tensors.into_iter(), lists: outputs.lists }
    }

    fn loss(&mut self) -> Result<Tensor> {
        self.tensors.next().ok_or_else(missing)
    }

    fn next_structure<O: Values>(&mut self) -> Result<O::Of<Tensor>> {
        let mut lists = self.lists.iter().copied();
        join::<O, _>(&mut self.tensors, &mut lists).ok_or_else(missing)
    }
}

/// Inputs of a run that a network may take.
pub(crate) fn given<I: Values>(op: &str, x: impl Tensors<I>) -> Result<Given> {
    let given = Given::inputs::<I>(x.tensors("inputs")?);
    given.check(op).map(|()| given)
}

fn given_pair<I: Values, O: Values, T: Values>(
    op: &str,
    loss: &dyn Loss<O, T>,
    x: impl Tensors<I>,
    target: impl Tensors<T>,
) -> Result<Given> {
    let targets = target.tensors("targets")?;
    loss.check(&targets)?;
    let given = Given::inputs::<I>(x.tensors("inputs")?).with_targets::<T>(targets);
    given.check(op).map(|()| given)
}

fn with_loss<O: Values, T: Values>(loss: &dyn Loss<O, T>, given: Given) -> Given {
    given.with(loss.inputs())
}

fn missing() -> Error {
    Error::Internal { pass: "view", message: "a run returned too few outputs".into() }
}
