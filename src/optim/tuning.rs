// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a trainer trains each parameter: what was said about groups and freezing, parameter by
//! parameter.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::group::matching;
use super::Group;
use crate::graph::{ParamId, ParamRole, ParamSpec};
use crate::op::{GroupOptions, Groups, Training};
use crate::{Error, Result};

/// How the parameters of a network are trained.
#[derive(Clone, Debug)]
pub(crate) struct Tuning {
    specs: Arc<Vec<ParamSpec>>,
    /// One per parameter.
    members: Vec<Member>,
    bare_vectors: Decay,
    /// The same for plans.
    groups: Groups,
    /// Whether there are parameters and none is trained.
    all_frozen: bool,
}

#[derive(Clone, Debug)]
struct Member {
    rate_factor: f64,
    weight_decay: Option<f64>,
    frozen: bool,
    /// Updates that were made without it.
    skipped: u64,
}

/// The weight decay of biases and of what normalisation scales by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decay {
    AsOthers,
    None,
}

impl Tuning {
    /// All parameters as the optimiser says.
    pub(crate) fn new(specs: Arc<Vec<ParamSpec>>) -> Self {
        let plain = Member { rate_factor: 1.0, weight_decay: None, frozen: false, skipped: 0 };
        let members = vec![plain; specs.len()];
        Tuning {
            specs,
            members,
            bare_vectors: Decay::AsOthers,
            groups: Groups::default(),
            all_frozen: false,
        }
    }

    /// The same with these groups in the place of all before; what is frozen stays so.
    ///
    /// # Errors
    /// [`Error::Argument`] for each group without members, each parameter in two groups and each
    /// option out of range.
    pub(crate) fn with_groups(mut self, groups: &[Group]) -> Result<Self> {
        let mut errors = Vec::new();
        let mut owners: Vec<Option<String>> = vec![None; self.members.len()];
        for member in &mut self.members {
            (member.rate_factor, member.weight_decay) = (1.0, None);
        }
        for (index, group) in groups.iter().enumerate() {
            group.check(index, &mut errors);
            let members = group.members(index, &self.specs).unwrap_or_else(|error| {
                errors.push(error);
                Vec::new()
            });
            for position in members {
                let name = group.name(index);
                if let Some(other) = &owners[position] {
                    let what = format!("groups of {}", self.specs[position].name);
                    errors.push(Error::argument(what, "one", format!("{other} and {name}")));
                }
                owners[position] = Some(name);
                let member = &mut self.members[position];
                (member.rate_factor, member.weight_decay) = (group.rate_factor, group.weight_decay);
                member.frozen |= group.frozen;
            }
        }
        Error::check(errors)?;
        Ok(self.settled())
    }

    /// The same without weight decay of parameters with one extent or none, whatever their group.
    pub(crate) fn without_decay_of_vectors(mut self) -> Self {
        self.bare_vectors = Decay::None;
        self.settled()
    }

    /// The same with the parameters frozen whose names match.
    ///
    /// # Errors
    /// [`Error::Argument`] if no trained parameter's name matches.
    pub(crate) fn with_frozen(mut self, pattern: &str) -> Result<Self> {
        for position in matching(&format!("freeze {pattern:?}"), pattern, &self.specs)? {
            self.members[position].frozen = true;
        }
        Ok(self.settled())
    }

    /// The same with the parameters trained whose names match; those that were frozen begin after so
    /// many updates.
    ///
    /// # Errors
    /// As [`Tuning::with_frozen`].
    pub(crate) fn with_thawed(mut self, pattern: &str, updates: u64) -> Result<Self> {
        for position in matching(&format!("unfreeze {pattern:?}"), pattern, &self.specs)? {
            let member = &mut self.members[position];
            if member.frozen {
                (member.frozen, member.skipped) = (false, updates);
            }
        }
        Ok(self.settled())
    }

    /// The same for plans.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Which parameters have moments.
    pub(crate) fn trained(&self) -> Vec<bool> {
        let is_trained = |(spec, member): (&ParamSpec, &Member)| {
            spec.role == ParamRole::Trained && !member.frozen
        };
        self.specs.iter().zip(&self.members).map(is_trained).collect()
    }

    /// Whether there are parameters and all are frozen.
    pub(crate) fn is_all_frozen(&self) -> bool {
        self.all_frozen
    }

    /// Factor of a parameter's learning rate; 0 if nothing trains it.
    pub(crate) fn rate_factor(&self, parameter: ParamId) -> f64 {
        let position = parameter.index();
        match self.specs[position].role == ParamRole::State || self.members[position].frozen {
            true => 0.0,
            false => self.members[position].rate_factor,
        }
    }

    /// In words, how each parameter is trained that is not trained as an optimiser with this weight
    /// decay trains most.
    pub(crate) fn described(&self, weight_decay: f64) -> impl Iterator<Item = (&str, String)> {
        let trained =
            self.specs.iter().enumerate().filter(|(_, spec)| spec.role == ParamRole::Trained);
        trained.filter_map(move |(position, spec)| {
            let member = &self.members[position];
            let factor = (member.rate_factor != 1.0)
                .then(|| format!("rate factor {:?}", member.rate_factor));
            let decay = self.weight_decay(position).filter(|decay| *decay != weight_decay);
            let decay = decay.map(|decay| format!("weight decay {decay:?}"));
            let frozen = member.frozen.then(|| "frozen".to_string());
            let said: Vec<String> = [factor, decay, frozen].into_iter().flatten().collect();
            (!said.is_empty()).then(|| (spec.name.as_str(), said.join(", ")))
        })
    }

    /// The updates that were made without a parameter, where there are any.
    pub(crate) fn skipped(&self) -> BTreeMap<String, u64> {
        let late = |(spec, member): (&ParamSpec, &Member)| {
            (member.skipped > 0 && !member.frozen).then(|| (spec.name.clone(), member.skipped))
        };
        self.specs.iter().zip(&self.members).filter_map(late).collect()
    }

    /// The same with these updates made without parameters, and none without others.
    pub(crate) fn with_skipped(mut self, skipped: &BTreeMap<String, u64>) -> Self {
        for (spec, member) in self.specs.iter().zip(&mut self.members) {
            member.skipped = skipped.get(&spec.name).copied().unwrap_or(0);
        }
        self.settled()
    }

    fn weight_decay(&self, position: usize) -> Option<f64> {
        let is_vector = self.specs[position].shape.rank() <= 1;
        match self.bare_vectors {
            Decay::None if is_vector => Some(0.0),
            _ => self.members[position].weight_decay,
        }
    }

    fn settled(mut self) -> Self {
        let training = |position: usize| {
            let member = &self.members[position];
            match member.frozen {
                true => Training::Frozen,
                false => Training::Trained(GroupOptions {
                    rate_factor: member.rate_factor,
                    weight_decay: self.weight_decay(position),
                    skipped: u32::try_from(member.skipped).unwrap_or(u32::MAX),
                }),
            }
        };
        self.groups = Groups::new((0..self.members.len()).map(training).collect());
        let is_frozen = |member: &Member| member.frozen;
        self.all_frozen = self.members.iter().any(is_frozen) && !self.trained().contains(&true);
        self
    }
}
