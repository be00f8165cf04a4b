// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the first values of parameters depend on.

use kiln::mask::site_of;
use kiln::nn::{Fan, Init, Linear, Module, Param, Scope};
use kiln::{Device, Net, Seed, Var};

use crate::common::bits;
use crate::common::close::doubles;

/// Parameters of these names, all of one shape.
struct Named(Vec<Param>);

impl Module for Named {
    fn forward(&self, x: &Var) -> Var {
        self.0.iter().fold(x.clone(), |x, gain| &x * &x.parameter(gain))
    }
}

fn values(names: &[&str]) -> Vec<Vec<u32>> {
    let make = |p: &Scope| {
        let bound = Init::Uniform { bound: 1.0 };
        Named(names.iter().map(|name| p.parameter(name, [100], bound)).collect())
    };
    let mut net = Net::new(Device::cpu(), Seed(7), make).expect("a network");
    names.iter().map(|name| bits(&net.parameter(name).expect("its name"))).collect()
}

/// `costarring` and `liquid` have one 32-bit hash, and so has every pair of parameters in them.
#[test]
fn layers_whose_names_share_a_hash_have_values_of_their_own() {
    assert_eq!(site_of("costarring"), site_of("liquid"));
    assert_eq!(site_of("costarring.weight"), site_of("liquid.weight"));
    struct Pair(Linear, Linear);
    impl Module for Pair {
        fn forward(&self, x: &Var) -> Var {
            &self.0.forward(x) + &self.1.forward(x)
        }
    }
    let make = |p: &Scope| {
        Pair(Linear::new(&p.at("costarring"), 9, 5), Linear::new(&p.at("liquid"), 9, 5))
    };
    let mut net = Net::new(Device::cpu(), Seed(7), make).expect("a network");
    for name in ["weight", "bias"] {
        let [a, b] = ["costarring", "liquid"]
            .map(|layer| bits(&net.parameter(&format!("{layer}.{name}")).expect("its name")));
        let equal = a.iter().zip(&b).filter(|(a, b)| a == b).count();
        assert_eq!(equal, 0, "{name} of both layers");
    }
}

/// The first of the names keeps the values that it has alone; what else there is changes nothing.
#[test]
fn values_depend_on_seed_and_name() {
    let alone = |name| values(&[name]).remove(0);
    let found = values(&["costarring", "other", "liquid"]);
    assert_eq!(found[0], alone("costarring"));
    assert_eq!(found[1], alone("other"));
    assert_ne!(found[2], alone("liquid"), "costarring has them");
    assert_eq!(values(&["liquid", "costarring"])[0], alone("liquid"));
    assert_eq!(values(&["other", "costarring"])[1], alone("costarring"));
}

/// One parameter and nothing else.
#[derive(Debug)]
struct One(Param);

impl Module for One {
    fn forward(&self, x: &Var) -> Var {
        x.parameter(&self.0)
    }
}

fn drawn(shape: &[usize], init: Init) -> Vec<f64> {
    let make = |p: &Scope| One(p.parameter("weight", shape, init));
    let mut net = Net::new(Device::cpu(), Seed(7), make).expect("a network");
    doubles(&net.parameter("weight").expect("its name"))
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    (mean, (squares / values.len() as f64).sqrt())
}

