// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ready-made networks, with PyTorch's parameter names.

mod rnn_classifier;
mod simple_net;
mod variable_dropout_net;

pub use rnn_classifier::RnnClassifier;
pub use simple_net::SimpleNet;
pub use variable_dropout_net::VariableDropoutNet;
