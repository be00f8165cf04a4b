// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies of parameters and inputs in the type and the order in which products read them. Those of
//! parameters are made in front of a run for which they are not there; an update makes those of its new
//! values along.

use super::lower::Kept;
use super::Cuda;
use crate::backend::Run;
use crate::Result;

/// Which values the parameters have: a number that changes with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generation(u64);

impl Generation {
    fn next(self) -> Self {
        Generation(self.0 + 1)
    }
}

impl Cuda {
    /// Makes the copies that a run's products read, unless they are those of today's values.
    pub(super) fn make_copies(&mut self, run: &Run<'_>) -> Result<()> {
        let program = self.program(run)?;
        if program.copied != Some(self.generation) {
            self.put(&program.copies, "", &self.lanes[0])?;
        }
        let (updates, kept) = (program.updates, program.kept);
        if updates {
            self.outdate_copies();
        }
        let generation = self.generation;
        if let Some(program) = self.programs.get_mut(&run.id) {
            program.copied = (kept == Kept::Current).then_some(generation);
        }
        Ok(())
    }

    /// Makes the copies of a run's inputs that products take in 16 bits.
    pub(super) fn cast_inputs(&self, run: &Run<'_>) -> Result<()> {
        self.put(&self.program(run)?.prologue, "", &self.lanes[0])
    }

    /// Parameters get other values, of which there are no copies.
    pub(super) fn outdate_copies(&mut self) {
        self.generation = self.generation.next();
    }
}
