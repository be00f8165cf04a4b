// SPDX-License-Identifier: MIT OR Apache-2.0
//! Indices that name nothing: an error where they are given, NaN where they are computed.

use kiln::nn::{Init, Keep, Module, Param, Scope};
use kiln::{Net, Seed, Tensor, Var};

use crate::common::close::doubles;
use crate::common::targets::targets;

/// Two columns of integers choose from two tables, the larger one by way of other extents.
struct Categories {
    small: Param,
    large: Param,
}

impl Categories {
    fn new(p: &Scope) -> Self {
        let init = Init::Uniform { bound: 1.0 };
        Categories {
            small: p.at("tables").parameter("small", [3, 2], init),
            large: p.at("tables").parameter("large", [2, 100], init),
        }
    }
}

impl Module for Categories {
    fn forward(&self, x: &Var) -> Var {
        let small = x.parameter(&self.small).take(0, &x.slice(1, ..1).reshape([2]));
        let turned = x.t().slice(0, 1..).t();
        let large = x.parameter(&self.large).gather(1, &turned);
        small * large
    }
}

#[test]
fn an_index_given_is_looked_at_on_every_device() {
    for target in targets() {
        let mut net = Net::new(target.device(), Seed(1), Categories::new).expect("a network");
        let mut forward = |indices: [i32; 4]| {
            let x = Tensor::labels([2, 2], indices.to_vec()).expect("as many");
            net.train().forward(&x).map(|y| doubles(&y)).map_err(|error| error.to_string())
        };
        let there = forward([2, 99, 0, 0]).expect("all are there");
        assert!(there.iter().all(|y| y.is_finite()), "{}: {there:?}", target.name);
        // A column says nothing of the other one's table.
        for (indices, what) in [
            ([3, 0, 0, 0], "take: index 0 of input 0: expected a number from 0 to 2, got 3"),
            ([0, 99, -1, 0], "take: index 2 of input 0: expected a number from 0 to 2, got -1"),
            ([0, 0, 0, 100], "gather: index 3 of input 0: expected a number from 0 to 99, got 100"),
        ] {
            assert_eq!(forward(indices).unwrap_err(), what, "{}", target.name);
        }
        assert_eq!(net.pass(), 1, "a pass that failed does not count");
    }
}

/// The place of the largest of seven elements chooses one of five rows.
struct Computed(Param);

impl Module for Computed {
    fn forward(&self, x: &Var) -> Var {
        let table = x.parameter(&self.0);
        let place = x.argmax_over(1, Keep::Nothing);
        let gathered = table.gather(0, &place.unsqueeze(1));
        Var::concat(&[table.take(0, &place), gathered], 1) + x.sum() * 0.0
    }
}

#[test]
fn an_index_computed_gives_nan_where_it_names_nothing() {
    for target in targets() {
        let make = |p: &Scope| Computed(p.parameter("table", [5, 2], Init::Ones));
        let mut net = Net::new(target.device(), Seed(1), make).expect("a network");
        let mut x = vec![0.0; 21];
        // The largest are elements 4, 5 and 4.
        (x[4], x[7 + 5], x[14 + 4]) = (1.0, 1.0, 1.0);
        let x = Tensor::new([3, 7], x).expect("as many");
        let dy = Tensor::new([3, 3], (1..10).map(|i| i as f32).collect()).expect("as many");
        let found = net.train().gradients(&x, &dy).expect("a pass");
        let name = &target.name;
        let y = doubles(&found.output);
        assert!(y[3..6].iter().all(|y| y.is_nan()), "{name}: {y:?}");
        assert!([&y[..3], &y[6..]].concat().iter().all(|&y| y == 1.0), "{name}: {y:?}");
        // Rows 0 and 2 add up, the one that names nothing goes nowhere.
        let gradient = doubles(&found.parameters[0].1);
        let expected = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 8.0 + 12.0, 10.0];
        assert_eq!(gradient, expected, "{name}");
    }
}
