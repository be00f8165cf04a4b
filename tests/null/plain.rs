// SPDX-License-Identifier: MIT OR Apache-2.0
//! No operation of the vocabulary is computed by its plain meaning: the CPU has a loop for it and GPUs
//! have a kernel, forward and backward.

use std::num::NonZeroUsize;

use kiln::backend::cpu;
use kiln::backend::cuda::{work, Architecture, WorkItem};
use kiln::kernel::Kernel;
use kiln::loss::{self, BceWithLogits, CrossEntropy, Loss, Mse, Reduction};
use kiln::models::{Cnn, ImageClassifier, SimpleNet, SpatialDropoutCnn};
use kiln::nn::{
    AdaptiveAvgPool2d, AlphaDropout, AvgPool2d, BatchNorm, Conv2d, ConvTranspose2d, Correction,
    DropBlock2d, Dropout, Dropout2d, DropoutSchedule, Embedding, FeatureAlphaDropout, GroupNorm,
    Gru, Init, InstanceNorm2d, Keep, LayerNorm, Linear, Lstm, MaxPool2d, Module, Param, Scope,
    StochasticDepth, Upsample, UpsampleMode, ZeroPad2d,
};
use kiln::op::TensorType;
use kiln::optim::{Adam, Optimizer, Sgd};
use kiln::plan::Plan;
use kiln::{Device, Draws, Mode, Net, Precision, Seed, Trainer, Values, Var};

#[expect(dead_code, reason = "its network alone is wanted")]
#[path = "../../examples/07_hardswish.rs"]
mod hardswish;
#[expect(dead_code, reason = "its network and loss alone are wanted")]
#[path = "../../examples/08_huber_loss.rs"]
mod huber_loss;
#[expect(dead_code, reason = "its network alone is wanted")]
#[path = "../../examples/10_rms_norm.rs"]
mod rms_norm;
#[expect(dead_code, reason = "its network alone is wanted")]
#[path = "../../examples/11_siamese.rs"]
mod siamese;
#[expect(dead_code, reason = "its network alone is wanted")]
#[path = "../../examples/09_tied_autoencoder.rs"]
mod tied_autoencoder;

/// A device that plans are made for.
struct Target {
    device: Device,
    /// For GPUs, which need not be there.
    gpu: Option<(Architecture, Precision)>,
}

fn targets() -> Vec<Target> {
    let mut targets = vec![Target { device: Device::cpu(), gpu: None }];
    let every = Architecture::known().iter().map(|&architecture| (architecture, Precision::F32));
    let others = [Precision::Tf32, Precision::Bf16, Precision::F16];
    let others = others.map(|precision| (Architecture::SM_90, precision));
    targets.extend(every.chain(others).map(|(architecture, precision)| {
        let device = Device::on_paper(architecture).with_precision(precision);
        Target { device, gpu: Some((architecture, precision)) }
    }));
    targets
}

impl Target {
    /// The steps of a plan that no loop and no kernel computes.
    fn plain(&self, plan: &Plan) -> Vec<String> {
        let is_plain: Vec<bool> = match self.gpu {
            Some((architecture, precision)) => {
                let work = work(plan, architecture, precision).expect("a plan for it");
                let is_host = |item: &WorkItem| matches!(item, WorkItem::Host { .. });
                work.steps.iter().map(|items| items.iter().any(is_host)).collect()
            }
            None => {
                let paths = cpu::paths(plan, NonZeroUsize::MIN);
                paths.iter().map(|path| path.is_plain()).collect()
            }
        };
        let steps = plan.steps.iter().zip(is_plain);
        let steps = steps.filter(|(step, is_plain)| *is_plain || step.kernel == Kernel::Plain);
        let ops = |nodes: &[_]| {
            let names = nodes.iter().map(|&id| plan.graph.node(id).op.name());
            names.collect::<Vec<_>>().join("+")
        };
        let named = steps.map(|(step, _)| {
            format!("{} of {} for {}", step.kernel.name(), ops(&step.nodes), self.device)
        });
        named.collect()
    }

