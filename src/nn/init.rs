// SPDX-License-Identifier: MIT OR Apache-2.0
//! Initial values of parameters.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, StandardNormal, Uniform};

use crate::graph::ParamSpec;
use crate::mask::site_of;
use crate::{allocate, Result, Shape};

/// How a parameter gets its first values: the functions of `torch.nn.init`.
///
/// Those that scale with a layer's size look at the parameter's shape `[out, in, ...]`: its fan in is
/// the product of all extents but the first, its fan out that of all but the second.
///
/// ```
/// use kiln::nn::{Fan, Init, Param, Scope};
///
/// fn weights(p: &Scope) -> [Param; 3] {
///     [
///         p.parameter("hidden", [64, 32], Init::KaimingNormal { slope: 0.0, fan: Fan::In }),
///         p.parameter("out", [10, 64], Init::XavierUniform { gain: 1.0 }),
///         p.parameter("gain", [64], Init::Ones),
///     ]
/// }
/// # kiln::Net::new(kiln::Device::cpu(), kiln::Seed(1), |p| {
/// #     weights(p);
/// #     kiln::nn::Relu
/// # })?;
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every element is 0.
    Zeros,
    /// Every element is 1.
    Ones,
    /// Every element is this number.
    Constant(f32),
    /// Uniform over `[-bound, bound]`.
    Uniform {
        /// The largest magnitude.
        bound: f32,
    },
    /// The normal distribution.
    Normal {
        /// Its mean.
        mean: f32,
        /// Its standard deviation.
        deviation: f32,
    },
    /// The normal distribution, of which only a range is drawn from.
    TruncatedNormal {
        /// Mean before the cut.
        mean: f32,
        /// Standard deviation before the cut.
        deviation: f32,
        /// The smallest value.
        min: f32,
        /// The largest value.
        max: f32,
    },
    /// Uniform, so that a layer followed by a leaky ReLU keeps the variance (He et al. 2015,
    /// arXiv:1502.01852).
    KaimingUniform {
        /// The leaky ReLU's slope below 0; 0 for ReLU.
        slope: f32,
        /// In which direction.
        fan: Fan,
    },
    /// Normal, likewise.
    KaimingNormal {
        /// The leaky ReLU's slope below 0; 0 for ReLU.
        slope: f32,
        /// In which direction.
        fan: Fan,
    },
    /// Uniform, a balance of both directions (Glorot & Bengio 2010).
    XavierUniform {
        /// A factor.
        gain: f32,
    },
    /// Normal, likewise.
    XavierNormal {
        /// A factor.
        gain: f32,
    },
    /// A matrix `[out, in * ...]` with orthogonal rows or, if it has more rows than columns, columns,
    /// each of length `gain` (Saxe et al. 2013, arXiv:1312.6120).
    Orthogonal {
        /// A factor.
        gain: f32,
    },
    /// The normal distribution of mean 0 and deviation 1, but for one row of zeros, if there is one.
    Embedding {
        /// The row.
        padding: Option<usize>,
    },
}

/// Which variance a layer keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fan {
    /// That of values on their way forward.
    #[default]
    In,
    /// That of gradients on their way back.
    Out,
}

impl Init {
    /// PyTorch's default for linear layers: uniform over `±1/sqrt(inputs)`, which is what
    /// `kaiming_uniform_(a=sqrt(5))` (He et al. 2015, arXiv:1502.01852) amounts to.
    pub fn fan_in(inputs: usize) -> Self {
        Init::Uniform { bound: (1.0 / (inputs.max(1) as f64).sqrt()) as f32 }
    }

