// SPDX-License-Identifier: MIT OR Apache-2.0
//! D6: the network as a whole, and its modes.

use super::report::Findings;
use super::rule::{Rule, ARTICLE};
use super::sight::{Place, Sight};
use super::{Code, Severity, Use};
use crate::graph::ParamRole;
use crate::grouped;
use crate::op::Op;

pub(super) static SMALL_NETWORK: Rule = Rule {
    code: Code::SmallNetwork,
    id: "D601",
    name: "small-network",
    title: "a network too small to spare anything",
    why: "A network with few parameters can hardly learn its training set by heart, and a layer of few \
          features has no two that say the same: dropout takes capacity where there is none to spare.",
    grades: &[
        (Severity::Warn, "fewer than 1000 trained numbers, or dropout of fewer than 8 features"),
        (Severity::Note, "fewer than 4000 trained numbers"),
    ],
    mend: "leave dropout out, or make the layers wider",
    source: ARTICLE,
    check: small_network,
};

pub(super) static NO_EFFECT: Rule = Rule {
    code: Code::NoEffect,
    id: "D602",
    name: "no-effect",
    title: "dropout that does nothing",
    why: "A rate of 0 drops nothing. The dropout of a recurrent layer stands between layers, so one layer \
          alone has none, whatever rate it is given.",
    grades: &[
        (Severity::Warn, "a recurrent layer of one layer with a rate above 0"),
        (Severity::Note, "a rate of 0, as comparisons have it"),
    ],
    mend: "leave it out, give it a rate, or put a Dropout behind the recurrent layer",
    source: "How to Implement Dropout in PyTorch; torch.nn.LSTM, which warns of the latter",
    check: no_effect,
};

pub(super) static MONTE_CARLO_WITHOUT_DROPOUT: Rule = Rule {
    code: Code::MonteCarloWithoutDropout,
    id: "D603",
    name: "monte-carlo-without-dropout",
    title: "Monte Carlo passes that are all alike",
    why: "Monte Carlo dropout reads off the spread of passes how sure a network is. Where nothing is \
          dropped, all passes are alike, and it seems sure of everything.",
    grades: &[(Severity::Deny, "where predictions are made so")],
    mend: "put dropout before the last layer",
    source: "Gal & Ghahramani 2015, arXiv:1506.02142",
    check: monte_carlo_without_dropout,
};

pub(super) static RANDOM_IN_EVAL: Rule = Rule {
    code: Code::RandomInEval,
    id: "D604",
    name: "random-in-eval",
    title: "eval mode is random, or changes what it should only read",
    why: "In eval mode the same input gives the same answer, and a network is as it was before. A layer that \
          draws or writes there makes predictions that nobody can repeat. Networks of kiln's layers \
          cannot: their plans are refused.",
    grades: &[(Severity::Deny, "always")],
    mend: "draw and write in train mode alone",
    source: "How to Implement Dropout in PyTorch: a forgotten eval() is the most common mistake",
    check: random_in_eval,
};

/// Fewer trained numbers than this leave nothing to spare.
const FEW: usize = 1000;
/// Fewer than this leave little.
const SOME: usize = 4000;
/// Fewer features have no two that say the same.
const FEATURES: usize = 8;

fn small_network(sight: &Sight<'_>, findings: &mut Findings) {
    let Some(first) = sight.dropouts.iter().find(|drop| drop.p > 0.0) else { return };
    let trained = sight.graph.parameters().iter().filter(|spec| spec.role == ParamRole::Trained);
    let parameters: usize = trained.map(|spec| spec.shape.elements()).sum();
    if parameters < SOME {
        let severity = if parameters < FEW { Severity::Warn } else { Severity::Note };
        let reason = format!("drops in a network of {} trained numbers", grouped(parameters));
        findings.add(severity, sight.layer(first.id), reason);
        return;
    }
    for drop in sight.dropouts.iter().filter(|drop| drop.p > 0.0) {
        let shape = &sight.graph.node(drop.id).ty.shape;
        let features = match drop.place {
            Place::Features if shape.rank() == 2 => shape.last(),
            Place::Maps => shape.dims().get(1).copied().unwrap_or(0),
            _ => continue,
        };
        if features < FEATURES {
            let reason = format!("drops some of {features} features");
            findings.add(Severity::Warn, sight.layer(drop.id), reason);
        }
    }
}

fn no_effect(sight: &Sight<'_>, findings: &mut Findings) {
    for drop in sight.dropouts.iter().filter(|drop| drop.p == 0.0) {
        findings.add(Severity::Note, sight.layer(drop.id), "drops nothing: its rate is 0");
    }
}

fn monte_carlo_without_dropout(sight: &Sight<'_>, findings: &mut Findings) {
    let draws = |op: &Op| match op {
        Op::Dropout(dropout) => dropout.rate.most() > 0.0,
        op => op.is_random(),
    };
    let is_random = sight.graph.nodes().any(|(_, node)| draws(&node.op));
    if sight.case.used == Use::MonteCarlo && !is_random {
        findings.add(Severity::Deny, "", "nothing is dropped, so all passes are alike");
    }
}

fn random_in_eval(sight: &Sight<'_>, findings: &mut Findings) {
    for (id, node) in sight.eval.nodes() {
        let reason = match &node.op {
            op if op.is_random() => "draws random numbers in eval mode",
            op if op.is_effect() => "changes state in eval mode",
            _ => continue,
        };
        findings.add(Severity::Deny, &sight.eval.layer(id).path, reason);
    }
}