    /// The same of a network's forward passes and of a training step, for inputs of these types, also
    /// without their structure.
    fn plain_of<M, I, O, T>(
        &self,
        make: impl FnOnce(&Scope) -> M,
        loss: impl Loss<O, T> + 'static,
        (inputs, flat): (&I::Of<TensorType>, &[TensorType]),
        targets: &T::Of<TensorType>,
    ) -> Vec<String>
    where
        M: Module<I, O>,
        I: Values,
        O: Values,
        T: Values,
    {
        let net = Net::new(self.device.clone(), Seed(7), make).expect("a network");
        let trainer = Trainer::new(net, loss, Adam::new(1e-3)).expect("a trainer");
        let mut trainer = trainer.with_clipping(1.0).expect("a norm");
        let plan = trainer.plan(inputs, targets).expect("a plan of a step");
        let mut plain = self.plain(plan);
        for mode in [Mode::Eval, Mode::Train, Mode::MonteCarlo(Draws::ONE)] {
            plain.extend(self.plain(trainer.net().plan(mode, flat).expect("a plan")));
        }
        plain
    }
}

fn f32(dims: &[usize]) -> TensorType {
    TensorType::f32(dims.into())
}

#[test]
fn the_examples_have_loops_and_kernels_for_everything() {
    let mut plain = Vec::new();
    for target in targets() {
        let pixels = f32(&[64, 784]);
        let one = |x: &TensorType| [x.clone()];
        let labels = TensorType::i32([64].into());
        let line = f32(&[64, 1]);
        // The article's activation by itself has nothing to train.
        let mut net = Net::new(target.device.clone(), Seed(7), hardswish::network).expect("a net");
        let plan = net.plan(Mode::Eval, &[f32(&[1, 17])]).expect("a plan");
        plain.extend(target.plain(plan));
        plain.extend(target.plain_of(
            |p: &Scope| Gained::new(p, &[1, 17], |x| hardswish::Hardswish.forward(x)),
            loss::from_fn(|y: &Var, (): &()| y.square().mean()),
            (&f32(&[1, 17]), &one(&f32(&[1, 17]))),
            &(),
        ));
        plain.extend(target.plain_of(
            huber_loss::network,
            huber_loss::Huber,
            (&line, &one(&line)),
            &line,
        ));
        plain.extend(target.plain_of(
            tied_autoencoder::network,
            Mse::default(),
            (&pixels, &one(&pixels)),
            &pixels,
        ));
        plain.extend(target.plain_of(
            rms_norm::network,
            CrossEntropy::default(),
            (&pixels, &one(&pixels)),
            &labels,
        ));
        plain.extend(target.plain_of(
            siamese::network,
            BceWithLogits::default(),
            (&(pixels.clone(), pixels.clone()), &[pixels.clone(), pixels.clone()]),
            &line,
        ));
    }
    assert_eq!(plain, Vec::<String>::new());
}

/// A function of what a parameter scales, so that it has a gradient.
struct Gained {
    gain: Param,
    function: fn(&Var) -> Var,
}

impl Gained {
    fn new(p: &Scope, shape: &[usize], function: fn(&Var) -> Var) -> Self {
        Gained { gain: p.parameter("gain", shape, Init::Ones), function }
    }
}

impl Module for Gained {
    fn forward(&self, x: &Var) -> Var {
        (self.function)(&(x * x.parameter(&self.gain)))
    }
}

const X: [usize; 3] = [6, 4, 5];

type Function = fn(&Var) -> Var;

