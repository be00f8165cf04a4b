// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chains of operations, drawn at random and recorded as networks.

use kiln::nn::{Bias, Conv1d, Conv2d, ConvOptions, Dropout, Keep, Linear, Module, Padding, Scope};
use kiln::{Device, Net, Seed, Var};

use crate::common::zoo::SEED;
use crate::common::Numbers;

/// Most elements of an image that a convolution is applied to.
const LARGEST_IMAGE: usize = 4000;

/// One operation on the value before it.
#[derive(Clone, Debug)]
pub(super) enum Link {
    Reshape(Vec<usize>),
    Transpose,
    Moved(Moved),
    /// The mean over an axis.
    Mean {
        axis: usize,
    },
    Activation(Activation),
    /// The call of a dropout layer: which layer, its rate, which of its calls it is.
    Dropout {
        layer: usize,
        p: f32,
        call: usize,
    },
    /// A layer with parameters: which one.
    Linear {
        layer: usize,
        outputs: usize,
        bias: Bias,
    },
    /// The same, with square kernels of odd width that keep the extents.
    Conv {
        layer: usize,
        outputs: usize,
        width: usize,
        bias: Bias,
    },
}

/// Elements put elsewhere, left out, repeated, or set among zeros.
#[derive(Clone, Debug)]
pub(super) enum Moved {
    Permuted(Vec<usize>),
    Sliced {
        axis: usize,
        start: usize,
        length: usize,
    },
    Padded {
        axis: usize,
        before: usize,
        after: usize,
    },
    /// Joined with itself.
    Doubled {
        axis: usize,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Activation {
    Relu,
    LeakyRelu,
    Tanh,
    Sigmoid,
    Silu,
    Scale,
    Offset,
    Sin,
    Abs,
    Clamp,
    Chosen,
}

const ACTIVATIONS: [Activation; 11] = [
    Activation::Relu,
    Activation::LeakyRelu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Silu,
    Activation::Scale,
    Activation::Offset,
    Activation::Sin,
    Activation::Abs,
    Activation::Clamp,
    Activation::Chosen,
];

/// Links with the shape of the first one's input.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) input: Vec<usize>,
    pub(super) links: Vec<Link>,
}

/// The chain as a module.
pub(super) struct Links {
    links: Vec<Link>,
    layers: Vec<Box<dyn Module>>,
    dropouts: Vec<Dropout>,
}

impl Chain {
    /// A linear layer, links, perhaps another linear layer, links. Extents are 1, odd, or whole
    /// vectors and more.
    pub(super) fn random(seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        let (samples, features) = (extent(&mut numbers), extent(&mut numbers));
        let input = match numbers.below(3) {
            0 => vec![samples, 1 + numbers.below(4), features],
            _ => vec![samples, features],
        };
        let mut shape = input.clone();
        let mut chain = Chain { input, links: vec![] };
        for _ in 0..1 + numbers.below(2) {
            if shape.len() < 2 {
                chain.push(Link::Reshape(factors(&mut numbers, &shape, 2)), &mut shape);
            }
            let (layer, outputs) = (chain.layers(), extent(&mut numbers));
            chain.push(Link::Linear { layer, outputs, bias: bias(&mut numbers) }, &mut shape);
            for _ in 0..1 + numbers.below(5) {
                let link = chain.random_link(&mut numbers, &shape);
                chain.push(link, &mut shape);
            }
        }
        chain
    }

    fn random_link(&self, numbers: &mut Numbers, shape: &[usize]) -> Link {
        let is_image = (3..=4).contains(&shape.len());
        match numbers.below(9) {
            0 | 1 => {
                let rank = 1 + numbers.below(4);
                Link::Reshape(factors(numbers, shape, rank))
            }
            2 if shape.len() == 2 => Link::Transpose,
            2 if is_image && shape.iter().product::<usize>() <= LARGEST_IMAGE => Link::Conv {
                layer: self.layers(),
                outputs: 1 + numbers.below(5),
                width: [1, 3][numbers.below(2)],
                bias: bias(numbers),
            },
            7 if shape.len() > 1 && numbers.below(3) == 0 => {
                Link::Mean { axis: 1 + numbers.below(shape.len() - 1) }
            }
            7 | 8 => match moved(numbers, shape) {
                Moved::Doubled { .. } if shape.iter().product::<usize>() > LARGEST_IMAGE => {
                    Link::Activation(Activation::Abs)
                }
                moved => Link::Moved(moved),
            },
            2..=4 => Link::Activation(ACTIVATIONS[numbers.below(ACTIVATIONS.len())]),
            _ => {
                // Now and then a layer is called again.
                let rates = self.links.iter().filter_map(|link| match link {
                    Link::Dropout { layer, p, .. } => Some((*layer, *p)),
                    _ => None,
                });
                let calls: Vec<(usize, f32)> = rates.collect();
                let fresh = calls.iter().map(|(layer, _)| layer + 1).max().unwrap_or(0);
                let rate = [0.1, 0.25, 0.5, 0.5, 0.75, 0.9][numbers.below(6)];
                let (layer, p) = match calls.last() {
                    Some(&again) if numbers.below(4) == 0 => again,
                    _ => (fresh, rate),
                };
                let call = calls.iter().filter(|(known, _)| *known == layer).count();
                Link::Dropout { layer, p, call }
            }
        }
    }

