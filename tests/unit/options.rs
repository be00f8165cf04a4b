// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options out of range are refused when they are given, in words.

use kiln::loss::{CrossEntropy, Mse};
use kiln::nn::{Linear, Scope};
use kiln::optim::{Adam, AdamW, MomentumCycle, Nesterov, Optimizer, Schedule, Sgd};
use kiln::{Device, Net, Seed, Tensor, Trainer};

fn net() -> Net<Linear> {
    Net::new(Device::cpu(), Seed(1), |p: &Scope| Linear::new(&p.at("fc"), 3, 2)).expect("a network")
}

fn refusal(optimizer: impl Into<Optimizer>) -> String {
    Trainer::new(net(), Mse::default(), optimizer).unwrap_err().to_string()
}

#[test]
fn optimisers() {
    let sgd = Sgd::new(0.1);
    for bad in [-0.1, f64::NAN, f64::INFINITY] {
        let rate = format!("learning rate: expected 0 or more, got {bad}");
        assert_eq!(refusal(Sgd::new(bad)), rate);
        assert_eq!(refusal(Adam::new(bad)), rate);
        assert_eq!(refusal(AdamW::new(bad)), rate);
        let decay = format!("weight decay: expected 0 or more, got {bad}");
        assert_eq!(refusal(Sgd { weight_decay: bad, ..sgd }), decay);
        assert_eq!(refusal(Adam { weight_decay: bad, ..Adam::new(0.1) }), decay);
        assert_eq!(refusal(sgd.momentum(bad)), format!("momentum: expected 0 or more, got {bad}"));
        let eps = refusal(Adam { eps: bad, ..Adam::new(0.1) });
        assert_eq!(eps, format!("eps: expected 0 or more, got {bad}"));
    }
    for bad in [-0.1, 1.0, f64::NAN] {
        let message = refusal(Adam { betas: (bad, 0.999), ..Adam::new(0.1) });
        assert_eq!(message, format!("beta1: expected a number in [0, 1), got {bad}"));
        let message = refusal(AdamW { betas: (0.9, bad), ..AdamW::new(0.1) });
        assert_eq!(message, format!("beta2: expected a number in [0, 1), got {bad}"));
    }
    let nesterov = Sgd { nesterov: Nesterov::On, ..sgd };
    assert_eq!(refusal(nesterov), "momentum: expected more than 0 with Nesterov, got 0");
    let damped = Sgd { dampening: 0.5, ..nesterov.momentum(0.9) };
    assert_eq!(refusal(damped), "dampening: expected 0 with Nesterov, got 0.5");
}

#[test]
fn several_mistakes_come_together() {
    let message = refusal(Adam { betas: (2.0, -1.0), eps: f64::NAN, ..Adam::new(-1.0) });
    for part in ["learning rate", "beta1", "beta2", "eps"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn clipping_and_micro_batches() {
    for bad in [0.0, -1.0, f64::NAN] {
        let fit = Trainer::new(net(), Mse::default(), Sgd::new(0.1)).expect("a trainer");
        let message = fit.with_clipping(bad).unwrap_err().to_string();
        assert_eq!(message, format!("max_norm: expected more than 0, got {bad}"));
    }
    let fit = Trainer::new(net(), Mse::default(), Sgd::new(0.1)).expect("a trainer");
    let message = fit.with_micro_batches(0).unwrap_err().to_string();
    assert_eq!(message, "micro_batches: expected 1 or more, got 0");
}

#[test]
fn schedules() {
    let bad = [
        Schedule::Hold { factor: f64::NAN, steps: 3 },
        Schedule::Step { size: 0, gamma: 0.5 },
        Schedule::Step { size: 3, gamma: -0.5 },
        Schedule::Cosine { period: 0, minimum: 0.0 },
        Schedule::Cosine { period: 3, minimum: -1.0 },
        Schedule::Linear { start: 0.1, end: f64::INFINITY, steps: 3 },
        Schedule::Linear { start: 0.1, end: 1.0, steps: 0 },
        Schedule::one_cycle(f64::NAN, 10),
        Schedule::one_cycle(0.1, 0),
        Schedule::Chain(vec![]),
        Schedule::Chain(vec![(1, Schedule::Constant)]),
        Schedule::Chain(vec![(0, Schedule::Constant), (0, Schedule::Step { size: 0, gamma: 1.0 })]),
    ];
    for schedule in bad {
        let text = format!("{schedule:?}");
        let fit = Trainer::new(net(), Mse::default(), Sgd::new(0.1)).expect("a trainer");
        assert!(fit.with_schedule(schedule).is_err(), "{text} was taken");
    }
}

/// Whatever a schedule that is accepted is asked, it answers with a rate.
#[test]
fn accepted_schedules_have_finite_rates() {
    let mut tried = 0;
    for steps in 1..=40 {
        let mut candidates = vec![
            Schedule::one_cycle(0.1, steps),
            Schedule::Cosine { period: steps, minimum: 0.0 },
            Schedule::Linear { start: 0.0, end: 1.0, steps },
            Schedule::Step { size: steps, gamma: 0.1 },
        ];
        for share in [0.0, 0.1, 0.25, 0.5, 1.0] {
            let mut cycle = Schedule::one_cycle(0.1, steps);
            if let Schedule::OneCycle { rise, .. } = &mut cycle {
                *rise = share;
            }
            candidates.push(cycle);
        }
        for schedule in candidates {
            if schedule.check().is_err() {
                continue;
            }
            for step in 0..2 * steps {
                let rate = schedule.rate(0.1, step);
                assert!(rate.is_finite() && rate >= 0.0, "{schedule:?} at {step}: {rate}");
            }
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried} schedules");
}

#[test]
fn class_weights_that_are_none() {
    for bad in [f32::NAN, -0.5, f32::INFINITY] {
        let weights = Some(vec![1.0, bad, 1.0]);
        let loss = CrossEntropy { weights, ..CrossEntropy::default() };
        let labels = Tensor::labels([1], vec![0]).expect("a label");
        let error = net().eval().loss(&loss, &Tensor::zeros([1, 3]), &labels).unwrap_err();
        let expected = format!("weight of class 1: expected a finite number, 0 or more, got {bad}");
        assert_eq!(error.to_string(), expected);
        let mut fit = Trainer::new(net(), loss, Sgd::new(0.1)).expect("a trainer");
        let error = fit.step(&Tensor::zeros([1, 3]), &labels).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn momenta_of_a_cycle() {
    for (low, high) in [(0.0, 0.9), (0.9, 0.8), (0.8, 1.0), (f64::NAN, 0.9), (0.8, f64::NAN)] {
        let mut schedule = Schedule::one_cycle(0.1, 10);
        if let Schedule::OneCycle { momentum, .. } = &mut schedule {
            *momentum = MomentumCycle::Cycled { lowest: low, highest: high };
        }
        let fit = Trainer::new(net(), Mse::default(), Sgd::new(0.1)).expect("a trainer");
        let error = fit.with_schedule(schedule).unwrap_err().to_string();
        let expected = "momentum of the schedule: expected a range inside (0, 1), got";
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn label_smoothing_outside_of_shares() {
    for label_smoothing in [-0.1, 1.5, f32::NAN] {
        let loss = CrossEntropy { label_smoothing, ..CrossEntropy::default() };
        let labels = Tensor::labels([1], vec![0]).expect("a label");
        let error = net().eval().loss(&loss, &Tensor::zeros([1, 3]), &labels).unwrap_err();
        let expected = "label_smoothing: expected a number in [0, 1]";
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
