// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of findings: by code, by layer, in code.

use kiln::lint::{Case, Code, Level, Levels, Report, Severity};
use kiln::models::SimpleNet;
use kiln::nn::{Dropout, Linear, Module, Scope};
use kiln::Var;

use crate::{batch, found_in};

fn with(levels: Levels) -> Report {
    let case = Case { levels, ..Case::default() };
    found_in(&case, batch(&[784]), |p| {
        let net = SimpleNet::new(&p.at("net"), 784, 128, 10, 0.8);
        move |x: &Var| net.forward(x)
    })
}

fn severities(report: &Report) -> Vec<(String, Severity)> {
    let of_rates = report.findings.iter().filter(|finding| finding.code == Code::RateHigh);
    of_rates.map(|finding| (finding.layer.clone(), finding.severity)).collect()
}

#[test]
fn levels_decide_by_code_and_by_layer() {
    let warned = |layer: &str| (layer.to_owned(), Severity::Warn);
    let both = [warned("net.dropout1"), warned("net.dropout2")];
    assert_eq!(severities(&with(Levels::default())), both);
    let allowed = Levels::default().with(Code::RateHigh, Level::Allow);
    assert!(severities(&with(allowed.clone())).is_empty());
    let denied = Levels::default().with(Code::RateHigh, Level::Deny);
    assert!(severities(&with(denied)).iter().all(|(_, severity)| *severity == Severity::Deny));
    let one = allowed.with_layer("net.dropout2", Code::RateHigh, Level::Warn);
    assert_eq!(severities(&with(one)), both[1..]);
    let all_below = Levels::default().with_layer("net", Code::RateHigh, Level::Allow);
    assert!(severities(&with(all_below)).is_empty());
}

/// What the code allows stays allowed, whatever options say.
#[test]
fn a_layer_allows_a_code_for_itself() {
    let network = |scope: fn(&Scope) -> Scope| {
        let levels = Levels::default().with(Code::RateHigh, Level::Deny);
        let case = Case { levels, ..Case::default() };
        found_in(&case, batch(&[784]), move |p| {
            let drop = Dropout::new(&scope(&p.at("drop")), 0.8);
            let (a, b) = (Linear::new(&p.at("a"), 784, 128), Linear::new(&p.at("b"), 128, 10));
            move |x: &Var| b.forward(&drop.forward(&a.forward(x).relu()))
        })
    };
    assert_eq!(network(Scope::clone).worst(), Some(Severity::Deny));
    assert_eq!(network(|p| p.allow(Code::RateHigh)).findings, []);
    assert_eq!(network(|p| p.allow(Code::RateLow)).worst(), Some(Severity::Deny));
}
