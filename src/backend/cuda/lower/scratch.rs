// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that belongs to a plan's launches alone.

use super::divisor::Divisor;
use super::given::{Given, LATER_BYTES, RATE_BYTES};
use crate::backend::cuda::abi::*;
use crate::backend::cuda::geometry::{divider, transpose_grid};
use crate::backend::cuda::launch::{Grid, Launch, Params};
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::word;
use crate::backend::cuda::walks::Apart;
use crate::graph::ParamId;
use crate::scalars::{DropoutRates, RateSlot};
use crate::DType;

/// Memory of a plan that only its kernels know: partial sums, tickets and constants. It is zero at first.
/// And what the host gives with each run, which lies at the beginning of the plan's arena.
#[derive(Debug)]
pub(crate) struct Scratch {
    base: Address,
    given_at: Address,
    bytes: usize,
    /// Constants of the graph and where they lie.
    pub(crate) constants: Vec<(Address, f32)>,
    /// What lies behind the scalars, one after another.
    pub(crate) given: Vec<Given>,
    /// Tables of numbers and where they lie.
    pub(crate) tables: Vec<(Address, Vec<u32>)>,
    /// The ticket of all optimisers.
    update_ticket: Option<Address>,
    /// What runs before the first step: casts of inputs.
    pub(crate) prologue: Vec<Launch>,
    /// Recurrent layers that make a launch for each step, and why.
    pub(crate) apart: Vec<(String, Apart)>,
    /// What makes the copies of parameters, before the first step of a run for which they are not there.
    pub(crate) copies: Vec<Launch>,
    /// What an update does to them.
    pub(crate) kept: Kept,
    /// Casts that these make: from, to which type, where to.
    casts: Vec<(Address, DType, Address)>,
    /// Parameters whose rows and columns change places in their copies.
    turned: Vec<Turned>,
}

/// What an update does to the copies of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It makes those of the new values, or there is no update.
    Current,
    /// It leaves some behind.
    Outdated,
}

/// A copy of a parameter, a batch of matrices, whose rows are columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turned {
    of: ParamId,
    pub(crate) copy: Address,
    /// Of the parameter.
    pub(crate) extents: [usize; 3],
    pub(crate) dtype: DType,
}

/// Alignment of what kernels share no cache line of.
const SCRATCH_ALIGNMENT: usize = 256;
/// Bytes that the host may give with a run: scalars, then divisors of losses, rates that change and rates
/// of later updates.
pub(crate) const GIVEN: usize = 4 * SCRATCH_ALIGNMENT;
/// Of these the bytes for divisors, of which a plan may have more than there is room for; for rates there
/// always is.
const DIVISORS: usize = SCRATCH_ALIGNMENT - SCALARS;
const SCALARS: usize = std::mem::size_of::<KilnScalars>();
const _: () = assert!(SCALARS + DIVISORS + LATER_BYTES + RATE_BYTES * DropoutRates::MOST <= GIVEN);

impl Scratch {
    /// Scratch memory at `base`; counting alone does not need a base that exists.
    pub(crate) fn at(base: Address, arena: Address) -> Self {
        Scratch {
            base,
            given_at: arena,
            bytes: 0,
            constants: Vec::new(),
            given: Vec::new(),
            tables: Vec::new(),
            update_ticket: None,
            prologue: Vec::new(),
            apart: Vec::new(),
            copies: Vec::new(),
            kept: Kept::Current,
            casts: Vec::new(),
            turned: Vec::new(),
        }
    }

    /// Bytes taken so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The run's scalars.
    pub(crate) fn scalars(&self) -> Address {
        self.given_at
    }

    /// What a loss divides by, which the host works out of a run's inputs; none where a plan has more
    /// losses than there is room for.
    pub(crate) fn divisor(&mut self, divisor: Divisor) -> Address {
        let divisor = Given::Divisor(divisor);
        let is_divisor = |given: &&Given| matches!(given, Given::Divisor(_));
        let taken: usize = self.given.iter().filter(is_divisor).map(Given::bytes).sum();
        match self.given.contains(&divisor) || taken + divisor.bytes() <= DIVISORS {
            true => self.given_at.plus(self.place(divisor)),
            false => Address::NONE,
        }
    }

    /// Where a rate that changes stands, in words from the scalars on.
    pub(crate) fn rate(&mut self, slot: RateSlot) -> u32 {
        word(self.place(Given::Rate(slot)) / 4)
    }

    /// Where the rates of later updates stand, for an optimiser of this momentum.
    pub(crate) fn later(&mut self, momentum: f64) -> Address {
        self.given_at.plus(self.place(Given::Later { momentum }))
    }

    /// Bytes that the host gives with a run.
    pub(crate) fn given_bytes(&self) -> usize {
        SCALARS + self.given.iter().map(Given::bytes).sum::<usize>()
    }

    /// Where something lies that the host gives, in bytes from the scalars on.
    fn place(&mut self, given: Given) -> usize {
        let index = match self.given.iter().position(|known| *known == given) {
            Some(index) => index,
            None => {
                self.given.push(given);
                self.given.len() - 1
            }
        };
        SCALARS + self.given[..index].iter().map(Given::bytes).sum::<usize>()
    }

