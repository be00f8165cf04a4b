// SPDX-License-Identifier: MIT OR Apache-2.0
//! D1: how much is dropped.

use super::part::Part;
use super::report::Findings;
use super::rule::{Rule, ARTICLE};
use super::sight::{Drop, Place, Sight, ROUNDING};
use super::{Code, Severity};
use crate::graph::NodeId;
use crate::op::Drops;

pub(super) static RATE_HIGH: Rule = Rule {
    code: Code::RateHigh,
    id: "D101",
    name: "rate-high",
    title: "more is dropped than helps",
    why: "With rates above 0.5 a layer sees less than half of what the one before it says, and networks \
          underfit; the last hidden layers stand up to 0.6. At rate 1 nothing is left.",
    grades: &[
        (Severity::Deny, "rate 1"),
        (Severity::Warn, "above 0.7"),
        (Severity::Note, "above 0.5, above 0.6 before the last layer"),
    ],
    mend: "lower the rate to 0.5 or less",
    source: ARTICLE,
    check: rate_high,
};

pub(super) static RATE_LOW: Rule = Rule {
    code: Code::RateLow,
    id: "D102",
    name: "rate-low",
    title: "too little is dropped to regularise",
    why: "Rates below 0.2 on features may not regularise enough to be worth the noise. In residual \
          branches, on attention and behind embeddings low rates are usual, and nothing is said there.",
    grades: &[(Severity::Note, "above 0 and below 0.2 on features, feature maps and recurrent layers")],
    mend: "raise the rate to 0.2 or more, or leave the dropout out",
    source: ARTICLE,
    check: rate_low,
};

pub(super) static RATE_FOR_LAYER: Rule = Rule {
    code: Code::RateForLayer,
    id: "D103",
    name: "rate-for-layer",
    title: "a rate that is high for this kind of layer",
    why: "Convolutions share their weights between places and recurrent layers theirs between steps, so \
          they overfit less than dense layers, and what is lost early is lost to all that follows. 0.2 to \
          0.3 is usual behind convolutions, between recurrent layers and behind embeddings.",
    grades: &[
        (Severity::Warn, "above 0.5 on feature maps"),
        (Severity::Note, "above 0.3 there, between recurrent layers and behind embeddings"),
    ],
    mend: "try a rate from 0.2 to 0.3",
    source: ARTICLE,
    check: rate_for_layer,
};

pub(super) static RATE_IN_BRANCH: Rule = Rule {
    code: Code::RateInBranch,
    id: "D104",
    name: "rate-in-branch",
    title: "a high rate in a residual branch",
    why: "A branch learns a small correction to what skips it. Much noise in each of many branches adds \
          up; 0.1 to 0.2 is usual, 0.3 to 0.4 in wide networks.",
    grades: &[(Severity::Warn, "above 0.5"), (Severity::Note, "above 0.2")],
    mend: "lower the rate to 0.1 or 0.2",
    source: "How to Implement Dropout in PyTorch; Zagoruyko & Komodakis 2016, arXiv:1605.07146",
    check: rate_in_branch,
};

pub(super) static RATES_FALL: Rule = Rule {
    code: Code::RatesFall,
    id: "D105",
    name: "rates-fall",
    title: "an early layer drops more than a later one",
    why: "Early layers learn general features, of which few can be spared: 0.2 to 0.3. Later ones learn \
          specific features and stand 0.5. Embeddings that drop more than the hidden layers behind \
          them are usual in language models with tied weights only.",
    grades: &[(Severity::Note, "always")],
    mend: "let rates rise from the first layer to the last",
    source: "How to Implement Dropout in PyTorch; Merity et al. 2017, arXiv:1708.02182",
    check: rates_fall,
};

/// Dropouts of what can be spoken of by rate: stochastic depth is another thing.
fn dropouts<'s>(sight: &'s Sight<'_>) -> impl Iterator<Item = &'s Drop> {
    let is_on = |drop: &&Drop| drop.p > 0.0 && drop.pieces != Drops::Samples;
    sight.dropouts.iter().filter(is_on)
}

