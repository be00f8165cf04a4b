// SPDX-License-Identifier: MIT OR Apache-2.0
//! The random numbers that PyTorch draws on a CPU, from its seed.
//!
//! kiln draws nothing from here by itself: its own masks and initial values are functions of seed and place.
//! This is for comparing with a PyTorch program that is left as it is, which `kiln verify --torch-seed` does.

/// Words of the generator's state.
const WORDS: usize = 624;
/// How far the word lies ahead that each word is mixed with.
const AHEAD: usize = 397;
/// Numbers that PyTorch makes normal at a time, the first half with the second.
const BLOCK: usize = 16;

/// PyTorch's generator of a CPU after `torch.manual_seed`: MT19937 (Matsumoto & Nishimura 1998), and what
/// `uniform_`, `bernoulli_` and `normal_` make of its words.
///
/// A network's numbers come in the order in which PyTorch draws them: the parameters of each layer as it is
/// constructed, then, in each pass, the masks of each dropout as it is called.
///
/// ```
/// use kiln::torch_random::{linear_bound, TorchRandom};
///
/// // torch.manual_seed(1); print(torch.nn.Linear(3, 2).bias.tolist())
/// let mut random = TorchRandom::new(1);
/// let weight: Vec<f32> = random.uniform(linear_bound(3), 6);
/// let bias: Vec<f32> = random.uniform(1.0 / 3f64.sqrt(), 2);
/// assert_eq!((weight[0], bias), (0.29748735, vec![-0.11877556, 0.2937234]));
/// ```
#[derive(Clone, Debug)]
pub struct TorchRandom {
    state: [u32; WORDS],
    /// Words that are used up.
    used: usize,
    /// The second of two normal numbers that were drawn together.
    normal: Option<f64>,
}

/// The bound within which PyTorch draws the weights of linear layers and convolutions of so many inputs to
/// an output (for a convolution, channels times the window's places): `kaiming_uniform_(a=sqrt(5))`, in the
/// order of its roundings.
pub fn linear_bound(inputs: usize) -> f64 {
    let slope = 5f64.sqrt();
    let gain = (2.0 / (1.0 + slope * slope)).sqrt();
    3f64.sqrt() * (gain / (inputs as f64).sqrt())
}

impl TorchRandom {
    /// The generator after `torch.manual_seed(seed)`, of which the lower 32 bits count.
    pub fn new(seed: u64) -> Self {
        let mut state = [seed as u32; WORDS];
        for index in 1..WORDS {
            let last: u32 = state[index - 1];
            state[index] =
                (last ^ (last >> 30)).wrapping_mul(1_812_433_253).wrapping_add(index as u32);
        }
        TorchRandom { state, used: WORDS, normal: None }
    }

