// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random chains of what may follow a layer that takes others along: reshapes, transposes,
//! activations and dropouts, which kernels fuse where they can. Every mask is compared with its
//! definition in `src/mask.rs`, and forward with backward, by plain loops that know neither graph
//! nor plan.

use kiln::mask::Mask;
use kiln::nn::{Bias, Dropout, Linear, Module, Scope};
use kiln::{Device, Gradients, Net, Precision, Seed, Tensor, Var};

use crate::common::close::{compare, doubles, Tolerance};
use crate::common::summary;
use crate::common::targets::{targets, Target};
use crate::common::zoo::SEED;
use crate::common::Numbers;

/// Chains tried on every backend.
const CHAINS: u64 = 60;

/// Further chains, tried on the CPU alone, where a chain takes a millisecond.
const MORE_CHAINS: u64 = 300;

/// Largest difference of sums in a chain, as a share of the largest element.
const SUMS: f64 = 1e-4;

/// The same where factors and values are rounded to 8 bits.
const ROUNDED_SUMS: f64 = 5e-2;

/// Nearest to 0 that the input of a function with a kink may come: rounding must not decide.
const KINK: f64 = 1e-4;

/// One operation on the value before it.
#[derive(Clone, Debug)]
enum Link {
    Reshape(Vec<usize>),
    Transpose,
    Activation(Activation),
    /// The call of a dropout layer: which layer, its rate, which of its calls it is.
    Dropout {
        layer: usize,
        p: f32,
        call: usize,
    },
    Linear {
        layer: usize,
        outputs: usize,
        bias: Bias,
    },
}

#[derive(Clone, Copy, Debug)]
enum Activation {
    Relu,
    LeakyRelu,
    Tanh,
    Sigmoid,
    Silu,
    Scale,
}

const ACTIVATIONS: [Activation; 6] = [
    Activation::Relu,
    Activation::LeakyRelu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Silu,
    Activation::Scale,
];

/// Links with the shape of the first one's input.
#[derive(Clone, Debug)]
struct Chain {
    input: Vec<usize>,
    links: Vec<Link>,
}

/// The chain as a module.
struct Links {
    links: Vec<Link>,
    linears: Vec<Linear>,
    dropouts: Vec<Dropout>,
}

impl Chain {
    /// A linear layer, links, perhaps another linear layer, links. Extents are 1, odd, or whole
    /// vectors and more.
    fn random(seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        let (samples, features) = (extent(&mut numbers), extent(&mut numbers));
        let input = match numbers.below(3) {
            0 => vec![samples, 1 + numbers.below(4), features],
            _ => vec![samples, features],
        };
        let mut shape = input.clone();
        let mut chain = Chain { input, links: vec![] };
        for layer in 0..1 + numbers.below(2) {
            let mut links = vec![];
            if shape.len() < 2 {
                links.push(Link::Reshape(factors(&mut numbers, &shape, 2)));
            }
            let outputs = extent(&mut numbers);
            let bias = if numbers.below(3) == 0 { Bias::Absent } else { Bias::Added };
            links.push(Link::Linear { layer, outputs, bias });
            links.iter().for_each(|link| link.change(&mut shape));
            chain.links.extend(links);
            for _ in 0..1 + numbers.below(5) {
                let link = chain.random_link(&mut numbers, &shape);
                link.change(&mut shape);
                chain.links.push(link);
            }
        }
        chain
    }