    /// What the initialiser expects, if it cannot fill this shape, and what it got.
    pub(crate) fn refusal(self, shape: &Shape) -> Option<(&'static str, String)> {
        let scale = match self {
            Init::Normal { deviation, .. } | Init::TruncatedNormal { deviation, .. } => deviation,
            Init::KaimingUniform { slope, .. } | Init::KaimingNormal { slope, .. } => slope.abs(),
            Init::XavierUniform { gain } | Init::XavierNormal { gain } => gain.abs(),
            Init::Orthogonal { gain } => gain.abs(),
            Init::Zeros | Init::Ones | Init::Constant(_) | Init::Uniform { .. } => return None,
            Init::Embedding { .. } => return None,
        };
        let by_size = !matches!(self, Init::Normal { .. } | Init::TruncatedNormal { .. });
        match self {
            _ if !(scale.is_finite() && scale >= 0.0) => {
                Some(("an initialiser with finite numbers of 0 or more", format!("{self:?}")))
            }
            Init::TruncatedNormal { min, max, .. }
                if min.is_nan() || max.is_nan() || min >= max =>
            {
                Some(("an initialiser with a range", format!("{self:?}")))
            }
            _ if by_size && shape.rank() < 2 => {
                Some(("a shape of rank 2 or more for this initialiser", shape.to_string()))
            }
            _ => None,
        }
    }

    /// The first values of a parameter. `stream` is its entry of [`streams`].
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) with the size if there is no memory for them.
    pub(crate) fn values(self, parameter: &ParamSpec, stream: u64, seed: u64) -> Result<Vec<f32>> {
        let count = parameter.shape.elements();
        let mut values = allocate::room(count, &parameter.name)?;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(stream);
        let [fan_in, fan_out] = fans(&parameter.shape);
        let kaiming = |slope: f32, fan: Fan| {
            let fan = if fan == Fan::In { fan_in } else { fan_out };
            (2.0 / (1.0 + f64::from(slope).powi(2)) / fan).sqrt()
        };
        let xavier = |gain: f32| f64::from(gain) * (2.0 / (fan_in + fan_out)).sqrt();
        // A uniform distribution has the deviation bound / sqrt(3).
        let bound = |deviation: f64| (3.0f64.sqrt() * deviation) as f32;
        let (mean, deviation) = match self {
            Init::Zeros => return Ok(constant(values, count, 0.0)),
            Init::Ones => return Ok(constant(values, count, 1.0)),
            Init::Constant(value) => return Ok(constant(values, count, value)),
            Init::Uniform { bound } => return Ok(uniform(values, count, bound, &mut generator)),
            Init::KaimingUniform { slope, fan } => {
                return Ok(uniform(values, count, bound(kaiming(slope, fan)), &mut generator))
            }
            Init::XavierUniform { gain } => {
                return Ok(uniform(values, count, bound(xavier(gain).abs()), &mut generator))
            }
            Init::TruncatedNormal { mean, deviation, min, max } => {
                let cut = TruncatedNormal::new([mean, deviation, min, max].map(f64::from));
                // Rounding does not lead out of the range.
                let drawn = (0..count).map(|_| cut.sample(&mut generator) as f32);
                values.extend(drawn.map(|value| value.clamp(min, max)));
                return Ok(values);
            }
            Init::Orthogonal { gain } => {
                let rows = parameter.shape.samples();
                let columns = parameter.shape.sample_elements();
                let mut room: Vec<f64> = allocate::room(count, &parameter.name)?;
                room.extend((0..count).map(|_| -> f64 { StandardNormal.sample(&mut generator) }));
                values
                    .extend(orthogonal(room, rows, columns).map(|x| (f64::from(gain) * x) as f32));
                return Ok(values);
            }
            Init::Embedding { padding } => {
                let normal = Init::Normal { mean: 0.0, deviation: 1.0 };
                let mut values = normal.values(parameter, stream, seed)?;
                let mut rows = values.chunks_exact_mut(parameter.shape.sample_elements().max(1));
                if let Some(row) = padding.and_then(|row| rows.nth(row)) {
                    row.fill(0.0);
                }
                return Ok(values);
            }
            Init::Normal { mean, deviation } => (f64::from(mean), f64::from(deviation)),
            Init::KaimingNormal { slope, fan } => (0.0, kaiming(slope, fan)),
            Init::XavierNormal { gain } => (0.0, xavier(gain).abs()),
        };
        match Normal::new(mean, deviation) {
            Ok(normal) => {
                values.extend((0..count).map(|_| normal.sample(&mut generator) as f32));
            }
            // A deviation that is not finite, which is refused before.
            Err(_) => values.resize(count, f32::NAN),
        }
        Ok(values)
    }
}

