// SPDX-License-Identifier: MIT OR Apache-2.0
//! Corrections of Adam's moments, which begin at 0: by the same operations on every device, so that
//! they have the same bits.

/// `1 - beta^update`, the weight of all gradients so far in a moment.
pub(crate) fn weight_so_far(beta: f64, update: u32) -> f64 {
    1.0 - power(beta, update)
}

/// `base^exponent`: squares of squares, multiplied from the last bit of the exponent on.
fn power(mut base: f64, mut exponent: u32) -> f64 {
    let mut product = 1.0;
    while exponent != 0 {
        if exponent & 1 == 1 {
            product *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_exact_to_more_digits_than_f32_has() {
        for base in [0.0f64, 0.5, 0.9, 0.95, 0.999, 0.999_999] {
            for exponent in [1, 2, 3, 7, 10, 100, 1023, 4096, 65_537, 1_000_000, u32::MAX] {
                let (got, want) = (power(base, exponent), base.powf(f64::from(exponent)));
                assert!((got - want).abs() <= 1e-9 * want, "{base}^{exponent}: {got}, {want}");
            }
        }
        assert_eq!((weight_so_far(0.5, 3), weight_so_far(0.0, 1)), (0.875, 1.0));
    }
}
