// SPDX-License-Identifier: MIT OR Apache-2.0
//! How sure a classifier is, and how rightly: figures for probabilities of classes, for the spread of
//! Monte Carlo draws, and temperature scaling, the baseline that draws have to beat.
//!
//! All are computed in `f64`, and logarithms are natural ones.
//!
//! ```
//! use kiln::uncertainty::{Bins, Probabilities, Spread, Temperature};
//! use kiln::Tensor;
//!
//! // Scores of three samples for two classes, and the classes that they have.
//! let (scores, labels) = (Tensor::new([3, 2], vec![2.0, 0.0, 0.0, 3.0, 1.0, 0.0])?, [0, 1, 1]);
//! let plain = Probabilities::of_scores(&scores)?;
//! assert_eq!(plain.accuracy(&labels)?, 2.0 / 3.0);
//!
//! // Fitted on these for want of others; held-out samples should be taken.
//! let temperature = Temperature::fit(&scores, &labels)?;
//! let scaled = temperature.probabilities(&scores)?;
//! assert!(scaled.negative_log_likelihood(&labels)? < plain.negative_log_likelihood(&labels)?);
//! assert_eq!(scaled.accuracy(&labels)?, plain.accuracy(&labels)?);
//! assert!(plain.calibration_error(&labels, Bins::EqualWidth(15))? > 0.2);
//!
//! // Two draws of one sample that contradict each other.
//! let mut spread = Spread::new(2)?;
//! spread.add(&Tensor::new([2, 1, 2], vec![9.0, 0.0, 0.0, 9.0])?)?;
//! assert!((spread.mean().of(0)[0] - 0.5).abs() < 1e-12);
//! assert_eq!(spread.variation_ratio(), [0.5]);
//! # Ok::<(), kiln::Error>(())
//! ```

mod calibration;
mod probabilities;
mod risk_coverage;
mod spread;
mod temperature;

pub use calibration::Bins;
pub use probabilities::Probabilities;
pub use spread::Spread;
pub use temperature::Temperature;

#[cfg(test)]
mod tests;
