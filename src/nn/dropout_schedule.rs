// SPDX-License-Identifier: MIT OR Apache-2.0
//! Schedules of dropout rates: functions of the number of the pass.

use std::f64::consts::PI;
use std::fmt;
use std::sync::Arc;

/// How the rate of a dropout layer changes from pass to pass.
///
/// Passes are those in train mode, counted from 0; a training step is one, however its batch is divided.
/// So the rate of any pass is known at any time, and a training that is resumed goes on at its rates.
/// Rates lie in `[0, 1)`; at 0, nothing is dropped or scaled.
///
/// ```
/// use kiln::nn::DropoutSchedule;
///
/// let falling = DropoutSchedule::Linear { start: 0.5, end: 0.1, passes: 100 };
/// assert_eq!([falling.rate(0), falling.rate(50), falling.rate(900)], [0.5, 0.3, 0.1]);
/// let table = DropoutSchedule::Table(vec![(0, 0.0), (10, 0.2), (50, 0.5)]);
/// assert_eq!([table.rate(9), table.rate(10), table.rate(1000)], [0.0, 0.2, 0.5]);
/// let curriculum = DropoutSchedule::curriculum(0.5, 1000);
/// assert_eq!(curriculum.rate(0), 0.0);
/// assert!(curriculum.rate(100) > 0.31 && curriculum.rate(1000) > 0.4999);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum DropoutSchedule {
    /// The same throughout, unless another is
    /// [set](crate::Net::set_dropout_rate).
    Constant(f32),
    /// A straight line from `start` to `end` over `passes`, and `end` from there on.
    Linear {
        /// The first rate.
        start: f32,
        /// The last.
        end: f32,
        /// Passes from one to the other.
        passes: u32,
    },
    /// Half a cosine from `start` to `end` over `passes`, and `end` from there on.
    Cosine {
        /// The first rate.
        start: f32,
        /// The last.
        end: f32,
        /// Passes from one to the other.
        passes: u32,
    },
    /// `end * (1 - exp(-gamma * pass))`: curriculum dropout (Morerio et al. 2017, arXiv:1703.06229), which
    /// begins with the whole network. See [`curriculum`](DropoutSchedule::curriculum).
    Curriculum {
        /// What the rate tends to.
        end: f32,
        /// How fast, per pass.
        gamma: f64,
    },
    /// Rates, each with the pass from which on it holds; the first holds from pass 0.
    Table(Vec<(u32, f32)>),
    /// A function of one's own, from [`DropoutSchedule::from_fn`].
    Function(DropoutFn),
}

/// A function of the pass, from [`DropoutSchedule::from_fn`].
///
/// It is shown, and so compared by a checkpoint, as its name and some of its rates. Two are equal if
/// these are.
#[derive(Clone)]
pub struct DropoutFn {
    name: String,
    function: Arc<dyn Fn(u32) -> f32 + Send + Sync>,
}

/// What a rate has to be, in words.
pub(super) const RATE: &str = "a probability in [0, 1)";

/// Passes whose rates are written down: 0 and powers of 2, up to about a million.
const NOTED: u32 = 20;

