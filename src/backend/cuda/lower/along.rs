// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sums, extremes and their places along any extents: a launch for each extent that is reduced, the
//! innermost first.

use super::Lowering;
use crate::backend::cuda::abi::*;
use crate::backend::cuda::geometry::{divider, vector, Machine};
use crate::backend::cuda::launch::{Grid, Launch};
use crate::backend::cuda::sizes::word;
use crate::kernel::{Extent, Reduce, Reducer};
use crate::op::Extremum;
use crate::{DType, Result};

/// Most elements that one block alone adds up: 16 rounds of it.
const ONE_BLOCK: usize = 1 << 14;

/// Accesses of a thread below which more threads for a line cost more than they save, and below which
/// another part of it does. From counting bytes in flight, not yet measured on a GPU.
const LEAST_STEPS: usize = 4;

/// Most parts of a line: each thread of the last block joins one.
const MOST_PARTS: usize = KILN_BLOCK_THREADS as usize;

impl Lowering<'_> {
    /// The sum of all elements.
    pub(super) fn sum(&mut self) -> Result<Vec<Launch>> {
        let count = self.input_shape(0).elements();
        if count > ONE_BLOCK {
            return self.reduce(&Reduce::all(Reducer::Sum, count));
        }
        let params = self.reduce_params([1, count, 1])?;
        Ok(vec![Launch::new(format!("sum_rows_{}", self.stored_type(0)), Grid::of(1), params)])
    }

    pub(super) fn reduce(&mut self, reduce: &Reduce) -> Result<Vec<Launch>> {
        let y = match reduce.function {
            Reducer::Place(_) => self.write(0)?,
            Reducer::Sum | Reducer::Extreme(_) => self.write_as(0, DType::F32)?,
        };
        let (mut x, mut dtype) = (self.read(0)?, self.stored_type(0));
        let mut extents = reduce.extents.clone();
        let mut launches = Vec::new();
        let is_reduced = |extent: &Extent| matches!(extent, Extent::Reduced(_));
        while let Some(axis) = extents.iter().rposition(is_reduced) {
            let size = |extents: &[Extent]| extents.iter().map(|extent| extent.size()).product();
            let [outer, inner] = [&extents[..axis], &extents[axis + 1..]].map(size);
            let middle = [outer, extents.remove(axis).size(), inner];
            let to = match extents.iter().any(is_reduced) {
                true => self.scratch.numbers(outer * inner),
                false => y,
            };
            let fold = Fold::choose(reduce.function, middle, dtype, self.machine);
            let mut params = fold.params();
            (params.x, params.y) = (x, to);
            if fold.parts > 1 {
                params.partials = self.scratch.numbers(fold.parts * outer * inner);
                params.tickets = self.scratch.numbers(fold.blocks());
                if let Reducer::Place(_) = reduce.function {
                    params.places = self.scratch.numbers(fold.parts * outer * inner);
                }
            }
            let mut grid = Grid::of(fold.blocks());
            grid.blocks[2] = word(fold.parts);
            launches.push(Launch::new(format!("{}_{dtype}", fold.family), grid, params));
            (x, dtype) = (to, DType::F32);
        }
        Ok(launches)
    }
}

/// How a block's threads are shared out among the lines of `[outer, reduced, inner]`, which are the
/// pairs of an outer and an inner index.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Fold {
    function: Reducer,
    family: &'static str,
    middle: [usize; 3],
    /// Lines of a thread.
    lines: usize,
    /// Threads of a line, or of lines that a thread has together.
    turns: usize,
    /// Parts of the reduced extent.
    parts: usize,
}