    fn random_link(&self, numbers: &mut Numbers, shape: &[usize]) -> Link {
        match numbers.below(6) {
            0 | 1 => {
                let rank = 1 + numbers.below(4);
                Link::Reshape(factors(numbers, shape, rank))
            }
            2 if shape.len() == 2 => Link::Transpose,
            2 | 3 => Link::Activation(ACTIVATIONS[numbers.below(ACTIVATIONS.len())]),
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

    fn net(&self, device: Device) -> Net<Links> {
        let make = |p: &Scope| {
            let mut module = Links { links: self.links.clone(), linears: vec![], dropouts: vec![] };
            let mut shape = self.input.clone();
            for link in &self.links {
                match *link {
                    Link::Linear { layer, outputs, bias } => {
                        let (p, inputs) = (p.at(&format!("linear{layer}")), last(&shape));
                        module.linears.push(Linear::with_bias(&p, inputs, outputs, bias));
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
    fn change(&self, shape: &mut Vec<usize>) {
        match self {
            Link::Reshape(to) => *shape = to.clone(),
            Link::Transpose => shape.reverse(),
            Link::Linear { outputs, .. } => *shape.last_mut().expect("rank 2 or more") = *outputs,
            Link::Activation(_) | Link::Dropout { .. } => {}
        }
    }
}

impl Module for Links {
    fn forward(&self, x: &Var) -> Var {
        self.links.iter().fold(x.clone(), |x, link| match link {
            Link::Reshape(shape) => x.reshape(&shape[..]),
            Link::Transpose => x.transpose(),
            Link::Activation(function) => function.record(&x),
            Link::Dropout { layer, .. } => self.dropouts[*layer].forward(&x),
            Link::Linear { layer, .. } => self.linears[*layer].forward(&x),
        })
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
        }
    }

    /// The function and its derivative.
    fn at(self, x: f64) -> (f64, f64) {
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        match self {
            Activation::Relu => (x.max(0.0), f64::from(u8::from(x > 0.0))),
            Activation::LeakyRelu if x > 0.0 => (x, 1.0),
            Activation::LeakyRelu => (0.25 * x, 0.25),
            Activation::Tanh => (x.tanh(), 1.0 - x.tanh() * x.tanh()),
            Activation::Sigmoid => (sigmoid, sigmoid * (1.0 - sigmoid)),
            Activation::Silu => (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid))),
            Activation::Scale => (-1.5 * x, -1.5),
        }
    }

    fn has_kink(self) -> bool {
        matches!(self, Activation::Relu | Activation::LeakyRelu)
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

/// What the loops know of a run: a value before and after each link.
struct Run<'a> {
    chain: &'a Chain,
    /// Weight `[outputs, inputs]` and bias of each linear layer.
    linears: Vec<(Vec<f64>, Option<Vec<f64>>)>,
    /// The pass, or `None` where nothing is dropped.
    pass: Option<u32>,
    values: Vec<Vec<f64>>,
    shapes: Vec<Vec<usize>>,
}

/// Gradients as loops find them.
struct Found {
    input: Vec<f64>,
    /// Of each linear layer's weight and bias.
    linears: Vec<(Vec<f64>, Option<Vec<f64>>)>,
}

impl<'a> Run<'a> {
    fn new(chain: &'a Chain, net: &mut Net<Links>, x: &Tensor, pass: Option<u32>) -> Self {
        let read = |net: &mut Net<Links>, name: String| doubles(&net.parameter(&name).expect("it"));
        let mut linears = vec![];
        for link in &chain.links {
            if let Link::Linear { layer, bias, .. } = link {
                let weight = read(net, format!("linear{layer}.weight"));
                let bias = (*bias == Bias::Added).then(|| read(net, format!("linear{layer}.bias")));
                linears.push((weight, bias));
            }
        }
        let mut run = Run { chain, linears, pass, values: vec![doubles(x)], shapes: vec![] };
        run.shapes.push(chain.input.clone());
        for (index, link) in chain.links.iter().enumerate() {
            run.values.push(run.forward(index));
            let mut shape = run.shapes[index].clone();
            link.change(&mut shape);
            run.shapes.push(shape);
        }
        run
    }

    fn output(&self) -> &[f64] {
        self.values.last().expect("the input at least")
    }

    /// Whether rounding could decide on which side of a kink some value lies.
    fn is_delicate(&self) -> bool {
        self.chain.links.iter().zip(&self.values).any(|(link, x)| match link {
            Link::Activation(function) if function.has_kink() => {
                x.iter().any(|x| *x != 0.0 && x.abs() < KINK)
            }
            _ => false,
        })
    }

    fn forward(&self, index: usize) -> Vec<f64> {
        let (x, shape) = (&self.values[index], &self.shapes[index]);
        match &self.chain.links[index] {
            Link::Reshape(_) => x.clone(),
            Link::Transpose => transposed(x, shape[0], shape[1]),
            Link::Activation(function) => x.iter().map(|&x| function.at(x).0).collect(),
            Link::Dropout { .. } => self.masked(index, x),
            Link::Linear { layer, outputs, .. } => {
                let (weight, bias) = &self.linears[*layer];
                let inputs = last(shape);
                let mut y = Vec::with_capacity(x.len() / inputs * outputs);
                for row in x.chunks_exact(inputs) {
                    for (output, weight) in weight.chunks_exact(inputs).enumerate() {
                        let sum: f64 = row.iter().zip(weight).map(|(x, w)| x * w).sum();
                        y.push(sum + bias.as_ref().map_or(0.0, |bias| bias[output]));
                    }
                }
                y
            }
        }
    }

    fn backward(&self, dy: Vec<f64>) -> Found {
        let mut dy = dy;
        let mut linears = self.linears.clone();
        for (index, link) in self.chain.links.iter().enumerate().rev() {
            let (x, shape) = (&self.values[index], &self.shapes[index]);
            dy = match link {
                Link::Reshape(_) => dy,
                Link::Transpose => transposed(&dy, shape[1], shape[0]),
                Link::Activation(function) => {
                    dy.iter().zip(x).map(|(dy, &x)| dy * function.at(x).1).collect()
                }
                Link::Dropout { .. } => self.masked(index, &dy),
                Link::Linear { layer, outputs, .. } => {
                    let inputs = last(shape);
                    let (d_weight, d_bias) = &mut linears[*layer];
                    d_weight.fill(0.0);
                    d_bias.iter_mut().for_each(|bias| bias.fill(0.0));
                    let weight = &self.linears[*layer].0;
                    let mut dx = vec![0.0; x.len()];
                    let rows = dy.chunks_exact(*outputs).zip(x.chunks_exact(inputs));
                    for ((dy, x), dx) in rows.zip(dx.chunks_exact_mut(inputs)) {
                        for (output, dy) in dy.iter().enumerate() {
                            for input in 0..inputs {
                                d_weight[output * inputs + input] += dy * x[input];
                                dx[input] += dy * weight[output * inputs + input];
                            }
                            d_bias.iter_mut().for_each(|bias| bias[output] += dy);
                        }
                    }
                    dx
                }
            };
        }
        Found { input: dy, linears }
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
            let number = super::laws::channels_last(shape, element);
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

/// Two passes in train mode and one in eval mode: output and all gradients.
fn check(chain: &Chain, target: &Target) -> Result<f64, String> {
    let mut net = chain.net(target.device());
    let x = Numbers::new(1).tensor(&chain.input);
    let mut worst = 0.0f64;
    for pass in [Some(0), Some(1), None] {
        let run = Run::new(chain, &mut net, &x, pass);
        let dy = Numbers::new(2).tensor(run.shapes.last().expect("the input's at least"));
        let mut view = match pass {
            Some(_) => net.train(),
            None => net.eval(),
        };
        let found = view.gradients(&x, &dy).map_err(|error| error.to_string())?;
        if !run.is_delicate() {
            let judged = judge(&run, &found, doubles(&dy));
            worst = worst.max(judged.map_err(|what| format!("pass {pass:?}: {what}"))?);
        }
    }
    Ok(worst)
}

fn judge(run: &Run<'_>, found: &Gradients, dy: Vec<f64>) -> Result<f64, String> {
    check_zeros(&found.output, run)?;
    let meant = run.backward(dy);
    let input = found.input.as_ref().ok_or("no gradient of the input")?;
    let mut expected: Vec<(String, &[f64])> = vec![];
    for (layer, (weight, bias)) in meant.linears.iter().enumerate() {
        expected.push((format!("linear{layer}.weight"), weight));
        expected.extend(bias.as_ref().map(|bias| (format!("linear{layer}.bias"), &bias[..])));
    }
    let mut worst = close("output", &found.output, run.output(), SUMS)?;
    worst = worst.max(close("gradient of the input", input, &meant.input, SUMS)?);
    let names: Vec<&String> = found.parameters.iter().map(|(name, _)| name).collect();
    if names != expected.iter().map(|(name, _)| name).collect::<Vec<_>>() {
        return Err(format!("gradients of {names:?}"));
    }
    for ((name, got), (_, meant)) in found.parameters.iter().zip(&expected) {
        worst = worst.max(close(&format!("gradient of {name}"), got, meant, SUMS)?);
    }
    Ok(worst)
}

/// Dropped elements are 0, whatever was rounded before.
fn check_zeros(got: &Tensor, run: &Run<'_>) -> Result<(), String> {
    let got = doubles(got);
    let wrong = |(got, meant): (&f64, &f64)| *meant == 0.0 && *got != 0.0;
    match got.iter().zip(run.output()).position(wrong) {
        None => Ok(()),
        Some(at) => Err(format!("element {at} of the output is not dropped")),
    }
}

/// What sums may lose, as a share of the largest; a wrong mask is off by whole elements.
fn close(what: &str, got: &Tensor, meant: &[f64], share: f64) -> Result<f64, String> {
    let largest = meant.iter().fold(1.0, |largest: f64, x| largest.max(x.abs()));
    let tolerance = Tolerance { absolute: share * largest, relative: share };
    compare(what, got.shape().dims(), &doubles(got), meant, tolerance)
}

fn last(shape: &[usize]) -> usize {
    *shape.last().expect("rank 2 or more")
}

/// The reshape of attention heads: 6 samples become 12.
#[test]
fn heads_have_samples_of_their_own() {
    for activation in [None, Some(Activation::Tanh), Some(Activation::Relu)] {
        let mut links = vec![
            Link::Linear { layer: 0, outputs: 8, bias: Bias::Added },
            Link::Reshape(vec![12, 4]),
            Link::Dropout { layer: 0, p: 0.5, call: 0 },
        ];
        if let Some(function) = activation {
            links.insert(1, Link::Activation(function));
        }
        let chain = Chain { input: vec![6, 5], links };
        for target in targets() {
            check(&chain, &target).unwrap_or_else(|what| panic!("{}: {what}", target.name));
        }
    }
}

#[test]
fn masks_behind_fused_layers_are_the_definition() {
    let (mut cases, mut failures, mut worst) = (0, Vec::new(), 0.0f64);
    for target in targets() {
        let count = if target.family == "cpu" { CHAINS + MORE_CHAINS } else { CHAINS };
        for seed in 0..count {
            let chain = Chain::random(seed);
            match check(&chain, &target) {
                Ok(share) => worst = worst.max(share),
                Err(what) => {
                    failures.push(format!("chain {seed} on {}: {what}\n  {chain:?}", target.name));
                }
            }
            cases += 1;
        }
    }
    summary(&format!("chains: {cases}, worst {:.0} %", worst * 100.0));
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// Tensor cores have tails of their own, the quickest for whole tiles of bias, ReLU and dropout.
#[test]
fn masks_are_the_definition_in_every_precision() {
    let relu = Link::Activation(Activation::Relu);
    let dropout = Link::Dropout { layer: 0, p: 0.5, call: 0 };
    let linear = Link::Linear { layer: 0, outputs: 64, bias: Bias::Added };
    let mut chains: Vec<Chain> = [[64, 64], [128, 32], [32, 128], [1, 4096]]
        .iter()
        .map(|to| Link::Reshape(to.to_vec()))
        .map(|reshape| vec![linear.clone(), relu.clone(), reshape, dropout.clone()])
        .map(|links| Chain { input: vec![64, 64], links })
        .collect();
    chains.extend((0..CHAINS / 2).map(Chain::random));
    for target in targets().iter().skip(2) {
        for precision in [Precision::Tf32, Precision::Bf16, Precision::F16] {
            for chain in &chains {
                let mut net = chain.net(target.device().with_precision(precision));
                let x = Numbers::new(1).tensor(&chain.input);
                let run = Run::new(chain, &mut net, &x, Some(0));
                let y = net.train().forward(&x).expect("a pass");
                let judged = check_zeros(&y, &run)
                    .and_then(|()| close("output", &y, run.output(), ROUNDED_SUMS));
                judged.unwrap_or_else(|what| {
                    panic!("{precision} on {}: {what}\n  {chain:?}", target.name)
                });
            }
        }
    }
}
