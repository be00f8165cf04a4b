// SPDX-License-Identifier: MIT OR Apache-2.0
//! D4: activation functions that are missing, doubled, or done again by the loss.

use super::part::{Activation, Part};
use super::report::Findings;
use super::rule::Rule;
use super::sight::Sight;
use super::{Code, Severity};
use crate::graph::NodeId;
use crate::op::{Binary, Op, Softmax};

pub(super) static SOFTMAX_BEFORE_LOSS: Rule = Rule {
    code: Code::SoftmaxBeforeLoss,
    id: "D401",
    name: "softmax-before-loss",
    title: "probabilities are given to a loss that takes scores",
    why: "Cross-entropy takes softmax itself, and BCE with logits the sigmoid. Done twice, the largest \
          probability cannot be near 1: the loss stays high, and gradients are small.",
    grades: &[
        (Severity::Warn, "softmax or sigmoid"),
        (Severity::Note, "log_softmax before cross-entropy, which changes nothing"),
    ],
    mend: "return the scores, and take softmax where predictions are shown",
    source: "UMLAUT, CHI 2021; NeuraLint, TOSEM 2022",
    check: softmax_before_loss,
};

pub(super) static MISSING_ACTIVATION: Rule = Rule {
    code: Code::MissingActivation,
    id: "D402",
    name: "missing-activation",
    title: "two learned layers without an activation function between them",
    why: "Two linear maps in a row are one linear map: the first adds parameters and no power. Layers that \
          narrow on purpose, and convolutions that divide one in two, are told apart.",
    grades: &[
        (Severity::Warn, "nothing but dropout and means between them"),
        (Severity::Note, "the first narrows, or batch norm is between them"),
    ],
    mend: "put an activation function between them, or leave one of them out",
    source: "UMLAUT, CHI 2021; NeuraLint, TOSEM 2022",
    check: missing_activation,
};

pub(super) static DOUBLED_ACTIVATION: Rule = Rule {
    code: Code::DoubledActivation,
    id: "D403",
    name: "doubled-activation",
    title: "two activation functions in a row",
    why: "The second sees only what the first has left: a ReLU before a softmax makes all scores below 0 \
          equal, a sigmoid of a sigmoid lies between 0.5 and 0.73, a second ReLU does nothing.",
    grades: &[(Severity::Warn, "functions that are not used together on purpose")],
    mend: "keep one of them",
    source: "NeuraLint, TOSEM 2022",
    check: doubled_activation,
};

/// What the loss begins with, each with the function that the network ended with.
fn ends(sight: &Sight<'_>) -> Vec<(NodeId, NodeId, Activation)> {
    let takes_scores = |id: &NodeId| {
        let op = &sight.graph.node(*id).op;
        sight.is_loss(*id)
            && matches!(op, Op::Softmax(Softmax::Log) | Op::Binary(Binary::LogisticLoss))
    };
    let nodes = sight.graph.nodes().map(|(id, _)| id).filter(takes_scores);
    let end = |loss: NodeId| {
        let mut scores = *sight.graph.node(loss).inputs.first()?;
        while sight.part(scores) == Part::View {
            scores = sight.main(scores)?;
        }
        match sight.part(scores) {
            Part::Activation(function) => Some((loss, scores, function)),
            _ => None,
        }
    };
    nodes.filter_map(end).collect()
}

fn softmax_before_loss(sight: &Sight<'_>, findings: &mut Findings) {
    for (loss, end, function) in ends(sight) {
        let is_softmax = matches!(sight.graph.node(loss).op, Op::Softmax(_));
        let severity = match function {
            Activation::Softmax | Activation::Sigmoid => Severity::Warn,
            Activation::LogSoftmax if is_softmax => Severity::Note,
            Activation::LogSoftmax => Severity::Warn,
            _ => continue,
        };
        let takes = if is_softmax { "takes softmax itself" } else { "takes the sigmoid itself" };
        let reason = format!("ends with {}, and the loss {takes}", function.name());
        findings.add(severity, sight.layer(end), reason);
    }
}

