// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plans of recurrent layers.

use kiln::loss::CrossEntropy;
use kiln::nn::{Gru, Linear, Lstm, Module, RecurrentOptions, Scope};
use kiln::op::{Op, TensorType};
use kiln::optim::Adam;
use kiln::plan::Plan;
use kiln::{Device, Net, Seed, Trainer, Var};

/// The last hidden state's scores.
struct Last<L> {
    layers: L,
    fc: Linear,
    run: fn(&L, &Var) -> Var,
}

impl<L: Send + Sync> Module for Last<L> {
    fn forward(&self, x: &Var) -> Var {
        self.fc.forward(&(self.run)(&self.layers, x))
    }
}

/// What a training step of two layers over so many steps of sequences is.
fn plan<L: Send + Sync>(steps: usize, make: fn(&Scope) -> L, run: fn(&L, &Var) -> Var) -> Plan {
    let net = Net::new(Device::cpu(), Seed(1), |p| Last {
        layers: make(&p.at("rnn")),
        fc: Linear::new(&p.at("fc"), 32, 10),
        run,
    });
    let mut fit = Trainer::new(net.expect("a network"), CrossEntropy::default(), Adam::new(1e-3))
        .expect("options");
    let (x, labels) = (TensorType::f32([4, steps, 16].into()), TensorType::i32([4].into()));
    fit.plan(&x, &labels).expect("a plan").clone()
}

fn lstm(p: &Scope) -> Lstm {
    Lstm::with_options(p, 16, 32, options())
}

fn options() -> RecurrentOptions {
    RecurrentOptions { layers: 2, dropout: 0.3, ..RecurrentOptions::default() }
}

fn of_lstm(steps: usize) -> Plan {
    plan(steps, lstm, |lstm, x| lstm.run(x).last_hidden().clone())
}

#[test]
fn plans_do_not_grow_with_the_number_of_steps() {
    let size = |plan: &Plan| (plan.graph.nodes().len(), plan.steps.len());
    assert_eq!(size(&of_lstm(2)), size(&of_lstm(1000)));
}

/// What does not have to wait for the step before is one product, and so are weight gradients, which
/// take the optimiser along.
#[test]
fn products_over_all_steps_are_those_of_linear_layers() {
    let of_gru = plan(
        7,
        |p| Gru::with_options(p, 16, 32, options()),
        |gru, x| gru.run(x).last_hidden().clone(),
    );
    for plan in [of_lstm(7), of_gru] {
        let of_layer = |name: &str| {
            let steps = plan.steps.iter().filter(|step| step.layer == "rnn");
            steps.filter(|step| step.kernel.name() == name).count()
        };
        assert_eq!(of_layer("linear"), 2, "one per layer");
        assert_eq!((of_layer("recurrent"), of_layer("recurrent_gradient")), (2, 2));
        assert_eq!(of_layer("linear_input_gradient"), 1, "of the upper layer");
        assert_eq!(of_layer("linear_weight_gradient"), 4, "two per layer");
        assert_eq!(of_layer("dropout"), 2, "once each way");
        assert_eq!(of_layer("plain"), 0);
        let recomputed = |op: &Op| matches!(op, Op::Dropout(_));
        let masks = plan.graph.nodes().filter(|(_, node)| recomputed(&node.op)).count();
        assert_eq!(masks, 2, "nothing but the two dropouts knows of masks");
    }
}

/// Where no gradient is asked for, nothing is saved for one.
#[test]
fn passes_without_gradients_save_nothing() {
    let mut net = Net::new(Device::cpu(), Seed(1), lstm).expect("a network");
    let x = TensorType::f32([4, 7, 16].into());
    let plan = net.plan(kiln::Mode::Train, &[x]).expect("a plan");
    let saved = plan.graph.nodes().filter(|(_, node)| node.ty.shape.last() == 5 * 32).count();
    assert_eq!(saved, 0);
}
