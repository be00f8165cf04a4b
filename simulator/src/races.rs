// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stream races: two unordered pieces of work touch the same word of device memory, and one of them
//! writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::{Clock, Epoch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Access {
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
        }
    }
}

/// Who last touched a 4-byte word (`WordAccess` of runtime/engine.h). Two readers, since readers
/// need no order.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct WordAccess {
    writer: Epoch,
    readers: [Epoch; 2],
}

/// The work that touches memory, and what happens before it.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) epoch: Epoch,
    pub(crate) clock: Clock,
}

impl Moment {
    fn follows(&self, epoch: Epoch) -> bool {
        epoch == self.epoch || self.clock.includes(epoch)
    }
}

/// An earlier access that is unordered with the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) earlier: Epoch,
    pub(crate) earlier_access: Access,
    /// Position among the words given.
    pub(crate) word: usize,
}

/// Records an access to all of `words` and gives the first conflict, if there is one.
pub(crate) fn touch(words: &mut [WordAccess], access: Access, moment: &Moment) -> Option<Conflict> {
    let mut first = None;
    for (index, word) in words.iter_mut().enumerate() {
        let conflict = touch_word(word, access, moment);
        if let (None, Some((earlier, earlier_access))) = (first, conflict) {
            first = Some(Conflict { earlier, earlier_access, word: index });
        }
    }
    first
}

fn touch_word(word: &mut WordAccess, access: Access, moment: &Moment) -> Option<(Epoch, Access)> {
    let after_writer = (!moment.follows(word.writer)).then_some((word.writer, Access::Write));
    match access {
        Access::Read => {
            if !word.readers.contains(&moment.epoch) {
                let replaced = usize::from(!moment.follows(word.readers[0]));
                word.readers[replaced] = moment.epoch;
            }
            after_writer
        }
        Access::Write => {
            let reader = word.readers.iter().find(|reader| !moment.follows(**reader)).copied();
            *word = WordAccess { writer: moment.epoch, readers: [Epoch::NONE; 2] };
            after_writer.or(reader.map(|reader| (reader, Access::Read)))
        }
    }
}

/// What recent work was, for the text of a report.
#[derive(Debug, Default)]
pub(crate) struct OperationNames(BTreeMap<Epoch, Arc<str>>);

impl OperationNames {
    const KEPT: usize = 1 << 16;

    pub(crate) fn remember(&mut self, epoch: Epoch, name: Arc<str>) {
        if self.0.len() >= Self::KEPT {
            self.0.pop_first();
        }
        self.0.insert(epoch, name);
    }

    pub(crate) fn get(&self, epoch: Epoch) -> &str {
        self.0.get(&epoch).map_or("earlier work", |name| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Tracks;

    fn moment(epoch: Epoch, after: &[Epoch]) -> Moment {
        let mut clock = Clock::default();
        for epoch in after {
            clock.reach(*epoch);
        }
        Moment { epoch, clock }
    }

    #[test]
    fn unordered_write_after_write_or_read_is_a_conflict() {
        let mut tracks = Tracks::default();
        let (a, b, c) = (tracks.open(), tracks.open(), tracks.open());
        let (write, read, other) = (tracks.tick(a), tracks.tick(b), tracks.tick(c));
        let mut words = [WordAccess::default(); 4];
        assert_eq!(touch(&mut words[..2], Access::Write, &moment(write, &[])), None);
        let conflict = Conflict { earlier: write, earlier_access: Access::Write, word: 0 };
        assert_eq!(touch(&mut words[1..], Access::Read, &moment(read, &[])), Some(conflict));
        let conflict = Conflict { earlier: read, earlier_access: Access::Read, word: 0 };
        assert_eq!(touch(&mut words[1..], Access::Write, &moment(other, &[write])), Some(conflict));
        assert_eq!(touch(&mut words[3..], Access::Write, &moment(read, &[other])), None);
    }

    #[test]
    fn reads_need_no_order() {
        let mut tracks = Tracks::default();
        let mut words = [WordAccess::default()];
        for _ in 0..3 {
            let track = tracks.open();
            let epoch = tracks.tick(track);
            assert_eq!(touch(&mut words, Access::Read, &moment(epoch, &[])), None);
        }
    }
}