    fn push(&mut self, link: Link, shape: &mut Vec<usize>) {
        link.change(shape);
        self.links.push(link);
    }

    /// Number of layers with parameters.
    fn layers(&self) -> usize {
        let has = |link: &&Link| matches!(link, Link::Linear { .. } | Link::Conv { .. });
        self.links.iter().filter(has).count()
    }

    pub(super) fn net(&self, device: Device) -> Net<Links> {
        let make = |p: &Scope| {
            let mut module = Links { links: self.links.clone(), layers: vec![], dropouts: vec![] };
            let mut shape = self.input.clone();
            for link in &self.links {
                match *link {
                    Link::Linear { layer, outputs, bias } => {
                        let (p, inputs) = (p.at(&format!("layer{layer}")), last(&shape));
                        let linear = Linear::with_bias(&p, inputs, outputs, bias);
                        module.layers.push(Box::new(linear));
                    }
                    Link::Conv { layer, outputs, width, bias } => {
                        let (p, sizes) = (p.at(&format!("layer{layer}")), (shape[1], outputs));
                        module.layers.push(match shape.len() {
                            3 => Box::new(Conv1d::with_options(
                                &p,
                                sizes.0,
                                sizes.1,
                                [width],
                                ConvOptions { padding: Padding::Same, bias, ..Default::default() },
                            )),
                            _ => Box::new(Conv2d::with_options(
                                &p,
                                sizes.0,
                                sizes.1,
                                [width; 2],
                                ConvOptions { padding: Padding::Same, bias, ..Default::default() },
                            )),
                        });
                    }
                    Link::Dropout { layer, p: rate, call: 0 } => {
                        module.dropouts.push(Dropout::new(&p.at(&format!("dropout{layer}")), rate));
                    }
                    _ => {}
                }
                link.change(&mut shape);
            }
            module
        };
        Net::new(device, Seed(SEED), make).expect("a network")
    }
}

impl Link {
    /// From the shape of its input to that of its output.
    pub(super) fn change(&self, shape: &mut Vec<usize>) {
        match self {
            Link::Reshape(to) => *shape = to.clone(),
            Link::Transpose => shape.reverse(),
            Link::Moved(moved) => moved.change(shape),
            Link::Mean { axis } => {
                shape.remove(*axis);
            }
            Link::Linear { outputs, .. } => *shape.last_mut().expect("rank 2 or more") = *outputs,
            Link::Conv { outputs, .. } => shape[1] = *outputs,
            Link::Activation(_) | Link::Dropout { .. } => {}
        }
    }
}

impl Module for Links {
    fn forward(&self, x: &Var) -> Var {
        self.links.iter().fold(x.clone(), |x, link| match link {
            Link::Reshape(shape) => x.reshape(&shape[..]),
            Link::Transpose => x.t(),
            Link::Moved(moved) => moved.record(&x),
            Link::Mean { axis } => x.mean_over([*axis], Keep::Nothing),
            Link::Activation(function) => function.record(&x),
            Link::Dropout { layer, .. } => self.dropouts[*layer].forward(&x),
            Link::Linear { layer, .. } | Link::Conv { layer, .. } => {
                self.layers[*layer].forward(&x)
            }
        })
    }
}

impl Moved {
    fn change(&self, shape: &mut Vec<usize>) {
        match self {
            Moved::Permuted(axes) => *shape = axes.iter().map(|&axis| shape[axis]).collect(),
            Moved::Sliced { axis, length, .. } => shape[*axis] = *length,
            Moved::Padded { axis, before, after } => shape[*axis] += before + after,
            Moved::Doubled { axis } => shape[*axis] *= 2,
        }
    }

    fn record(&self, x: &Var) -> Var {
        match self {
            Moved::Permuted(axes) => x.permute(axes.iter().copied()),
            Moved::Sliced { axis, start, length } => x.narrow(*axis, *start, *length),
            Moved::Padded { axis, before, after } => x.pad(*axis, *before, *after),
            Moved::Doubled { axis } => Var::concat(&[x, x], *axis),
        }
    }

