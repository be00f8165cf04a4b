// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes and options of recurrent layers that cannot be.

use super::stack::Sizes;
use super::{GateNorm, RecurrentOptions};
use crate::lint::{Code, Severity};
use crate::nn::Scope;
use crate::op::Cell;

/// Most layers of a stack, far more than anybody trains.
const MOST_LAYERS: usize = 1000;

const NO_UPDATE: &str = "0, since only an LSTM and a GRU add an update to a state";
const NO_CELL: &str = "0, since only an LSTM has a cell state";

/// Reports what cannot be, and goes on with what can.
pub(super) fn checked(
    p: &Scope,
    cell: Cell,
    sizes: Sizes,
    options: RecurrentOptions,
) -> (Sizes, RecurrentOptions) {
    let (mut sizes, mut options) = (sizes, options);
    for (what, size) in [("inputs", &mut sizes.inputs), ("hidden", &mut sizes.hidden)] {
        if *size == 0 {
            p.reject(what, "1 or more", 0);
            *size = 1;
        }
    }
    match sizes.projected {
        Some(projected) if !(1..sizes.hidden).contains(&projected) => {
            let expected = format!("1 or more, and less than the {} units", sizes.hidden);
            p.reject("projected", &expected, projected);
            sizes.projected = None;
        }
        _ => {}
    }
    if !(1..=MOST_LAYERS).contains(&options.layers) {
        p.reject("layers", &format!("1 to {MOST_LAYERS}"), options.layers);
        options.layers = 1;
    }
    let is_lstm = cell == Cell::Lstm;
    if options.norm == GateNorm::Layer && !is_lstm {
        p.reject("norm", "none, since gates of an LSTM alone are normalised", "layer norm");
        options.norm = GateNorm::Absent;
    }
    let adds = if matches!(cell, Cell::Lstm | Cell::Gru) { Ok(()) } else { Err(NO_UPDATE) };
    let has_cell = if is_lstm { Ok(()) } else { Err(NO_CELL) };
    for (what, rate, is_known) in [
        ("input_dropout", &mut options.input_dropout, Ok(())),
        ("output_dropout", &mut options.output_dropout, Ok(())),
        ("weight_dropout", &mut options.weight_dropout, Ok(())),
        ("recurrent_dropout", &mut options.recurrent_dropout, adds),
        ("zoneout", &mut options.zoneout, Ok(())),
        ("cell_zoneout", &mut options.cell_zoneout, has_cell),
    ] {
        let expected = match is_known {
            _ if !(0.0..=1.0).contains(rate) => "a probability in [0, 1]",
            Err(reason) if *rate > 0.0 => reason,
            _ => continue,
        };
        p.reject(what, expected, *rate);
        *rate = 0.0;
    }
    if !(0.0..=1.0).contains(&options.dropout) {
        p.reject("dropout", "a probability in [0, 1]", options.dropout);
    } else if options.dropout > 0.0 && options.layers == 1 {
        let reason = format!("drops {} between layers, and is one layer alone", options.dropout);
        p.remark(Code::NoEffect, Severity::Warn, reason);
        tracing::warn!(
            layer = p.path(),
            dropout = options.dropout,
            "nothing is dropped: dropout lies between layers, and there is one"
        );
    }
    (sizes, options)
}
