// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes that no machine has are errors where they come in: no product of extents wraps, and memory
//! that the system refuses ends nothing.

use std::num::NonZeroUsize;

use kiln::backend::cuda::{work, Architecture};
use kiln::data::{Array, Arrays, Batch, Dataset, Fields, Pass, Sample};
use kiln::loss::Mse;
use kiln::nn::{Conv2d, ConvOptions, Dropout, Init, Linear, MaxPool, Module, Padding, Scope};
use kiln::op::TensorType;
use kiln::optim::Sgd;
use kiln::{Device, Mode, Net, Precision, Result, Seed, Shape, Tensor, Trainer, Var};

const AT_MOST: &str = "expected a shape of at most 4503599627370495 elements, got ";

fn refusal<T>(result: Result<T>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "no error".into())
}

fn on_paper() -> Device {
    Device::on_paper(Architecture::SM_90)
}

#[test]
fn tensors() {
    let whole = Tensor::new([4], vec![0.0; 4]).expect("a tensor");
    for dims in [[1 << 62, 4], [usize::MAX, 2], [1 << 32, 1 << 32], [usize::MAX, 0]] {
        let wanted = format!("tensor: {AT_MOST}{}", Shape::from(dims));
        assert_eq!(refusal(Tensor::new(dims, vec![])), wanted);
        assert_eq!(refusal(Tensor::labels(dims, vec![])), wanted);
        assert_eq!(refusal(whole.reshaped(dims)), wanted);
    }
}

/// Samples of a shape that nothing holds.
struct Vast(Vec<usize>);

impl Dataset for Vast {
    fn len(&self) -> usize {
        2
    }

    fn fields(&self) -> Fields {
        Fields::labelled(&self.0[..], 1)
    }

    fn read(&self, index: usize, _: Pass, _: &mut Sample<'_>) -> Result<()> {
        self.check_index(index)
    }
}

#[test]
fn samples() {
    let read =
        |shape: &[usize]| refusal(Batch::read(&Vast(shape.to_vec()), &[0, 1], Pass::default()));
    let sizes = "sample_shape: expected sizes above 0 whose product fits in memory, got";
    assert_eq!(read(&[1 << 62, 4]), format!("{sizes} [4611686018427387904, 4]"));
    assert_eq!(read(&[1 << 51]), "cpu: cannot reserve 18014398509481984 bytes for a batch");
    let array = Arrays::new([Array::f32(vec![0.0; 4], &[usize::MAX, 2])], []);
    assert!(refusal(array).contains("sizes above 0 whose product fits in memory"));
}

/// Zeros are made without a result: the error waits for whoever wants them.
#[test]
fn zeros_that_there_is_no_memory_for() {
    let mut net = Net::new(Device::cpu(), Seed(1), |p| Linear::new(&p.at("fc"), 4, 2)).expect("ok");
    let cases = [
        ([1 << 62, 4], format!("tensor: {AT_MOST}[4611686018427387904, 4]")),
        ([1 << 49, 4], "cpu: cannot reserve 9007199254740992 bytes for a tensor".into()),
    ];
    for (dims, wanted) in cases {
        let zeros = Tensor::zeros(dims);
        assert_eq!(refusal(zeros.values()), wanted);
        assert_eq!(refusal(zeros.samples(0, 1)), wanted);
        assert_eq!(refusal(zeros.argmax()), wanted);
        assert!(zeros.integers().is_err() && zeros.item().is_err());
        let error = refusal(net.eval().forward(&zeros));
        assert!(
            error.contains("expected a shape of at most") || error.contains("bytes"),
            "{error}"
        );
        assert_eq!(refusal(net.monte_carlo(2).forward(&zeros)), wanted);
    }
}

#[test]
fn parameters() {
    let linear = |inputs, outputs, device| {
        refusal(Net::new(device, Seed(1), |p| Linear::new(&p.at("fc"), inputs, outputs)))
    };
    let got = "fc: parameter weight: expected a shape of at most 4503599627370495 elements, got ";
    for (inputs, outputs) in [((1 << 60) + 1, 16), (usize::MAX, 1), (1 << 32, 1 << 32)] {
        let error = linear(inputs, outputs, Device::cpu());
        assert_eq!(error, format!("{got}[{outputs}, {inputs}]"));
    }
    assert!(linear(4, usize::MAX, on_paper()).contains("fc: parameter bias: expected a shape"));
    let error = linear(1 << 25, 1 << 25, Device::cpu());
    assert!(error.starts_with("cpu: cannot reserve 4503599"), "{error}");
    assert_eq!(linear(1 << 25, 1 << 25, on_paper()), "no error", "paper is patient");
}