fn is_above(p: f64, limit: f64) -> bool {
    p > limit + ROUNDING
}

fn rate_high(sight: &Sight<'_>, findings: &mut Findings) {
    for drop in dropouts(sight) {
        let layer = sight.layer(drop.id);
        let usual = match is_before_last(sight, drop.id) {
            true => 0.6,
            false => 0.5,
        };
        let p = drop.p;
        if p >= 1.0 {
            findings.add(
                Severity::Deny,
                layer,
                "drops everything: no value and no gradient passes",
            );
        } else if is_above(p, 0.7) {
            findings.add(
                Severity::Warn,
                layer,
                format!("drops {p:.2} of its input, far above 0.5"),
            );
        } else if drop.place == Place::Features && is_above(p, usual) {
            findings.add(
                Severity::Note,
                layer,
                format!("drops {p:.2} of its input, above {usual}"),
            );
        }
    }
}

/// Whether the next learned layer is the last one.
fn is_before_last(sight: &Sight<'_>, id: NodeId) -> bool {
    let learned = sight.behind(id, |part| !part.is_learned());
    !learned.is_empty()
        && learned.iter().all(|id| sight.behind(*id, |part| !part.is_learned()).is_empty())
}

fn rate_low(sight: &Sight<'_>, findings: &mut Findings) {
    for drop in dropouts(sight) {
        let is_usual = matches!(
            drop.place,
            Place::Branch | Place::Attention | Place::Embedding | Place::Input
        );
        if !is_usual && drop.p < 0.2 - ROUNDING {
            let reason = format!("drops {:.2} of its input, below 0.2", drop.p);
            findings.add(Severity::Note, sight.layer(drop.id), reason);
        }
    }
}

fn rate_for_layer(sight: &Sight<'_>, findings: &mut Findings) {
    for drop in dropouts(sight).filter(|drop| !is_above(drop.p, 0.7)) {
        let (what, bad) = match drop.place {
            Place::Maps => ("feature maps", 0.5),
            Place::Steps => ("the steps of a recurrent layer", 0.7),
            Place::Embedding => ("embeddings", 0.7),
            _ => continue,
        };
        let severity = match drop.p {
            p if is_above(p, bad) => Severity::Warn,
            p if is_above(p, 0.3) => Severity::Note,
            _ => continue,
        };
        let reason = format!("drops {:.2} of {what}, where 0.2 to 0.3 is usual", drop.p);
        findings.add(severity, sight.layer(drop.id), reason);
    }
}

fn rate_in_branch(sight: &Sight<'_>, findings: &mut Findings) {
    for drop in dropouts(sight).filter(|drop| drop.place == Place::Branch) {
        let severity = match drop.p {
            p if is_above(p, 0.7) => continue,
            p if is_above(p, 0.5) => Severity::Warn,
            p if is_above(p, 0.2) => Severity::Note,
            _ => continue,
        };
        let reason = format!("drops {:.2} in a residual branch, where 0.1 to 0.2 is usual", drop.p);
        findings.add(severity, sight.layer(drop.id), reason);
    }
}

fn rates_fall(sight: &Sight<'_>, findings: &mut Findings) {
    let is_compared = |drop: &&Drop| !matches!(drop.place, Place::Branch | Place::Attention);
    for early in dropouts(sight).filter(is_compared) {
        // The nearest ones behind it.
        let behind = sight.behind(early.id, |part| part != Part::Dropout);
        let later = dropouts(sight).filter(is_compared);
        for late in later.filter(|late| behind.contains(&late.id)) {
            if is_above(early.p, late.p + 0.02) {
                let reason = format!(
                    "drops {:.2}, more than the {:.2} of {} behind it",
                    early.p,
                    late.p,
                    shown(sight.layer(late.id)),
                );
                findings.add(Severity::Note, sight.layer(early.id), reason);
            }
        }
    }
}

fn shown(layer: &str) -> &str {
    match layer {
        "" => "the network",
        layer => layer,
    }
}
