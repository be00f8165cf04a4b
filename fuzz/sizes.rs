// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extents and counts, from 0 to what no machine has.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kiln::backend::cuda::{self, Architecture};
use kiln::data::{
    Array, Arrays, Batch, Dataset, Field, Fields, LastBatch, Loader, LoaderConfig, MemoryDataset,
    Pass, Position, Sample, Shuffle,
};
use kiln::loss::Mse;
use kiln::nn::{
    AvgPool, Bias, Conv, ConvOptions, Divisor, Flatten, Init, Linear, MaxPool, Module, Padding,
    Rounding, Scope,
};
use kiln::op::TensorType;
use kiln::optim::Sgd;
use kiln::{Device, Mode, Net, Precision, Result, Seed, Shape, Tensor, Trainer, Var};

use super::harness::{judge_text, run, Case, Numbers};

/// What a small case may take; a large one is refused before it takes anything.
const LIMIT: usize = 64 << 20;

/// Elements that a case may really have.
const SMALL: usize = 1 << 18;

/// Elements that no machine has, so that asking for them does no harm.
const VAST: usize = 1 << 48;

/// An extent; never one whose memory might really be given.
fn extent(numbers: &mut Numbers) -> usize {
    match numbers.below(2) {
        0 => numbers.below(9),
        _ => match numbers.edge() as usize {
            extent if !(64..VAST).contains(&extent) => extent,
            extent => extent & 31,
        },
    }
}

fn shape(numbers: &mut Numbers) -> Shape {
    loop {
        let dims: Vec<usize> = (0..numbers.below(5)).map(|_| extent(numbers)).collect();
        let shape = Shape::from(dims);
        if shape.elements() <= SMALL || shape.elements() >= VAST {
            return shape;
        }
    }
}

/// Errors are read, and everything else is forgotten.
fn judged<T>(result: Result<T>) -> Option<T> {
    result.map_err(|error| judge_text(&error.to_string())).ok()
}

#[test]
fn sizes_of_tensors() {
    run("sizes_of_tensors", 5, |case| {
        let (a, b) = (shape(&mut case.numbers), shape(&mut case.numbers));
        let (start, end) = (extent(&mut case.numbers), extent(&mut case.numbers));
        case.within(LIMIT, || {
            let _ = (a.rows(), a.sample_elements(), a.with_samples(start), a.broadcast_with(&b));
            let few = a.elements().min(SMALL);
            let zeros = Tensor::zeros(a.clone());
            let labels = judged(Tensor::labels(a.clone(), vec![0; few]));
            for tensor in judged(Tensor::new(a.clone(), vec![0.0; few])).into_iter().chain([zeros])
            {
                let _ = (judged(tensor.values()), judged(tensor.integers()), judged(tensor.item()));
                let _ = (judged(tensor.argmax()), judged(tensor.samples(start, end)));
                let _ = judged(tensor.reshaped(b.clone()));
            }
            assert_eq!(labels.is_some(), a.elements() <= SMALL && a.is_allowed());
            let (inputs, labels) = (vec![0.0; few], vec![0; start.min(SMALL)]);
            let (inputs, labels) = (Array::f32(inputs, a.dims()), Array::labels(labels, end));
            if let Some(set) = judged(Arrays::new([inputs], [labels])) {
                let batch = judged(Batch::read(&set, &[0, end], Pass::default()));
                let _ = batch.map(|batch| judged(batch.into_rows()));
            }
        });
    });
}

/// Samples of a number and a shape, which need not fit anywhere.
struct Counted(usize, Vec<usize>, Extents);

/// Whether all samples have the whole first extent, or what theirs is padded to a multiple of.
#[derive(Clone, Copy)]
enum Extents {
    Same,
    Vary(usize),
}

impl Dataset for Counted {
    fn len(&self) -> usize {
        self.0
    }

    fn fields(&self) -> Fields {
        match self.2 {
            Extents::Same => Fields::labelled(&self.1[..], 1),
            Extents::Vary(step) => {
                let input = Field::f32(&self.1[..]).in_steps_of(step);
                Fields::of(input).input(Field::length_of(0)).target(Field::class(1))
            }
        }
    }