/// What is wrong with a schedule: what of it, what was expected, what came.
pub(super) type Refusal = (String, &'static str, String);

impl DropoutSchedule {
    /// Curriculum dropout that has come within 0.005 % of `end` after `passes`: `gamma` is `10 / passes`, as
    /// its authors chose it for the passes of a whole training.
    pub fn curriculum(end: f32, passes: u32) -> Self {
        DropoutSchedule::Curriculum { end, gamma: 10.0 / f64::from(passes.max(1)) }
    }

    /// Any schedule: `function` gives the rate for the number of the pass. It must depend on nothing else.
    ///
    /// A checkpoint notes the name and the rates of the passes 0, 1, 2, 4, 8 and so on, and refuses to go on
    /// with a schedule that differs in those.
    ///
    /// ```
    /// use kiln::nn::DropoutSchedule;
    ///
    /// let every_other = DropoutSchedule::from_fn("every other", |pass| (pass % 2) as f32 * 0.5);
    /// assert_eq!([every_other.rate(6), every_other.rate(7)], [0.0, 0.5]);
    /// ```
    pub fn from_fn(
        name: impl Into<String>,
        function: impl Fn(u32) -> f32 + Send + Sync + 'static,
    ) -> Self {
        DropoutSchedule::Function(DropoutFn { name: name.into(), function: Arc::new(function) })
    }

    /// The rate of a pass, counted from 0.
    pub fn rate(&self, pass: u32) -> f32 {
        let between = |start: f32, end: f32, share: f64| {
            let (start, end) = (f64::from(start), f64::from(end));
            (start + (end - start) * share) as f32
        };
        match self {
            DropoutSchedule::Constant(p) => *p,
            DropoutSchedule::Linear { start, end, passes } => {
                between(*start, *end, share(pass, *passes))
            }
            DropoutSchedule::Cosine { start, end, passes } => {
                between(*start, *end, (1.0 - (PI * share(pass, *passes)).cos()) / 2.0)
            }
            DropoutSchedule::Curriculum { end, gamma } => {
                between(0.0, *end, 1.0 - (-gamma * f64::from(pass)).exp())
            }
            DropoutSchedule::Table(rates) => {
                let current = rates.iter().rev().find(|(from, _)| *from <= pass);
                current.or(rates.first()).map_or(0.0, |(_, p)| *p)
            }
            DropoutSchedule::Function(function) => (function.function)(pass),
        }
    }

    /// The highest rate; of functions, as far as they are looked at.
    pub(super) fn most(&self) -> f32 {
        let rates: Vec<f32> = match self {
            DropoutSchedule::Constant(p) => vec![*p],
            DropoutSchedule::Linear { start, end, .. }
            | DropoutSchedule::Cosine { start, end, .. } => vec![*start, *end],
            DropoutSchedule::Curriculum { end, .. } => vec![*end],
            DropoutSchedule::Table(rates) => rates.iter().map(|(_, p)| *p).collect(),
            DropoutSchedule::Function(function) => function.noted().map(|(_, p)| p).collect(),
        };
        rates.into_iter().fold(0.0, f32::max)
    }

    /// The first thing that is wrong with it, if anything is: rates outside `[0, 1)` (of functions, as far
    /// as they are looked at), lengths of 0, a `gamma` that is negative or not finite, and tables that do
    /// not begin at 0 or go backwards.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let rate = |what: &str, p: f32| {
            (!is_dropout_rate(p)).then(|| (format!("{what} of the schedule"), RATE, p.to_string()))
        };
        match self {
            DropoutSchedule::Constant(p) => {
                (!is_dropout_rate(*p)).then(|| ("p".into(), RATE, p.to_string()))
            }
            DropoutSchedule::Linear { start, end, passes }
            | DropoutSchedule::Cosine { start, end, passes } => {
                let length = (*passes == 0)
                    .then(|| ("passes of the schedule".into(), "1 or more", passes.to_string()));
                rate("start", *start).or(rate("end", *end)).or(length)
            }
            DropoutSchedule::Curriculum { end, gamma } => {
                let gamma_refusal = (!(*gamma >= 0.0 && gamma.is_finite()))
                    .then(|| ("gamma of the schedule".into(), "0 or more", gamma.to_string()));
                rate("end", *end).or(gamma_refusal)
            }
            DropoutSchedule::Table(rates) => {
                let passes: Vec<u32> = rates.iter().map(|(from, _)| *from).collect();
                let rises = passes.windows(2).all(|pair| pair[0] < pair[1]);
                if passes.first() != Some(&0) || !rises {
                    let expected = "passes that rise from 0 on";
                    return Some(("table of the schedule".into(), expected, format!("{passes:?}")));
                }
                rates.iter().find_map(|(from, p)| rate(&format!("pass {from}"), *p))
            }
            DropoutSchedule::Function(function) => {
                function.noted().find_map(|(pass, p)| rate(&format!("pass {pass}"), p))
            }
        }
    }
}

