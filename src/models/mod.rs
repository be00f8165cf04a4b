// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ready-made networks, with PyTorch's parameter names.

mod simple_net;
mod variable_dropout_net;

pub use simple_net::SimpleNet;
pub use variable_dropout_net::VariableDropoutNet;
