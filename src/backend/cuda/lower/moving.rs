// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values that change places, by strides or by integers.

use super::Lowering;
use crate::backend::cuda::abi::*;
use crate::backend::cuda::geometry::{divider, vector};
use crate::backend::cuda::launch::{Grid, Launch};
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::word;
use crate::kernel::{Picks, Piece, Stretch};
use crate::op::Dropout;
use crate::{DType, Result};

/// Least extents of a box that is worth turning in shared memory.
const LEAST_TURNED: usize = 8;

/// A piece with the addresses of its tensors.
struct Located {
    y: Address,
    /// `None` for zeros.
    x: Option<Address>,
    piece: Piece,
}

impl Lowering<'_> {
    pub(super) fn copy(&mut self, pieces: &[Piece]) -> Result<Vec<Launch>> {
        let is_integer = self.plan.graph.node(self.step.outputs[0]).ty.dtype == DType::I32;
        let dtype = if is_integer { DType::I32 } else { self.element_type() };
        let y = if is_integer { self.write(0)? } else { self.write_as(0, dtype)? };
        let mut inputs = Vec::with_capacity(self.step.inputs.len());
        for input in 0..self.step.inputs.len() {
            inputs.push(match is_integer {
                true => self.read(input)?,
                false => self.read_as(input, dtype)?,
            });
        }
        let located = pieces.iter().flat_map(of_few_extents).map(|piece| Located {
            y: y.plus(piece.to * dtype.bytes()),
            x: piece.input.map(|input| inputs[input].plus(piece.from * dtype.bytes())),
            piece,
        });
        Ok(copies(located.collect(), dtype))
    }

    pub(super) fn take(&mut self, picks: Picks) -> Result<Vec<Launch>> {
        self.choose("take", picks, 1)
    }

    pub(super) fn gather(&mut self, picks: Picks) -> Result<Vec<Launch>> {
        self.choose("gather", picks, usize::MAX)
    }

    /// In units of 16 bytes, where a row is whole ones and `narrow`, the elements that an index names
    /// by itself, allows it.
    fn choose(&mut self, family: &str, picks: Picks, narrow: usize) -> Result<Vec<Launch>> {
        let low = self.product_type();
        let rounded = self.plan.buffer(self.step.writes[0]).rounded;
        let dtype = if [self.stored_type(0), rounded] == [low, low] { low } else { DType::F32 };
        let units = match narrow == 1 && picks.inner.is_multiple_of(vector(dtype)) {
            true => vector(dtype),
            false => 1,
        };
        let params = self.choice(Picks { inner: picks.inner / units, ..picks }, dtype)?;
        let bits = 8 * dtype.bytes() * units;
        let grid = Grid::over(params.count as usize);
        Ok(vec![Launch::new(format!("{family}_{bits}"), grid, params)])
    }

    fn choice(&mut self, picks: Picks, dtype: DType) -> Result<KilnChoiceParams> {
        Ok(KilnChoiceParams {
            y: self.write_as(0, dtype)?,
            x: self.read_as(0, dtype)?,
            index: self.read(1)?,
            count: word(picks.outer * picks.picks * picks.inner),
            rows: word(picks.rows),
            inner: divider(picks.inner),
            picks: divider(picks.picks),
            nan: match dtype {
                DType::Bf16 => 0x7fc0_7fc0,
                DType::F16 => 0x7e00_7e00,
                _ => f32::NAN.to_bits(),
            },
            ..Default::default()
        })
    }

    /// [`take`](Self::take) and dropout, in the type in which the values are stored.
    pub(super) fn take_dropout(&mut self, picks: Picks, dropout: Dropout) -> Result<Vec<Launch>> {
        let dtype = self.plan.buffer(self.step.writes[0]).rounded;
        let elements = divider(self.output_shape(0).sample_elements());
        let scalars = self.scratch.scalars();
        let mask = self.mask(dropout);
        let params = KilnChoiceParams { elements, scalars, mask, ..self.choice(picks, dtype)? };
        let grid = Grid::over(params.count as usize);
        Ok(vec![Launch::new(format!("take_dropout_{dtype}"), grid, params)])
    }

    /// The gradient of [`take`](Self::take), perhaps with dropout behind it, and then zeros where the padding is.
    pub(super) fn take_gradient(
        &mut self,
        picks: Picks,
        padding: Option<usize>,
        dropout: Option<Dropout>,
    ) -> Result<Vec<Launch>> {
        let mut params = self.choice_gradient(picks)?;
        if let Some(dropout) = dropout {
            params.elements = divider(self.input_shape(1).sample_elements());
            (params.drops, params.scalars) = (1, self.scratch.scalars());
            params.mask = self.mask(dropout);
        }
        let lines = picks.outer * picks.inner;
        let width = lines.next_power_of_two().min(KILN_BLOCK_THREADS as usize);
        let blocks = lines.div_ceil(width);
        let least = KILN_BLOCK_THREADS as usize / width;
        let most = KILN_CHOICE_SUMS as usize / width;
        let group = (picks.rows * blocks).div_ceil(2 * self.machine.multiprocessors);
        let group = group.clamp(least, most);
        let groups = picks.rows.div_ceil(group);
        (params.width, params.group) = (word(width), word(group));
        params.groups = divider(groups);
        let dx = params.dx;
        let kernel = format!("take_gradient_{}", self.stored_type(1));
        let mut launches = vec![Launch::new(kernel, Grid::of(groups * blocks), params)];
        if let Some(row) = padding {
            let blocks = Stretch { extent: picks.outer, from: 0, to: picks.rows * picks.inner };
            let elements = Stretch { extent: picks.inner, from: 0, to: 1 };
            let piece = Piece { input: None, extents: vec![blocks, elements], from: 0, to: 0 };
            let y = dx.plus(row * picks.inner * DType::F32.bytes());
            launches.extend(copies(vec![Located { y, x: None, piece }], DType::F32));
        }
        Ok(launches)
    }

    pub(super) fn gather_gradient(&mut self, picks: Picks) -> Result<Vec<Launch>> {
        let lines = picks.outer * picks.inner;
        if lines == 1 {
            // A thread per line would be one thread; with one line each index names a whole row.
            return self.take_gradient(picks, None, None);
        }
        let params = self.choice_gradient(picks)?;
        let elements = Stretch { extent: lines * picks.rows, from: 0, to: 1 };
        let piece = Piece { input: None, extents: vec![elements], from: 0, to: 0 };
        let mut launches = copies(vec![Located { y: params.dx, x: None, piece }], DType::F32);
        let kernel = format!("gather_gradient_{}", self.stored_type(1));
        launches.push(Launch::new(kernel, Grid::over(lines), params));
        Ok(launches)
    }

    fn choice_gradient(&mut self, picks: Picks) -> Result<KilnChoiceGradientParams> {
        Ok(KilnChoiceGradientParams {
            dx: self.write_as(0, DType::F32)?,
            index: self.read(0)?,
            dy: self.read(1)?,
            rows: word(picks.rows),
            picks: word(picks.picks),
            inner: word(picks.inner),
            lines: word(picks.outer * picks.inner),
            columns: divider(picks.inner),
            ..Default::default()
        })
    }
}

