// SPDX-License-Identifier: MIT OR Apache-2.0
//! Vector clocks. Work on one stream (or one lane of a graph) is a *track*; each piece of work is a
//! *tick* of its track. One piece happens before another iff the other's clock has reached its
//! tick.

/// A stream, or a lane of an executable graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Track(u16);

/// One piece of work: its track in the high 16 bits, its tick below. Zero is no work at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct Epoch(u64);

impl Epoch {
    pub(crate) const NONE: Epoch = Epoch(0);
    const TICK_BITS: u32 = 48;

    fn track(self) -> usize {
        (self.0 >> Self::TICK_BITS) as usize
    }

    fn tick(self) -> u64 {
        self.0 & ((1 << Self::TICK_BITS) - 1)
    }
}

/// For each track the last tick that happens before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Vec<u64>);

impl Clock {
    pub(crate) fn join(&mut self, other: &Clock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (own, others) in self.0.iter_mut().zip(&other.0) {
            *own = (*own).max(*others);
        }
    }

    pub(crate) fn reach(&mut self, epoch: Epoch) {
        if self.0.len() <= epoch.track() {
            self.0.resize(epoch.track() + 1, 0);
        }
        self.0[epoch.track()] = self.0[epoch.track()].max(epoch.tick());
    }

    pub(crate) fn includes(&self, epoch: Epoch) -> bool {
        epoch == Epoch::NONE
            || self.0.get(epoch.track()).is_some_and(|reached| *reached >= epoch.tick())
    }

    pub(crate) fn ticks(&self) -> &[u64] {
        &self.0
    }
}

/// Hands out tracks and their ticks.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    ticks: Vec<u64>,
    opened: usize,
}

impl Tracks {
    const MOST: usize = 1 << 16;

    /// A new track; past 65536 of them, old ones are used again, which can only hide a race.
    pub(crate) fn open(&mut self) -> Track {
        let track = self.opened % Self::MOST;
        self.opened += 1;
        if self.ticks.len() <= track {
            self.ticks.push(0);
        }
        Track(track as u16)
    }

    pub(crate) fn tick(&mut self, track: Track) -> Epoch {
        let tick = &mut self.ticks[usize::from(track.0)];
        *tick += 1;
        Epoch(u64::from(track.0) << Epoch::TICK_BITS | *tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_includes_what_it_joined() {
        let mut tracks = Tracks::default();
        let (a, b) = (tracks.open(), tracks.open());
        let (first, second, other) = (tracks.tick(a), tracks.tick(a), tracks.tick(b));
        let mut clock = Clock::default();
        clock.reach(first);
        assert!(clock.includes(first) && clock.includes(Epoch::NONE));
        assert!(!clock.includes(second) && !clock.includes(other));
        let mut joined = Clock::default();
        joined.reach(other);
        joined.join(&clock);
        assert!(joined.includes(first) && joined.includes(other) && !joined.includes(second));
    }
}