impl Fold {
    fn choose(
        function: Reducer,
        middle @ [outer, reduced, inner]: [usize; 3],
        dtype: DType,
        machine: &Machine,
    ) -> Self {
        let vector = vector(dtype);
        // Lines of a thread, and elements of each that it takes at a time.
        let (family, lines, along) = match function {
            Reducer::Place(_) => ("place", 1, 1),
            _ if inner == 1 && reduced.is_multiple_of(vector) => ("fold_rows", 1, vector),
            _ if inner > 1 && inner.is_multiple_of(vector) => ("fold_columns", vector, 1),
            _ => ("fold_any", 1, 1),
        };
        let threads = KILN_BLOCK_THREADS as usize;
        let (units, steps) = (outer * inner / lines, reduced.div_ceil(along));
        // Neighbouring lines are read together, a warp of them where there are as many.
        let most = match inner {
            1 => threads,
            _ => threads / units.next_power_of_two().min(32),
        };
        let busy = 2 * machine.multiprocessors;
        let blocks = |turns: usize| units.div_ceil(threads / turns).max(1);
        let least = steps.div_ceil(LEAST_STEPS).next_power_of_two().min(most);
        let turns = match blocks(least) >= busy {
            true => least,
            false => steps.next_power_of_two().min(most),
        };
        let parts = (busy / blocks(turns)).min(steps / (turns * LEAST_STEPS));
        Fold { function, family, middle, lines, turns, parts: parts.clamp(1, MOST_PARTS) }
    }

    /// Blocks of a part.
    fn blocks(&self) -> usize {
        let [outer, _, inner] = self.middle;
        (outer * inner / self.lines).div_ceil(KILN_BLOCK_THREADS as usize / self.turns)
    }

    fn params(&self) -> KilnFoldParams {
        let [outer, reduced, inner] = self.middle;
        KilnFoldParams {
            function: match self.function {
                Reducer::Sum => KILN_FOLD_SUM,
                Reducer::Extreme(Extremum::Max) | Reducer::Place(Extremum::Max) => KILN_FOLD_MAX,
                Reducer::Extreme(Extremum::Min) | Reducer::Place(Extremum::Min) => KILN_FOLD_MIN,
            },
            lines: word(outer * inner),
            reduced: word(reduced),
            inner: word(inner),
            turns: word(self.turns),
            splits: word(self.parts),
            columns: divider(inner / self.lines),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: Machine = Machine::new(132, 90);

    fn fold(middle: [usize; 3], dtype: DType) -> Fold {
        Fold::choose(Reducer::Sum, middle, dtype, &H100)
    }

    #[test]
    fn threads_are_shared_out_so_that_a_device_is_busy() {
        let all = fold([1, 1 << 24, 1], DType::F32);
        assert_eq!((all.family, all.turns, all.blocks(), all.parts), ("fold_rows", 256, 1, 256));
        let short = fold([100_000, 10, 1], DType::F32);
        assert_eq!((short.family, short.turns, short.parts), ("fold_any", 4, 1));
        let columns = fold([1, 1 << 20, 64], DType::F32);
        assert_eq!((columns.family, columns.turns, columns.blocks()), ("fold_columns", 16, 1));
        assert_eq!(columns.parts, 256);
        let images = fold([1 << 17, 4, 8], DType::Bf16);
        assert_eq!((images.family, images.lines, images.turns), ("fold_columns", 8, 1));
        assert_eq!(fold([3, 0, 5], DType::F32).parts, 1);
    }

    #[test]
    fn every_choice_is_one_that_kernels_know() {
        let functions =
            [Reducer::Sum, Reducer::Extreme(Extremum::Max), Reducer::Place(Extremum::Min)];
        let extents = [1, 2, 3, 8, 31, 64, 1000, 1 << 17];
        let known = |name: &String| {
            use crate::backend::cuda::image::SOURCES;
            SOURCES.iter().any(|source| source.kernels.contains(&name.as_str()))
        };
        for function in functions {
            for outer in extents {
                for reduced in extents {
                    for inner in [1, 2, 3, 8, 31, 64, 1000] {
                        for dtype in [DType::F32, DType::Bf16, DType::F16] {
                            let middle = [outer, reduced, inner];
                            let fold = Fold::choose(function, middle, dtype, &H100);
                            assert!(known(&format!("{}_{dtype}", fold.family)), "{fold:?}");
                            let is_power = fold.turns.is_power_of_two() && fold.turns <= 256;
                            assert!(is_power && fold.parts <= MOST_PARTS, "{fold:?}");
                        }
                    }
                }
            }
        }
    }
}
