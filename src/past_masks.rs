// SPDX-License-Identifier: MIT OR Apache-2.0
//! The masks of passes that have been, and of those to come.

use crate::error::list;
use crate::graph::{Graph, NodeId};
use crate::net::Net;
use crate::nn::Module;
use crate::op::{Array, Drops, Op, TensorType};
use crate::scalars::{Scalars, MONTE_CARLO_PASS};
use crate::values::{structured, Flat, Values};
use crate::{allocate, Error, Result, Shape, Tensor};

/// A mask as a network draws it, and the dropout that it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawnMask {
    /// Path of the layer that drops.
    pub layer: String,
    /// What is dropped at once.
    pub drops: Drops,
    /// The probability of dropping, as it is drawn at.
    pub p: f64,
    /// What values are multiplied by: 0 for what is dropped, else `1 / (1 - p)`; in the
    /// [shape](Drops::mask_shape) of the mask.
    pub factors: Tensor,
}

impl<M> Net<M> {
    /// The masks of all dropouts in a pass for inputs of these types, in the order in which the network
    /// calls them; passes are counted as by [`mask`](Net::mask). Nothing is run.
    ///
    /// A network that is [given](crate::nn::GivenMasks) them computes the same.
    ///
    /// # Errors
    /// What tracing reports; [`Error::Device`] if there is no memory for the masks.
    pub fn masks<I: Values, O: Values>(
        &self,
        pass: u32,
        inputs: &[TensorType],
    ) -> Result<Vec<DrawnMask>>
    where
        M: Module<I, O>,
    {
        let inputs = structured::<I, TensorType>("inputs", inputs.to_vec())?;
        let graph = self.traced::<I, O, ()>(None, &Flat::of::<I>(inputs))?;
        let scalars = self.scalars_of(pass)?;
        let drawn = |id| drawn(&graph, id, &scalars);
        dropouts(&graph).into_iter().filter_map(drawn).collect()
    }

    /// The masks that a layer drew, or will draw, in a pass for inputs of these types: for each dropout that
    /// it does, in order, 1 for what is kept and 0 for what is dropped, in the shape of the value. Nothing is
    /// run, since a mask is a function of seed, layer, call, pass, sample and element.
    ///
    /// `pass` counts train-mode passes from 0; [`pass`](Net::pass) is the next. Those of Monte Carlo views
    /// count on their own, with the bit [`MONTE_CARLO_PASS`](crate::MONTE_CARLO_PASS) set, and hold all draws
    /// of a sample, then those of the next. A shorter batch has the first samples of a longer one.
    ///
    /// Where a rate changes, it is that of the pass. Monte Carlo views draw at the rates of the next train-mode
    /// pass, so their masks are those of views that are taken now.
    ///
    /// ```
    /// use kiln::{nn::Dropout, op::TensorType, Device, Net, Seed, Tensor};
    ///
    /// let mut net = Net::new(Device::cpu(), Seed(7), |p| Dropout::new(&p.at("dropout1"), 0.5))?;
    /// let ones = Tensor::new([2, 8], vec![1.0; 16])?;
    /// net.train().forward(&ones)?;
    /// let second = net.train().forward(&ones)?; // kept ones are doubled
    /// let masks = net.mask("dropout1", 1, &[TensorType::f32([2, 8].into())])?;
    /// let kept = masks[0].values()?.iter().map(|kept| 2.0 * kept);
    /// assert!(kept.eq(second.values()?.iter().copied()));
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] with the layers that drop something if this is none of them; what tracing reports;
    /// [`Error::Device`] if there is no memory for the masks.
    pub fn mask<I: Values, O: Values>(
        &self,
        layer: &str,
        pass: u32,
        inputs: &[TensorType],
    ) -> Result<Vec<Tensor>>
    where
        M: Module<I, O>,
    {
        let inputs = structured::<I, TensorType>("inputs", inputs.to_vec())?;
        let graph = self.traced::<I, O, ()>(None, &Flat::of::<I>(inputs))?;
        let scalars = self.scalars_of(pass)?;
        let dropouts = dropouts(&graph);
        let of_layer = dropouts.iter().filter(|id| graph.layer(**id).path == layer);
        let masks: Result<Vec<Tensor>> = of_layer.map(|id| mask(&graph, *id, &scalars)).collect();
        let masks = masks?;
        if masks.is_empty() {
            let mut layers: Vec<&str> =
                dropouts.iter().map(|id| graph.layer(*id).path.as_str()).collect();
            layers.dedup();
            let expected = match layers.is_empty() {
                true => "a network with dropout".into(),
                false => format!("one of {}", list(layers, ", ")),
            };
            return Err(Error::argument("layer", expected, layer));
        }
        Ok(masks)
    }

    /// What masks of a pass are functions of.
    fn scalars_of(&self, pass: u32) -> Result<Scalars> {
        let mut scalars = Scalars::new(self.seed().0);
        scalars.pass = pass;
        let rates_of = if pass & MONTE_CARLO_PASS == 0 { pass } else { self.pass() };
        scalars.dropout = self.rates().of_pass(rates_of)?;
        Ok(scalars)
    }
}

fn dropouts(graph: &Graph) -> Vec<NodeId> {
    let drops = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Dropout(_)));
    drops.map(|(id, _)| id).collect()
}

fn mask(graph: &Graph, id: NodeId, scalars: &Scalars) -> Result<Tensor> {
    let node = graph.node(id);
    let factors = factors(&node.op, &node.ty.shape, scalars)?;
    let kept = factors.into_iter().map(|factor| if factor == 0.0 { 0.0 } else { 1.0 }).collect();
    Tensor::new(node.ty.shape.clone(), kept)
}

/// The mask of a node, if it is one of dropout.
fn drawn(graph: &Graph, id: NodeId, scalars: &Scalars) -> Option<Result<DrawnMask>> {
    let node = graph.node(id);
    let Op::Dropout(dropout) = &node.op else { return None };
    let shape = dropout.drops.mask_shape(&node.ty.shape);
    let factors = factors(&node.op, &shape, scalars).and_then(|factors| {
        Tensor::new(shape, factors.into_iter().map(|factor| factor as f32).collect())
    });
    Some(factors.map(|factors| DrawnMask {
        layer: graph.layer(id).path.to_string(),
        drops: dropout.drops,
        p: f64::from(dropout.rate.drop15(scalars)) / 32768.0,
        factors,
    }))
}

/// Ones, and what the plain meaning of dropout makes of them.
fn factors(dropout: &Op, shape: &Shape, scalars: &Scalars) -> Result<Vec<f64>> {
    let elements = shape.elements();
    allocate::probe(elements.saturating_mul(5 * size_of::<f64>()), "masks")?;
    let ones = Array::new(shape.clone(), vec![1.0; elements]);
    let mut dropped = dropout.eval(&[&ones], scalars);
    Ok(dropped.pop().map(|array| array.data).unwrap_or_default())
}
