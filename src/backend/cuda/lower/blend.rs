// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weighted sums along an extent.

use super::Lowering;
use crate::backend::cuda::abi_images::*;
use crate::backend::cuda::geometry::{divider, vector};
use crate::backend::cuda::launch::{Grid, Launch};
use crate::backend::cuda::sizes::{single, word};
use crate::op::Blend;
use crate::Result;

/// Most terms of a table on the device; longer ones are the host's.
const MOST_TERMS: usize = 1 << 16;

impl Lowering<'_> {
    /// `None` where there are more terms than a table holds.
    pub(super) fn blend(
        &mut self,
        blend: &Blend,
        [outer, inner]: [usize; 2],
    ) -> Result<Option<Vec<Launch>>> {
        let terms: usize = blend.places.iter().map(Vec::len).sum();
        if terms > MOST_TERMS {
            return Ok(None);
        }
        let dtype = self.type_of(&[0], &[0]);
        let (mut starts, mut table) = (vec![0], Vec::with_capacity(2 * terms));
        for place in blend.places.iter() {
            for term in place {
                let term = KilnTerm { from: word(term.from), weight: single(term.weight) };
                table.extend([term.from, term.weight.to_bits()]);
            }
            starts.push(word(table.len()) / 2);
        }
        let whole = inner.is_multiple_of(vector(dtype));
        let (variant, step) = if whole { ("", vector(dtype)) } else { ("_ragged", 1) };
        let places = blend.places.len();
        let params = KilnBlendParams {
            x: self.read_as(0, dtype)?,
            y: self.write_as(0, dtype)?,
            starts: self.scratch.table(starts),
            terms: self.scratch.table(table),
            outer: word(outer),
            extent: word(blend.extent),
            chunks: divider((inner / step).max(1)),
            places: divider(places.max(1)),
        };
        let grid = Grid::over(outer * places * (inner / step));
        Ok(Some(vec![Launch::new(format!("blend{variant}_{dtype}"), grid, params)]))
    }
}
