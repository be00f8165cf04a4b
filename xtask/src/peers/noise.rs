// SPDX-License-Identifier: MIT OR Apache-2.0
//! What rounds come to, and whether they can be trusted.

/// Largest trustworthy ratio between the third and the first quartile of the rounds.
const NOISY: f64 = 1.5;

/// Whether sorted values, of which there is at least one, lie too far apart: the third quartile over the
/// first tells.
pub(crate) fn is_noisy(sorted: &[f64]) -> bool {
    let last = sorted.len() - 1;
    sorted[last - last / 4] / sorted[last / 4] > NOISY
}

/// The middle value, or the mean of the two middle ones; NaN of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
