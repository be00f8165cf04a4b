// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::{
    average, sum_of_squares, update, Average, Decay, Moments, Nesterov, Step, UpdateRule, Updated,
};
use super::*;

/// The gradients of the golden runs, made with PyTorch from p = 1 at learning rate 0.1.
const GRADIENTS: [f32; 3] = [1.0, 0.5, -0.25];

/// Three steps on 37 equal parameters.
fn three_steps(pool: &Pool, isa: Isa, rule: impl Fn(i32) -> UpdateRule) -> f32 {
    let (mut values, mut first, mut second) = (vec![1.0; 37], vec![7.0; 37], vec![0.0; 37]);
    if matches!(rule(1), UpdateRule::Adam { .. }) {
        first.fill(0.0);
    }
    for (step, gradient) in (1..).zip(GRADIENTS) {
        let moments = Moments::Two(&mut first, &mut second);
        let updated = Updated { values: &mut values, moments, average: None };
        update(pool, isa, &rule(step), &[gradient * 4.0; 37], 0.25, updated);
    }
    assert!(values.iter().all(|&value| value == values[0]));
    values[0]
}

fn sgd(nesterov: Nesterov, weight_decay: f32) -> impl Fn(i32) -> UpdateRule {
    move |step| UpdateRule::Sgd {
        learning_rate: 0.1,
        momentum: 0.9,
        dampening: 0.0,
        nesterov,
        weight_decay,
        step: if step == 1 { Step::First } else { Step::Later },
    }
}

fn adam(eps: f32, decay: Decay) -> impl Fn(i32) -> UpdateRule {
    move |step| UpdateRule::Adam {
        decays: [0.9, 0.999],
        shares: [0.1, (1.0 - 0.999f64) as f32],
        step_size: (0.1 / (1.0 - 0.9f64.powi(step))) as f32,
        inv_sqrt_bias2: (1.0 / (1.0 - 0.999f64.powi(step)).sqrt()) as f32,
        eps,
        decay,
    }
}

#[test]
fn golden_numbers_of_pytorch() {
    let close = |got: f32, want: f32| assert!((got - want).abs() < 2e-6, "got {got}, want {want}");
    everywhere(|pool, isa| {
        close(three_steps(pool, isa, sgd(Nesterov::Off, 0.0)), 0.6590);
        close(three_steps(pool, isa, sgd(Nesterov::On, 0.0)), 0.5681);
        close(three_steps(pool, isa, sgd(Nesterov::On, 0.1)), 0.5010284);
        close(three_steps(pool, isa, adam(1e-8, Decay::Coupled(0.0))), 0.7504159);
        close(three_steps(pool, isa, adam(1e-8, Decay::Coupled(0.1))), 0.7421954);
        close(three_steps(pool, isa, adam(0.1, Decay::Coupled(0.0))), 0.7773804);
        close(three_steps(pool, isa, adam(1e-8, Decay::Decoupled(0.99))), 0.7236371);
    });
}

#[test]
fn plain_sgd_needs_no_moments() {
    let rule = UpdateRule::Sgd {
        learning_rate: 0.5,
        momentum: 0.0,
        dampening: 0.0,
        nesterov: Nesterov::Off,
        weight_decay: 0.25,
        step: Step::Later,
    };
    everywhere(|pool, isa| {
        let mut values = vec![2.0; 100];
        let updated = Updated { values: &mut values, moments: Moments::None, average: None };
        update(pool, isa, &rule, &[1.0; 100], 1.0, updated);
        assert_eq!(values, [1.25; 100]);
    });
}

#[test]
fn the_norm_does_not_depend_on_threads_or_instructions() {
    for count in [0, 1, 4095, 4097, 50_000] {
        let x = noise(count, 9);
        let want: f64 = x.iter().map(|&value| f64::from(value).powi(2)).sum();
        let one = sum_of_squares(&pool(1), Isa::Portable, &x);
        assert!((one - want).abs() <= 1e-12 * want);
        everywhere(|pool, isa| assert_eq!(sum_of_squares(pool, isa, &x), one));
    }
}

/// Without weight decay an infinite parameter stays what it is, and no moment hears of it.
#[test]
fn infinite_parameters_without_decay() {
    let rules = [
        UpdateRule::Sgd {
            learning_rate: 0.1,
            momentum: 0.0,
            dampening: 0.0,
            nesterov: Nesterov::Off,
            weight_decay: 0.0,
            step: Step::Later,
        },
        sgd(Nesterov::Off, 0.0)(2),
        sgd(Nesterov::On, 0.0)(1),
        adam(1e-8, Decay::Coupled(0.0))(2),
        adam(1e-8, Decay::Decoupled(1.0))(2),
    ];
    everywhere(|pool, isa| {
        for (rule, scale) in rules.iter().flat_map(|rule| [(rule, 1.0), (rule, 0.5)]) {
            let mut values = [f32::INFINITY; 37];
            let (mut first, mut second) = ([0.25; 37], [0.25; 37]);
            let moments = Moments::Two(&mut first, &mut second);
            let updated = Updated { values: &mut values, moments, average: None };
            update(pool, isa, rule, &[0.5; 37], scale, updated);
            assert_eq!(values, [f32::INFINITY; 37], "{rule:?} on {isa}");
            let are_finite = first.iter().chain(&second).all(|moment| moment.is_finite());
            assert!(are_finite, "moments of {rule:?} on {isa}");
        }
    });
}

/// In an optimiser's tail and alone, averages get the same bits, beginning with the values.
#[test]
fn averages_follow_what_they_stand_beside() {
    let rules = [sgd(Nesterov::Off, 0.1)(1), adam(1e-8, Decay::Decoupled(0.9))(1)];
    everywhere(|pool, isa| {
        for (rule, weight) in rules.iter().flat_map(|rule| [1.0, 0.25, 0.75].map(|w| (rule, w))) {
            let (mut values, gradient) = (noise(37, 1), noise(37, 2));
            let (mut first, mut second) = (vec![0.5; 37], vec![0.25; 37]);
            let mut beside = noise(37, 3);
            if weight == 1.0 {
                beside[..2].copy_from_slice(&[f32::NAN, f32::INFINITY]);
            }
            let mut alone = beside.clone();
            let moments = Moments::Two(&mut first, &mut second);
            let averages = Average { averages: &mut beside, weight };
            let updated = Updated { values: &mut values, moments, average: Some(averages) };
            update(pool, isa, rule, &gradient, 1.0, updated);
            let before = alone.clone();
            average(pool, isa, &values, Average { averages: &mut alone, weight });
            let bits = |all: &[f32]| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&beside), bits(&alone), "{weight}, {rule:?} on {isa}");
            for ((&now, &old), &value) in alone.iter().zip(&before).zip(&values) {
                let moved = if weight == 1.0 { value } else { old + weight * (value - old) };
                assert!((now - moved).abs() <= 1e-6, "{now}, {moved} on {isa}");
            }
        }
    });
}
