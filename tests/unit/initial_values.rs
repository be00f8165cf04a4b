// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the first values of parameters depend on.

use kiln::mask::site_of;
use kiln::nn::{Init, Linear, Module, Param, Scope};
use kiln::{Device, Net, Seed, Var};

use crate::common::bits;

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
