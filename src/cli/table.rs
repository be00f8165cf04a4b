// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables for people.

use std::fmt::Write;

/// To which side the cells of a column go.
#[derive(Clone, Copy)]
pub(super) enum Alignment {
    Left,
    Right,
}

/// Rows as lines, with columns as wide as their widest cell.
pub(super) fn aligned<const COLUMNS: usize>(
    rows: &[[String; COLUMNS]],
    alignments: [Alignment; COLUMNS],
) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), alignment) in row.iter().zip(widths).zip(alignments) {
            let _ = match alignment {
                Alignment::Left => write!(line, "{cell:<width$}  "),
                Alignment::Right => write!(line, "{cell:>width$}  "),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
