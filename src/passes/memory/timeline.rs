// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a value is in use, seen from each lane.
//!
//! Steps on several lanes are not all ordered. What is certain about a step is, for each lane, how
//! many of its steps are done before (the step's clock), so a value is in use for a stretch of each
//! lane: from the first step that may run before it is written to the last that may run before its
//! last use is done. Times are positions in issue order: 0 is before the first step, `index + 1` is
//! the step `index`, and the last is after all steps.

use std::ops::Range;

use super::arena::{Lifetime, Until};
use crate::passes::schedule::Schedule;

/// The order of a schedule's steps.
#[derive(Debug)]
pub(super) struct Timeline {
    pub(super) lanes: usize,
    /// The steps of each lane, in order.
    on_lane: Vec<Vec<usize>>,
    /// The lane of each step and its position there, from 0.
    places: Vec<(usize, usize)>,
    /// For each step and lane, the number of that lane's steps that are done before.
    clocks: Vec<Vec<usize>>,
}

impl Timeline {
    pub(super) fn of(schedule: &Schedule) -> Self {
        let last = schedule.steps.iter().map(|step| step.lane.index()).max();
        let mut timeline = Timeline::new(last.map_or(1, |last| last + 1));
        for step in &schedule.steps {
            timeline.push(step.lane.index(), step.clock.clone());
        }
        timeline
    }

    pub(super) fn new(lanes: usize) -> Self {
        Timeline { lanes, on_lane: vec![vec![]; lanes], places: vec![], clocks: vec![] }
    }

    /// Appends a step.
    pub(super) fn push(&mut self, lane: usize, clock: Vec<usize>) {
        self.places.push((lane, self.on_lane[lane].len()));
        self.on_lane[lane].push(self.clocks.len());
        self.clocks.push(clock);
    }

    /// The time after all steps.
    pub(super) fn end(&self) -> usize {
        self.places.len() + 1
    }

    /// For each pair of lanes (`by_writer` and `by_use`), a stretch such that another value, written
    /// on the first and used on the second, may not share bytes if it meets [`Timeline::asked`] of
    /// that value.
    pub(super) fn occupied(
        &self,
        life: &Lifetime,
        by_writer: usize,
        by_use: usize,
    ) -> Range<usize> {
        let written = life.written.map_or(0, time);
        // The first step that need not be done when this value is written; no step of its lane
        // lies between that and the write.
        let start = match life.written {
            None => 0,
            Some(step) => {
                let done = self.clocks[step][by_use];
                self.on_lane[by_use].get(done).map_or(written, |&first| time(first).min(written))
            }
        };
        let end = match life.until {
            Until::Returned => self.end() + 1,
            Until::LastUse => {
                let done = |step: &usize| self.is_done(life, *step);
                let waiting = self.on_lane[by_writer].partition_point(|step| !done(step));
                self.on_lane[by_writer].get(waiting).map_or(self.end(), |&step| time(step))
            }
        };
        start..end
    }

    /// For each lane on which a value is used, the lane of its writer, that lane, and the stretch
    /// from the write to the last use there.
    pub(super) fn asked<'a>(
        &'a self,
        life: &'a Lifetime,
    ) -> impl Iterator<Item = (usize, usize, Range<usize>)> + 'a {
        let start = life.written.map_or(0, time);
        let writer = life.written.map_or(0, |step| self.places[step].0);
        (0..self.lanes).filter_map(move |lane| {
            let last = match life.until {
                Until::Returned => (lane == writer).then_some(self.end()),
                Until::LastUse => self.last_use(life, lane).map(time),
            };
            // What is uploaded stays until it is used, whoever uses it.
            let last = last.or((life.written.is_none() && lane == writer).then_some(start));
            Some((writer, lane, start..last? + 1))
        })
    }

    /// Whether a value's last use is certain to be done when a step starts.
    pub(super) fn is_done(&self, life: &Lifetime, step: usize) -> bool {
        let done = |&end: &usize| {
            let (lane, position) = self.places[end];
            self.clocks[step][lane] > position
        };
        life.until == Until::LastUse && life.written.iter().chain(&life.uses).all(done)
    }

    fn last_use(&self, life: &Lifetime, lane: usize) -> Option<usize> {
        let ends = life.written.iter().chain(&life.uses).copied();
        ends.filter(|&step| self.places[step].0 == lane).max()
    }
}

fn time(step: usize) -> usize {
    step + 1
}