/// The stream of random numbers that each parameter of a network draws its first values from: the
/// hash of its name, so that adding a layer leaves the others as they were. Where names share a
/// hash, the number of earlier ones stands above it: no two parameters share a stream.
pub(crate) fn streams(parameters: &[ParamSpec]) -> Vec<u64> {
    let mut earlier: BTreeMap<u32, u64> = BTreeMap::new();
    let stream = |parameter: &ParamSpec| {
        let hash = site_of(&parameter.name);
        let count = earlier.entry(hash).or_default();
        let stream = *count << 32 | u64::from(hash);
        *count += 1;
        stream
    };
    parameters.iter().map(stream).collect()
}

/// Fan in and fan out of a shape `[out, in, ...]`.
fn fans(shape: &Shape) -> [f64; 2] {
    let taps = Shape::from(shape.dims().get(2..).unwrap_or_default()).elements() as f64;
    let extent = |axis: usize| shape.dims().get(axis).copied().unwrap_or(1).max(1) as f64;
    [extent(1) * taps, extent(0) * taps]
}

fn constant(mut values: Vec<f32>, count: usize, value: f32) -> Vec<f32> {
    values.resize(count, value);
    values
}

fn uniform(mut values: Vec<f32>, count: usize, bound: f32, generator: &mut ChaCha8Rng) -> Vec<f32> {
    match Uniform::new_inclusive(-bound, bound) {
        Ok(uniform) => values.extend((0..count).map(|_| uniform.sample(generator))),
        // A bound that is not finite; the caller asked for it.
        Err(_) => values.resize(count, bound),
    }
    values
}

/// Draws from a range of the normal distribution, by the proposals of Robert (1995,
/// arXiv:0907.4010), which are seldom refused wherever the range lies.
struct TruncatedNormal {
    mean: f64,
    deviation: f64,
    /// The range in deviations from the mean, its nearer end first if the mean is outside.
    range: [f64; 2],
    /// -1 where the range has been turned to the other side.
    sign: f64,
}

impl TruncatedNormal {
    fn new([mean, deviation, min, max]: [f64; 4]) -> Self {
        let [low, high] = [(min - mean) / deviation, (max - mean) / deviation];
        let (range, sign) = if high < 0.0 { ([-high, -low], -1.0) } else { ([low, high], 1.0) };
        TruncatedNormal { mean, deviation, range, sign }
    }

    fn sample(&self, generator: &mut ChaCha8Rng) -> f64 {
        if self.deviation == 0.0 {
            return self.mean;
        }
        let [low, high] = self.range;
        let peak = low.max(0.0);
        loop {
            let chance: f64 = generator.random();
            let (x, accepted) = if low > 0.0 && (high - low) * low > 1.0 {
                let x = low - (1.0 - generator.random::<f64>()).ln() / low;
                (x, chance < (-0.5 * (x - low).powi(2)).exp())
            } else if high - low < 2.5 {
                let x = low + (high - low) * generator.random::<f64>();
                (x, chance < (0.5 * (peak * peak - x * x)).exp())
            } else {
                (StandardNormal.sample(generator), true)
            };
            if accepted && (low..=high).contains(&x) {
                return self.mean + self.sign * self.deviation * x;
            }
        }
    }
}

/// Makes the rows of a matrix, or its columns where those are fewer, orthogonal to one another and
/// of length 1: Gram and Schmidt's way, each twice, since once loses digits.
fn orthogonal(matrix: Vec<f64>, rows: usize, columns: usize) -> impl Iterator<Item = f64> {
    let (count, length) = (rows.min(columns), rows.max(columns));
    let by_rows = rows <= columns;
    let mut vectors: Vec<Vec<f64>> =
        matrix.chunks_exact(length.max(1)).map(<[f64]>::to_vec).collect();
    for index in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(index);
        let vector = &mut rest[0];
        for known in before.iter().chain(before.iter()) {
            let dot: f64 = known.iter().zip(&*vector).map(|(a, b)| a * b).sum();
            vector.iter_mut().zip(known).for_each(|(x, known)| *x -= dot * known);
        }
        let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
    }
    (0..rows * columns).map(move |index| match by_rows {
        true => vectors[index / length][index % length],
        false => vectors[index % count][index / count],
    })
}
