// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ready-made networks, with PyTorch's parameter names.

mod cnn;
mod image_classifier;
mod residual;
mod resnet_small;
mod rnn_classifier;
mod simple_net;
mod spatial_dropout_cnn;
mod variable_dropout_net;

pub use cnn::Cnn;
pub use image_classifier::ImageClassifier;
pub use residual::{ResidualBlock, ResidualNet};
pub use resnet_small::ResnetSmall;
pub use rnn_classifier::{RnnCell, RnnClassifier};
pub use simple_net::SimpleNet;
pub use spatial_dropout_cnn::SpatialDropoutCnn;
pub use variable_dropout_net::VariableDropoutNet;
