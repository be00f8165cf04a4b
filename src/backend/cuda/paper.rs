// SPDX-License-Identifier: MIT OR Apache-2.0
//! Planning for a GPU that is not there: a backend that takes plans and runs none, and the work that
//! a plan would be lowered to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::geometry::Machine;
use super::lower::{Places, Scratch};
use super::memory::Address;
use super::work::{Feed, PlanWork};
use super::{facts, program, DeviceInfo, ALIGNMENT};
use crate::backend::{slots, Arena, Backend, Facts, Layout, Run, Snapshot, Span};
use crate::graph::ParamSpec;
use crate::plan::{Bytes, Event, Lane, Plan};
use crate::{Error, Precision, Result};

/// What launches depend on about a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Architecture {
    number: u32,
    multiprocessors: usize,
}

/// Architectures that machine code is built for, with the multiprocessors of a GPU of each: A100,
/// RTX 3090, RTX 4090, H100 SXM, B200, RTX 5090 (NVIDIA's data sheets).
const KNOWN: &[Architecture] = &[
    Architecture { number: 80, multiprocessors: 108 },
    Architecture { number: 86, multiprocessors: 82 },
    Architecture { number: 89, multiprocessors: 128 },
    Architecture { number: 90, multiprocessors: 132 },
    Architecture { number: 100, multiprocessors: 148 },
    Architecture { number: 120, multiprocessors: 170 },
];

impl Architecture {
    /// That of an H100.
    pub const SM_90: Architecture = KNOWN[3];

    /// All that have a name.
    pub fn known() -> &'static [Architecture] {
        KNOWN
    }

    /// As a device of it whose self-test passed.
    fn machine(self) -> Machine {
        Machine::new(self.multiprocessors, self.number)
    }
}

impl From<&DeviceInfo> for Architecture {
    fn from(device: &DeviceInfo) -> Self {
        let (major, minor) = device.capability;
        Architecture { number: 10 * major + minor, multiprocessors: device.multiprocessors }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}", self.number)
    }
}

impl FromStr for Architecture {
    type Err = String;

    /// Reads `sm_90` and the like.
    fn from_str(text: &str) -> Result<Self, String> {
        let named = KNOWN.iter().find(|known| known.to_string() == text);
        named.copied().ok_or_else(|| {
            let names: Vec<String> = KNOWN.iter().map(ToString::to_string).collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}

/// What a run of a plan gives a GPU to do, without one: a GPU whose self-test passed, so that recurrent
/// layers that fit make all their steps in one launch.
///
/// # Errors
/// [`Error::Internal`] if the plan contradicts itself.
pub fn work(plan: &Plan, architecture: Architecture, precision: Precision) -> Result<PlanWork> {
    work_fed(plan, architecture, precision, Feed::Host)
}

/// The same, with the run's first input from where `feed` says.
///
/// # Errors
/// As [`work`].
pub fn work_fed(
    plan: &Plan,
    architecture: Architecture,
    precision: Precision,
    feed: Feed,
) -> Result<PlanWork> {
    let (slots, _) = slots(plan.graph.parameters(), ALIGNMENT, |_| Layout::RowMajor);
    // Addresses are not told, but arenas must not look like one another.
    let arena = |number: u64| Address((number + 1) << 40);
    let places = Places {
        plan: arena(0),
        values: arena(1),
        state: arena(2),
        gradients: Some(arena(3)),
        training: arena(4),
        moments: (0..MOST_MOMENTS).map(|index| arena(5 + index)).collect(),
        averages: [0, 1].map(|index| Some(arena(5 + MOST_MOMENTS + index))),
        slots: &slots,
        seed: 0,
    };
    let mut scratch = Scratch::at(arena(5 + MOST_MOMENTS + 2), places.plan);
    let lowered = program::lower(plan, &places, &architecture.machine(), precision, &mut scratch)?;
    Ok(PlanWork::new(plan, scratch, lowered, feed))
}

/// Adam has two.
const MOST_MOMENTS: u64 = 2;

/// A backend on paper: it has memory of any size and no kernels.
#[derive(Debug)]
pub(crate) struct Paper {
    facts: Facts,
    arenas: u32,
}

impl Paper {
    pub(crate) fn new(architecture: Architecture, precision: Precision) -> Self {
        let facts = Facts {
            name: architecture.to_string(),
            ..facts(0, precision, &architecture.machine())
        };
        Paper { facts, arenas: 0 }
    }

    fn refusal(&self) -> Error {
        let message = "plans are made for this architecture, not run".into();
        Error::Device { device: self.facts.name.clone(), message }
    }
}

impl Backend for Paper {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn layout(&self, _parameter: &ParamSpec) -> Layout {
        Layout::RowMajor
    }

    fn reserve(&mut self, _bytes: Bytes) -> Result<Arena> {
        self.arenas += 1;
        Ok(Arena(self.arenas - 1))
    }

    fn grow(&mut self, _arena: Arena, _bytes: Bytes) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self, _arenas: &[Arena]) -> Result<Arc<dyn Snapshot>> {
        Err(self.refusal())
    }

    fn write(&mut self, _at: Span, _data: &[f32]) -> Result<()> {
        Ok(())
    }

    fn read(&mut self, _at: Span) -> Result<Vec<f32>> {
        Err(self.refusal())
    }

    fn launch(&mut self, _run: &mut Run<'_>, _step: usize) -> Result<()> {
        Err(self.refusal())
    }

    fn record(&mut self, _lane: Lane, _event: Event) -> Result<()> {
        Err(self.refusal())
    }

    fn wait(&mut self, _lane: Lane, _event: Event) -> Result<()> {
        Err(self.refusal())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_have_names() {
        assert_eq!("sm_90".parse(), Ok(Architecture::SM_90));
        assert_eq!(Architecture::SM_90.to_string(), "sm_90");
        let error = "sm_75".parse::<Architecture>().err();
        assert!(error.is_some_and(|text| text.contains("sm_80, sm_86")));
    }
}
