// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::{
    Activation, Conv, ConvShape, ConvTail, ConvWay, ConvWeightGradient, Dropout, Extent,
    GradientTail, MaskNonZero, MaskRows,
};
use super::*;
use crate::graph::MemoryFormat;
use crate::op::{self, Array, Op, Rounding, Window};
use crate::philox::{keep, MaskKey};
use crate::scalars::Scalars;
use crate::Shape;

/// A convolution of noise, as its plain meaning has it and as the loops do.
pub(super) struct Case {
    conv: op::Conv,
    pub(super) shape: ConvShape,
    way: ConvWay,
    x: Array,
    weight: Array,
    dy: Array,
}

/// Samples, inputs, outputs, groups; then extents of the image, kernel, stride, dilation, padding.
pub(super) type Numbers =
    ([usize; 4], [usize; 3], [usize; 3], [usize; 3], [usize; 3], [[usize; 2]; 3]);

/// Odd sizes, even kernels, groups, strides that leave rows over, tall windows, dilation, one channel
/// per group, and fewer extents than three.
const CASES: [Numbers; 20] = [
    // 3x3 with padding: one vector, several panels, more inputs than a chain has room for.
    ([2, 16, 16, 1], [1, 8, 8], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]),
    ([3, 5, 7, 1], [1, 7, 9], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]),
    ([2, 33, 70, 1], [1, 5, 14], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]),
    ([1, 130, 40, 1], [1, 4, 5], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]),
    // Few inputs, with and without padding.
    ([3, 3, 32, 1], [1, 12, 13], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]),
    ([2, 1, 6, 1], [1, 9, 9], [1, 5, 5], [1; 3], [1; 3], [[0; 2]; 3]),
    ([2, 3, 20, 1], [1, 23, 26], [1, 7, 7], [1, 2, 2], [1; 3], [[0; 2], [3; 2], [3; 2]]),
    // One tap: all pixels are one row, and some are left out.
    ([4, 20, 18, 1], [1, 5, 6], [1; 3], [1; 3], [1; 3], [[0; 2]; 3]),
    ([2, 20, 18, 1], [1, 7, 8], [1; 3], [1, 2, 2], [1; 3], [[0; 2]; 3]),
    // Even kernels, padding on one side, strides that leave rows over.
    ([2, 6, 34, 1], [1, 8, 11], [1, 2, 4], [1; 3], [1; 3], [[0; 2], [0, 1], [1, 2]]),
    ([2, 17, 16, 1], [1, 10, 11], [1, 3, 3], [1, 2, 3], [1; 3], [[0; 2], [1; 2], [0; 2]]),
    ([2, 4, 8, 1], [1, 13, 11], [1, 3, 2], [1, 4, 5], [1; 3], [[0; 2]; 3]),
    // Dilation, with strides too.
    ([2, 9, 12, 1], [1, 12, 12], [1, 3, 3], [1; 3], [1, 2, 3], [[0; 2], [2; 2], [3; 2]]),
    ([2, 3, 5, 1], [1, 14, 15], [1, 3, 3], [1, 2, 3], [1, 3, 2], [[0; 2], [3; 2], [2; 2]]),
    // Groups, and one channel for each.
    ([2, 12, 18, 3], [1, 6, 7], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]),
    ([2, 4, 8, 4], [1, 6, 7], [1, 3, 3], [1, 2, 1], [1; 3], [[0; 2], [1; 2], [1; 2]]),
    ([3, 37, 37, 37], [1, 7, 8], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]),
    ([2, 20, 20, 20], [1, 9, 10], [1, 5, 3], [1, 2, 2], [1, 1, 2], [[0; 2], [2; 2], [2; 2]]),
    // A line and a volume.
    ([2, 5, 9, 1], [1, 1, 1100], [1, 1, 5], [1; 3], [1; 3], [[0; 2], [0; 2], [2; 2]]),
    ([2, 4, 17, 1], [5, 6, 7], [3, 2, 3], [2, 1, 2], [1; 3], [[1; 2], [0, 1], [1; 2]]),
];

