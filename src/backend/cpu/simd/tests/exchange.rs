// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results that pass between threads: the same bits whether they are stored near or past the caches.

use super::super::{
    Activation, Decay, Forward, GradientTail, InputGradient, Moments, Readers, Start, UpdateRule,
    Updated, WeightGradient,
};
use super::*;

/// Elements from a cache line on, as in the arenas: only there are stores streamed.
struct Aligned {
    data: Vec<f32>,
    len: usize,
}

impl Aligned {
    fn new(values: &[f32]) -> Self {
        let mut aligned = Aligned { data: vec![0.0; values.len() + 16], len: values.len() };
        aligned.elements().copy_from_slice(values);
        aligned
    }

    fn elements(&mut self) -> &mut [f32] {
        let start = self.data.as_ptr().align_offset(64);
        &mut self.data[start..start + self.len]
    }
}

/// What one step of a layer with dropped inputs writes.
#[derive(PartialEq, Debug)]
struct Written {
    y: Vec<u32>,
    dx: Vec<u32>,
    weight: Vec<u32>,
    moments: [Vec<u32>; 2],
}

fn step(pool: &Pool, isa: Isa, (rows, inputs, outputs): (usize, usize, usize)) -> Written {
    let layout = PanelLayout { inputs, outputs };
    let dropped = |values: Vec<f32>| values.into_iter().map(|v| v.max(0.0)).collect::<Vec<_>>();
    let (x, dy) = (dropped(noise(rows * inputs, 1)), noise(rows * outputs, 2));
    let mut weight = Aligned::new(&packed(layout, &noise(inputs * outputs, 3)));
    let mut bias = Aligned::new(&padded(layout, &noise(outputs, 4)));
    let [mut y, mut dx] =
        [rows * outputs, rows * inputs].map(|len| Aligned::new(&vec![f32::NAN; len]));
    let forward = Forward {
        layout,
        rows,
        x: &x,
        x_stride: inputs,
        weight: weight.elements(),
        start: Start::Bias(bias.elements()),
        activation: Activation::Relu,
        dropout: None,
        y: y.elements(),
        y_stride: outputs,
    };
    forward.run(pool, isa);
    let gradient = InputGradient {
        layout,
        rows,
        dy: &dy,
        dy_stride: outputs,
        weight: weight.elements(),
        mask: None,
        dx: dx.elements(),
        dx_stride: inputs,
    };
    gradient.run(pool, isa);
    let mut moments = [layout.len(), layout.len()].map(|len| Aligned::new(&vec![0.0; len]));
    let [first, second] = &mut moments;
    let rule = UpdateRule::Adam {
        decays: [0.9, 0.999],
        shares: [0.1, (1.0 - 0.999f64) as f32],
        step_size: 1e-3,
        inv_sqrt_bias2: 1.0,
        eps: 1e-8,
        decay: Decay::Coupled(0.0),
    };
    let updated = Updated {
        values: weight.elements(),
        moments: Moments::Two(first.elements(), second.elements()),
        average: None,
    };
    let gradient = WeightGradient {
        layout,
        rows,
        x: &x,
        x_stride: inputs,
        dy: &dy,
        dy_stride: outputs,
        bias_dy: &dy,
        weight: GradientTail::Update { rule, scale: 1.0, updated },
        bias: None,
        readers: Readers::All,
    };
    gradient.run(pool, isa);
    let bits = |values: &mut Aligned| values.elements().iter().map(|v| v.to_bits()).collect();
    Written {
        y: bits(&mut y),
        dx: bits(&mut dx),
        weight: bits(&mut weight),
        moments: moments.each_mut().map(bits),
    }
}

#[test]
fn how_a_result_is_stored_changes_no_bit() {
    // Panels and blocks of inputs that go round among two or three threads, and some that do not.
    for size in [(48, 96, 128), (50, 192, 96), (40, 100, 64), (72, 128, 10), (5, 64, 48)] {
        for isa in Isa::available() {
            let alone = step(&pool(1), isa, size);
            for threads in [2, 3] {
                for last_cache in [LastCache::Whole, LastCache::Split] {
                    let got = step(&pool_on(threads, last_cache), isa, size);
                    assert!(got == alone, "{isa}, {threads} threads, {last_cache:?}, {size:?}");
                }
            }
        }
    }
}