/// Each fits, and their sum does not.
#[test]
fn many_parameters() {
    let make = |p: &Scope| {
        for index in 0..1100 {
            p.parameter(&format!("p{index}"), [Shape::MOST_ELEMENTS], Init::Constant(0.0));
        }
        Linear::new(&p.at("fc"), 4, 2)
    };
    for device in [Device::cpu(), on_paper()] {
        let error = refusal(Net::new(device, Seed(1), make));
        assert!(error.contains(": cannot reserve 19815838360"), "{error}");
    }
}

struct Function(fn(&Var) -> Var);

impl Module for Function {
    fn forward(&self, x: &Var) -> Var {
        (self.0)(x)
    }
}

fn plan(device: Device, function: fn(&Var) -> Var, dims: &[usize]) -> String {
    let mut net = Net::new(device, Seed(1), |_| Function(function)).expect("a network");
    refusal(net.plan(Mode::Eval, &[TensorType::f32(dims.into())]))
}

#[test]
fn values_in_a_graph() {
    let vast = 1 << 40;
    let too_many = |op: &str, dims: &str| format!("{op}: {AT_MOST}{dims}");
    let input = too_many("input", "[4611686018427387904, 4]");
    assert_eq!(plan(on_paper(), |x| x.relu(), &[1 << 62, 4]), input);
    let outer = too_many("matmul", "[1099511627776, 1099511627776]");
    assert_eq!(plan(on_paper(), |x| x.matmul_transposed(x), &[vast, 1]), outer);
    let sum = |x: &Var| x + &x.t();
    assert!(plan(on_paper(), sum, &[vast, 1]).starts_with(&too_many("broadcast", "[1099511")));
    let hidden = |x: &Var| x.reshape([1 << 40, 1 << 40, 0]);
    assert!(plan(on_paper(), hidden, &[0, 4]).starts_with(&too_many("reshape", "[1099511")));
    let mistaken = |x: &Var| x.reshape([1 << 62, 4]);
    let mistake = too_many("reshape", "[4611686018427387904, 4]");
    assert_eq!(plan(on_paper(), mistaken, &[4, 4]), mistake);
}

/// Windows are refused before anything walks over their taps.
#[test]
fn windows() {
    let image = [TensorType::f32([1, 1, 5, 5].into())];
    let pooled = |kernel: usize, padding: usize, stride: usize| {
        let pool =
            MaxPool { padding: [padding; 2], stride: [stride; 2], ..MaxPool::new([kernel; 2]) };
        let mut net = Net::new(on_paper(), Seed(1), |_| pool).expect("a network");
        refusal(net.plan(Mode::Eval, &image))
    };
    let padded = "max_pool: expected at most 4503599627370495 with the padding, got ";
    for kernel in [usize::MAX, 1 << 60] {
        assert!(pooled(kernel, kernel / 2, 1).starts_with(padded), "{kernel}");
        let fit = "max_pool: expected an image whose extents hold a window of";
        assert!(pooled(kernel, 0, 1).starts_with(fit), "{kernel}");
    }
    assert_eq!(pooled(5, 0, usize::MAX), "no error");
    let filled = pooled(1 << 50, 1 << 49, 1 << 49);
    assert!(filled.starts_with("no error") || filled.starts_with("max_pool: "), "{filled}");
    for huge in [usize::MAX, 1 << 60] {
        let dilation = [huge; 2];
        let pool = MaxPool { dilation, ..MaxPool::new([2, 2]) };
        let mut net = Net::new(on_paper(), Seed(1), |_| pool).expect("a network");
        assert!(refusal(net.plan(Mode::Eval, &image)).starts_with("max_pool: expected an image"));
        let padding = Padding::Zeros([huge; 2]);
        let conv = |p: &Scope| {
            let options = ConvOptions { padding, ..ConvOptions::default() };
            Conv2d::with_options(&p.at("conv"), 1, 1, [3, 3], options)
        };
        let mut net = Net::new(on_paper(), Seed(1), conv).expect("a network");
        let error = refusal(net.plan(Mode::Eval, &image));
        assert!(error.starts_with("conv: conv: expected at most 4503599627370495"), "{error}");
    }
}

