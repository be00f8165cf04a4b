// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ceilings and work in turns: a machine gives more in one moment than in the next, to both.

use std::num::NonZeroUsize;

use kiln::backend::cpu::Gauge;

use super::random_values;
use crate::clock::Clock;
use crate::peers::case::Case;
use crate::peers::peer::{Peer, Torch};
use crate::peers::report::median;
use crate::peers::workload::{self, Amount, Workload};
use crate::Result;

/// Attempts at a ceiling, before the work and after it; the best counts.
const ATTEMPTS: usize = 5;
/// About half a millisecond of multiply-adds.
const ROUNDS: u64 = 200_000;
/// Bytes that the largest copy reads and writes, beyond all caches.
const LARGEST_COPY: usize = 128 << 20;
const SMALLEST_COPY: usize = 512 << 10;

/// Measures with so many threads.
pub(crate) struct Meter {
    gauge: Gauge,
    clock: Clock,
    from: Vec<f32>,
    to: Vec<f32>,
}

/// What one turn found.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    /// Milliseconds of the work.
    pub(super) kiln: f64,
    /// Flops or bytes per second that the machine gave.
    pub(super) ceiling: f64,
    /// Milliseconds of the peers, in their order.
    pub(super) peers: Vec<f64>,
}

/// PyTorch beside the work.
pub(super) struct Beside<'a> {
    pub(super) peer: &'a mut Peer,
    pub(super) case: &'static Case,
}

/// The peers, in the order of [`Turn::peers`].
pub(super) const PEERS: [Torch; 2] = [Torch::Eager, Torch::Best];

impl Meter {
    pub(super) fn new(threads: NonZeroUsize) -> Self {
        Self::with_clock(threads, Clock::of(threads))
    }

    pub(crate) fn with_clock(threads: NonZeroUsize, clock: Clock) -> Self {
        let elements = LARGEST_COPY / 2 / size_of::<f32>();
        Meter {
            gauge: Gauge::new(threads),
            clock,
            from: random_values(elements),
            to: vec![0.0; elements],
        }
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// Turns of work of an amount; `moved` are the bytes of one of its passes, for the copy that bounds it.
    pub(super) fn turns(
        &mut self,
        workload: &mut dyn Workload,
        moved: usize,
        mut beside: Option<Beside<'_>>,
        [rounds, milliseconds]: [u64; 2],
    ) -> Result<Vec<Turn>> {
        let amount = workload.amount()?;
        let mut turns = Vec::new();
        for _ in 0..rounds {
            let before = self.ceiling(amount, moved)?;
            let kiln = median(workload::time(workload, milliseconds, self.clock)?);
            let ceiling = self.ceiling(amount, moved)?.max(before);
            let mut peers = Vec::new();
            if let Some(Beside { peer, case }) = &mut beside {
                for torch in PEERS {
                    let time = peer.time(&torch.case_name(case), milliseconds)?;
                    peers.push(match self.clock {
                        Clock::Passed => time.passed,
                        Clock::Worked => time.worked.ok_or("the peer told no processor time")?,
                    });
                }
            }
            turns.push(Turn { kiln, ceiling, peers });
        }
        Ok(turns)
    }

    /// What the machine gives now, per second: multiply-adds, or bytes of a copy of `moved` bytes.
    pub(crate) fn ceiling(&mut self, amount: Amount, moved: usize) -> Result<f64> {
        match amount {
            Amount::Flops(_) => {
                let expected = "this machine has no fused multiply-adds to compare with";
                let flops = self.gauge.flops_per_round().ok_or(expected)? * ROUNDS;
                Ok(flops as f64 / self.shortest(|meter| meter.gauge.multiply_add(ROUNDS)))
            }
            Amount::Bytes(_) => {
                let bytes = moved.clamp(SMALLEST_COPY, LARGEST_COPY);
                let count = bytes / 2 / size_of::<f32>();
                let copy = |meter: &mut Self| {
                    meter.gauge.copy(&meter.from[..count], &mut meter.to[..count])
                };
                Ok(bytes as f64 / self.shortest(copy))
            }
        }
    }

    /// Seconds of the fastest attempt.
    fn shortest(&mut self, mut attempt: impl FnMut(&mut Self)) -> f64 {
        let mut best = f64::INFINITY;
        for _ in 0..ATTEMPTS {
            let start = self.clock.now();
            attempt(self);
            best = best.min(self.clock.now() - start);
        }
        best
    }
}
