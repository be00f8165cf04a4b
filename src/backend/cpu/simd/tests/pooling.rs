// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::{Extent, Pooling};
use super::*;
use crate::graph::MemoryFormat;
use crate::op::{Array, AvgPool, Divisor, MaxPool, Op, Rounding, Window};
use crate::scalars::Scalars;
use crate::Shape;

/// Samples and channels, the image, kernel, stride, dilation, padding.
type Numbers = ([usize; 2], [usize; 3], [usize; 3], [usize; 3], [usize; 3], [usize; 3]);

/// Windows side by side, overlapping, far apart, dilated, over the padding and over the end.
const CASES: [Numbers; 9] = [
    ([2, 16], [1, 8, 8], [1, 2, 2], [1, 2, 2], [1; 3], [0; 3]),
    ([2, 33], [1, 7, 9], [1, 2, 2], [1, 2, 2], [1; 3], [0; 3]),
    ([1, 5], [1, 9, 8], [1, 3, 3], [1, 2, 2], [1; 3], [0, 1, 1]),
    ([2, 70], [1, 6, 7], [1, 3, 2], [1, 1, 1], [1; 3], [0, 1, 1]),
    ([2, 3], [1, 9, 9], [1, 2, 2], [1, 3, 3], [1; 3], [0; 3]),
    ([2, 8], [1, 11, 10], [1, 3, 3], [1, 2, 1], [1, 2, 3], [0, 1, 1]),
    ([3, 20], [1, 9, 9], [1, 9, 9], [1; 3], [1; 3], [0; 3]),
    ([2, 1], [1, 1, 19], [1, 1, 4], [1, 1, 3], [1; 3], [0, 0, 2]),
    ([2, 6], [5, 6, 7], [2, 3, 2], [2, 1, 2], [1; 3], [1, 1, 0]),
];

struct Case {
    window: Window,
    pooling: Pooling,
    x: Array,
    y: Shape,
}

impl Case {
    fn new(numbers: &Numbers, rounding: Rounding) -> Self {
        let ([samples, channels], image, kernel, stride, dilation, padding) = *numbers;
        let padding = padding.map(|padding| [padding; 2]);
        let window = Window { kernel, stride, dilation, padding, rounding };
        let shape: Shape = [samples, channels, image[0], image[1], image[2]].into();
        let places = window.places(&shape).expect("a window that fits");
        let extents = std::array::from_fn(|axis| Extent {
            image: image[axis],
            places: places[axis],
            kernel: kernel[axis],
            stride: stride[axis],
            dilation: dilation[axis],
            before: padding[axis][0],
        });
        let y = [samples, channels, places[0], places[1], places[2]].into();
        Case { window, pooling: Pooling { samples, channels, extents }, x: of_noise(shape, 1), y }
    }

    fn each(test: impl Fn(&Case)) {
        for rounding in [Rounding::Floor, Rounding::Ceil] {
            CASES.iter().for_each(|numbers| test(&Case::new(numbers, rounding)));
        }
    }
}

/// Noise in few steps, so that several elements of a window are equal.
fn of_noise(shape: Shape, seed: u32) -> Array {
    let values = noise(shape.elements(), seed).into_iter().map(|x| f64::from((8.0 * x).round()));
    Array::new(shape, values.collect())
}

fn stored(image: &Array) -> Vec<f64> {
    MemoryFormat::ChannelsLast.pack(&image.shape, image.data.clone())
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

fn meant(op: Op, inputs: &[&Array]) -> Vec<Array> {
    op.eval(inputs, &Scalars::new(1))
}

#[test]
fn the_largest_element_and_its_place_are_found() {
    Case::each(|case| {
        let mut x = case.x.clone();
        for not_a_number in [false, true] {
            if not_a_number {
                x.data.iter_mut().step_by(5).for_each(|x| *x = f64::NAN);
                x.data.iter_mut().step_by(3).for_each(|x| *x = f64::NEG_INFINITY);
            }
            let op = MaxPool(case.window);
            let wanted = meant(Op::MaxPool(op), &[&x]);
            let dy = of_noise(case.y.clone(), 2);
            let dx = meant(Op::MaxPoolGrad(op, x.shape.clone()), &[&wanted[1], &dy]);
            everywhere(|pool, isa| {
                let mut y = vec![f32::MAX; case.y.elements()];
                let mut index = y.clone();
                let x = narrow(&stored(&x));
                case.pooling.max(pool, isa, &x, &mut y, Some(&mut index));
                let bits: Vec<f32> = index.iter().map(|index| index.to_bits() as f32).collect();
                assert_close(&y, &stored(&wanted[0]), 0.0);
                assert_close(&bits, &stored(&wanted[1]), 0.0);
                let mut alone = vec![f32::MAX; y.len()];
                case.pooling.max(pool, isa, &x, &mut alone, None);
                assert_close(&alone, &stored(&wanted[0]), 0.0);
                let mut got = vec![f32::NAN; x.len()];
                let dy = narrow(&stored(&dy));
                case.pooling.max_gradient(pool, isa, &index, &dy, &mut got);
                assert_close(&got, &stored(&dx[0]), 0.0);
            });
        }
    });
}

#[test]
fn means_are_divided_by_what_they_cover() {
    Case::each(|case| {
        // Means know no dilation.
        let window = Window { dilation: [1; 3], ..case.window };
        if window != case.window {
            return;
        }
        for divisor in [Divisor::Padded, Divisor::Valid, Divisor::Fixed(7)] {
            let op = AvgPool { window, divisor };
            let y = meant(Op::AvgPool(op), &[&case.x]).remove(0);
            let dy = of_noise(case.y.clone(), 2);
            let dx = meant(Op::AvgPoolGrad(op, case.x.shape.clone()), &[&dy]).remove(0);
            let divisors = op.divisors(&case.x.shape);
            everywhere(|pool, isa| {
                let mut got = vec![f32::NAN; case.y.elements()];
                let x = narrow(&stored(&case.x));
                case.pooling.mean(pool, isa, &divisors, &x, &mut got);
                assert_close(&got, &stored(&y), rounding(16));
                let mut got = vec![f32::NAN; x.len()];
                let dy = narrow(&stored(&dy));
                case.pooling.mean_gradient(pool, isa, &divisors, &dy, &mut got);
                assert_close(&got, &stored(&dx), rounding(16));
            });
        }
    });
}
