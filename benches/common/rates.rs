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

/// The machine's own best: rates are written with the share of it that they are. A peak that is not
/// known gives no share.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peaks {
    /// Elements per nanosecond.
    pub(crate) elements: Option<f64>,
    /// Bytes per nanosecond.
    pub(crate) bytes: Option<f64>,
}

impl Peaks {
    /// `" (71 %)"` for work that took some nanoseconds; empty where the peak is not known.
    fn share(self, throughput: &Throughput, nanoseconds: f64) -> String {
        let (count, peak) = match *throughput {
            Throughput::Elements(count) => (count, self.elements),
            Throughput::BytesDecimal(count) | Throughput::Bytes(count) => (count, self.bytes),
            _ => return String::new(),
        };
        let percent = |peak: f64| 100.0 * count as f64 / nanoseconds / peak;
        peak.map_or_else(String::new, |peak| format!(" ({:.0} %)", percent(peak)))
    }
}

/// Wall time; rates are in a unit, or in decimal bytes per second.
#[derive(Debug)]
pub(crate) struct Rates {
    unit: Unit,
    peaks: Peaks,
}

impl Rates {
    pub(crate) fn of(unit: Unit, peaks: Peaks) -> Self {
        Rates { unit, peaks }
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
        self
    }
}

impl ValueFormatter for Rates {
    fn format_throughput(&self, throughput: &Throughput, value: f64) -> String {
        let mut rate = [value];
        let unit = self.scale_throughputs(value, throughput, &mut rate);
        let digits = if rate[0] < 100.0 { 2 } else { 1 };
        let share = self.peaks.share(throughput, value);
        format!("{:>7.digits$} {unit}{share}", rate[0])
    }

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
            *nanoseconds = count as f64 / *nanoseconds * self.unit.per_nanosecond;
        }
        self.unit.name
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