impl Case {
    pub(super) fn new(numbers: &Numbers) -> Self {
        let ([samples, inputs, outputs, groups], image, kernel, stride, dilation, padding) =
            *numbers;
        let rounding = Rounding::Floor;
        let window = Window { kernel, stride, dilation, padding, rounding };
        let x: Shape = [samples, inputs, image[0], image[1], image[2]].into();
        let places = window.places(&x).expect("a window that fits");
        let y: Shape = [samples, outputs, places[0], places[1], places[2]].into();
        let weight: Shape = [outputs, inputs / groups, kernel[0], kernel[1], kernel[2]].into();
        let extents = std::array::from_fn(|axis| Extent {
            image: image[axis],
            places: places[axis],
            kernel: kernel[axis],
            stride: stride[axis],
            dilation: dilation[axis],
            before: padding[axis][0],
        });
        Case {
            conv: op::Conv::new(window, groups),
            way: ConvWay::Direct,
            shape: ConvShape { samples, groups, inputs, outputs, extents },
            x: array(x, 1),
            weight: array(weight, 2),
            dy: array(y, 3),
        }
    }

    pub(super) fn by(self, way: ConvWay) -> Self {
        Case { way, ..self }
    }

    /// Terms of the largest sum: of the forward pass, the image's gradient and the weights'.
    fn terms(&self) -> [usize; 3] {
        let (taps, shape) = (self.shape.taps(), &self.shape);
        [
            taps * shape.inputs / shape.groups,
            taps * shape.outputs / shape.groups,
            shape.samples * shape.places(),
        ]
    }

    fn conv<'a>(&self, weight: &'a [f32], tail: ConvTail<'a>) -> Conv<'a> {
        Conv { shape: self.shape, way: self.way, weight, tail }
    }

    pub(super) fn forward(&self, pool: &Pool, isa: Isa, tail: ConvTail<'_>) -> Vec<f32> {
        let mut y = vec![f32::NAN; self.dy.data.len()];
        let weight = narrow(&self.weight.data);
        self.conv(&weight, tail).forward(pool, isa, &images(&self.x), &mut y);
        y
    }

    pub(super) fn input_gradient(&self, pool: &Pool, isa: Isa, tail: ConvTail<'_>) -> Vec<f32> {
        let mut dx = vec![f32::NAN; self.x.data.len()];
        let weight = narrow(&self.weight.data);
        self.conv(&weight, tail).input_gradient(pool, isa, &images(&self.dy), &mut dx);
        dx
    }

    /// Adds the gradients of the weights and of the bias to what is there, or replaces it.
    pub(super) fn weight_gradient(
        &self,
        pool: &Pool,
        isa: Isa,
        how: Sink,
        [dw, db]: &mut [Vec<f32>; 2],
    ) {
        let [x, dy] = [&self.x, &self.dy].map(images);
        let sink = |slice| match how {
            Sink::Overwrite => GradientTail::Overwrite(slice),
            Sink::Accumulate => GradientTail::Accumulate(slice),
        };
        let gradient = ConvWeightGradient {
            shape: self.shape,
            way: self.way,
            dy: &dy,
            bias_dy: &dy,
            x: &x,
            weight: sink(dw),
            bias: Some(sink(db)),
        };
        gradient.run(pool, isa);
    }

    /// Room for both gradients.
    pub(super) fn gradients(&self) -> [Vec<f32>; 2] {
        let outputs = self.shape.outputs.next_multiple_of(16);
        [vec![f32::NAN; self.weight.data.len()], vec![f32::NAN; outputs]]
    }

    /// Sums of each output's gradients, and the padding of a bias.
    pub(super) fn db(&self) -> Vec<f64> {
        let pixels = self.shape.places();
        let mut sums = vec![0.0; self.shape.outputs.next_multiple_of(16)];
        for (at, plane) in self.dy.data.chunks(pixels.max(1)).enumerate() {
            sums[at % self.shape.outputs] += plane.iter().sum::<f64>();
        }
        sums
    }

