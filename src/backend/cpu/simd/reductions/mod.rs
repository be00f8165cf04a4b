// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many values become one, in an order that does not depend on the threads: sums and extremes along any
//! extents (`along`), sums of columns and of squares (`reduce`), softmax over rows (`softmax`) and the loss of classification with its gradient
//! (`cross_entropy`).

mod along;
mod cross_entropy;
mod reduce;
mod softmax;

pub(crate) use along::reduce;
pub(crate) use cross_entropy::{cross_entropy, target_weight, CrossEntropy};
pub(crate) use reduce::{add_chain, column_sums, sum_of_squares, COLUMN_CHAIN};
pub(crate) use softmax::{log_softmax_rows, softmax_rows};

use super::{base, choice, elementwise, split, split_by, Pool, APART};
