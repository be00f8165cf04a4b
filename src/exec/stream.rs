// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network's state piece by piece: a checkpoint of a large network must not need its memory again.

use std::ops::Range;

use super::Store;
use crate::backend::{Arena, Backend, Span};
use crate::graph::ParamId;
use crate::plan::Bytes;
use crate::Result;

/// What of a parameter is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its value.
    Value,
    /// One of the optimiser's moments.
    Moment(usize),
    /// Its moving average.
    Average,
}

/// Elements that are in flight between a device and a file.
const PIECE: usize = 16 << 10;

impl Store {
    /// Hands out a parameter's elements, row-major, piece by piece; those of counters as two words each.
    /// Beside a piece it takes at most the
    /// memory of one panel, where the device keeps its parameters in panels.
    pub(crate) fn read_in_pieces(
        &self,
        backend: &mut dyn Backend,
        role: Role,
        id: ParamId,
        mut take: impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let (spec, slot) = self.slot(id);
        let Span { arena, start, .. } = self.span(self.arena(role, id), id);
        for block in slot.layout.blocks(&spec.words(), PIECE) {
            let mut values = vec![0.0; block.values.len()];
            for part in block.parts(PIECE) {
                let stored = backend.read(span(arena, start, &part))?;
                for (element, place) in block.pairs(&part) {
                    values[element] = stored[place];
                }
            }
            values.chunks(PIECE).try_for_each(&mut take)?;
        }
        Ok(())
    }

    /// Sets a parameter's elements, which `fill` gives row-major, piece by piece.
    pub(crate) fn write_in_pieces(
        &self,
        backend: &mut dyn Backend,
        role: Role,
        id: ParamId,
        mut fill: impl FnMut(&mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let (spec, slot) = self.slot(id);
        let Span { arena, start, .. } = self.span(self.arena(role, id), id);
        for block in slot.layout.blocks(&spec.words(), PIECE) {
            let mut values = vec![0.0; block.values.len()];
            values.chunks_mut(PIECE).try_for_each(&mut fill)?;
            for part in block.parts(PIECE) {
                let mut stored = vec![0.0; part.len()];
                for (element, place) in block.pairs(&part) {
                    stored[place] = values[element];
                }
                backend.write(span(arena, start, &part), &stored)?;
            }
        }
        Ok(())
    }
}

fn span(arena: Arena, start: Bytes, places: &Range<usize>) -> Span {
    let bytes = |places: usize| places * size_of::<f32>();
    Span { arena, start: Bytes(start.0 + bytes(places.start)), length: Bytes(bytes(places.len())) }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::graph::{ParamRole, ParamSpec, ParamUsage};

    /// Pieces are what whole parameters are: across panels, pieces and padding.
    #[test]
    fn pieces_make_up_the_whole() -> Result<()> {
        let shapes = [[1, 1], [5, 6], [16, 700], [33, 3], [40, 1100], [100, 31]];
        let spec = |(index, shape): (usize, &[usize; 2])| {
            [ParamUsage::LinearWeight, ParamUsage::Plain].map(|usage| ParamSpec {
                name: format!("{index} {usage:?}"),
                shape: (*shape).into(),
                dtype: crate::DType::F32,
                usage,
                role: ParamRole::Trained,
            })
        };
        let specs: Vec<ParamSpec> = shapes.iter().enumerate().flat_map(spec).collect();
        let mut backend = Cpu::with_precision(NonZeroUsize::MIN, crate::Precision::F32);
        let store = Store::new(&mut backend, Arc::new(specs.clone()))?;
        for (index, spec) in specs.iter().enumerate() {
            let id = ParamId::at(index);
            let values: Vec<f32> = (0..spec.shape.elements()).map(|i| i as f32 - 0.5).collect();
            let mut given = values.iter().copied();
            store.write_in_pieces(&mut backend, Role::Value, id, |piece| {
                piece.iter_mut().zip(&mut given).for_each(|(to, from)| *to = from);
                Ok(())
            })?;
            assert_eq!(store.read(&mut backend, id)?.values()?, values, "{}", spec.name);
            let mut back = Vec::new();
            store.read_in_pieces(&mut backend, Role::Value, id, |piece| {
                back.extend_from_slice(piece);
                Ok(())
            })?;
            assert_eq!(back, values, "{}", spec.name);
        }
        Ok(())
    }
}
