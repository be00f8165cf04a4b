// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options of recurrent layers on the device: training follows the CPU, and no step is left to the host.

use kiln::backend::cuda::{work, Architecture, WorkItem};
use kiln::loss::CrossEntropy;
use kiln::nn::{
    Between, Directions, GateNorm, Gru, Linear, LockedDropout, Lstm, Module, RecurrentOptions, Rnn,
    Scope, Sequences,
};
use kiln::optim::Sgd;
use kiln::{Device, Net, Precision, Seed, Trainer, Var};

use super::recurrent::{batch, trained, FEATURES};
use crate::common::*;

/// Every option, with lengths: a projected LSTM in both directions that is normalised, a GRU whose updates are
/// dropped, and tanh units that zone out.
struct Sequence {
    lstm: Lstm,
    locked: LockedDropout,
    gru: Gru,
    tanh: Rnn,
    head: Linear,
}

impl Sequence {
    fn new(p: &Scope) -> Self {
        let of_lstm = RecurrentOptions {
            layers: 2,
            directions: Directions::Both,
            dropout: 0.3,
            between: Between::Locked,
            input_dropout: 0.2,
            output_dropout: 0.2,
            weight_dropout: 0.4,
            recurrent_dropout: 0.3,
            zoneout: 0.2,
            cell_zoneout: 0.3,
            norm: GateNorm::Layer,
            ..RecurrentOptions::default()
        };
        let of_gru = RecurrentOptions { recurrent_dropout: 0.4, ..RecurrentOptions::default() };
        let of_tanh =
            RecurrentOptions { zoneout: 0.3, weight_dropout: 0.3, ..RecurrentOptions::default() };
        Sequence {
            lstm: Lstm::projected(&p.at("lstm"), FEATURES, 19, 8, of_lstm),
            locked: LockedDropout::new(&p.at("locked"), 0.2),
            gru: Gru::with_options(&p.at("gru"), 16, 8, of_gru),
            tanh: Rnn::with_options(&p.at("tanh"), 8, 33, <_>::default(), of_tanh),
            head: Linear::new(&p.at("head"), 33, 6),
        }
    }
}

impl Module<(Var, Var)> for Sequence {
    fn forward(&self, (x, lengths): &(Var, Var)) -> Var {
        let read = self.lstm.run(Sequences::new(x).with_lengths(lengths));
        let output = self.locked.forward(&read.output);
        let told = self.gru.run(Sequences::new(&output).with_lengths(lengths));
        let last = self.tanh.run(Sequences::new(&told.output).with_lengths(lengths));
        self.head.forward(last.last_hidden())
    }
}

type Fit = Trainer<Sequence, (Var, Var)>;

fn trainer(device: Device) -> Fit {
    let net = Net::new(device, Seed(7), Sequence::new).expect("a network");
    Trainer::new(net, CrossEntropy::default(), Sgd::new(0.1)).expect("a trainer")
}

/// Issued, captured and replayed.
#[test]
fn options_of_recurrent_layers_follow_the_cpu() {
    let driver = driver();
    for (precision, steps, tolerance) in
        [(Precision::F32, 3, 1e-4), (Precision::Bf16, 1, 5e-2), (Precision::F16, 1, 5e-3)]
    {
        let (_, parameters) = trained(trainer(gpu().with_precision(precision)), steps);
        let (_, reference) = trained(trainer(cpu().with_precision(precision)), steps);
        for ((name, got), (_, reference)) in parameters.iter().zip(&reference) {
            assert_close(&format!("{precision} {name}"), got, reference, tolerance);
        }
    }
    driver.assert_clean();
}

#[test]
fn no_option_of_a_recurrent_layer_is_left_to_the_host() {
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
        let device = Device::on_paper(Architecture::SM_90).with_precision(precision);
        let mut fit = trainer(device);
        let [x, lengths, y] = batch(1).map(|tensor| tensor.ty());
        let plan = fit.plan(&(x.clone(), lengths.clone()), &y).expect("a plan").clone();
        assert_eq!(plan.totals().mask_bytes, 0);
        let eval = fit.net().plan(kiln::Mode::Eval, &[x, lengths]).expect("a plan").clone();
        for plan in [plan, eval] {
            let work = work(&plan, Architecture::SM_90, precision).expect("the plan's work");
            for (step, items) in plan.steps.iter().zip(&work.steps) {
                let on_host = items.iter().any(|item| matches!(item, WorkItem::Host { .. }));
                assert!(!on_host, "{} of {:?}", step.kernel.name(), step.layer);
            }
        }
    }
}