/// Functions of a value `[6, 4, 5]`.
const FUNCTIONS: &[(&str, Function)] = &[
    ("relu", |x| x.relu()),
    ("leaky relu", |x| x.leaky_relu(0.1)),
    ("gelu", |x| x.gelu() + x.gelu_tanh()),
    ("silu", |x| x.silu()),
    ("tanh", |x| x.tanh() * x.sigmoid()),
    ("softplus", |x| x.softplus()),
    ("exp and log", |x| x.exp() + x.log()),
    ("squares and roots", |x| x.square() + x.sqrt() - x.rsqrt() * x.reciprocal()),
    ("waves", |x| x.sin() + x.cos() * x.erf()),
    ("powers", |x| x.powf(3.0) + x.abs().pow(x)),
    ("bounds", |x| x.clamp(-1.0, 2.0) + x.clamp_min(0.0) - x.abs().clamp_max(1.0)),
    ("numbers", |x| 2.0 - x.scale(3.0) / 4.0 + x * 0.5),
    ("arithmetic", |x| x / (x * x - x + 1.0)),
    ("comparisons", |x| x.lt(0.0) * x + x.ge(x.sin()) * x - x.eq(1.0) * x.ne(2.0)),
    ("choices", |x| x.gt(0.0).where_(x.exp(), x.minimum(x.sin()).maximum(-1.0))),
    ("broadcasts", |x| x.narrow(0, 0, 1).expand(X) * x + x.narrow(1, 1, 1)),
    ("a number throughout", |x| x.full(X, 7.0) + x),
    ("sum of all", |x| x.sum()),
    ("mean of all", |x| x.mean() + x.var(Correction::Sample)),
    ("extremes of all", |x| x.max() - x.min()),
    ("sum over 0", |x| x.sum_over([0], Keep::Extents)),
    ("sum over 1", |x| x.sum_over([1], Keep::Nothing)),
    ("sum over 2", |x| x.sum_over([2], Keep::Extents)),
    ("mean over 0 and 1", |x| x.mean_over([0, 1], Keep::Nothing)),
    ("mean over 0 and 2", |x| x.mean_over([0, 2], Keep::Extents)),
    ("mean over 1 and 2", |x| x.mean_over([1, 2], Keep::Nothing)),
    ("variance over 1", |x| x.var_over([1], Correction::Population, Keep::Extents)),
    ("sums of a matrix", |x| x.flatten(1).sum_over([0], Keep::Nothing)),
    ("largest over 0", |x| x.max_over([0], Keep::Extents)),
    ("largest over 1", |x| x.max_over([1], Keep::Nothing)),
    ("smallest over 2", |x| x.min_over([2], Keep::Extents)),
    ("smallest over 0 and 2", |x| x.min_over([0, 2], Keep::Nothing)),
    ("places over 0", |x| x.gather(0, &x.argmax_over(0, Keep::Extents))),
    ("places over 1", |x| x.gather(1, &x.argmin_over(1, Keep::Extents).expand([6, 3, 5]))),
    ("places over 2", |x| x.take(0, &x.argmin_over(2, Keep::Nothing))),
    ("place of all", |x| x.reshape([120]).take(0, &x.argmax().reshape([1]))),
    ("integers that move", |x| {
        let places = x.argmax_over(2, Keep::Nothing);
        let turned = Var::concat(&[places.t().t().narrow(1, 0, 3), places.pad(1, 1, 0)], 1);
        let stacked = Var::stack(&[&turned, &turned], 1).permute([2, 0, 1]);
        x.take(2, &stacked.reshape([96]))
    }),
    ("integers that are repeated", |x| {
        x.take(1, &x.narrow(1, 0, 3).argmax_over(1, Keep::Extents).expand([6, 2, 5]))
    }),
    ("other shapes", |x| x.reshape([24, 5]).unsqueeze(0).squeeze(0).flatten(0)),
    ("turned matrices", |x| x.flatten(1).t().tanh()),
    ("permuted", |x| x.permute([2, 0, 1]).tanh() + x.transpose(0, 2).transpose(1, 2)),
    ("pieces", |x| Var::concat(&[x.narrow(1, 1, 2), x.slice(1, ..3)], 1).pad(2, 1, 2)),
    ("stacked", |x| Var::stack(&[x.sin(), x.cos()], 1)),
    ("softmax", |x| x.softmax() + x.log_softmax()),
    ("product", |x| x.flatten(1).matmul(&x.flatten(1).t().tanh())),
    ("product with the right one turned", |x| x.flatten(1).matmul_transposed(&x.flatten(1).tanh())),
    ("product with the left one turned", |x| x.flatten(1).t().matmul(&x.flatten(1).exp())),
    ("product with both turned", |x| {
        let matrix = x.flatten(1);
        matrix.t().matmul_transposed(&matrix.t().narrow(0, 3, 7).tanh())
    }),
    ("products of a batch", |x| x.matmul_transposed(x).matmul(&x.exp())),
    ("products of a batch with both turned", |x| {
        x.transpose(1, 2).matmul_transposed(&x.transpose(1, 2).tanh())
    }),
    ("products with one matrix", |x| x.matmul(&x.narrow(0, 0, 1).squeeze(0).t())),
];

#[test]
fn every_function_has_loops_and_kernels_forward_and_backward() {
    let mut plain = Vec::new();
    for target in targets() {
        for &(name, function) in FUNCTIONS {
            let found = target.plain_of(
                |p: &Scope| Gained::new(p, &X, function),
                loss::from_fn(|y: &Var, (): &()| y.square().mean()),
                (&f32(&X), &[f32(&X)]),
                &(),
            );
            plain.extend(found.into_iter().map(|step| format!("{name}: {step}")));
        }
    }
    assert_eq!(plain, Vec::<String>::new());
}

