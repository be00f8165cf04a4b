// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many values become one, in an order that does not depend on the threads: sums of columns and of
//! squares (`reduce`), softmax over rows (`softmax`) and the loss of classification with its gradient
//! (`cross_entropy`).

mod cross_entropy;
mod reduce;
mod softmax;

pub(crate) use cross_entropy::{cross_entropy, target_weight, CrossEntropy};
pub(crate) use reduce::{add_chain, column_sums, sum_of_squares, COLUMN_CHAIN};
pub(crate) use softmax::{log_softmax_rows, softmax_rows};

use super::{base, elementwise, split, split_by, Pool, APART};
