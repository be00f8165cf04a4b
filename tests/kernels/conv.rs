// SPDX-License-Identifier: MIT OR Apache-2.0
//! conv, conv_input_gradient and conv_weight_gradient: flat images and volumes, strides that leave rows
//! over, dilation, groups, few channels and many, edges of tiles, parts of sums. `conv_thin` has the cases
//! of few channels for each result.

use crate::abi::*;
use crate::abi_images::*;
use crate::conv_columns;
use crate::conv_norm;
use crate::conv_pools;
use crate::driver::{divider, Gpu, Grid};
use crate::dropout::Site;
use crate::float::{Numbers, Storage};
use crate::function::value;
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};
use crate::pooling::{add, Case};
use crate::product::cut;

/// f32 additions that lie between a product and a sum in any order.
pub(crate) const ROUNDINGS: f64 = 8.0;
pub(crate) const TILE: usize = 64;
pub(crate) const MASK_SCALE: f32 = 2.0;

/// A convolution of images.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conv {
    pub(crate) images: Case,
    pub(crate) outputs: usize,
    pub(crate) groups: usize,
}

/// Whether blocks compute tiles, or threads a few results that see few channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    Tiles,
    Thin,
}

/// How products are computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) storage: Storage,
    shared: usize,
}

/// A window of 3 x 3 that keeps extents.
pub(crate) const SAME: Case = Case {
    samples: 2,
    channels: 8,
    image: [1, 6, 5],
    places: [1, 6, 5],
    kernel: [1, 3, 3],
    stride: [1; 3],
    dilation: [1; 3],
    before: [0, 1, 1],
    after: [0, 1, 1],
};
/// Odd extents, strides that leave rows over, dilation.
pub(crate) const ODD: Case = Case {
    samples: 3,
    channels: 3,
    image: [1, 9, 8],
    places: [1, 4, 3],
    kernel: [1, 3, 2],
    stride: [1, 2, 3],
    dilation: [1, 1, 2],
    before: [0, 1, 1],
    after: [0, 0, 1],
};
/// Three extents, of which windows span two, side by side.
pub(crate) const VOLUME: Case = Case {
    samples: 1,
    channels: 16,
    image: [4, 5, 3],
    places: [2, 5, 2],
    kernel: [2, 1, 2],
    stride: [2, 1, 1],
    dilation: [1; 3],
    before: [0; 3],
    after: [0; 3],
};
pub(crate) const CONVS: [Conv; 6] = [
    Conv { images: SAME, outputs: 16, groups: 1 },
    // Few channels.
    Conv { images: ODD, outputs: 5, groups: 1 },
    // A volume in two groups, of which one result has 12 channels.
    Conv { images: VOLUME, outputs: 24, groups: 2 },
    // More rows, columns and sums than a tile.
    Conv {
        images: Case { samples: 3, channels: 72, image: [1, 5, 6], places: [1, 5, 6], ..SAME },
        outputs: 72,
        groups: 1,
    },
    // Depthwise, with single taps further down.
    Conv { images: Case { channels: 6, ..SAME }, outputs: 6, groups: 6 },
    Conv {
        images: Case {
            channels: 16,
            places: [1, 3, 3],
            kernel: [1; 3],
            stride: [1, 2, 2],
            before: [0; 3],
            after: [0; 3],
            ..SAME
        },
        outputs: 8,
        groups: 1,
    },
];

pub(crate) fn run(gpu: &Gpu) {
    for method in methods() {
        for conv in gpu.cases(&CONVS, &CONVS[..3]) {
            for &splits in gpu.cases(&[1, 3], &[2]) {
                Run { gpu, method, way: Way::Tiles, conv: *conv, splits }.all();
            }
        }
    }
    conv_columns::many(gpu);
}

pub(crate) fn methods() -> [Method; 4] {
    let shared = KILN_GEMM_STAGES as usize * 2 * TILE * KILN_GEMM_DEPTH_BYTES as usize;
    [
        Method { name: "f32", storage: Storage::F32, shared: 17408 },
        Method { name: "tf32", storage: Storage::F32, shared },
        Method { name: "bf16", storage: Storage::Bf16, shared },
        Method { name: "f16", storage: Storage::F16, shared },
    ]
}

pub(crate) struct Run<'g> {
    pub(crate) gpu: &'g Gpu,
    pub(crate) method: Method,
    pub(crate) way: Way,
    pub(crate) conv: Conv,
    pub(crate) splits: usize,
}

