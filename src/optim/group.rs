// SPDX-License-Identifier: MIT OR Apache-2.0
//! Groups of parameters that are trained in a way of their own.

use std::fmt;

use glob::Pattern;

use crate::error::list;
use crate::graph::{ParamRole, ParamSpec};
use crate::{Error, Result, Shape};

/// Parameters that are trained in a way of their own, as a param group of a PyTorch optimiser; for
/// [`Trainer::with_groups`](crate::Trainer::with_groups).
///
/// Parameters in no group follow the optimiser's options. State that is not trained (running
/// statistics) belongs to none.
///
/// ```
/// use kiln::optim::{AdamW, Group};
/// use kiln::{loss::CrossEntropy, models::SimpleNet, Device, Net, Seed, Trainer};
///
/// let net = Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(p, 4, 8, 3, 0.5))?;
/// let groups = [
///     Group::of("fc3.*").rate_factor(10.0),
///     Group::by(|name, shape| name.starts_with("fc1.") && shape.rank() == 2).weight_decay(0.1),
/// ];
/// let fit = Trainer::new(net, CrossEntropy::default(), AdamW::new(1e-3))?.with_groups(groups)?;
/// assert_eq!(fit.rate_of("fc3.bias")?, 1e-2);
/// assert_eq!(fit.rate_of("fc1.bias")?, 1e-3);
/// # Ok::<(), kiln::Error>(())
/// ```
pub struct Group {
    members: Members,
    pub(super) rate_factor: f64,
    pub(super) weight_decay: Option<f64>,
    pub(super) frozen: bool,
}

/// Which parameters belong to a group.
enum Members {
    Named(String),
    Picked(Box<dyn Fn(&str, &Shape) -> bool>),
}

impl Group {
    /// The trained parameters whose names match a pattern, in which `*` stands for any text, `?` for
    /// any character and `[ab]` for one of these: `"encoder.*"`, `"*.bias"`.
    pub fn of(pattern: impl Into<String>) -> Self {
        Group::with_members(Members::Named(pattern.into()))
    }

    /// The trained parameters that a function of name and shape picks.
    pub fn by(pick: impl Fn(&str, &Shape) -> bool + 'static) -> Self {
        Group::with_members(Members::Picked(Box::new(pick)))
    }

    /// The same with a factor of the learning rate: whatever the schedule makes of the rate is
    /// multiplied by it. 1 if nothing is said.
    #[must_use]
    pub fn rate_factor(self, factor: f64) -> Self {
        Group { rate_factor: factor, ..self }
    }

    /// The same with a weight decay in the place of the optimiser's.
    #[must_use]
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Group { weight_decay: Some(weight_decay), ..self }
    }

    /// The same, frozen as by [`Trainer::freeze`](crate::Trainer::freeze).
    #[must_use]
    pub fn frozen(self) -> Self {
        Group { frozen: true, ..self }
    }

    fn with_members(members: Members) -> Self {
        Group { members, rate_factor: 1.0, weight_decay: None, frozen: false }
    }

    /// The group as errors name it; `index` is its place among the groups.
    pub(super) fn name(&self, index: usize) -> String {
        match &self.members {
            Members::Named(pattern) => format!("group {pattern:?}"),
            Members::Picked(_) => format!("group {} of the list", index + 1),
        }
    }

    /// Appends what is wrong with the options.
    pub(super) fn check(&self, index: usize, errors: &mut Vec<Error>) {
        let options =
            [("rate factor", Some(self.rate_factor)), ("weight decay", self.weight_decay)];
        for (what, value) in options {
            let wrong = value.filter(|value| !(*value >= 0.0 && value.is_finite()));
            errors.extend(wrong.map(|value| {
                Error::argument(format!("{what} of {}", self.name(index)), "0 or more", value)
            }));
        }
    }

    /// Positions of the group's parameters.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are none or if the pattern cannot be read.
    pub(super) fn members(&self, index: usize, specs: &[ParamSpec]) -> Result<Vec<usize>> {
        match &self.members {
            Members::Named(pattern) => matching(&self.name(index), pattern, specs),
            Members::Picked(pick) => {
                let picked = |spec: &ParamSpec| pick(&spec.name, &spec.shape);
                some_of(&self.name(index), specs, picked)
            }
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = match &self.members {
            Members::Named(pattern) => pattern.as_str(),
            Members::Picked(_) => "picked by a function",
        };
        f.debug_struct("Group")
            .field("members", &members)
            .field("rate_factor", &self.rate_factor)
            .field("weight_decay", &self.weight_decay)
            .field("frozen", &self.frozen)
            .finish()
    }
}

/// Positions of the trained parameters whose names match a pattern; `what` names the pattern.
///
/// # Errors
/// [`Error::Argument`] if there are none or if the pattern cannot be read.
pub(super) fn matching(what: &str, pattern: &str, specs: &[ParamSpec]) -> Result<Vec<usize>> {
    let read = Pattern::new(pattern).map_err(|error| {
        let got = format!("{pattern:?} ({} at {})", error.msg, error.pos);
        Error::argument(what, "a pattern of names", got)
    })?;
    some_of(what, specs, |spec| read.matches(&spec.name))
}

fn some_of(
    what: &str,
    specs: &[ParamSpec],
    picks: impl Fn(&ParamSpec) -> bool,
) -> Result<Vec<usize>> {
    let trained = || specs.iter().enumerate().filter(|(_, spec)| spec.role == ParamRole::Trained);
    let found: Vec<usize> =
        trained().filter(|(_, spec)| picks(spec)).map(|(index, _)| index).collect();
    if found.is_empty() {
        let names = list(trained().map(|(_, spec)| &spec.name), ", ");
        return Err(Error::argument(what, format!("one or more of {names}"), "none"));
    }
    Ok(found)
}
