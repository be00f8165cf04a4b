// SPDX-License-Identifier: MIT OR Apache-2.0
//! The examples of networks of one's own: they run, and nothing of them runs by its plain meaning.

#[path = "../../examples/06_rms_norm.rs"]
mod rms_norm;
#[path = "../../examples/07_hardswish.rs"]
mod hardswish;
#[path = "../../examples/08_huber_loss.rs"]
mod huber_loss;
#[path = "../../examples/09_tied_autoencoder.rs"]
mod tied_autoencoder;