/// One multiplication: indices of the image's element, the weight and the result.
pub(crate) struct Product {
    pub(crate) x: usize,
    /// In `[outputs, taps, inputs of a group]`, or as kernels of few channels read it.
    pub(crate) packed: usize,
    /// In `[outputs, inputs of a group, taps]`.
    weight: usize,
    pub(crate) y: usize,
}

impl Run<'_> {
    /// Everything that is computed of a convolution.
    pub(crate) fn all(&self) {
        self.forward(false);
        self.forward(true);
        if self.has_input_gradient() {
            self.input_gradient(false);
            self.input_gradient(true);
        }
        self.planes();
        self.weight_gradients(KILN_STORE_OVERWRITE);
        self.weight_gradients(KILN_STORE_ACCUMULATE);
        conv_pools::run(self);
        conv_norm::run(self, false);
        conv_norm::run(self, true);
        conv_columns::run(self);
    }

    /// Of few channels, gradients of inputs are those of groups of one.
    pub(crate) fn has_input_gradient(&self) -> bool {
        self.way == Way::Tiles || self.conv.images.channels == self.conv.groups
    }

    /// Whether eight columns of a thread are eight of the channels that dropout counts.
    pub(crate) fn drops(&self) -> bool {
        let Conv { outputs, groups, .. } = self.conv;
        let columns = if self.way == Way::Thin { outputs } else { outputs / groups };
        columns % 8 == 0
    }

    /// A kernel's name.
    pub(crate) fn kernel(&self, family: &str) -> String {
        match self.way {
            Way::Tiles => format!("{family}_{}", self.method.name),
            Way::Thin => format!("{family}_thin_{}", self.method.name),
        }
    }

    /// Launches a kernel of all but gradients of weights.
    pub(crate) fn launch(&self, kernel: &str, params: &KilnConvParams) {
        let [m, n, k, ld] = [params.m, params.n, params.k, params.ld].map(|extent| extent as usize);
        match self.way {
            Way::Tiles => self.gpu.launch(kernel, self.grid(m, n), params),
            Way::Thin => {
                let columns = thin_columns(ld);
                let row = params.gather.positions[2].divisor;
                let strips = divider(row.div_ceil(KILN_THIN_STRIP) as usize);
                // Two blocks along places, so that each goes on behind the other's.
                let blocks = [2, ld.div_ceil(columns), 1];
                let threads = [KILN_GEMM_THREADS as usize, 1];
                let shared = 4 * k * (columns + KILN_THIN_PAD as usize);
                let grid = Grid { blocks, threads, shared };
                self.gpu.launch(kernel, grid, &KilnConvParams { strips, ..*params });
            }
        }
    }

    fn forward(&self, fused: bool) {
        let Conv { images, outputs, groups } = self.conv;
        let kernel = self.kernel("conv");
        let (x, weights) = (self.numbers(self.images(), 1), self.numbers(self.weights(), 2));
        let bias = Array::new(Storage::F32, &Numbers::new(3).between(-1.0, 1.0, outputs));
        let y = Array::output(self.method.storage, self.results());
        let dropped = fused && self.drops();
        let site = Site::new("conv1.dropout#0", 0.3);
        let places = images.spots();
        let (m, n) = (images.samples * places, outputs / groups);
        let split = self.split(m, n);
        let mut params = KilnConvParams {
            d: y.address(),
            a: x.address(),
            b: weights.address(),
            split: split.params,
            ..self.forward_extents()
        };
        params.places = divider(places);
        if fused {
            params.bias = bias.address();
            params.activation = KILN_UNARY_RELU;
        }
        if dropped {
            params.dropout = 1;
            params.scalars = self.gpu.scalars();
            params.mask = site.params;
        }
        self.launch(&kernel, &params);
        split.tickets.assert_zero(&kernel);
        let mut sums = vec![Want { value: 0.0, magnitude: 0.0 }; self.results()];
        self.each(|at| add(&mut sums[at.y], self.seen(&x, at.x) * self.seen(&weights, at.packed)));
        for (at, sum) in sums.iter_mut().enumerate().filter(|_| fused) {
            let (row, channel) = (at / outputs, at % outputs);
            add(sum, bias.values[channel]);
            sum.value = value(KILN_UNARY_RELU, sum.value, 0.0);
            if dropped {
                let kept = site.keeps(row / places, row % places * outputs + channel);
                let scale = if kept { f64::from(site.params.scale) } else { 0.0 };
                *sum = Want { value: sum.value * scale, magnitude: sum.magnitude * scale };
            }
        }
        self.compare(&kernel, fused, &y, &sums);
    }

    fn input_gradient(&self, masked: bool) {
        let Conv { images, outputs, groups } = self.conv;
        let kernel = self.kernel("conv_input_gradient");
        let (dy, weights) = (self.numbers(self.results(), 4), self.numbers(self.weights(), 5));
        let source = Numbers::new(6).sparse(self.images());
        let source = Array::new(self.method.storage, &source);
        let skip = self.numbers(self.images(), 11);
        let dx = Array::output(self.method.storage, self.images());
        let (m, n) = (images.samples * images.pixels(), images.channels / groups);
        let split = self.split(m, n);
        let mut params = KilnConvParams {
            d: dx.address(),
            a: dy.address(),
            b: weights.address(),
            gather: self.result_places(),
            m: m as i32,
            n: n as i32,
            k: (self.taps() * outputs / groups) as i32,
            ld: images.channels as i32,
            column_tiles: divider(n.div_ceil(TILE)),
            split: split.params,
            ..KilnConvParams::default()
        };
        let scale_at = |at: usize| match masked {
            true if source.values[at] == 0.0 => 0.0,
            true => f64::from(MASK_SCALE),
            false => 1.0,
        };
        let mut sums = vec![Want { value: 0.0, magnitude: 0.0 }; self.images()];
        if masked {
            params.residual = skip.address();
            params.mask_source = source.address();
            params.mask_scale = MASK_SCALE;
            for (at, sum) in sums.iter_mut().enumerate() {
                add(sum, scale_at(at) * skip.values[at]);
            }
        }
        self.launch(&kernel, &params);
        split.tickets.assert_zero(&kernel);
        self.each(|at| {
            let scale = scale_at(at.x);
            let term = self.seen(&dy, at.y) * self.seen(&weights, at.packed);
            add(&mut sums[at.x], scale * term);
        });
        self.compare(&kernel, masked, &dx, &sums);
    }

    /// Images that lie plane by plane.
    fn planes(&self) {
        let Conv { images, outputs, groups } = self.conv;
        let kernel = self.kernel("conv");
        let (x, weights) = (self.numbers(self.images(), 1), self.numbers(self.weights(), 2));
        let planar = Array::new(self.method.storage, &self.by_planes(&x));
        let y = Array::output(self.method.storage, self.results());
        let (m, n) = (images.samples * images.spots(), outputs / groups);
        let split = self.split(m, n);
        let params = KilnConvParams {
            d: y.address(),
            a: planar.address(),
            b: weights.address(),
            gather: self.planar_elements(),
            m: m as i32,
            n: n as i32,
            k: (self.taps() * images.channels / groups) as i32,
            ld: outputs as i32,
            column_tiles: divider(n.div_ceil(TILE)),
            places: divider(images.spots()),
            split: split.params,
            ..KilnConvParams::default()
        };
        self.launch(&kernel, &params);
        split.tickets.assert_zero(&kernel);
        let mut sums = vec![Want { value: 0.0, magnitude: 0.0 }; self.results()];
        self.each(|at| add(&mut sums[at.y], self.seen(&x, at.x) * self.seen(&weights, at.packed)));
        self.compare(&kernel, false, &y, &sums);
    }

    /// Elements of images with the planes of channels one behind the other.
    pub(crate) fn by_planes(&self, x: &Array) -> Vec<f32> {
        let Conv { images, .. } = self.conv;
        let (pixels, channels) = (images.pixels(), images.channels);
        let mut planar = vec![0.0; x.values.len()];
        for (at, value) in x.values.iter().enumerate() {
            let (sample, pixel) = (at / channels / pixels, at / channels % pixels);
            planar[(sample * channels + at % channels) * pixels + pixel] = *value as f32;
        }
        planar
    }

    pub(crate) fn planar_elements(&self) -> KilnGather {
        let gather = self.image_elements();
        KilnGather { position: 1, channel: self.conv.images.pixels() as u32, ..gather }
    }

    /// Two layers in one launch: this one with its bias, and the same of images that lie plane by plane,
    /// without a bias and in one part more.
    fn weight_gradients(&self, store: KilnStore) {
        let Conv { images, outputs, groups } = self.conv;
        let kernel = self.kernel("conv_weight_gradient");
        let (dy, x) = (self.numbers(self.results(), 7), self.numbers(self.images(), 8));
        let planar = Array::new(self.method.storage, &self.by_planes(&x));
        let held = Numbers::new(9).between(-1.0, 1.0, self.weights());
        let held_bias = Numbers::new(10).between(-1.0, 1.0, outputs);
        let accumulates = store == KILN_STORE_ACCUMULATE;
        let gradient = |held: &[f32]| match accumulates {
            true => Array::new(Storage::F32, held),
            false => Array::output(Storage::F32, held.len()),
        };
        let (first, second, d_bias) = (gradient(&held), gradient(&held), gradient(&held_bias));
        // Cut to tf32, what is worked out of other numbers may be to either side.
        let has_line = self.way == Way::Thin && accumulates && self.method.name != "tf32";
        let line = has_line.then(|| conv_columns::Line::new(self, &dy));
        let (m, n) = (outputs / groups, self.taps() * images.channels / groups);
        let (tiles, runs, of_tile) = match self.way {
            Way::Tiles => {
                let tiles = m.div_ceil(TILE) * n.div_ceil(TILE) * groups;
                (tiles, outputs.div_ceil(KILN_GEMM_BIAS_COLUMNS as usize), TILE * TILE)
            }
            Way::Thin => {
                let held = KILN_THIN_HELD as usize;
                let units = outputs.div_ceil(thin_columns(outputs)) * n.div_ceil(held);
                (units, 0, (held + 1) * KILN_THIN_COLUMNS as usize)
            }
        };
        let splits = [self.splits, self.splits + 1];
        let floats = (splits[0] + splits[1]) * (tiles * of_tile + runs * TILE);
        let (partials, tickets) = (Memory::partials(floats), Memory::tickets(2 * tiles + runs));
        let layer = KilnConvWeightGradient {
            d: first.address(),
            d_bias: d_bias.address(),
            a: dy.address(),
            b: x.address(),
            line: line.as_ref().map(conv_columns::Line::params).unwrap_or_default(),
            gather: self.image_elements(),
            m: m as i32,
            n: n as i32,
            k: (images.samples * images.spots()) as i32,
            ld: outputs as i32,
            groups: groups as u32,
            splits: splits[0] as u32,
            thin: u32::from(self.way == Way::Thin),
            store,
            ..KilnConvWeightGradient::default()
        };
        let blocks = splits[0] * (tiles + runs);
        let other = KilnConvWeightGradient {
            d: second.address(),
            d_bias: Default::default(),
            b: planar.address(),
            gather: self.planar_elements(),
            splits: splits[1] as u32,
            first_block: blocks as u32,
            ticket: (tiles + runs) as u32,
            partials: (splits[0] * (tiles * of_tile + runs * TILE)) as u64,
            ..layer
        };
        let mut params = KilnConvWeightGradientParams {
            count: 2,
            partials: partials.address(),
            tickets: tickets.address(),
            ..KilnConvWeightGradientParams::default()
        };
        (params.layers[0], params.layers[1]) = (layer, other);
        let blocks = [blocks + splits[1] * tiles, 1, 1];
        let grid = Grid { blocks, ..self.grid(TILE, TILE) };
        self.gpu.launch(&kernel, grid, &params);
        tickets.assert_zero(&kernel);
        let begun = |&held: &f32| Want::plain(if accumulates { f64::from(held) } else { 0.0 });
        let mut sums: Vec<Want> = held.iter().map(begun).collect();
        let of_y = |at: usize| line.as_ref().map_or(self.seen(&dy, at), |line| line.values[at]);
        self.each(|at| add(&mut sums[at.weight], of_y(at.y) * self.seen(&x, at.x)));
        let exactness = Exactness::new(Storage::F32, ROUNDINGS);
        let case = format!("{:?} in {} parts, {store}, {:?}", self.conv, self.splits, self.way);
        for got in [first, second] {
            self.gpu.ledger().compare(&kernel, &case, &got.read(), &sums, exactness);
        }
        let mut sums: Vec<Want> = held_bias.iter().map(begun).collect();
        for (at, dy) in dy.values.iter().enumerate() {
            add(&mut sums[at % outputs], line.as_ref().map_or(*dy, |line| line.values[at]));
        }
        self.gpu.ledger().compare(&kernel, &case, &d_bias.read(), &sums, exactness);
    }

    fn compare(&self, kernel: &str, fused: bool, got: &Array, want: &[Want]) {
        let exactness = Exactness::new(self.method.storage, ROUNDINGS);
        let case = format!("{:?} in {} parts, with a tail: {fused}", self.conv, self.splits);
        self.gpu.ledger().compare(kernel, &case, &got.read(), want, exactness);
    }

    /// Hands out every multiplication.
    pub(crate) fn each(&self, mut take: impl FnMut(Product)) {
        let Conv { images, outputs, groups } = self.conv;
        let (inputs, of_group, taps) = (images.channels / groups, outputs / groups, self.taps());
        for sample in 0..images.samples {
            for (number, place) in images.each_place().into_iter().enumerate() {
                for (tap, element) in images.sources(place) {
                    for output in 0..outputs {
                        for input in 0..inputs {
                            let channel = output / of_group * inputs + input;
                            let weight = (output * inputs + input) * taps + tap;
                            take(Product {
                                x: (sample * images.pixels() + element) * images.channels + channel,
                                packed: match self.way {
                                    Way::Tiles => (output * taps + tap) * inputs + input,
                                    Way::Thin => weight,
                                },
                                weight,
                                y: (sample * images.spots() + number) * outputs + output,
                            });
                        }
                    }
                }
            }
        }
    }

    /// The extents of a forward convolution, and where it finds elements; what it reads and writes is not yet said.
    pub(crate) fn forward_extents(&self) -> KilnConvParams {
        let Conv { images, outputs, groups } = self.conv;
        let n = outputs / groups;
        KilnConvParams {
            gather: self.image_elements(),
            m: (images.samples * images.spots()) as i32,
            n: n as i32,
            k: (self.taps() * images.channels / groups) as i32,
            ld: outputs as i32,
            column_tiles: divider(n.div_ceil(TILE)),
            ..KilnConvParams::default()
        }
    }

    pub(crate) fn image_elements(&self) -> KilnGather {
        let Conv { images, groups, .. } = self.conv;
        KilnGather {
            positions: images.places.map(divider),
            taps: images.kernel.map(divider),
            steps: [divider(1); 3],
            scales: images.stride.map(|stride| stride as i32),
            offsets: images.before.map(|before| -(before as i32)),
            reaches: images.dilation.map(|dilation| dilation as i32),
            extents: images.image.map(|extent| extent as u32),
            sample: (images.pixels() * images.channels) as u32,
            position: images.channels as u32,
            channel: 1,
            channels: divider(images.channels / groups),
        }
    }

    pub(crate) fn result_places(&self) -> KilnGather {
        let Conv { images, groups, outputs } = self.conv;
        KilnGather {
            positions: images.image.map(divider),
            taps: images.kernel.map(divider),
            steps: images.stride.map(divider),
            scales: [1; 3],
            offsets: images.before.map(|before| before as i32),
            reaches: images.dilation.map(|dilation| -(dilation as i32)),
            extents: images.places.map(|extent| extent as u32),
            sample: (images.spots() * outputs) as u32,
            position: outputs as u32,
            channel: 1,
            channels: divider(outputs / groups),
        }
    }

    pub(crate) fn taps(&self) -> usize {
        self.conv.images.kernel.iter().product()
    }

    pub(crate) fn images(&self) -> usize {
        let images = self.conv.images;
        images.samples * images.pixels() * images.channels
    }

    pub(crate) fn results(&self) -> usize {
        let images = self.conv.images;
        images.samples * images.spots() * self.conv.outputs
    }

    pub(crate) fn weights(&self) -> usize {
        self.conv.outputs * self.taps() * self.conv.images.channels / self.conv.groups
    }

    pub(crate) fn numbers(&self, count: usize, seed: usize) -> Array {
        Array::new(self.method.storage, &Numbers::new(seed + count).between(-1.0, 1.0, count))
    }

    /// A number as the multipliers see it.
    pub(crate) fn seen(&self, array: &Array, at: usize) -> f64 {
        match self.method.name {
            "tf32" => cut(array.values[at]),
            _ => array.values[at],
        }
    }

    pub(crate) fn grid(&self, m: usize, n: usize) -> Grid {
        let blocks = [m.div_ceil(TILE), n.div_ceil(TILE) * self.conv.groups, self.splits];
        let threads = [KILN_GEMM_THREADS as usize, 1];
        Grid { blocks, threads, shared: self.method.shared }
    }

    pub(crate) fn split(&self, m: usize, n: usize) -> Split {
        let tiles = m.div_ceil(TILE) * n.div_ceil(TILE) * self.conv.groups;
        let parts = if self.splits > 1 { self.splits } else { 0 };
        let partials = Memory::partials(tiles * parts * TILE * TILE);
        let tickets = Memory::tickets(tiles);
        let params = match self.splits {
            1 => KilnSplitK { splits: 1, ..KilnSplitK::default() },
            splits => KilnSplitK {
                partials: partials.address(),
                tickets: tickets.address(),
                splits: splits as i32,
            },
        };
        Split { params, _partials: partials, tickets }
    }
}

/// Columns of a block of few channels.
pub(crate) fn thin_columns(columns: usize) -> usize {
    (8 * columns.div_ceil(8).next_power_of_two()).min(KILN_THIN_COLUMNS as usize)
}

/// Memory of the parts of sums.
pub(crate) struct Split {
    pub(crate) params: KilnSplitK,
    _partials: Memory,
    pub(crate) tickets: Memory,
}