    fn meant(&self, op: Op, inputs: [&Array; 2]) -> Array {
        op.eval(&inputs, &Scalars::new(1)).remove(0)
    }

    pub(super) fn y(&self) -> Vec<f64> {
        stored(&self.meant(Op::Conv(self.conv), [&self.x, &self.weight]))
    }

    pub(super) fn dx(&self) -> Vec<f64> {
        let op = Op::ConvInputGrad(self.conv, self.x.shape.clone());
        stored(&self.meant(op, [&self.dy, &self.weight]))
    }

    pub(super) fn dw(&self) -> Vec<f64> {
        let op = Op::ConvWeightGrad(self.conv, self.weight.shape.clone());
        self.meant(op, [&self.x, &self.dy]).data
    }
}

fn array(shape: Shape, seed: u32) -> Array {
    let values = noise(shape.elements(), seed).into_iter().map(f64::from).collect();
    Array::new(shape, values)
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// Channels-last.
fn stored(image: &Array) -> Vec<f64> {
    MemoryFormat::ChannelsLast.pack(&image.shape, image.data.clone())
}

fn images(image: &Array) -> Vec<f32> {
    narrow(&stored(image))
}

fn each_case(test: impl Fn(&Case)) {
    CASES.iter().for_each(|numbers| test(&Case::new(numbers)));
}

/// What becomes of a gradient.
#[derive(Clone, Copy)]
pub(super) enum Sink {
    Overwrite,
    Accumulate,
}

fn doubled(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| 2.0 * value).collect()
}

#[test]
fn convolutions_are_their_meaning() {
    each_case(|case| {
        let (y, dx, dw, db) = (case.y(), case.dx(), case.dw(), case.db());
        let [of_y, of_dx, of_dw] = case.terms().map(rounding);
        everywhere(|pool, isa| {
            assert_close(&case.forward(pool, isa, ConvTail::NONE), &y, of_y);
            assert_close(&case.input_gradient(pool, isa, ConvTail::NONE), &dx, of_dx);
            let mut got = case.gradients();
            case.weight_gradient(pool, isa, Sink::Overwrite, &mut got);
            assert_close(&got[0], &dw, of_dw);
            assert_close(&got[1], &db, of_dw);
            case.weight_gradient(pool, isa, Sink::Accumulate, &mut got);
            assert_close(&got[0], &doubled(&dw), of_dw);
            assert_close(&got[1], &doubled(&db), of_dw);
        });
    });
}

#[test]
fn results_do_not_depend_on_threads_or_on_other_samples() {
    each_case(depends_on_nothing_else);
}

/// Not on the number of threads; and what is computed of a sample, not on other samples.
pub(super) fn depends_on_nothing_else(case: &Case) {
    for isa in Isa::available() {
        let all = |threads: usize| {
            let pool = pool(threads);
            let mut gradients = case.gradients();
            case.weight_gradient(&pool, isa, Sink::Overwrite, &mut gradients);
            let [dw, db] = gradients;
            let y = case.forward(&pool, isa, ConvTail::NONE);
            [y, case.input_gradient(&pool, isa, ConvTail::NONE), dw, db]
        };
        let one = all(1);
        for threads in [2, 5] {
            assert_eq!(all(threads), one, "{threads} threads, {isa}, {:?}", case.shape);
        }
        let mut alone = Case { shape: ConvShape { samples: 1, ..case.shape }, ..clone(case) };
        let of_sample = case.x.data.len() / case.shape.samples;
        alone.x = first(&case.x, of_sample);
        alone.dy = first(&case.dy, case.dy.data.len() / case.shape.samples);
        let y = alone.forward(&pool(1), isa, ConvTail::NONE);
        assert_eq!(y, one[0][..y.len()], "{isa}, {:?}", case.shape);
        let dx = alone.input_gradient(&pool(1), isa, ConvTail::NONE);
        assert_eq!(dx, one[1][..dx.len()], "{isa}, {:?}", case.shape);
    }
}