#[test]
fn plans() {
    let many = |x: &Var| (0..64).fold(x.clone(), |x, _| x.tanh());
    let error = plan(on_paper(), many, &[1 << 49, 4]);
    let most = "plan: expected values of at most 576460752303423487 bytes in all, got ";
    assert_eq!(error, format!("{most}585467951558164480"));
    let error = plan(Device::cpu(), |x| x.softmax().relu(), &[1 << 46, 8]);
    assert!(error.starts_with("cpu: cannot reserve 2251799813685248 bytes"), "{error}");

    let mut net = Net::new(on_paper(), Seed(1), |p| Linear::new(&p.at("fc"), 4, 2)).expect("ok");
    let mut lowered = |samples: usize| {
        let plan = net.plan(Mode::Eval, &[TensorType::f32([samples, 4].into())]).expect("a plan");
        refusal(work(plan, Architecture::SM_90, Precision::F32))
    };
    assert_eq!(lowered((1 << 29) - 1), "no error");
    let elements = "fc: linear: expected at most 2147483647 elements on a GPU, got [536870912, 4]";
    assert_eq!(lowered(1 << 29), elements);
}

/// What a kernel cannot be told, or a device not launch, is an error of the layer's.
#[test]
fn launches() {
    let lowered = |net: &mut Net<Box<dyn Module>>, input: &[usize]| {
        let plan = net.plan(Mode::Eval, &[TensorType::f32(input.into())]).expect("a plan");
        refusal(work(plan, Architecture::SM_90, Precision::F32))
    };
    let pooled = |kernel: usize| {
        let (padding, stride) = ([kernel / 2; 2], [kernel / 2; 2]);
        let pool = MaxPool { padding, stride, ..MaxPool::new([kernel; 2]) };
        let make = |_: &Scope| Box::new(pool) as Box<dyn Module>;
        lowered(&mut Net::new(on_paper(), Seed(1), make).expect("a network"), &[1, 1, 5, 5])
    };
    assert_eq!(pooled(1 << 31), "no error");
    let error = "max_pool: expected sizes of at most 32 bits on a GPU, got 4294967296";
    assert_eq!(pooled(1 << 33), error);

    let wide = |outputs: usize| {
        let make = |p: &Scope| Box::new(Linear::new(&p.at("fc"), 4, outputs)) as Box<dyn Module>;
        lowered(&mut Net::new(on_paper(), Seed(1), make).expect("a network"), &[2, 4])
    };
    assert_eq!(wide(1 << 20), "no error");
    let error = "fc: linear: expected at most 65535 blocks along an axis of a grid on a GPU, got ";
    assert!(wide(1 << 24).starts_with(error), "{}", wide(1 << 24));
}

#[test]
fn draws() {
    let make = |p: &Scope| Dropout::new(&p.at("dropout"), 0.5);
    let mut net = Net::new(Device::cpu(), Seed(1), make).expect("ok");
    let x = Tensor::zeros([3, 4]);
    let error = "draws: expected at most 1431655765 of 3 samples, got ";
    for draws in [usize::MAX, 1 << 62, 1 << 32] {
        assert_eq!(refusal(net.monte_carlo(draws).forward(&x)), format!("{error}{draws}"));
    }
    let wide = Tensor::zeros([1, 1 << 20]);
    let error = refusal(net.monte_carlo(u32::MAX as usize).forward(&wide));
    assert!(error.starts_with("cpu: cannot reserve "), "{error}");
    let wider = Tensor::zeros([1, 1 << 22]);
    let error = refusal(net.monte_carlo(u32::MAX as usize).forward(&wider));
    let most = "a shape of at most 4503599627370495 elements";
    assert!(error.starts_with(&format!("dropout: dropout: expected {most}, got [")), "{error}");
    assert_eq!(net.monte_carlo(2).forward(&x).expect("draws").shape().dims(), [2, 3, 4]);
}

#[test]
fn threads() {
    for threads in [usize::MAX, 1 << 32, Device::MOST_THREADS + 1] {
        let device = Device::cpu_with_threads(NonZeroUsize::new(threads).expect("above 0"));
        let made = Net::new(device, Seed(1), |p| Linear::new(&p.at("fc"), 4, 2));
        assert_eq!(refusal(made), format!("threads: expected at most 4096, got {threads}"));
    }
}

#[test]
fn micro_batches() {
    let net = Net::new(Device::cpu(), Seed(1), |p| Linear::new(&p.at("fc"), 4, 2)).expect("ok");
    let fit = Trainer::new(net, Mse::default(), Sgd::new(0.1)).expect("a trainer");
    let mut fit = fit.with_micro_batches(usize::MAX).expect("any number");
    let hollow = Tensor::new([1 << 40, 0], vec![]).expect("no elements");
    let error = refusal(fit.step(&hollow, &hollow));
    assert!(error.starts_with("fc: linear: expected input of shape"), "{error}");
    fit.step(&Tensor::zeros([5, 4]), &Tensor::zeros([5, 2])).expect("five parts");
}
