// SPDX-License-Identifier: MIT OR Apache-2.0
//! torchvision's ResNet-18: its state_dict, and what it answers in PyTorch.

#[expect(dead_code, reason = "its network alone is wanted")]
#[path = "../../examples/17_resnet18.rs"]
mod example;

use std::num::NonZeroUsize;

use example::ResNet18;
use kiln::Convolutions;
use safetensors::tensor::{Dtype, TensorView};

use super::*;

/// Of the largest score.
const TOLERANCE: f32 = 1e-5;

/// Small images have convolutions by squares and by sums under `Fast`, large ones by squares alone.
#[test]
fn a_resnet_18_of_torchvision_answers_the_same() {
    let bytes = fs::read(fixture("torch_resnet18.safetensors")).unwrap();
    let answers = SafeTensors::deserialize(&bytes).unwrap();
    let dir = TempDir::new().unwrap();
    let weights = dir.path().join("resnet18.safetensors");
    write_state(&weights, &bytes);
    for (side, threads, convolutions) in
        [(64, 1, Convolutions::Fast), (64, 2, Convolutions::Precise), (224, 2, Convolutions::Fast)]
    {
        let device = Device::cpu_with_threads(NonZeroUsize::new(threads).unwrap());
        let device = device.with_convolutions(convolutions);
        let mut net = Net::new(device, Seed(1), |p| ResNet18::new(p, 1000)).unwrap();
        checkpoint::load_weights(&mut net, &weights).unwrap();
        let images = numbers(&format!("images{side}"), 2 * 3 * side * side, |x| x * 2.0);
        let images = Tensor::new([2, 3, side, side], images).unwrap();
        let scores = net.eval().forward(&images).unwrap();

        let expected = answers.tensor(&format!("logits{side}")).unwrap();
        assert_eq!(scores.shape().dims(), expected.shape());
        let expected: Vec<f32> = bytemuck::pod_collect_to_vec(expected.data());
        let most = expected.iter().fold(0.0_f32, |most, score| most.max(score.abs()));
        let errors = scores.values().unwrap().iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let error = errors.fold(0.0_f32, |most, error| if error <= most { most } else { error });
        assert!(error <= TOLERANCE * most, "{side} {convolutions:?}: {error} of {most}");
    }
}

/// Writes the state_dict as PyTorch does, from the names and shapes that the fixture lists and the values
/// that `make_resnet18_fixture.py` says.
fn write_state(path: &Path, fixture: &[u8]) {
    let (_, header) = SafeTensors::read_metadata(fixture).unwrap();
    let listed = &header.metadata().as_ref().unwrap()["state"];
    let mut tensors: Vec<(&str, Vec<usize>, Values)> = Vec::new();
    for line in listed.lines() {
        let (name, shape) = line.split_once(' ').unwrap_or((line, ""));
        let extents = shape.split('x').filter(|extent| !extent.is_empty());
        let shape: Vec<usize> = extents.map(|extent| extent.parse().unwrap()).collect();
        let values = Values::of(name, &shape);
        tensors.push((name, shape, values));
    }
    assert_eq!(tensors.len(), 122, "tensors of a ResNet-18");
    let views = tensors.iter().map(|(name, shape, values)| (*name, values.view(shape)));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

enum Values {
    Floats(Vec<f32>),
    Counter([i64; 1]),
}

impl Values {
    fn of(name: &str, shape: &[usize]) -> Self {
        let count = shape.iter().product();
        Values::Floats(match shape {
            _ if name.ends_with("num_batches_tracked") => return Values::Counter([1000]),
            [_, rest @ ..] if !rest.is_empty() => {
                let bound = (6.0 / rest.iter().product::<usize>() as f64).sqrt() as f32;
                numbers(name, count, |x| x * bound)
            }
            _ if name.ends_with("running_var") => numbers(name, count, |x| x * 0.75 + 1.25),
            _ if name.ends_with("weight") => numbers(name, count, |x| x * 0.5 + 1.0),
            _ => numbers(name, count, |x| x * 0.25),
        })
    }

    fn view(&self, shape: &[usize]) -> TensorView<'_> {
        let (dtype, data) = match self {
            Values::Floats(values) => (Dtype::F32, bytemuck::cast_slice(values)),
            Values::Counter(value) => (Dtype::I64, bytemuck::cast_slice(value)),
        };
        TensorView::new(dtype, shape.to_vec(), data).unwrap()
    }
}

/// Functions of numbers in [-1, 1) that f32 holds exactly: each place, mixed with the FNV-1a of a name.
fn numbers(name: &str, count: usize, function: impl Fn(f32) -> f32) -> Vec<f32> {
    let mix = |key: u32, byte: u8| (key ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let key = name.bytes().fold(0x811c_9dc5, mix);
    let mut numbers = vec![0.0; count];
    for (place, number) in numbers.iter_mut().enumerate() {
        let mut x = (place as u32).wrapping_mul(0x9e37_79b9).wrapping_add(key);
        x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
        x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
        x ^= x >> 16;
        *number = function((x >> 8) as f32 * (1.0 / (1 << 23) as f32) - 1.0);
    }
    numbers
}
