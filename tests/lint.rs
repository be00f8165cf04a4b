// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lint against networks whose mistakes are known: those that have none, those of the article, and
//! mutants with one mistake each.

#[path = "lint/article.rs"]
mod article;
#[path = "lint/blocks.rs"]
mod blocks;
#[path = "lint/clean/mod.rs"]
mod clean;
#[path = "lint/levels.rs"]
mod levels;
#[path = "lint/mutants/mod.rs"]
mod mutants;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use kiln::lint::{Case, Code, Report, Severity};
use kiln::loss::{CrossEntropy, Loss};
use kiln::nn::{Module, Scope};
use kiln::op::TensorType;
use kiln::optim::Sgd;
use kiln::{Device, Net, Seed, Trainer, Values, Var};

/// A network made of a function.
struct Function<F>(F);

impl<F: Fn(&Var) -> Var + Send + Sync> Module for Function<F> {
    fn forward(&self, x: &Var) -> Var {
        (self.0)(x)
    }
}

/// Samples in every batch.
const BATCH: usize = 16;

/// A batch of samples of a shape.
fn batch(sample: &[usize]) -> TensorType {
    TensorType::f32([&[BATCH], sample].concat().into())
}

/// A batch of texts.
fn tokens(steps: usize) -> TensorType {
    TensorType::i32([BATCH, steps].into())
}

fn make<M>(of: impl FnOnce(&Scope) -> M) -> Net<M> {
    Net::new(Device::cpu(), Seed(7), of).expect("a network")
}

/// What is found in a network as it is, without a loss.
fn found<F>(x: TensorType, of: impl FnOnce(&Scope) -> F) -> Report
where
    F: Fn(&Var) -> Var + Send + Sync,
{
    found_in(&Case::default(), x, of)
}

fn found_in<F>(case: &Case, x: TensorType, of: impl FnOnce(&Scope) -> F) -> Report
where
    F: Fn(&Var) -> Var + Send + Sync,
{
    make(|p| Function(of(p))).lint_in(case, &[x]).expect("a report")
}

/// What is found in a classifier.
fn classifier<F>(x: TensorType, of: impl FnOnce(&Scope) -> F) -> Report
where
    F: Fn(&Var) -> Var + Send + Sync,
{
    let net = make(|p| Function(of(p)));
    trained(net, CrossEntropy::default(), &x, &TensorType::i32([BATCH].into()))
}

/// What is found in a network that is trained with a loss.
fn trained<M, I, O, T>(
    net: Net<M>,
    loss: impl Loss<O, T> + 'static,
    inputs: &I::Of<TensorType>,
    targets: &T::Of<TensorType>,
) -> Report
where
    M: Module<I, O>,
    I: Values,
    O: Values,
    T: Values,
{
    let mut trainer = Trainer::<M, I, O, T>::new(net, loss, Sgd::new(0.1)).expect("a trainer");
    trainer.lint_in(&Case::default(), inputs, targets).expect("a report")
}

/// A line that is shown even though the test passes.
fn summary(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn networks_without_a_mistake_have_no_warning() {
    let networks = clean::networks();
    assert!(networks.len() >= 20, "{}", networks.len());
    let (mut wrong, mut notes) = (Vec::new(), 0);
    for (name, look) in &networks {
        for finding in look().findings {
            match finding.severity {
                Severity::Note => notes += 1,
                _ => wrong.push(format!("{name}: {finding}")),
            }
        }
    }
    summary(&format!(
        "lint: {} networks without a mistake, {} warnings, {notes} notes",
        networks.len(),
        wrong.len()
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mutants_are_found() {
    let mutants = mutants::mutants();
    let mut by_code: BTreeMap<Code, usize> = BTreeMap::new();
    let (mut missed, mut graded) = (Vec::new(), Vec::new());
    for mutant in &mutants {
        *by_code.entry(mutant.code).or_default() += 1;
        let report = (mutant.look)();
        let mut of_code = report.findings.iter().filter(|finding| finding.code == mutant.code);
        match of_code.next() {
            None => missed.push(format!("{} {}: {report}", mutant.code, mutant.name)),
            Some(finding) if finding.severity != mutant.severity => graded.push(format!(
                "{} {}: expected {}, got {finding}",
                mutant.code, mutant.name, mutant.severity
            )),
            Some(_) => {}
        }
    }
    let recall = 100.0 * (mutants.len() - missed.len()) as f64 / mutants.len() as f64;
    summary(&format!("lint: {} mutants, recall {recall:.1} %", mutants.len()));
    for code in Code::ALL {
        let count = by_code.get(&code).copied().unwrap_or(0);
        assert!(count >= 3, "{code} has {count} mutants");
    }
    assert!(mutants.len() >= 72 && recall >= 95.0, "missed:\n{}", missed.join("\n"));
    assert!(graded.is_empty(), "graded otherwise:\n{}", graded.join("\n"));
}

/// Timings on a busy machine are compared with others of the same moment; in a build for speed the bound
/// is that which users were promised.
#[test]
fn a_network_takes_a_few_milliseconds() {
    for (name, Times { lint, plan }) in clean::timed() {
        summary(&format!("lint: {lint:.1?} for {name}, whose plan takes {plan:.1?}"));
        assert!(lint < plan, "{name}: {lint:?}, its plan {plan:?}");
        assert!(cfg!(debug_assertions) || lint < Duration::from_millis(5), "{name}: {lint:?}");
    }
}

/// How long it takes to look at a network, and to plan a training step of it.
struct Times {
    lint: Duration,
    plan: Duration,
}

/// The shortest of several tries, tracing included.
fn timed<F>(x: &TensorType, of: impl Fn(&Scope) -> F) -> Times
where
    F: Fn(&Var) -> Var + Send + Sync,
{
    let labels = TensorType::i32([BATCH].into());
    let trainer = || {
        let net = make(|p| Function(of(p)));
        Trainer::new(net, CrossEntropy::default(), Sgd::new(0.1)).expect("a trainer")
    };
    let shortest = |body: &mut dyn FnMut() -> Duration| (0..5).map(|_| body()).min();
    let mut looked = trainer();
    let lint = shortest(&mut || {
        let begun = Instant::now();
        looked.lint_in(&Case::default(), x, &labels).expect("a report");
        begun.elapsed()
    });
    let plan = shortest(&mut || {
        let mut fresh = trainer();
        let begun = Instant::now();
        fresh.plan(x, &labels).expect("a plan");
        begun.elapsed()
    });
    Times { lint: lint.unwrap_or_default(), plan: plan.unwrap_or_default() }
}
