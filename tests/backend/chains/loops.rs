// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chains by plain loops that know neither graph nor plan, with masks by their definition.

use kiln::mask::Mask;
use kiln::nn::Bias;
use kiln::{Net, Tensor};

use super::links::{coordinates, Chain, Link, Links};
use crate::backend::laws::channels_last;
use crate::common::close::doubles;
use crate::common::zoo::SEED;

/// Nearest to 0 that the input of a function with a kink may come: rounding must not decide.
const KINK: f64 = 1e-4;

/// What the loops know of a run: a value before and after each link.
pub(super) struct Run<'a> {
    chain: &'a Chain,
    layers: Vec<Parameters>,
    /// The pass, or `None` where nothing is dropped.
    pass: Option<u32>,
    values: Vec<Vec<f64>>,
    shapes: Vec<Vec<usize>>,
}

/// A layer's parameters, or the gradients of them.
#[derive(Clone)]
pub(super) struct Parameters {
    pub(super) weight: Vec<f64>,
    pub(super) bias: Option<Vec<f64>>,
}

/// Gradients as loops find them.
pub(super) struct Found {
    pub(super) input: Vec<f64>,
    pub(super) layers: Vec<Parameters>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        chain: &'a Chain,
        net: &mut Net<Links>,
        x: &Tensor,
        pass: Option<u32>,
    ) -> Self {
        let mut read = |name: String| doubles(&net.parameter(&name).expect("its own name"));
        let mut layers = vec![];
        for link in &chain.links {
            if let Link::Linear { layer, bias, .. } | Link::Conv { layer, bias, .. } = link {
                let weight = read(format!("layer{layer}.weight"));
                let bias = (*bias == Bias::Added).then(|| read(format!("layer{layer}.bias")));
                layers.push(Parameters { weight, bias });
            }
        }
        let mut run = Run { chain, layers, pass, values: vec![doubles(x)], shapes: vec![] };
        run.shapes.push(chain.input.clone());
        for (index, link) in chain.links.iter().enumerate() {
            let mut shape = run.shapes[index].clone();
            link.change(&mut shape);
            run.shapes.push(shape);
            run.values.push(run.forward(index));
        }
        run
    }

    pub(super) fn output(&self) -> &[f64] {
        self.values.last().expect("the input at least")
    }

    pub(super) fn output_shape(&self) -> &[usize] {
        self.shapes.last().expect("the input's at least")
    }

    /// Whether rounding could decide on which side of a kink some value lies.
    pub(super) fn is_delicate(&self) -> bool {
        self.chain.links.iter().zip(&self.values).any(|(link, x)| match link {
            Link::Activation(function) => x.iter().any(|x| {
                let is_near = |kink: &f64| *x != *kink && (x - kink).abs() < KINK;
                function.kinks().iter().any(is_near)
            }),
            _ => false,
        })
    }

    fn forward(&self, index: usize) -> Vec<f64> {
        let (x, shape) = (&self.values[index], &self.shapes[index]);
        match &self.chain.links[index] {
            Link::Reshape(_) => x.clone(),
            Link::Transpose => transposed(x, shape[0], shape[1]),
            Link::Moved(moved) => {
                let element = |source: Option<usize>| source.map_or(0.0, |at| x[at]);
                moved.sources(shape).into_iter().map(element).collect()
            }
            Link::Mean { axis } => {
                let mut y = vec![0.0; x.len() / shape[*axis]];
                for (at, x) in x.iter().enumerate() {
                    y[without(at, shape, *axis)] += x / shape[*axis] as f64;
                }
                y
            }
            Link::Activation(function) => x.iter().map(|&x| function.at(x).0).collect(),
            Link::Dropout { .. } => self.masked(index, x),
            Link::Linear { layer, .. } | Link::Conv { layer, .. } => {
                let Parameters { weight, bias } = &self.layers[*layer];
                let elements = self.shapes[index + 1].iter().product();
                let added = |at| bias.as_ref().map_or(0.0, |bias| bias[self.channel(index, at)]);
                let mut y: Vec<f64> = (0..elements).map(added).collect();
                self.products(index, |y_at, x_at, w_at| y[y_at] += x[x_at] * weight[w_at]);
                y
            }
        }
    }

    pub(super) fn backward(&self, dy: Vec<f64>) -> Found {
        let mut dy = dy;
        let mut layers = self.layers.clone();
        for (index, link) in self.chain.links.iter().enumerate().rev() {
            let (x, shape) = (&self.values[index], &self.shapes[index]);
            dy = match link {
                Link::Reshape(_) => dy,
                Link::Transpose => transposed(&dy, shape[1], shape[0]),
                Link::Moved(moved) => {
                    let mut dx = vec![0.0; x.len()];
                    for (source, dy) in moved.sources(shape).into_iter().zip(&dy) {
                        source.into_iter().for_each(|at| dx[at] += dy);
                    }
                    dx
                }
                Link::Mean { axis } => {
                    let share = |at| dy[without(at, shape, *axis)] / shape[*axis] as f64;
                    (0..x.len()).map(share).collect()
                }
                Link::Activation(function) => {
                    dy.iter().zip(x).map(|(dy, &x)| dy * function.at(x).1).collect()
                }
                Link::Dropout { .. } => self.masked(index, &dy),
                Link::Linear { layer, .. } | Link::Conv { layer, .. } => {
                    let Parameters { weight, bias } = &mut layers[*layer];
                    weight.fill(0.0);
                    if let Some(bias) = bias {
                        bias.fill(0.0);
                        let sums = dy.iter().enumerate();
                        sums.for_each(|(at, dy)| bias[self.channel(index, at)] += dy);
                    }
                    let given = &self.layers[*layer].weight;
                    let mut dx = vec![0.0; x.len()];
                    self.products(index, |y_at, x_at, w_at| {
                        weight[w_at] += dy[y_at] * x[x_at];
                        dx[x_at] += dy[y_at] * given[w_at];
                    });
                    dx
                }
            };
        }
        Found { input: dy, layers }
    }

    /// All products of a layer: where the output, the input and the weight of each lie.
    fn products(&self, index: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let (shape, elements) = (&self.shapes[index], self.values[index].len());
        match &self.chain.links[index] {
            Link::Linear { outputs, .. } => {
                let inputs = *shape.last().expect("rank 2 or more");
                for row in 0..elements / inputs {
                    for output in 0..*outputs {
                        for input in 0..inputs {
                            let (y, x) = (row * outputs + output, row * inputs + input);
                            visit(y, x, output * inputs + input);
                        }
                    }
                }
            }
            Link::Conv { outputs, width, .. } => {
                // A signal is an image of one line.
                let [samples, inputs, spatial @ ..] = &shape[..] else { return };
                let [height, length] = match spatial {
                    [height, length] => [*height, *length],
                    _ => [1, spatial[0]],
                };
                let lines = if spatial.len() == 2 { *width } else { 1 };
                let window = lines * width;
                for plane in 0..samples * outputs * inputs {
                    let (input, pair) = (plane % inputs, plane / inputs);
                    let (output, sample) = (pair % outputs, pair / outputs);
                    let y_plane = (sample * outputs + output) * height * length;
                    let x_plane = (sample * inputs + input) * height * length;
                    let w_plane = (output * inputs + input) * window;
                    for place in 0..height * length * window {
                        let (tap, at) = (place % window, place / window);
                        let line = (at / length + tap / width).wrapping_sub(lines / 2);
                        let column = (at % length + tap % width).wrapping_sub(width / 2);
                        if line < height && column < length {
                            visit(y_plane + at, x_plane + line * length + column, w_plane + tap);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// The bias that an element of a layer's output has.
    fn channel(&self, index: usize, at: usize) -> usize {
        let shape = &self.shapes[index + 1];
        match &self.chain.links[index] {
            Link::Conv { outputs, .. } => at / shape[2..].iter().product::<usize>() % outputs,
            _ => at % shape.last().expect("rank 2 or more"),
        }
    }

    /// Values, or their gradients, behind a dropout: the first extent counts samples, all others
    /// elements, in images with the channels last.
    fn masked(&self, index: usize, values: &[f64]) -> Vec<f64> {
        let (Some(pass), Link::Dropout { layer, p, call }) = (self.pass, &self.chain.links[index])
        else {
            return values.to_vec();
        };
        let mask = Mask::new(SEED, &format!("dropout{layer}#{call}"), *p);
        let shape = &self.shapes[index];
        let per_sample: usize = shape[1..].iter().product();
        let kept = |(at, value): (usize, &f64)| {
            let (sample, element) = (at / per_sample, at % per_sample);
            let number = channels_last(shape, element);
            match mask.keeps(pass, sample as u32, number as u32) {
                true => value * f64::from(mask.scale()),
                false => 0.0,
            }
        };
        values.iter().enumerate().map(kept).collect()
    }
}

fn transposed(x: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| x[row * columns + column])).collect()
}

/// Number of an element when an axis is gone.
fn without(index: usize, shape: &[usize], axis: usize) -> usize {
    let mut number = 0;
    for (place, (at, extent)) in coordinates(index, shape).into_iter().zip(shape).enumerate() {
        if place != axis {
            number = number * extent + at;
        }
    }
    number
}
