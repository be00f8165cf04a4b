// SPDX-License-Identifier: MIT OR Apache-2.0
//! Schedules of learning rate and momentum: functions of the number of updates made so far.

use std::f64::consts::PI;

use super::RateFn;
use crate::op::UpdateRule;
use crate::{Error, Result};

/// How the learning rate changes from update to update, and with [`Schedule::OneCycle`] the
/// momentum.
///
/// `step` counts updates from 0, as PyTorch's schedulers count calls of `scheduler.step()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Schedule {
    /// The base rate throughout.
    #[default]
    Constant,
    /// `base * factor` for the first `steps` updates, then `base` (`ConstantLR`).
    Hold {
        /// Factor at first.
        factor: f64,
        /// Number of updates with the factor.
        steps: u64,
    },
    /// `base * gamma^(step / size)` (`StepLR`).
    Step {
        /// Updates between two drops.
        size: u64,
        /// Factor of each drop.
        gamma: f64,
    },
    /// From `base` down to `minimum` along half a cosine of `period` updates, and back
    /// (`CosineAnnealingLR`; Loshchilov & Hutter 2016, arXiv:1608.03983).
    Cosine {
        /// Updates from the highest to the lowest rate.
        period: u64,
        /// The lowest rate.
        minimum: f64,
    },
    /// `base` times a factor that goes from `start` to `end` over `steps` updates (`LinearLR`);
    /// warm-up, if `start` is the smaller.
    Linear {
        /// Factor at first.
        start: f64,
        /// Factor in the end.
        end: f64,
        /// Updates from one to the other.
        steps: u64,
    },
    /// Up to `peak` and down to almost nothing (`OneCycleLR`; Smith & Topin 2017,
    /// arXiv:1708.07120). The base rate plays no part.
    OneCycle {
        /// The highest rate.
        peak: f64,
        /// Updates in all.
        steps: u64,
        /// Share of the updates that the rise takes; 0.3 in PyTorch.
        rise: f64,
        /// Shape of rise and fall.
        anneal: Anneal,
        /// Whether the fall pauses at the first rate.
        phases: Phases,
        /// `peak` over the first rate; 25 in PyTorch.
        start_divisor: f64,
        /// First rate over the last; 10,000 in PyTorch.
        end_divisor: f64,
        /// What becomes of the momentum meanwhile.
        momentum: MomentumCycle,
    },
    /// One schedule after another (`SequentialLR`): each begins anew, with `step` 0, at its number
    /// of updates.
    Chain(Vec<(u64, Schedule)>),
    /// A function of one's own, from [`Schedule::from_fn`].
    Function(RateFn),
}

/// The curve between two rates of [`Schedule::OneCycle`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anneal {
    /// Half a cosine.
    #[default]
    Cosine,
    /// A straight line.
    Linear,
}

/// The momentum under [`Schedule::OneCycle`]: SGD's, or Adam's decay of the first moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MomentumCycle {
    /// As the optimiser has it (`cycle_momentum=False`).
    Kept,
    /// From `highest` down to `lowest` while the rate rises, and back while it falls. The
    /// optimiser's own number plays no part; SGD without momentum gets one, as in PyTorch.
    Cycled {
        /// Momentum at the highest rate (`base_momentum`); 0.85 in PyTorch.
        lowest: f64,
        /// Momentum at the first and the last rate (`max_momentum`); 0.95 in PyTorch.
        highest: f64,
    },
}

/// The course of [`Schedule::OneCycle`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phases {
    /// Up to the peak, then down to almost nothing.
    #[default]
    Two,
    /// Up to the peak, down to the first rate in as many updates, then down to almost nothing.
    Three,
}

impl Schedule {
    /// One cycle with PyTorch's defaults: the momentum goes from 0.95 down to 0.85 and back, whatever
    /// the optimiser's is. [`MomentumCycle::Kept`] leaves it alone.
    pub fn one_cycle(peak: f64, steps: u64) -> Self {
        Schedule::OneCycle {
            peak,
            steps,
            rise: 0.3,
            anneal: Anneal::Cosine,
            phases: Phases::Two,
            start_divisor: 25.0,
            end_divisor: 1e4,
            momentum: MomentumCycle::Cycled { lowest: 0.85, highest: 0.95 },
        }
    }

    /// The learning rate of update `step`, counted from 0.
    pub fn rate(&self, base: f64, step: u64) -> f64 {
        match self {
            Schedule::Constant => base,
            Schedule::Hold { factor, steps } if step < *steps => base * factor,
            Schedule::Hold { .. } => base,
            Schedule::Step { size, gamma } => base * gamma.powf((step / (*size).max(1)) as f64),
            Schedule::Cosine { period, minimum } => {
                let angle = PI * step as f64 / (*period).max(1) as f64;
                minimum + (base - minimum) * (1.0 + angle.cos()) / 2.0
            }
            Schedule::Linear { start, end, steps } => {
                let share = step.min(*steps) as f64 / (*steps).max(1) as f64;
                base * (start + (end - start) * share)
            }
            Schedule::OneCycle { peak, start_divisor, end_divisor, .. } => {
                let (first, last) = (peak / start_divisor, peak / start_divisor / end_divisor);
                self.through_cycle([first, *peak, last], step)
            }
            Schedule::Chain(parts) => {
                part_at(parts, step).map_or(base, |(schedule, step)| schedule.rate(base, step))
            }
            Schedule::Function(function) => function.rate(base, step),
        }
    }

