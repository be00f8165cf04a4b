// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks as they are known, by whoever made them, with their dropout: none has a mistake.

mod dense;
mod images;
mod sequences;

use kiln::lint::Report;

use crate::Times;

/// A network and what is found in it.
pub(crate) type Network = (&'static str, Box<dyn Fn() -> Report>);

/// All of them.
pub(crate) fn networks() -> Vec<Network> {
    let mut networks = dense::networks();
    networks.extend(images::networks());
    networks.extend(sequences::networks());
    networks
}

/// How long large ones take.
pub(crate) fn timed() -> Vec<(&'static str, Times)> {
    vec![images::timed(), sequences::timed()]
}
