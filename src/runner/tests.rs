// SPDX-License-Identifier: MIT OR Apache-2.0
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::backend::{
    Facts, Fusion, Grouping, HostMemory, ImageKernels, Layout, Run, Snapshot, Span, Storage,
    UpdatePlace,
};
use crate::graph::{MemoryFormat, ParamSpec, Var};
use crate::net::record;
use crate::nn::{Linear, Scope};
use crate::op::TensorType;
use crate::passes::{Mode, Request};
use crate::plan::{Event, Lane};
use crate::values::Form;
use crate::Precision;
use std::sync::Arc;

/// What a backend was asked for.
#[derive(Debug, Default)]
struct Log {
    /// Bytes of each arena.
    arenas: Vec<usize>,
    grown: usize,
    forgotten: Vec<PlanId>,
    /// Whether there is no more memory.
    full: bool,
}

/// A backend that keeps a log and computes nothing.
#[derive(Debug)]
struct Logging {
    facts: Facts,
    log: Arc<Mutex<Log>>,
}

impl Logging {
    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal() -> Error {
    Error::Device { device: "log".into(), message: "refused".into() }
}

impl Backend for Logging {
    fn facts(&self) -> &Facts {
        &self.facts
    }
    fn layout(&self, _: &ParamSpec) -> Layout {
        Layout::RowMajor
    }
    fn reserve(&mut self, bytes: Bytes) -> Result<Arena> {
        let mut log = self.log();
        log.arenas.push(bytes.0);
        Ok(Arena(log.arenas.len() as u32 - 1))
    }
    fn grow(&mut self, arena: Arena, bytes: Bytes) -> Result<()> {
        let mut log = self.log();
        if log.full {
            return Err(refusal());
        }
        log.grown += 1;
        log.arenas[arena.0 as usize] = bytes.0;
        Ok(())
    }
    fn snapshot(&mut self, _: &[Arena]) -> Result<Arc<dyn Snapshot>> {
        Err(refusal())
    }
    fn forget(&mut self, plan: PlanId) {
        self.log().forgotten.push(plan);
    }
    fn write(&mut self, _: Span, _: &[f32]) -> Result<()> {
        Ok(())
    }
    fn read(&mut self, _: Span) -> Result<Vec<f32>> {
        Err(refusal())
    }
    fn launch(&mut self, _: &mut Run<'_>, _: usize) -> Result<()> {
        Err(refusal())
    }
    fn record(&mut self, _: Lane, _: Event) -> Result<()> {
        Ok(())
    }
    fn wait(&mut self, _: Lane, _: Event) -> Result<()> {
        Ok(())
    }
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A linear layer with what runs it.
struct Subject {
    layer: Linear,
    runner: Runner,
    log: Arc<Mutex<Log>>,
}

impl Subject {
    fn new() -> Result<Self> {
        let scope = Scope::root();
        let layer = Linear::new(&scope.at("fc"), 8, 16);
        let specs = Arc::new(scope.into_registry().parameters);
        let log = Arc::new(Mutex::new(Log::default()));
        let facts = Facts {
            name: "log".into(),
            lanes: 1,
            alignment: 64,
            host_memory: HostMemory::Copied,
            given: 0,
            update_place: UpdatePlace::Flat,
            fusion: Fusion::WithinLayers,
            grouping: Grouping::NONE,
            precision: Precision::F32,
            storage: Storage::Widened,
            image_format: MemoryFormat::ChannelsLast,
            images: ImageKernels::Absent,
        };
        let mut backend = Box::new(Logging { facts, log: log.clone() });
        let store = Store::new(&mut *backend, specs)?;
        Ok(Subject { layer, runner: Runner::new(store, backend), log })
    }

    /// The plan for a number of samples, and whether it was made now.
    fn plan(&mut self, samples: usize) -> Result<(PlanId, bool)> {
        let request = Request { mode: Mode::Eval, goal: Goal::Forward };
        let inputs = [TensorType::f32([samples, 8].into())];
        let (form, types) = (Form::of::<Var, Var, ()>(&[]), Types::Are(&inputs));
        let wanted = Wanted { request: &request, loss: None, form, inputs: types };
        let specs = self.runner.store().specs().clone();
        let mut made = false;
        let id = self.runner.plan_for(&wanted, || {
            made = true;
            record::<_, Var, Var, ()>(&self.layer, specs, None, &wanted)
        })?;
        Ok((id, made))
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[test]
fn all_plans_share_an_arena_as_large_as_the_largest_needs() -> Result<()> {
    let mut subject = Subject::new()?;
    let of_state = subject.log().arenas.len();
    let mut largest = 0;
    for samples in [3, 1, 9, 2, 9, 40, 7] {
        let (id, _) = subject.plan(samples)?;
        largest = largest.max(subject.runner.plan(id)?.arena.0);
    }
    assert!(largest >= 40 * (8 + 16) * 4, "{largest}");
    assert_eq!(subject.log().arenas[of_state..], [largest]);
    assert_eq!(subject.log().grown, 2);
    Ok(())
}

#[test]
fn the_least_recently_used_plan_goes() -> Result<()> {
    let mut subject = Subject::new()?;
    subject.runner.keep(NonZeroUsize::new(3).unwrap());
    let (first, _) = subject.plan(1)?;
    let (second, _) = subject.plan(2)?;
    subject.plan(3)?;
    assert_eq!(subject.plan(1)?, (first, false));
    subject.plan(4)?;
    assert_eq!(subject.log().forgotten, [second]);
    assert_eq!(subject.plan(1)?, (first, false));
    assert!(subject.plan(2)?.1, "it was planned again");
    assert_eq!((subject.runner.plans(), subject.log().forgotten.len()), (3, 2));
    subject.runner.keep(NonZeroUsize::MIN);
    assert_eq!((subject.runner.plans(), subject.log().forgotten.len()), (1, 4));
    Ok(())
}

/// A plan that there is no memory for takes no other's place.
#[test]
fn a_plan_without_memory_is_not_kept() -> Result<()> {
    let mut subject = Subject::new()?;
    subject.runner.keep(NonZeroUsize::MIN);
    let (kept, _) = subject.plan(4)?;
    subject.log().full = true;
    assert!(subject.plan(5).is_err());
    assert_eq!(subject.plan(4)?, (kept, false));
    Ok(())
}