/// A piece as pieces of no more extents than kernels know.
fn of_few_extents(piece: &Piece) -> Vec<Piece> {
    if piece.extents.len() <= KILN_MAX_RANK as usize {
        return vec![piece.clone()];
    }
    let (outer, rest) = (piece.extents[0], &piece.extents[1..]);
    let step = |number: usize| Piece {
        input: piece.input,
        extents: rest.to_vec(),
        from: piece.from + number * outer.from,
        to: piece.to + number * outer.to,
    };
    (0..outer.extent).flat_map(|number| of_few_extents(&step(number))).collect()
}

/// The launches of pieces of one type: those that are turned one by one, others several at a time.
fn copies(pieces: Vec<Located>, dtype: DType) -> Vec<Launch> {
    let (mut launches, mut wide, mut narrow) = (Vec::new(), Vec::new(), Vec::new());
    for located in pieces {
        match (turned(&located), widened(&located.piece, vector(dtype))) {
            (Some((grid, params)), _) => {
                launches.push(Launch::new(format!("turn_{}", 8 * dtype.bytes()), grid, params));
            }
            (None, Some(piece)) => wide.push(Located { piece, ..located }),
            (None, None) => narrow.push(located),
        }
    }
    for (pieces, bits) in [(wide, 128), (narrow, 8 * dtype.bytes())] {
        for group in pieces.chunks(KILN_COPY_PIECES as usize) {
            let mut params = KilnCopyParams::default();
            let mut threads = 0;
            for (place, Located { y, x, piece }) in params.pieces.iter_mut().zip(group) {
                let count = piece.elements();
                threads = threads.max(count);
                let (x, count) = (x.unwrap_or(Address::NONE), word(count));
                *place = KilnPiece { y: *y, x, count, moved: boxed(&piece.extents) };
            }
            let mut grid = Grid::over(threads);
            grid.blocks[1] = word(group.len());
            launches.push(Launch::new(format!("copy_pieces_{bits}"), grid, params));
        }
    }
    launches
}