    fn read(&self, index: usize, _: Pass, sample: &mut Sample<'_>) -> Result<()> {
        self.check_index(index)?;
        match self.2 {
            Extents::Same => Ok(()),
            Extents::Vary(_) => sample.input(0).f32_rows(index % 4).map(drop),
        }
    }
}

#[test]
fn sizes_of_data_sets() {
    run("sizes_of_data_sets", 5, |case| {
        let numbers = &mut case.numbers;
        let (len, dims) = (extent(numbers), shape(numbers).dims().to_vec());
        let config = LoaderConfig {
            batch_size: extent(numbers),
            shuffle: *numbers.pick(&[Shuffle::Sequential, Shuffle::Seeded(3)]),
            last_batch: *numbers.pick(&[LastBatch::Keep, LastBatch::Drop]),
            prefetch: numbers.below(3),
            ..LoaderConfig::default()
        };
        let extents = match numbers.below(2) {
            0 => Extents::Same,
            _ => Extents::Vary(extent(numbers)),
        };
        let (count, seek) = (extent(numbers), extent(numbers));
        // Samples that would really be read must not be many in all.
        let all = Shape::from([len, Shape::from(dims.clone()).elements()]).elements();
        if (SMALL..VAST).contains(&all) {
            return;
        }
        case.within(LIMIT, || {
            let set = Counted(len, dims.clone(), extents);
            if let Some(memory) = judged(MemoryDataset::read_all(&set)) {
                let _ = (judged(memory.take(count)), judged(memory.subset(&[count])));
                let _ = judged(memory.clone().with_sample_shape(&[count, 1]));
                let _ = judged(memory.with_label_noise(count as f64, 1));
            }
            let _ = judged(MemoryDataset::new(vec![0.0; 8], &dims, vec![0; 4], count));
            if let Some(mut loader) = judged(Loader::new(Arc::new(set), config)) {
                let position = Position { epoch: 0, batch: seek as u64 };
                let _ = (judged(loader.seek(position)), judged(loader.next_batch()));
            }
        });
    });
}

/// A layer, and values that are moved about.
struct Moved {
    layer: Option<Linear>,
    to: Shape,
    kind: usize,
}

impl Module for Moved {
    fn forward(&self, x: &Var) -> Var {
        let y = self.layer.as_ref().map_or_else(|| x.clone(), |layer| layer.forward(x));
        match self.kind {
            0 => y.relu(),
            1 => y.reshape(self.to.clone()),
            2 => Flatten { start: self.to.rank() }.forward(&y),
            3 => y.t().matmul(&y),
            4 => &y + &y.t(),
            _ => y.matmul_transposed(&y).sum(),
        }
    }
}

#[test]
fn sizes_of_networks() {
    run("sizes_of_networks", 5, |case| {
        let numbers = &mut case.numbers;
        let (inputs, outputs) = (extent(numbers), extent(numbers));
        let bias = *numbers.pick(&[Bias::Added, Bias::Absent]);
        let (kind, to, x) = (numbers.below(6), shape(numbers), shape(numbers));
        let (draws, parts) = (extent(numbers), extent(numbers).max(1));
        let has_layer = numbers.below(2) == 0;
        let device = match numbers.below(3) {
            0 => Device::on_paper(Architecture::SM_90),
            1 => Device::cpu_with_threads(
                NonZeroUsize::new(extent(numbers).max(1)).expect("above 0"),
            ),
            _ => Device::cpu_with_threads(NonZeroUsize::MIN),
        };
        let on_paper = device == Device::on_paper(Architecture::SM_90);
        // What would really be computed must be small: products of its extents, too.
        let work = |shape: &Shape| shape.elements().saturating_mul(shape.elements());
        let real = work(&x).max(Shape::from([draws, x.elements()]).elements());
        if !on_paper && x.elements() < VAST && real > SMALL {
            return;
        }
        case.within(LIMIT, || {
            let make = |p: &Scope| {
                let layer =
                    has_layer.then(|| Linear::with_bias(&p.at("fc"), inputs, outputs, bias));
                let _ = p.parameter("extra", to.clone(), Init::Constant(1.0));
                Moved { layer, to: to.clone(), kind }
            };
            let Some(mut net) = judged(Net::new(device, Seed(1), make)) else { return };
            let ty = TensorType::f32(x.clone());
            if let Some(plan) = judged(net.plan(Mode::Eval, std::slice::from_ref(&ty))) {
                let _ = plan.totals();
                if on_paper {
                    let _ = judged(cuda::work(plan, Architecture::SM_90, Precision::Bf16));
                }
            }
            if x.elements() == 0 {
                return;
            }
            let values = Tensor::zeros(x.clone());
            let _ = (judged(net.eval().forward(&values)), judged(net.train().forward(&values)));
            let _ = judged(net.monte_carlo(draws).forward(&values));
            let Some(fit) = judged(Trainer::new(net, Mse::default(), Sgd::new(0.1))) else {
                return;
            };
            let Some(mut fit) = judged(fit.with_micro_batches(parts)) else { return };
            let _ = judged(fit.plan(&ty, &ty));
            let _ = judged(fit.step(&values, &values));
        });
    });
}