    /// The momentum of update `step`, counted from 0; `None` where it is the optimiser's own.
    pub fn momentum(&self, step: u64) -> Option<f64> {
        match self {
            Schedule::OneCycle { momentum: MomentumCycle::Cycled { lowest, highest }, .. } => {
                Some(self.through_cycle([*highest, *lowest, *highest], step))
            }
            Schedule::Chain(parts) => {
                part_at(parts, step).and_then(|(schedule, step)| schedule.momentum(step))
            }
            _ => None,
        }
    }

    /// The rule that updates follow: SGD keeps a moment where the schedule gives it a momentum.
    pub(crate) fn rule(&self, rule: UpdateRule) -> UpdateRule {
        match (rule, self.highest_momentum()) {
            (
                UpdateRule::Sgd { momentum: 0.0, dampening, nesterov, weight_decay },
                Some(highest),
            ) => UpdateRule::Sgd { momentum: highest, dampening, nesterov, weight_decay },
            _ => rule,
        }
    }

    /// The highest momentum that the schedule gives; `None` if it gives none.
    fn highest_momentum(&self) -> Option<f64> {
        match self {
            Schedule::OneCycle { momentum: MomentumCycle::Cycled { highest, .. }, .. } => {
                Some(*highest)
            }
            Schedule::Chain(parts) => {
                let all = parts.iter().filter_map(|(_, schedule)| schedule.highest_momentum());
                all.reduce(f64::max)
            }
            _ => None,
        }
    }

    /// A number that is the first of these in the beginning of a cycle, the second at the peak of
    /// the rate and the third in the end. Nothing without a cycle.
    fn through_cycle(&self, [first, peak, last]: [f64; 3], step: u64) -> f64 {
        let Schedule::OneCycle { steps, rise, anneal, phases, .. } = self else { return last };
        let (top, bottom) = (rise * *steps as f64 - 1.0, *steps as f64 - 1.0);
        let turns = match phases {
            Phases::Two => vec![(top, first, peak), (bottom, peak, last)],
            Phases::Three => {
                vec![(top, first, peak), (2.0 * top, peak, first), (bottom, first, last)]
            }
        };
        anneal.through(&turns, (step as f64).min(bottom))
    }

    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Argument`] for lengths of 0, rates that are negative or not finite (of functions, as
    /// far as they are looked at), and chains
    /// that are empty, do not begin at 0 or go backwards.
    pub fn check(&self) -> Result<()> {
        let length = |what: &str, steps: u64| match steps {
            0 => Err(Error::argument(format!("{what} of the schedule"), "1 or more", steps)),
            _ => Ok(()),
        };
        let rate = |what: &str, value: f64| match value >= 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(Error::argument(format!("{what} of the schedule"), "0 or more", value)),
        };
        match self {
            Schedule::Constant => Ok(()),
            Schedule::Hold { factor, .. } => rate("factor", *factor),
            Schedule::Step { size, gamma } => length("size", *size).and(rate("gamma", *gamma)),
            Schedule::Cosine { period, minimum } => {
                length("period", *period).and(rate("minimum", *minimum))
            }
            Schedule::Linear { start, end, steps } => {
                length("steps", *steps).and(rate("start", *start)).and(rate("end", *end))
            }
            Schedule::OneCycle {
                peak, steps, rise, start_divisor, end_divisor, momentum, ..
            } => {
                length("steps", *steps)?;
                rate("peak", *peak)?;
                let positive = |value: f64| value > 0.0 && value.is_finite();
                if !(positive(*start_divisor) && positive(*end_divisor)) {
                    let got = format!("{start_divisor} and {end_divisor}");
                    return Err(Error::argument("divisors of the schedule", "more than 0", got));
                }
                if !(0.0..=1.0).contains(rise) {
                    return Err(Error::argument("rise of the schedule", "in [0, 1]", rise));
                }
                momentum.check()
            }
            Schedule::Chain(parts) => {
                let starts: Vec<u64> = parts.iter().map(|(start, _)| *start).collect();
                if starts.first() != Some(&0) || !starts.is_sorted() {
                    let got = format!("{starts:?}");
                    return Err(Error::argument("chain of schedules", "starts from 0 up", got));
                }
                parts.iter().try_for_each(|(_, schedule)| schedule.check())
            }
            Schedule::Function(function) => {
                function.noted().try_for_each(|(step, value)| rate(&format!("rate {step}"), value))
            }
        }
    }
}

/// The part of a chain that an update belongs to, and the update's number in it.
fn part_at(parts: &[(u64, Schedule)], step: u64) -> Option<(&Schedule, u64)> {
    let current = parts.iter().rev().find(|(start, _)| *start <= step);
    current.map(|(start, schedule)| (schedule, step - start))
}

impl MomentumCycle {
    fn check(self) -> Result<()> {
        match self {
            MomentumCycle::Cycled { lowest, highest }
                if !(0.0 < lowest && lowest <= highest && highest < 1.0) =>
            {
                let got = format!("{lowest} to {highest}");
                Err(Error::argument("momentum of the schedule", "a range inside (0, 1)", got))
            }
            _ => Ok(()),
        }
    }
}

impl Anneal {
    /// The rate at `step` on the way through phases, each with its last step, first and last rate.
    fn through(self, phases: &[(f64, f64, f64)], step: f64) -> f64 {
        let mut begin = 0.0;
        for &(end, from, to) in phases {
            if step <= end {
                // A phase without length is at its end.
                let share = if end > begin { (step - begin) / (end - begin) } else { 1.0 };
                return self.between(from, to, share);
            }
            begin = end;
        }
        phases.last().map_or(0.0, |&(_, _, to)| to)
    }

    fn between(self, from: f64, to: f64, share: f64) -> f64 {
        match self {
            Anneal::Cosine => to + (from - to) * (1.0 + (PI * share).cos()) / 2.0,
            Anneal::Linear => from + (to - from) * share,
        }
    }
}