    /// Counts the blocks of all optimisers that have read how far the training is.
    pub(crate) fn update_ticket(&mut self) -> Address {
        match self.update_ticket {
            Some(ticket) => ticket,
            None => {
                let ticket = self.take(4);
                *self.update_ticket.insert(ticket)
            }
        }
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Address {
        let at = self.base.plus(self.bytes);
        self.bytes = (self.bytes + bytes).next_multiple_of(SCRATCH_ALIGNMENT);
        at
    }

    /// Room for numbers of four bytes; none for none.
    pub(crate) fn numbers(&mut self, count: usize) -> Address {
        match count {
            0 => Address::NONE,
            count => self.take(4 * count),
        }
    }

    pub(crate) fn constant(&mut self, value: f32) -> Address {
        let known = self.constants.iter().find(|(_, known)| known.to_bits() == value.to_bits());
        if let Some((address, _)) = known {
            return *address;
        }
        let address = self.take(4);
        self.constants.push((address, value));
        address
    }

    /// A table of words that are the same in every run; none for none.
    pub(crate) fn table(&mut self, words: Vec<u32>) -> Address {
        let at = self.numbers(words.len());
        self.tables.push((at, words));
        at
    }

    /// A copy of an input in another type, made once before the first step.
    pub(crate) fn cast(&mut self, from: Address, count: usize, dtype: DType) -> Address {
        self.casted(from, count, dtype, |scratch| &mut scratch.prologue)
    }

    /// A copy of all parameters in another type.
    pub(crate) fn cast_values(&mut self, from: Address, count: usize, dtype: DType) -> Address {
        self.casted(from, count, dtype, |scratch| &mut scratch.copies)
    }

    fn casted(
        &mut self,
        from: Address,
        count: usize,
        dtype: DType,
        launches: fn(&mut Self) -> &mut Vec<Launch>,
    ) -> Address {
        if let Some(copy) = self.copy_in(from, dtype) {
            return copy;
        }
        let copy = self.take(dtype.bytes() * count);
        launches(self).push(cast([copy, from], count, [DType::F32, dtype]));
        self.casts.push((from, dtype, copy));
        copy
    }

    /// The copy in another type, if there is one.
    pub(crate) fn copy_in(&self, from: Address, dtype: DType) -> Option<Address> {
        let same = |cast: &&(Address, DType, Address)| (cast.0, cast.1) == (from, dtype);
        self.casts.iter().find(same).map(|(.., copy)| *copy)
    }

    /// The copies of a parameter with rows as columns.
    pub(crate) fn turned_of(&self, id: ParamId) -> impl Iterator<Item = &Turned> {
        self.turned.iter().filter(move |turned| turned.of == id)
    }

    /// A parameter, a batch of matrices in a type, with rows as columns.
    pub(crate) fn turned(
        &mut self,
        of: ParamId,
        from: Address,
        extents: [usize; 3],
        dtype: DType,
    ) -> Address {
        let same = |turned: &&Turned| (turned.extents, turned.dtype) == (extents, dtype);
        if let Some(turned) = self.turned_of(of).find(same) {
            return turned.copy;
        }
        let count: usize = extents.iter().product();
        let copy = self.take(dtype.bytes() * count);
        self.turned.push(Turned { of, copy, extents, dtype });
        let piece = turned_piece([copy, from], extents);
        let kernel = format!("copy_pieces_{}", 8 * dtype.bytes());
        let extra_bytes = 2 * dtype.bytes() * count;
        // What the last launch copies is there as early.
        if let Some(Launch {
            kernel: last,
            grid,
            params: Params::Copy(params),
            extra_bytes: all,
            ..
        }) = self.copies.last_mut()
        {
            let pieces = grid.blocks[1] as usize;
            if *last == kernel && pieces < params.pieces.len() {
                params.pieces[pieces] = piece;
                grid.blocks[0] = grid.blocks[0].max(Grid::over(count).blocks[0]);
                grid.blocks[1] += 1;
                *all += extra_bytes;
                return copy;
            }
        }
        let mut params = KilnCopyParams::default();
        params.pieces[0] = piece;
        self.copies.push(Launch { extra_bytes, ..Launch::new(kernel, Grid::over(count), params) });
        copy
    }
}

/// `y = x^T` for each of a batch of matrices `[batch, rows, columns]`, as a piece of a copy.
fn turned_piece([y, x]: [Address; 2], [batch, rows, columns]: [usize; 3]) -> KilnPiece {
    let mut moved = KilnBox { rank: 3, ..KilnBox::default() };
    moved.extents = [divider(1); KILN_MAX_RANK as usize];
    let places = [(batch, rows * columns, rows * columns), (columns, 1, rows), (rows, columns, 1)];
    for (axis, (extent, from, to)) in places.into_iter().enumerate() {
        moved.extents[axis] = divider(extent);
        (moved.from[axis], moved.to[axis]) = (word(from), word(to));
    }
    KilnPiece { y, x, count: word(batch * rows * columns), moved }
}

/// `y = x^T` for each of a batch of matrices `[batch, rows, columns]`.
pub(crate) fn turn([y, x]: [Address; 2], extents: [usize; 3], dtype: DType) -> Launch {
    let [_, rows, columns] = extents;
    let params = KilnTransposeParams { y, x, rows: word(rows), columns: word(columns) };
    let kernel = format!("transpose_{}", 8 * dtype.bytes());
    let extra_bytes = 2 * dtype.bytes() * extents.iter().product::<usize>();
    Launch { extra_bytes, ..Launch::new(kernel, transpose_grid(extents), params) }
}

/// `y = x` in another type.
pub(crate) fn cast([y, x]: [Address; 2], count: usize, [from, to]: [DType; 2]) -> Launch {
    /// Elements that a block of `cast_S_T` copies.
    const PER_BLOCK: usize = 2048;
    let params = KilnCastParams { y, x, count: word(count) };
    let grid = Grid::of(count.div_ceil(PER_BLOCK));
    let extra_bytes = count * (from.bytes() + to.bytes());
    Launch { extra_bytes, ..Launch::new(format!("cast_{from}_{to}"), grid, params) }
}