    /// Where each element of the result comes from, `None` for a zero.
    pub(super) fn sources(&self, shape: &[usize]) -> Vec<Option<usize>> {
        let mut result = shape.to_vec();
        self.change(&mut result);
        let source = |index: usize| {
            let mut place = coordinates(index, &result);
            match self {
                Moved::Permuted(axes) => {
                    let moved = place.clone();
                    axes.iter().zip(moved).for_each(|(&axis, at)| place[axis] = at);
                }
                Moved::Sliced { axis, start, .. } => place[*axis] += start,
                Moved::Padded { axis, before, .. } => {
                    let within = place[*axis].checked_sub(*before)?;
                    place[*axis] = Some(within).filter(|&at| at < shape[*axis])?;
                }
                Moved::Doubled { axis } => place[*axis] %= shape[*axis],
            }
            Some(place.iter().zip(shape).fold(0, |number, (at, extent)| number * extent + at))
        };
        (0..result.iter().product()).map(source).collect()
    }
}

/// Where an element is along each axis.
pub(super) fn coordinates(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut place = vec![0; shape.len()];
    for (at, extent) in place.iter_mut().zip(shape).rev() {
        *at = index % extent;
        index /= extent;
    }
    place
}

fn moved(numbers: &mut Numbers, shape: &[usize]) -> Moved {
    let axis = numbers.below(shape.len());
    match numbers.below(5) {
        0 => {
            let start = numbers.below(shape[axis]);
            Moved::Sliced { axis, start, length: 1 + numbers.below(shape[axis] - start) }
        }
        1 => Moved::Padded { axis, before: numbers.below(3), after: numbers.below(3) },
        2 => Moved::Doubled { axis },
        _ => {
            let mut axes: Vec<usize> = (0..shape.len()).collect();
            (1..axes.len()).for_each(|at| axes.swap(at, numbers.below(at + 1)));
            Moved::Permuted(axes)
        }
    }
}

impl Activation {
    fn record(self, x: &Var) -> Var {
        match self {
            Activation::Relu => x.relu(),
            Activation::LeakyRelu => x.leaky_relu(0.25),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => x.sigmoid(),
            Activation::Silu => x.silu(),
            Activation::Scale => x.scale(-1.5),
            Activation::Offset => x + 0.75,
            Activation::Sin => x.sin(),
            Activation::Abs => x.abs(),
            Activation::Clamp => x.clamp(-0.25, 1.0),
            Activation::Chosen => x.gt(0.5).where_(x.square(), x.minimum(0.25)),
        }
    }

    /// The function and its derivative.
    pub(super) fn at(self, x: f64) -> (f64, f64) {
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        match self {
            Activation::Relu => (x.max(0.0), f64::from(u8::from(x > 0.0))),
            Activation::LeakyRelu if x > 0.0 => (x, 1.0),
            Activation::LeakyRelu => (0.25 * x, 0.25),
            Activation::Tanh => (x.tanh(), 1.0 - x.tanh() * x.tanh()),
            Activation::Sigmoid => (sigmoid, sigmoid * (1.0 - sigmoid)),
            Activation::Silu => (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid))),
            Activation::Scale => (-1.5 * x, -1.5),
            Activation::Offset => (x + 0.75, 1.0),
            Activation::Sin => (x.sin(), x.cos()),
            Activation::Abs if x == 0.0 => (0.0, 0.0),
            Activation::Abs => (x.abs(), x.signum()),
            Activation::Clamp => (x.clamp(-0.25, 1.0), f64::from(u8::from(-0.25 < x && x < 1.0))),
            Activation::Chosen if x > 0.5 => (x * x, 2.0 * x),
            Activation::Chosen => (x.min(0.25), f64::from(u8::from(x < 0.25))),
        }
    }

    /// Where the function or its derivative jumps.
    pub(super) fn kinks(self) -> &'static [f64] {
        match self {
            Activation::Relu | Activation::LeakyRelu | Activation::Abs => &[0.0],
            Activation::Clamp => &[-0.25, 1.0],
            Activation::Chosen => &[0.25, 0.5],
            _ => &[],
        }
    }
}

fn bias(numbers: &mut Numbers) -> Bias {
    match numbers.below(3) {
        0 => Bias::Absent,
        _ => Bias::Added,
    }
}

/// 1, a few, or more than a vector holds.
fn extent(numbers: &mut Numbers) -> usize {
    match numbers.below(8) {
        0 => 1,
        1..=4 => 2 + numbers.below(11),
        5 => [16, 24, 32, 48][numbers.below(4)],
        _ => 13 + numbers.below(40),
    }
}

/// A shape of some rank with as many elements as another.
fn factors(numbers: &mut Numbers, shape: &[usize], rank: usize) -> Vec<usize> {
    let mut factors = vec![1; rank];
    let mut rest: usize = shape.iter().product();
    for prime in 2.. {
        if rest < 2 {
            break;
        }
        while rest.is_multiple_of(prime) {
            rest /= prime;
            factors[numbers.below(rank)] *= prime;
        }
    }
    factors
}

fn last(shape: &[usize]) -> usize {
    *shape.last().expect("rank 2 or more")
}
