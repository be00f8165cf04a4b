// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks as they are known, by whoever made them, with their dropout: none has a mistake.

mod dense;
mod images;
mod sequences;

use std::time::Duration;

use kiln::lint::Report;

/// A network and what is found in it.
pub(crate) type Network = (&'static str, Box<dyn Fn() -> Report>);

/// All of them.
pub(crate) fn networks() -> Vec<Network> {
    let mut networks = dense::networks();
    networks.extend(images::networks());
    networks.extend(sequences::networks());
    networks
}

/// The time that lint takes for large ones, tracing included.
pub(crate) fn timed() -> Vec<(&'static str, Duration)> {
    vec![images::timed(), sequences::timed()]
}
