// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests share.

pub(crate) mod close;
pub(crate) mod golden;
pub(crate) mod hazards;
pub(crate) mod image_zoo;
pub(crate) mod parts;
pub(crate) mod philox;
pub(crate) mod recurrent_zoo;
pub(crate) mod reference;
pub(crate) mod stepper;
pub(crate) mod targets;
pub(crate) mod vocabulary;
pub(crate) mod zoo;

use std::io::Write;

use kiln::Tensor;

/// A line that is shown even though the test passes.
pub(crate) fn summary(line: &str) {
    // A summary that nobody can read is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Numbers that look random and are the same in every run (SplitMix64).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// A number of magnitude 0.05 to 2 and either sign: kinks at 0 are out of reach.
    pub(crate) fn value(&mut self) -> f32 {
        let magnitude = 0.05 + 1.95 * (self.bits() >> 40) as f32 / (1u64 << 24) as f32;
        if self.bits() & 1 == 0 {
            magnitude
        } else {
            -magnitude
        }
    }

    pub(crate) fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let elements = shape.iter().product();
        let values = (0..elements).map(|_| self.value()).collect();
        Tensor::new(shape, values).expect("as many values as the shape has elements")
    }

    pub(crate) fn labels(&mut self, samples: usize, classes: usize) -> Tensor {
        let labels = (0..samples).map(|_| self.below(classes) as i32).collect();
        Tensor::labels([samples], labels).expect("one label per sample")
    }
}

/// The bits of a tensor's elements.
pub(crate) fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.values().expect("floating-point elements").iter().map(|x| x.to_bits()).collect()
}
