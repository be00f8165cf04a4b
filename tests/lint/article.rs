// SPDX-License-Identifier: MIT OR Apache-2.0
//! The six networks of the article, each with all that is found in it. It contradicts itself in two: batch
//! norm beside dropout, and rates of sequences above its own advice. Both are notes.

use kiln::loss::CrossEntropy;
use kiln::models::{
    Cnn, ResidualBlock, RnnClassifier, SimpleNet, SpatialDropoutCnn, VariableDropoutNet,
};
use kiln::nn::Module;
use kiln::op::TensorType;
use kiln::Var;

use crate::{batch, classifier, found, make, tokens, trained, BATCH};

fn lines(report: &kiln::lint::Report) -> Vec<String> {
    report.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn networks_that_follow_the_advice_have_no_finding() {
    let simple = classifier(batch(&[784]), |p| {
        let net = SimpleNet::new(p, 784, 512, 10, 0.5);
        move |x: &Var| net.forward(x)
    });
    let variable = classifier(batch(&[784]), |p| {
        let net = VariableDropoutNet::new(p);
        move |x: &Var| net.forward(x)
    });
    let cnn = classifier(batch(&[3, 32, 32]), |p| {
        let net = Cnn::new(p, 10);
        move |x: &Var| net.forward(x)
    });
    let spatial = found(batch(&[3, 32, 32]), |p| {
        let net = SpatialDropoutCnn::new(p, 0.2);
        move |x: &Var| net.forward(x)
    });
    for report in [simple, variable, cnn, spatial] {
        assert_eq!(lines(&report), [""; 0]);
    }
}

#[test]
fn the_residual_block_has_batch_norm_beside_dropout() {
    let report = found(batch(&[64, 32, 32]), |p| {
        let block = ResidualBlock::new(p, 64, 0.1);
        move |x: &Var| block.forward(x)
    });
    assert_eq!(
        lines(&report),
        [
            "note[D301] dropout: stands one layer before bn2",
            "note[D302] conv1: adds a bias, which bn1 subtracts again",
            "note[D302] conv2: adds a bias, which bn2 subtracts again",
        ]
    );
}

#[test]
fn the_classifier_of_texts_drops_more_than_is_advised() {
    let net = make(|p| RnnClassifier::new(p, 10_000, 100, 256, 2, 0.5));
    let labels = TensorType::i32([BATCH].into());
    let inputs = (tokens(20), labels.clone());
    let with_lengths =
        trained::<_, (Var, Var), Var, Var>(net, CrossEntropy::default(), &inputs, &labels);
    let net = make(|p| RnnClassifier::new(p, 10_000, 100, 256, 2, 0.5));
    let without = trained::<_, Var, Var, Var>(net, CrossEntropy::default(), &tokens(20), &labels);
    for report in [with_lengths, without] {
        assert_eq!(
            lines(&report),
            [
                "note[D103] dropout: drops 0.50 of embeddings, where 0.2 to 0.3 is usual",
                "note[D103] lstm: drops 0.50 of the steps of a recurrent layer, where 0.2 to 0.3 is usual",
            ]
        );
    }
}

/// The article's example of modes is smaller than its own advice allows.
#[test]
fn the_example_of_modes_is_too_small() {
    let report = classifier(batch(&[10]), |p| {
        let net = SimpleNet::new(p, 10, 20, 2, 0.5);
        move |x: &Var| net.forward(x)
    });
    assert_eq!(lines(&report), ["warn[D601] dropout1: drops in a network of 682 trained numbers"]);
}