fn clone(case: &Case) -> Case {
    let Case { conv, shape, way, ref x, ref weight, ref dy } = *case;
    Case { conv, shape, way, x: x.clone(), weight: weight.clone(), dy: dy.clone() }
}

/// The first sample.
fn first(images: &Array, elements: usize) -> Array {
    let mut dims = images.shape.dims().to_vec();
    dims[0] = 1;
    Array::new(dims.into(), images.data[..elements].to_vec())
}

#[test]
fn tails_are_applied_to_the_sums() {
    for case in CASES.iter().step_by(3).map(Case::new) {
        let [of_y, of_dx, _] = case.terms().map(rounding);
        applies_tails(&case, [2.0 * of_y, 2.0 * of_dx]);
    }
}

/// Bias, activation, dropout and mask, to a tolerance forward and back.
pub(super) fn applies_tails(case: &Case, [of_y, of_dx]: [f64; 2]) {
    let key = MaskKey { seed: 9, site: 4, step: 7, drop15: 13107 };
    {
        let ConvShape { outputs, inputs, .. } = case.shape;
        let pixels = case.shape.places();
        let bias = noise(outputs, 5);
        let mask = images(&case.x);
        let y = case.y();
        let dx: Vec<f64> = case.dx();
        let tails = [
            (Activation::Relu, MaskRows::Own),
            (Activation::Tanh, MaskRows::Own),
            (Activation::Relu, MaskRows::Shared),
        ];
        for (activation, rows) in tails {
            let dropout = Dropout { key, first_sample: 3, rows_per_sample: pixels.max(1), rows };
            let wanted: Vec<f64> = y
                .iter()
                .enumerate()
                .map(|(at, sum)| {
                    let sum = sum + f64::from(bias[at % outputs]);
                    let value = match activation {
                        Activation::Relu => sum.max(0.0),
                        _ => sum.tanh(),
                    };
                    let sample = 3 + (at / (pixels * outputs)) as u32;
                    let element = match rows {
                        MaskRows::Own => (at % (pixels * outputs)) as u32,
                        MaskRows::Shared => (at % outputs) as u32,
                    };
                    match keep(&key, sample, element) {
                        true => value * f64::from(key.scale()),
                        false => 0.0,
                    }
                })
                .collect();
            everywhere(|pool, isa| {
                let (bias, dropout) = (Some(&*bias), Some(dropout));
                let tail = ConvTail { bias, activation, dropout, ..ConvTail::NONE };
                assert_close(&case.forward(pool, isa, tail), &wanted, of_y);
            });
        }
        // Half of the mask lets nothing pass.
        let mask: Vec<f32> = mask.iter().map(|&y| y.max(0.0)).collect();
        let wanted: Vec<f64> =
            dx.iter().zip(&mask).map(|(dx, &y)| if y != 0.0 { 1.5 * dx } else { 0.0 }).collect();
        assert_eq!(wanted.len() % inputs, 0);
        everywhere(|pool, isa| {
            let mask = Some(MaskNonZero { y: &mask, scale: 1.5 });
            let tail = ConvTail { mask, ..ConvTail::NONE };
            assert_close(&case.input_gradient(pool, isa, tail), &wanted, of_dx);
        });
    }
}

#[test]
fn nothing_in_gives_nothing_but_the_bias() {
    let numbers = ([0, 3, 5, 1], [1, 4, 4], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]);
    let case = Case::new(&numbers);
    everywhere(|pool, isa| {
        assert!(case.forward(pool, isa, ConvTail::NONE).is_empty());
        assert!(case.input_gradient(pool, isa, ConvTail::NONE).is_empty());
        let mut gradients = case.gradients();
        case.weight_gradient(pool, isa, Sink::Overwrite, &mut gradients);
        assert!(gradients.concat().iter().all(|&gradient| gradient == 0.0));
    });
}