    /// The next 32 bits.
    pub fn word(&mut self) -> u32 {
        if self.used == WORDS {
            self.renew();
        }
        let mut word = self.state[self.used];
        self.used += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// So many numbers from `-bound` to `bound`: `uniform_(-bound, bound)` of an `f32` tensor.
    pub fn uniform(&mut self, bound: f64, count: usize) -> Vec<f32> {
        let (from, to) = (-bound as f32, bound as f32);
        (0..count).map(|_| self.fraction().mul_add(to - from, from)).collect()
    }

    /// What `nn.Dropout(p)` multiplies so many elements by, and `nn.Dropout2d(p)` so many channels: 0 for
    /// what is dropped, else `1 / (1 - p)`. Where `p` is 0 or 1 nothing is drawn.
    ///
    /// So does PyTorch unless it leaves dropout to Intel's MKL, as it does on processors of Intel's.
    pub fn dropout(&mut self, p: f64, count: usize) -> Vec<f32> {
        if p == 0.0 || p == 1.0 {
            return vec![1.0 - p as f32; count];
        }
        let scale = 1.0 / (1.0 - p) as f32;
        (0..count).map(|_| if self.fraction_of_53_bits() < 1.0 - p { scale } else { 0.0 }).collect()
    }

    /// So many normal numbers of mean 0 and deviation 1: `normal_()` of an `f32` tensor. PyTorch computes
    /// them with approximations of its own, so the last bits differ.
    pub fn normal(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.one_normal() as f32).collect();
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.fraction()).collect();
        values.chunks_exact_mut(BLOCK).for_each(make_normal);
        if !count.is_multiple_of(BLOCK) {
            // The last block anew, some of whose numbers were done with the block before.
            let last = &mut values[count - BLOCK..];
            last.iter_mut().for_each(|value| *value = self.fraction());
            make_normal(last);
        }
        values
    }

    fn renew(&mut self) {
        for index in 0..WORDS {
            let next = self.state[(index + 1) % WORDS];
            let mixed = (self.state[index] & 0x8000_0000) | (next & 0x7fff_ffff);
            let twist = if next & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[index] = self.state[(index + AHEAD) % WORDS] ^ (mixed >> 1) ^ twist;
        }
        self.used = 0;
    }

    /// From 0 up to 1, in steps of 2^-24.
    fn fraction(&mut self) -> f32 {
        (self.word() & 0xff_ffff) as f32 / (1 << 24) as f32
    }

    /// From 0 up to 1, in steps of 2^-53.
    fn fraction_of_53_bits(&mut self) -> f64 {
        let high = u64::from(self.word());
        let both = (high << 32) | u64::from(self.word());
        (both & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    fn one_normal(&mut self) -> f64 {
        if let Some(normal) = self.normal.take() {
            return normal;
        }
        let (turn, size) = (self.fraction_of_53_bits(), self.fraction_of_53_bits());
        let radius = (-2.0 * (-size).ln_1p()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * turn).sin_cos();
        self.normal = Some(radius * sine);
        radius * cosine
    }
}

/// Pairs of uniform numbers, half a block apart, to pairs of normal ones (Box & Muller 1958).
fn make_normal(block: &mut [f32]) {
    let (sizes, turns) = block.split_at_mut(BLOCK / 2);
    for (size, turn) in sizes.iter_mut().zip(turns) {
        let radius = (-2.0 * f64::from(1.0 - *size).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * f64::from(*turn)).sin_cos();
        (*size, *turn) = ((radius * cosine) as f32, (radius * sine) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that the C++ standard demands of `std::mt19937`.
    #[test]
    fn words_are_those_of_mt19937() {
        let mut random = TorchRandom::new(5489);
        assert_eq!([3_499_211_612, 581_869_302, 3_890_346_734], [(); 3].map(|()| random.word()));
        let last = (3..10_000).map(|_| random.word()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    /// `torch.manual_seed(1); torch.nn.Linear(3, 2)` of PyTorch 2.15, to the bit.
    #[test]
    fn initial_values_are_pytorchs() {
        for seed in [1, (1 << 40) + 1] {
            let mut random = TorchRandom::new(seed);
            let weight = random.uniform(linear_bound(3), 6);
            let expected =
                [0.29748735, -0.25482982, -0.11192598, 0.27099028, -0.5435388, 0.34624693];
            assert_eq!(weight, expected);
            assert_eq!(random.uniform(1.0 / 3f64.sqrt(), 2), [-0.11877556, 0.2937234]);
        }
    }

    /// `torch.manual_seed(1); torch.nn.functional.dropout(torch.ones(32), 0.5)` of PyTorch 2.15.
    #[test]
    fn masks_are_pytorchs() {
        let kept = [
            1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0,
            1, 1, 1,
        ];
        assert_eq!(TorchRandom::new(1).dropout(0.5, 32), kept.map(|kept| 2.0 * kept as f32));
        let scaled = TorchRandom::new(1).dropout(0.3, 1000);
        assert!(scaled.iter().all(|factor| [0.0, 1.428_571_5].contains(factor)));

        let mut random = TorchRandom::new(1);
        assert_eq!(random.dropout(0.0, 3), [1.0; 3]);
        assert_eq!(random.dropout(1.0, 3), [0.0; 3]);
        assert_eq!(random.word(), TorchRandom::new(1).word(), "nothing was drawn");
    }

    /// `torch.manual_seed(1); torch.empty(n).normal_()` of PyTorch 2.15.
    #[test]
    fn normal_numbers_are_pytorchs_but_for_rounding() {
        let of_20 = [
            -1.5255959,
            -0.7502318,
            -0.6539809,
            -1.6094848,
            0.8656924,
            0.2444039,
            -0.66291136,
            0.80730826,
            0.43914157,
            1.1712008,
            1.7674273,
            -0.09536188,
            0.061155282,
            -0.61774445,
            -0.79806983,
            -0.13162321,
            -0.7984398,
            0.33573052,
            0.27533352,
            1.7163026,
        ];
        let of_5 = [0.66135216, 0.2669241, 0.06167726, 0.6213173, -0.45190597];
        for expected in [&of_20[..], &of_5] {
            let found = TorchRandom::new(1).normal(expected.len());
            let pairs = found.iter().zip(expected);
            let worst = pairs.map(|(a, b): (&f32, &f32)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-6, "{worst}: {found:?}");
        }
    }
}