fn missing_activation(sight: &Sight<'_>, findings: &mut Findings) {
    let is_map = |part: Part| matches!(part, Part::Dense | Part::Conv);
    for id in sight.all(is_map) {
        let behind = sight.behind(id, Part::is_plain);
        // The products of a recurrent layer's inputs, which its gates bend.
        if behind.iter().any(|user| sight.part(*user) == Part::Recurrent) {
            continue;
        }
        let linear = |part: Part| {
            part.is_plain() || matches!(part, Part::Dropout | Part::AvgPool | Part::Reduction)
        };
        let Some(mut first) = sight.before(id, linear) else { continue };
        let is_normalised = sight.part(first) == Part::BatchNorm;
        if is_normalised {
            match sight.before(first, linear) {
                Some(before) => first = before,
                None => continue,
            }
        }
        if !is_map(sight.part(first)) || is_grouped(sight, first) || is_grouped(sight, id) {
            continue;
        }
        let [inputs, middle] = widths(sight, first);
        let narrows = middle < inputs && middle < widths(sight, id)[1];
        let severity = match (is_normalised, narrows) {
            // A linear bottleneck, as in MobileNetV2.
            (true, true) => continue,
            (false, false) => Severity::Warn,
            _ => Severity::Note,
        };
        let reason = format!("takes what {} yields as it is", shown(sight.layer(first)));
        findings.add(severity, sight.layer(id), reason);
    }
}

/// Whether a convolution sees each group of channels by itself.
fn is_grouped(sight: &Sight<'_>, id: NodeId) -> bool {
    match &sight.graph.node(id).op {
        Op::Conv(conv) | Op::ConvInputGrad(conv, _) => conv.groups > 1,
        _ => false,
    }
}

/// Features that a learned layer takes and yields, of each place.
fn widths(sight: &Sight<'_>, id: NodeId) -> [usize; 2] {
    let of = |value: NodeId| {
        let shape = &sight.graph.node(value).ty.shape;
        match sight.part(id) {
            Part::Conv => shape.dims().get(1).copied().unwrap_or(1),
            _ => shape.last(),
        }
    };
    [sight.main(id).map_or(0, of), of(id)]
}

fn doubled_activation(sight: &Sight<'_>, findings: &mut Findings) {
    let through = |part: Part| matches!(part, Part::View | Part::Dropout);
    for id in sight.all(|part| matches!(part, Part::Activation(_))) {
        let Part::Activation(second) = sight.part(id) else { continue };
        let Some(Part::Activation(first)) = sight.before(id, through).map(|id| sight.part(id))
        else {
            continue;
        };
        // That the loss does it again is another mistake.
        if is_doubled(first, second) && !(sight.is_loss(id) && is_of_scores(first)) {
            let reason = format!("{} takes what {} has left", second.name(), first.name());
            let layer = match sight.is_loss(id) {
                true => sight.before(id, through).map_or("", |id| sight.layer(id)),
                false => sight.layer(id),
            };
            findings.add(Severity::Warn, layer, reason);
        }
    }
}

fn is_of_scores(function: Activation) -> bool {
    matches!(function, Activation::Softmax | Activation::LogSoftmax | Activation::Sigmoid)
}

/// Whether two functions one after the other are a mistake. Mish and the like are not: softplus, tanh.
fn is_doubled(first: Activation, second: Activation) -> bool {
    use Activation::{LeakyRelu, LogSoftmax, Relu, Sigmoid, Smooth, Softmax, Softplus, Tanh};
    match (first, second) {
        (Softplus, _) | (_, Softplus) => first == second,
        (LogSoftmax, _) => false,
        (Relu, Relu | LeakyRelu | Smooth) => true,
        (Relu | LeakyRelu | Smooth, Sigmoid | Tanh | Softmax | LogSoftmax) => true,
        (LeakyRelu | Smooth, Relu | LeakyRelu | Smooth) => true,
        (Sigmoid | Softmax, _) => true,
        (Tanh, Tanh | Sigmoid | Relu | LeakyRelu | Smooth) => true,
        (Tanh, Softmax | LogSoftmax) => false,
    }
}

fn shown(layer: &str) -> &str {
    match layer {
        "" => "another layer",
        layer => layer,
    }
}
