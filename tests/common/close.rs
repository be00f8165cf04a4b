// SPDX-License-Identifier: MIT OR Apache-2.0
//! Comparing numbers: `|got - expected| <= absolute + relative * |expected|`.

use kiln::DType;

/// How far a result may be from what is expected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance {
    pub(crate) absolute: f64,
    pub(crate) relative: f64,
}

impl Tolerance {
    /// No difference but the sign of a zero.
    pub(crate) const EXACT: Tolerance = Tolerance { absolute: 0.0, relative: 0.0 };

    /// For a few operations on each element.
    ///
    /// The worst seen over all fixtures and laws uses 16 % of the budget.
    pub(crate) fn strict(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Tolerance { absolute: 2e-6, relative: 2e-6 },
            DType::Bf16 => Tolerance { absolute: 4e-3, relative: 4e-3 },
            DType::F16 => Tolerance { absolute: 5e-4, relative: 5e-4 },
            DType::I32 | DType::I64 => Tolerance::EXACT,
        }
    }

    /// For sums of products, whose rounding grows with their length.
    ///
    /// The worst seen over all fixtures and laws uses 65 % of the budget.
    pub(crate) fn balanced(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Tolerance { absolute: 1e-5, relative: 1e-5 },
            DType::Bf16 => Tolerance { absolute: 8e-3, relative: 8e-3 },
            DType::F16 => Tolerance { absolute: 1e-3, relative: 1e-3 },
            DType::I32 | DType::I64 => Tolerance::EXACT,
        }
    }

    /// For `f64` against `f64` computed another way.
    pub(crate) const DOUBLE: Tolerance = Tolerance { absolute: 1e-15, relative: 1e-13 };

    /// For derivatives in `f64` by central differences, which lose half of the digits.
    pub(crate) const DIFFERENCES: Tolerance = Tolerance { absolute: 2e-7, relative: 2e-7 };
}

/// Compares row-major tensors of one shape; NaN matches NaN, infinities match themselves, and
/// zeros match whatever their sign. Yields the largest share of the budget that was used.
pub(crate) fn compare(
    what: &str,
    shape: &[usize],
    got: &[f64],
    expected: &[f64],
    tolerance: Tolerance,
) -> Result<f64, String> {
    if got.len() != expected.len() || got.len() != shape.iter().product::<usize>() {
        let (a, b) = (got.len(), expected.len());
        return Err(format!("{what}: {a} elements, expected {b} in shape {shape:?}"));
    }
    let shares = got.iter().zip(expected).map(|(&a, &b)| share(a, b, tolerance));
    let (index, worst) =
        shares.enumerate().fold(
            (0, 0.0),
            |worst, (index, share)| {
                if share > worst.1 {
                    (index, share)
                } else {
                    worst
                }
            },
        );
    if worst <= 1.0 {
        return Ok(worst);
    }
    Err(format!(
        "{what}: worst at {:?} of {shape:?}: got {:?}, expected {:?}, {:.3e} apart, {worst:.2} of \
         the budget {tolerance:?}",
        coordinates(index, shape),
        got[index],
        expected[index],
        (got[index] - expected[index]).abs(),
    ))
}

/// [`compare`], as an assertion about `f32` results.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &kiln::Tensor, expected: &[f64], t: Tolerance) -> f64 {
    let values: Vec<f64> = doubles(got);
    match compare(what, got.shape().dims(), &values, expected, t) {
        Ok(share) => share,
        Err(message) => panic!("{message}"),
    }
}

/// A tensor's elements, widened.
pub(crate) fn doubles(tensor: &kiln::Tensor) -> Vec<f64> {
    match tensor.integers() {
        Ok(integers) => integers.iter().map(|&x| f64::from(x)).collect(),
        Err(_) => tensor.values().expect("f32").iter().map(|&x| f64::from(x)).collect(),
    }
}

/// Share of the budget that a difference uses; infinite where none can be given.
fn share(got: f64, expected: f64, tolerance: Tolerance) -> f64 {
    if got == expected || (got.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    let difference = (got - expected).abs();
    let budget = tolerance.absolute + tolerance.relative * expected.abs();
    if !difference.is_finite() || budget == 0.0 {
        return f64::INFINITY;
    }
    difference / budget
}

fn coordinates(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut coordinates = vec![0; shape.len()];
    for (place, extent) in shape.iter().enumerate().rev() {
        coordinates[place] = index % extent;
        index /= extent;
    }
    coordinates
}

#[test]
fn the_worst_element_is_named() {
    let tolerance = Tolerance { absolute: 0.1, relative: 0.0 };
    let (got, expected) = ([1.0, 2.0, 3.0, 4.0, 5.5, 6.2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let message = compare("y", &[2, 3], &got, &expected, tolerance).unwrap_err();
    assert!(
        message.starts_with("y: worst at [1, 1] of [2, 3]: got 5.5, expected 5.0"),
        "{message}"
    );
    assert!(message.contains("5.00 of the budget"), "{message}");
}

#[test]
fn nan_infinity_and_zero() {
    let strict = Tolerance::strict(DType::F32);
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0];
    assert_eq!(compare("same", &[4], &special, &special, strict), Ok(0.0));
    assert_eq!(compare("zeros", &[1], &[-0.0], &[0.0], Tolerance::EXACT), Ok(0.0));
    for (got, expected) in [
        (f64::NAN, 0.0),
        (0.0, f64::NAN),
        (f64::INFINITY, f64::NEG_INFINITY),
        (f64::INFINITY, 1.0),
        (1.0, f64::INFINITY),
    ] {
        assert!(compare("special", &[1], &[got], &[expected], strict).is_err());
    }
    assert!(compare("exact", &[1], &[1.0], &[1.0 + 1e-15], Tolerance::EXACT).is_err());
    assert!(compare("length", &[2], &[1.0], &[1.0], strict).is_err());
}
