// SPDX-License-Identifier: MIT OR Apache-2.0
//! Telling users of steps that are slow because nothing but their plain meaning computes them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::plan::{Plan, Step};

/// What was told, each device with an operation.
static TOLD: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());

/// Who hears of slow steps that this thread plans.
#[derive(Clone, Copy, PartialEq)]
enum Audience {
    User,
    Nobody,
}

thread_local! {
    static AUDIENCE: Cell<Audience> = const { Cell::new(Audience::User) };
}

/// Runs `body`, whose steps are to be exact and not fast, and tells of none of them.
pub(crate) fn hushed<T>(body: impl FnOnce() -> T) -> T {
    let before = AUDIENCE.replace(Audience::Nobody);
    let result = body();
    AUDIENCE.set(before);
    result
}

/// Warns that a device computes a step by its plain meaning, once for each operation.
pub(crate) fn of_plain_step(device: &str, plan: &Plan, step: &Step) {
    if AUDIENCE.get() == Audience::Nobody {
        return;
    }
    let names: Vec<&str> = step.nodes.iter().map(|&id| plan.graph.node(id).op.name()).collect();
    let ops = names.join("+");
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.insert((device.into(), ops.clone())) {
        tracing::warn!(
            device,
            layer = %step.layer,
            "{ops} has no kernel on this device: it is computed in f64, one number after the other, \
             which is slow"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use super::*;
    use crate::op::TensorType;
    use crate::{nn::Linear, Device, Mode, Net, Result, Seed};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_operation_is_told_of_once_on_each_device() -> Result<()> {
        let mut net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 3, 2))?;
        let plan = net.plan(Mode::Eval, &[TensorType::f32([4, 3].into())])?;
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            hushed(|| of_plain_step("imagined:0", plan, &plan.steps[0]));
            for device in ["imagined:0", "imagined:0", "imagined:1"] {
                of_plain_step(device, plan, &plan.steps[0]);
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.contains("WARN") && first.contains("matmul") && first.contains("layer=fc"),
            "{text}"
        );
        Ok(())
    }
}