impl DropoutFn {
    /// Rates by pass.
    fn noted(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        let passes = std::iter::once(0).chain((0..=NOTED).map(|power| 1 << power));
        passes.map(|pass| (pass, (self.function)(pass)))
    }
}

impl PartialEq for DropoutFn {
    fn eq(&self, other: &Self) -> bool {
        let bits = |of: &Self| of.noted().map(|(_, p)| p.to_bits()).collect::<Vec<_>>();
        self.name == other.name && bits(self) == bits(other)
    }
}

impl fmt::Debug for DropoutFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.name)?;
        f.debug_list().entries(self.noted().map(|(_, p)| p)).finish()
    }
}

/// Whether a number is a rate that a layer may take while it is trained.
pub(crate) fn is_dropout_rate(p: f32) -> bool {
    (0.0..1.0).contains(&p)
}

/// How much of its length is over.
fn share(pass: u32, passes: u32) -> f64 {
    f64::from(pass.min(passes)) / f64::from(passes.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_their_formulas() {
        let cosine = DropoutSchedule::Cosine { start: 0.1, end: 0.5, passes: 4 };
        let rates: Vec<f32> = (0..6).map(|pass| cosine.rate(pass)).collect();
        let bend = 0.4 * (1.0 - std::f32::consts::FRAC_1_SQRT_2) / 2.0;
        for (rate, expected) in rates.iter().zip([0.1, 0.1 + bend, 0.3, 0.5 - bend, 0.5, 0.5]) {
            assert!((rate - expected).abs() < 1e-6, "{rates:?}");
        }
        let curriculum = DropoutSchedule::Curriculum { end: 0.5, gamma: 0.01 };
        assert!((curriculum.rate(100) - 0.5 * (1.0 - (-1.0_f32).exp())).abs() < 1e-7);
        assert_eq!((curriculum.rate(0), curriculum.rate(u32::MAX)), (0.0, 0.5));
        for schedule in [cosine, curriculum] {
            assert_eq!((schedule.most(), schedule.refusal()), (0.5, None));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |schedule: DropoutSchedule| {
            let (what, expected, got) = schedule.refusal().expect("a refusal");
            format!("{what}: expected {expected}, got {got}")
        };
        let end = |end| DropoutSchedule::Linear { start: 0.0, end, passes: 3 };
        let rate = "expected a probability in [0, 1)";
        assert_eq!(refused(end(1.0)), format!("end of the schedule: {rate}, got 1"));
        assert_eq!(refused(end(f32::NAN)), format!("end of the schedule: {rate}, got NaN"));
        let none = DropoutSchedule::Cosine { start: 0.0, end: 0.5, passes: 0 };
        assert_eq!(refused(none), "passes of the schedule: expected 1 or more, got 0");
        let gamma = DropoutSchedule::Curriculum { end: 0.5, gamma: f64::INFINITY };
        assert_eq!(refused(gamma), "gamma of the schedule: expected 0 or more, got inf");
        for passes in [vec![], vec![1], vec![0, 5, 5]] {
            let table = passes.iter().map(|&pass| (pass, 0.1)).collect();
            let text = refused(DropoutSchedule::Table(table));
            assert!(text.starts_with("table of the schedule: expected passes that rise"), "{text}");
        }
        let function = DropoutSchedule::from_fn("line", |pass| pass as f32 / 100.0);
        assert_eq!(refused(function), format!("pass 128 of the schedule: {rate}, got 1.28"));
        assert_eq!(refused(DropoutSchedule::Constant(-0.1)), format!("p: {rate}, got -0.1"));
    }
}
