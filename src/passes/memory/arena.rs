// SPDX-License-Identifier: MIT OR Apache-2.0
//! Offsets for values that share bytes over time.

use super::ranges::{lowest_free, Ranges, Taken};
use super::timeline::Timeline;
use crate::plan::Bytes;

/// How long a value is needed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lifetime {
    pub(super) buffer: usize,
    pub(super) bytes: usize,
    /// The step that writes it; `None` for what is uploaded before the first step.
    pub(super) written: Option<usize>,
    /// The steps that take it.
    pub(super) uses: Vec<usize>,
    pub(super) until: Until,
}

/// The end of a lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    LastUse,
    /// The end of the run, which returns it.
    Returned,
}

/// Largest values first, each at the lowest offset where nothing that may be alive at the same time
/// overlaps it. `place` gets the offset of each buffer; the result is the arena's size.
pub(super) fn assign(
    lifetimes: &[Lifetime],
    timeline: &Timeline,
    alignment: usize,
    mut place: impl FnMut(usize, Bytes),
) -> Bytes {
    let lanes = timeline.lanes;
    let mut taken: Vec<Taken> =
        (0..lanes * lanes).map(|_| Taken::until(timeline.end() + 1)).collect();
    let mut end = 0;
    for life in largest_first(lifetimes) {
        if life.bytes == 0 {
            place(life.buffer, Bytes(0));
            continue;
        }
        let met: Vec<&Ranges> = timeline
            .asked(life)
            .flat_map(|(writer, user, time)| taken[writer * lanes + user].during(time))
            .collect();
        let offset = lowest_free(&met, life.bytes);
        let stop = (offset + life.bytes).next_multiple_of(alignment);
        for writer in 0..lanes {
            for user in 0..lanes {
                let time = timeline.occupied(life, writer, user);
                taken[writer * lanes + user].take(time, offset..stop);
            }
        }
        place(life.buffer, Bytes(offset));
        end = end.max(stop);
    }
    Bytes(end)
}

fn largest_first(lifetimes: &[Lifetime]) -> Vec<&Lifetime> {
    let mut order: Vec<&Lifetime> = lifetimes.iter().collect();
    order.sort_by_key(|life| (std::cmp::Reverse(life.bytes), life.buffer));
    order
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// What [`assign`] must give, by looking at all pairs.
    fn by_pairs(lifetimes: &[Lifetime], timeline: &Timeline, alignment: usize) -> Vec<usize> {
        let before = |first: &Lifetime, second: &Lifetime| {
            second.written.is_some_and(|step| timeline.is_done(first, step))
        };
        let mut placed: Vec<(usize, usize, &Lifetime)> = Vec::new();
        let mut offsets = vec![0; lifetimes.len()];
        for life in largest_first(lifetimes) {
            let mut taken: Vec<(usize, usize)> = placed
                .iter()
                .filter(|(_, _, other)| !before(life, other) && !before(other, life))
                .map(|&(start, stop, _)| (start, stop))
                .collect();
            taken.sort_unstable();
            let mut offset = 0;
            for (start, stop) in taken {
                if offset + life.bytes <= start {
                    break;
                }
                offset = offset.max(stop.next_multiple_of(alignment));
            }
            offsets[life.buffer] = offset;
            placed.push((offset, offset + life.bytes, life));
        }
        offsets
    }

    /// Steps on lanes that wait for one another here and there.
    fn random_timeline(random: &mut ChaCha8Rng, lanes: usize, steps: usize) -> Timeline {
        let mut timeline = Timeline::new(lanes);
        let mut lengths = vec![0; lanes];
        let mut tails = vec![vec![0; lanes]; lanes];
        for _ in 0..steps {
            let lane = random.random_range(0..lanes);
            let mut clock = tails[lane].clone();
            clock[lane] = lengths[lane];
            let other = random.random_range(0..lanes);
            if random.random_bool(0.4) {
                let theirs = tails[other].iter().zip(&lengths).enumerate();
                for (index, (&seen, &length)) in theirs {
                    clock[index] = clock[index].max(if index == other { length } else { seen });
                }
            }
            lengths[lane] += 1;
            tails[lane].clone_from(&clock);
            timeline.push(lane, clock);
        }
        timeline
    }

    fn random_lifetimes(random: &mut ChaCha8Rng, count: usize, steps: usize) -> Vec<Lifetime> {
        let life = |buffer| {
            let written = random.random_bool(0.9).then(|| random.random_range(0..steps));
            let first = written.map_or(0, |step| step + 1);
            let count = random.random_range(0..4);
            let uses = (0..count).filter(|_| first < steps);
            let reach = if random.random_bool(0.8) { 6.min(steps - first) } else { steps - first };
            let uses = uses.map(|_| first + random.random_range(0..reach.max(1))).collect();
            let until = if random.random_bool(0.1) { Until::Returned } else { Until::LastUse };
            let bytes = [0, 4, 60, 64, 100, 256, 256, 1000][random.random_range(0..8)];
            Lifetime { buffer, bytes, written, uses, until }
        };
        (0..count).map(life).collect()
    }

    #[test]
    fn offsets_are_those_found_by_looking_at_all_pairs() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for round in 0..400 {
            let (lanes, steps) = (1 + round % 4, 1 + round % 37);
            let timeline = random_timeline(&mut random, lanes, steps);
            let lifetimes = random_lifetimes(&mut random, 2 * steps, steps);
            let mut offsets = vec![0; lifetimes.len()];
            let size =
                assign(&lifetimes, &timeline, 64, |buffer, offset| offsets[buffer] = offset.0);
            let expected = by_pairs(&lifetimes, &timeline, 64);
            assert_eq!(offsets, expected, "round {round}: {lifetimes:?} {timeline:?}");
            let ends = lifetimes.iter().zip(&offsets).filter(|(life, _)| life.bytes > 0);
            let ends = ends.map(|(life, offset)| (offset + life.bytes).next_multiple_of(64));
            assert_eq!(size.0, ends.max().unwrap_or(0), "round {round}");
        }
    }
}
