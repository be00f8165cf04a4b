// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wall time whose rates name what is counted, where criterion's own say "elements".

use std::time::{Duration, Instant};

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::Throughput;

/// What [`Throughput::Elements`] counts, and how its rate is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    pub(crate) name: &'static str,
    /// How much of it one element per nanosecond is.
    pub(crate) per_nanosecond: f64,
}

/// Wall time; rates are in a unit, or in decimal bytes per second.
#[derive(Debug)]
pub(crate) struct Rates(Unit);

impl Rates {
    pub(crate) fn of(unit: Unit) -> Self {
        Rates(unit)
    }
}

impl Measurement for Rates {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        WallTime.start()
    }

    fn end(&self, start: Instant) -> Duration {
        WallTime.end(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &self.0
    }
}

impl ValueFormatter for Unit {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(
        &self,
        typical: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        let Throughput::Elements(count) = *throughput else {
            return WallTime.formatter().scale_throughputs(typical, throughput, values);
        };
        for nanoseconds in values {
            *nanoseconds = count as f64 / *nanoseconds * self.per_nanosecond;
        }
        self.name
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