/// Mean, deviation and range are those of `torch.nn.init`, within what 24,000 draws show.
#[test]
fn initialisers_have_the_moments_of_their_names() {
    // Fan in 60 * 4, fan out 100 * 4.
    let shape = [100, 60, 2, 2];
    let (fan_in, fan_out) = (240.0f64, 400.0f64);
    let he = |slope: f64, fan: f64| (2.0 / (1.0 + slope * slope) / fan).sqrt();
    let glorot = |gain: f64| gain * (2.0 / (fan_in + fan_out)).sqrt();
    let (root, free) = (3.0f64.sqrt(), f64::INFINITY);
    let cut = |min, max| Init::TruncatedNormal { mean: 1.0, deviation: 2.0, min, max };
    let cases = [
        (Init::Zeros, 0.0, 0.0, 0.0),
        (Init::Ones, 1.0, 0.0, 1.0),
        (Init::Normal { mean: -1.0, deviation: 0.5 }, -1.0, 0.5, free),
        (Init::KaimingUniform { slope: 0.5, fan: Fan::In }, 0.0, he(0.5, fan_in), root),
        (Init::KaimingNormal { slope: 0.0, fan: Fan::Out }, 0.0, he(0.0, fan_out), free),
        (Init::XavierUniform { gain: 2.0 }, 0.0, glorot(2.0), root),
        (Init::XavierNormal { gain: 1.0 }, 0.0, glorot(1.0), free),
        // Moments by integration: the middle, a slope, a narrow piece, and both tails.
        (cut(-3.0, 5.0), 1.0, 1.7592513, free),
        (cut(1.0, 9.0), 2.5953349, 1.2044185, free),
        (cut(1.5, 2.0), 1.7461025, 0.1441557, free),
        (cut(7.0, 30.0), 7.5661973, 0.5312596, free),
        (cut(-30.0, -5.0), -5.5661973, 0.5312596, free),
    ];
    for (init, mean, deviation, widest) in cases {
        let values = drawn(&shape, init);
        let found = mean_and_deviation(&values);
        let margin = 0.02 * deviation.max(1e-6);
        let close = (found.0 - mean).abs() < 1.5 * margin && (found.1 - deviation).abs() < margin;
        assert!(close, "{init:?}: {found:?}, not {mean} and {deviation}");
        let largest = values.iter().fold(0.0f64, |most, x| most.max((x - mean).abs()));
        assert!(deviation == 0.0 || largest <= widest * deviation * 1.0001, "{init:?}: {largest}");
        if let Init::TruncatedNormal { min, max, .. } = init {
            let range = f64::from(min)..=f64::from(max);
            assert!(values.iter().all(|x| range.contains(x)), "{init:?}");
        }
    }
}

#[test]
fn orthogonal_matrices_are() {
    for shape in [[5, 5], [3, 40], [40, 3], [1, 7], [7, 1]] {
        let [rows, columns] = shape;
        let values = drawn(&shape, Init::Orthogonal { gain: 2.0 });
        let count = rows.min(columns);
        let at = |vector: usize, element: usize| match rows <= columns {
            true => values[vector * columns + element],
            false => values[element * columns + vector],
        };
        for (a, b) in (0..count).flat_map(|a| (0..count).map(move |b| (a, b))) {
            let dot: f64 = (0..rows.max(columns)).map(|at_| at(a, at_) * at(b, at_)).sum();
            let expected = if a == b { 4.0 } else { 0.0 };
            assert!((dot - expected).abs() < 1e-5, "{shape:?}: {a} and {b}: {dot}");
        }
    }
}

#[test]
fn initialisers_that_cannot_fill_a_shape_are_refused() {
    let nan = f32::NAN;
    let cases: [(&[usize], Init, &str); 4] = [
        (&[3], Init::XavierNormal { gain: 1.0 }, "a shape of rank 2 or more"),
        (&[3, 3], Init::Orthogonal { gain: nan }, "finite numbers of 0 or more"),
        (&[3], Init::Normal { mean: 0.0, deviation: -1.0 }, "finite numbers of 0 or more"),
        (
            &[3],
            Init::TruncatedNormal { mean: 0.0, deviation: 1.0, min: 2.0, max: 2.0 },
            "an initialiser with a range",
        ),
    ];
    for (shape, init, expected) in cases {
        let make = |p: &Scope| One(p.at("layer").parameter("weight", shape, init));
        let error = Net::new(Device::cpu(), Seed(7), make).unwrap_err().to_string();
        assert!(error.starts_with("layer: parameter weight: expected "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}