/// Losses in every combination of options, of scores that something else needs too.
#[test]
fn every_loss_has_loops_and_kernels() {
    let mut plain = Vec::new();
    let labels = TensorType::i32([6].into());
    for target in targets() {
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            for weights in [None, Some(vec![0.5; 4])] {
                for label_smoothing in [0.0, 0.1] {
                    let weights = weights.clone();
                    let entropy = CrossEntropy {
                        weights,
                        label_smoothing,
                        reduction,
                        ..CrossEntropy::default()
                    };
                    let own = entropy.clone();
                    plain.extend(target.plain_of(
                        |p: &Scope| Linear::new(&p.at("fc"), 5, 4),
                        loss::from_fn(move |y: &Var, t: &Var| {
                            let class_weights = own.weights.as_ref().map(|_| y.full([4], 0.5));
                            own.forward(y, t, class_weights.as_slice()).mean()
                        }),
                        (&f32(&[6, 5]), &[f32(&[6, 5])]),
                        &labels,
                    ));
                    if reduction != Reduction::None {
                        plain.extend(target.plain_of(
                            |p: &Scope| Linear::new(&p.at("fc"), 5, 4),
                            entropy,
                            (&f32(&[6, 5]), &[f32(&[6, 5])]),
                            &labels,
                        ));
                    }
                }
            }
        }
        plain.extend(target.plain_of(
            |p: &Scope| Linear::new(&p.at("fc"), 5, 4),
            BceWithLogits::default(),
            (&f32(&[6, 5]), &[f32(&[6, 5])]),
            &f32(&[6, 4]),
        ));
        // A batch of nothing.
        plain.extend(target.plain_of(
            |p: &Scope| Linear::new(&p.at("fc"), 5, 4),
            CrossEntropy::default(),
            (&f32(&[0, 5]), &[f32(&[0, 5])]),
            &TensorType::i32([0].into()),
        ));
    }
    assert_eq!(plain, Vec::<String>::new());
}

/// Products do not know rates that change; dropout does.
#[test]
fn dropout_whose_rate_changes_has_loops_and_kernels() {
    let mut plain = Vec::new();
    let changing = |p: &Scope| p.with_dropout_schedule(|_, p| DropoutSchedule::Constant(p));
    let labels = TensorType::i32([8].into());
    let (pixels, images) = (f32(&[8, 784]), f32(&[8, 3, 32, 32]));
    for target in targets() {
        plain.extend(target.plain_of(
            |p: &Scope| SimpleNet::new(&changing(p), 784, 33, 10, 0.5),
            CrossEntropy::default(),
            (&pixels, std::slice::from_ref(&pixels)),
            &labels,
        ));
        plain.extend(target.plain_of(
            |p: &Scope| Cnn::new(&changing(p), 10),
            CrossEntropy::default(),
            (&images, std::slice::from_ref(&images)),
            &labels,
        ));
        let maps = [SpatialDropoutCnn::CHANNELS, 32];
        plain.extend(target.plain_of(
            |p: &Scope| {
                let features = SpatialDropoutCnn::new(&changing(p), 0.2);
                ImageClassifier::new(p, features, maps, 4, 10)
            },
            CrossEntropy::default(),
            (&images, std::slice::from_ref(&images)),
            &labels,
        ));
    }
    assert_eq!(plain, Vec::<String>::new());
}

/// Layers with operations of their own.
#[test]
fn layers_have_loops_and_kernels() {
    let mut plain = Vec::new();
    let square = || loss::from_fn(|y: &Var, (): &()| y.square().mean());
    for target in targets() {
        plain.extend(target.plain_of(
            |p: &Scope| Dropped(Linear::new(&p.at("fc"), 5, 4), Dropout::new(&p.at("drop"), 0.5)),
            square(),
            (&f32(&[6, 3, 2, 5]), &[f32(&[6, 3, 2, 5])]),
            &(),
        ));
        plain.extend(target.plain_of(
            |p: &Scope| Embedded(Embedding::new(&p.at("table"), 9, 4)),
            square(),
            (&f32(&[6, 3]), &[f32(&[6, 3])]),
            &(),
        ));
        plain.extend(target.plain_of(
            |p: &Scope| Linear::new(&p.at("fc"), 5, 4),
            square(),
            (&f32(&[6, 3, 5]), &[f32(&[6, 3, 5])]),
            &(),
        ));
    }
    assert_eq!(plain, Vec::<String>::new());
}

/// Dropout before and behind a linear layer.
struct Dropped(Linear, Dropout);

impl Module for Dropped {
    fn forward(&self, x: &Var) -> Var {
        self.1.forward(&self.0.forward(&self.1.forward(x)).tanh())
    }
}

