// SPDX-License-Identifier: MIT OR Apache-2.0
//! What needs no device: shapes, graphs, passes, plans, and what does not compile.

mod batches;
mod chains;
mod eval;
mod fusion;
mod graphs;
mod groups;
mod growth;
mod images;
mod layout;
mod memory;
mod networks;
mod plain;
mod recurrent;
mod rejected;
mod schedule;
mod snapshots;
mod threads;
mod vocabulary;
mod weight_gradients;