/// A layer that slides a window over images.
enum Sliding<const N: usize> {
    Conv(Box<Conv<N>>),
    Largest(MaxPool<N>),
    Mean(AvgPool<N>),
}

impl<const N: usize> Module for Sliding<N> {
    fn forward(&self, x: &Var) -> Var {
        match self {
            Sliding::Conv(layer) => layer.forward(x),
            Sliding::Largest(layer) => layer.forward(x),
            Sliding::Mean(layer) => layer.forward(x),
        }
    }
}

fn windows<const N: usize>(case: &Case, mut numbers: [usize; 16], kind: usize) {
    let mut next = || {
        numbers.rotate_left(1);
        numbers[0]
    };
    let mut some = || -> [usize; N] { std::array::from_fn(|_| next()) };
    let (kernel, stride, dilation, padding, extents) = (some(), some(), some(), some(), some());
    let [samples, channels, outputs, groups] = [numbers[0], numbers[1], numbers[2], numbers[3]];
    let rounding = [Rounding::Floor, Rounding::Ceil][kind % 2];
    let x = Shape::from([&[samples, channels][..], &extents].concat());
    let options = ConvOptions {
        stride,
        padding: [Padding::Zeros(padding), Padding::Same][kind % 2],
        dilation,
        groups,
        bias: Bias::Added,
    };
    let make = |p: &Scope| match kind % 3 {
        0 => {
            let conv = Conv::with_options(&p.at("conv"), channels, outputs, kernel, options);
            Sliding::Conv(Box::new(conv))
        }
        1 => Sliding::Largest(MaxPool { kernel, stride, padding, dilation, rounding }),
        _ => {
            let divisor = [Divisor::Padded, Divisor::Valid, Divisor::Fixed(groups)][kind / 3 % 3];
            Sliding::Mean(AvgPool { kernel, stride, padding, rounding, divisor })
        }
    };
    // What would really be computed must be little.
    let real = numbers.iter().all(|&number| number < 6) && x.elements() < SMALL;
    let device = match real {
        true => Device::cpu_with_threads(NonZeroUsize::MIN),
        false => Device::on_paper(Architecture::SM_90),
    };
    case.within(LIMIT, || {
        let Some(mut net) = judged(Net::new(device, Seed(1), make)) else { return };
        let ty = TensorType::f32(x.clone());
        let planned = judged(net.plan(Mode::Eval, &[ty])).is_some();
        if planned && real && x.elements() > 0 {
            let values = Tensor::zeros(x.clone());
            if let Some(y) = judged(net.eval().forward(&values)) {
                let _ = judged(net.train().gradients(&values, &y));
            }
        }
    });
}

#[test]
fn sizes_of_windows() {
    run("sizes_of_windows", 5, |case| {
        let small = case.numbers.below(2) == 0;
        let numbers = std::array::from_fn(|_| match small || case.numbers.below(4) > 0 {
            true => case.numbers.below(6),
            false => extent(&mut case.numbers),
        });
        let kind = case.numbers.below(18);
        match case.numbers.below(3) {
            0 => windows::<1>(case, numbers, kind),
            1 => windows::<2>(case, numbers, kind),
            _ => windows::<3>(case, numbers, kind),
        }
    });
}