/// Rows of a table, by where the largest elements are.
struct Embedded(Embedding);

impl Module for Embedded {
    fn forward(&self, x: &Var) -> Var {
        self.0.forward(&x.argmax_over(1, Keep::Nothing))
    }
}

#[test]
fn images_have_loops_and_kernels() {
    let mut plain = Vec::new();
    for target in targets() {
        let square = || loss::from_fn(|y: &Var, (): &()| y.square().mean());
        let image = f32(&[3, 4, 9, 8]);
        let mut plain_of = |make: LayerOf| {
            let make = |p: &Scope| Pictured(make(p));
            let inputs = (&image, std::slice::from_ref(&image));
            plain.extend(target.plain_of(make, square(), inputs, &()));
        };
        let layers: [LayerOf; 14] = [
            |p| Box::new(Conv2d::new(p, 4, 5, [3, 3])),
            |p| Box::new(Both(Conv2d::new(p, 4, 5, [3, 3]), MaxPool2d::new([2, 2]))),
            |p| Box::new(Both(Conv2d::new(p, 4, 5, [3, 3]), AvgPool2d::new([2, 2]))),
            |p| Box::new(ConvTranspose2d::new(p, 4, 5, [2, 2])),
            |_| Box::new(ZeroPad2d::new([1, 2, 0, 3])),
            |p| Box::new(BatchNorm::new(p, 4)),
            |p| Box::new(LayerNorm::new(p, [4, 9, 8])),
            |p| Box::new(GroupNorm::new(p, 2, 4)),
            |p| Box::new(InstanceNorm2d::new(p, 4)),
            |p| Box::new(Dropout2d::new(p, 0.5)),
            |p| Box::new(AlphaDropout::new(p, 0.5)),
            |p| Box::new(FeatureAlphaDropout::new(p, 0.5)),
            |p| Box::new(DropBlock2d::new(p, 0.5, 3)),
            |p| Box::new(StochasticDepth::new(p, 0.5)),
        ];
        layers.into_iter().for_each(&mut plain_of);
        plain_of(|_| Box::new(AdaptiveAvgPool2d::new(4, 3)));
        plain_of(|_| Box::new(Upsample::by([2.0, 2.0], UpsampleMode::Nearest)));
    }
    assert_eq!(plain, Vec::<String>::new());
}

#[test]
fn sequences_have_loops_and_kernels() {
    let mut plain = Vec::new();
    let steps = f32(&[3, 7, 5]);
    for target in targets() {
        plain.extend(target.plain_of(
            |p: &Scope| Sequence(Lstm::new(&p.at("lstm"), 5, 4), Gru::new(&p.at("gru"), 4, 3)),
            loss::from_fn(|y: &Var, (): &()| y.square().mean()),
            (&steps, std::slice::from_ref(&steps)),
            &(),
        ));
    }
    assert_eq!(plain, Vec::<String>::new());
}

/// Makes a layer.
type LayerOf = fn(&Scope) -> Box<dyn Module>;

struct Pictured(Box<dyn Module>);

impl Module for Pictured {
    fn forward(&self, x: &Var) -> Var {
        self.0.forward(x)
    }
}

struct Both<A, B>(A, B);

impl<A: Module, B: Module> Module for Both<A, B> {
    fn forward(&self, x: &Var) -> Var {
        self.1.forward(&self.0.forward(x))
    }
}

struct Sequence(Lstm, Gru);

impl Module for Sequence {
    fn forward(&self, x: &Var) -> Var {
        self.1.run(&self.0.forward(x)).last_hidden().clone()
    }
}

/// Every optimiser, with averages of the parameters.
#[test]
fn every_optimiser_has_loops_and_kernels() {
    let optimisers: [Optimizer; 3] = [
        Sgd::new(0.1).into(),
        Sgd { momentum: 0.9, ..Sgd::new(0.1) }.into(),
        Adam::new(1e-3).into(),
    ];
    for target in targets() {
        for optimiser in &optimisers {
            let net = Net::new(target.device.clone(), Seed(7), |p| Linear::new(&p.at("fc"), 5, 4));
            let mut trainer = Trainer::new(net.expect("a network"), Mse::default(), *optimiser)
                .expect("a trainer");
            let plan = trainer.plan(&f32(&[6, 5]), &f32(&[6, 4])).expect("a plan");
            assert_eq!(target.plain(plan), Vec::<String>::new());
        }
    }
}