/// A piece whose rows neighbour in the result and not in the input, where columns do.
fn turned(Located { y, x, piece }: &Located) -> Option<(Grid, KilnTurnParams)> {
    let (rows, outer) = piece.extents.split_last()?;
    let column = outer.iter().position(|stretch| stretch.from == 1)?;
    let columns = outer[column];
    let is_worth_it = columns.extent.min(rows.extent) >= LEAST_TURNED;
    if !(is_worth_it && rows.to == 1 && rows.from > 1) {
        return None;
    }
    let mut outer = outer.to_vec();
    outer.remove(column);
    let tiles = |extent: usize| extent.div_ceil(KILN_TRANSPOSE_TILE as usize);
    let (across, down) = (tiles(columns.extent), tiles(rows.extent));
    let boxes: usize = outer.iter().map(|stretch| stretch.extent).product();
    let grid = Grid {
        blocks: [word(across * down * boxes), 1, 1],
        threads: [KILN_TRANSPOSE_TILE, KILN_TRANSPOSE_ROWS, 1],
        shared: 0,
    };
    let params = KilnTurnParams {
        y: *y,
        x: (*x)?,
        outer: boxed(&outer),
        column_tiles: divider(across),
        row_tiles: divider(down),
        columns: word(columns.extent),
        rows: word(rows.extent),
        from: word(rows.from),
        to: word(columns.to),
    };
    Some((grid, params))
}

/// A piece in units of several elements, if it is made of whole ones.
fn widened(piece: &Piece, units: usize) -> Option<Piece> {
    let (row, outer) = piece.extents.split_last()?;
    let is_copied = piece.input.is_some();
    let whole = |distance: usize| distance.is_multiple_of(units);
    let fits = row.to == 1
        && (row.from == 1 || !is_copied)
        && whole(row.extent)
        && whole(piece.to)
        && (whole(piece.from) || !is_copied)
        && outer.iter().all(|s| whole(s.to) && (whole(s.from) || !is_copied));
    let mut extents: Vec<Stretch> =
        outer.iter().map(|s| Stretch { from: s.from / units, to: s.to / units, ..*s }).collect();
    extents.push(Stretch { extent: row.extent / units, ..*row });
    fits.then(|| Piece { extents, ..piece.clone() })
}

fn boxed(extents: &[Stretch]) -> KilnBox {
    let mut result = KilnBox { rank: word(extents.len()), ..KilnBox::default() };
    result.extents = [divider(1); KILN_MAX_RANK as usize];
    for (axis, stretch) in extents.iter().enumerate() {
        result.extents[axis] = divider(stretch.extent);
        result.from[axis] = word(stretch.from);
        result.to[axis] = word(stretch.to);
    }
    result
}
