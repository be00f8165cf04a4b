// SPDX-License-Identifier: MIT OR Apache-2.0
//! D3: dropout beside batch norm, and what batch norm takes away.

use super::part::Part;
use super::report::Findings;
use super::rule::Rule;
use super::sight::{Drop, Sight};
use super::{Code, Severity};
use crate::graph::NodeId;
use crate::op::{Drops, Op, Over};

pub(super) static DROPOUT_WITH_BATCH_NORM: Rule = Rule {
    code: Code::DropoutWithBatchNorm,
    id: "D301",
    name: "dropout-with-batch-norm",
    title: "dropout shifts the variance that batch norm has learned",
    why: "Dropout makes the variance of what it scales larger in train mode, and batch norm keeps that \
          variance for eval mode, where there is no dropout. Right before batch norm the shift is whole; \
          a layer in between averages over many inputs and takes most of it away. Behind the last batch \
          norm there is none, but both serve similar purposes.",
    grades: &[
        (Severity::Warn, "right before batch norm; with a layer in between above rate 0.5"),
        (Severity::Note, "one layer before batch norm, or right behind it"),
    ],
    mend: "drop behind the last batch norm, or leave the dropout out",
    source: "How to Implement Dropout in PyTorch; Li et al. 2018, arXiv:1801.05134",
    check: dropout_with_batch_norm,
};

pub(super) static BIAS_BEFORE_BATCH_NORM: Rule = Rule {
    code: Code::BiasBeforeBatchNorm,
    id: "D302",
    name: "bias-before-batch-norm",
    title: "a bias that batch norm takes away again",
    why: "Batch norm subtracts the mean of each channel, and with it every bias that was added before: it \
          has no effect and no gradient, and still takes memory and time.",
    grades: &[(Severity::Note, "always")],
    mend: "make the layer without a bias",
    source: "Ioffe & Szegedy 2015, arXiv:1502.03167, section 3.2; NeuraLint, TOSEM 2022",
    check: bias_before_batch_norm,
};

pub(super) static BATCH_OF_ONE: Rule = Rule {
    code: Code::BatchOfOne,
    id: "D303",
    name: "batch-of-one",
    title: "batch norm may meet a batch of one sample",
    why: "The variance of one value is 0, and that of the pixels of one image says little of the others. \
          The last batch of an epoch has what the division leaves.",
    grades: &[
        (Severity::Deny, "one value per channel: such a batch is refused in train mode"),
        (Severity::Warn, "one sample with several pixels per channel"),
    ],
    mend: "leave the last batch out (LastBatch::Drop), or take another batch size",
    source: "the documentation of torch.nn.BatchNorm1d, which refuses such batches",
    check: batch_of_one,
};

fn batch_norms(sight: &Sight<'_>) -> Vec<NodeId> {
    sight.all(|part| part == Part::BatchNorm)
}

fn is_light(part: Part) -> bool {
    part.is_plain() || matches!(part, Part::Activation(_) | Part::MaxPool | Part::AvgPool)
}

fn dropout_with_batch_norm(sight: &Sight<'_>, findings: &mut Findings) {
    let is_on = |drop: &&Drop| drop.p > 0.0 && drop.pieces != Drops::Samples;
    for drop in sight.dropouts.iter().filter(is_on) {
        let layer = sight.layer(drop.id);
        let next = sight.behind(drop.id, is_light);
        let norm_in =
            |ids: &[NodeId]| ids.iter().copied().find(|id| sight.part(*id) == Part::BatchNorm);
        if let Some(norm) = norm_in(&next) {
            let reason = format!("stands right before {}", sight.layer(norm));
            findings.add(Severity::Warn, layer, reason);
            continue;
        }
        let learned = next.iter().filter(|id| matches!(sight.part(**id), Part::Dense | Part::Conv));
        let later = learned.flat_map(|id| sight.behind(*id, is_light)).collect::<Vec<_>>();
        if let Some(norm) = norm_in(&later) {
            let severity = match drop.p {
                p if p > 0.5 + super::sight::ROUNDING => Severity::Warn,
                _ => Severity::Note,
            };
            let reason = format!("stands one layer before {}", sight.layer(norm));
            findings.add(severity, layer, reason);
            continue;
        }
        let before = sight.before(drop.id, is_light);
        if let Some(norm) = before.filter(|id| sight.part(*id) == Part::BatchNorm) {
            let reason = format!("stands behind {}, which regularises too", sight.layer(norm));
            findings.add(Severity::Note, layer, reason);
        }
    }
}

fn bias_before_batch_norm(sight: &Sight<'_>, findings: &mut Findings) {
    for norm in batch_norms(sight) {
        let mut before = sight.main(norm);
        let mut is_shifted = false;
        while let Some(id) = before.filter(|id| sight.part(*id).is_plain()) {
            is_shifted |= is_bias(sight, id);
            before = sight.main(id);
        }
        let learned = before.filter(|id| matches!(sight.part(*id), Part::Dense | Part::Conv));
        if let Some(id) = learned.filter(|_| is_shifted) {
            let reason = format!("adds a bias, which {} subtracts again", sight.layer(norm));
            findings.add(Severity::Note, sight.layer(id), reason);
        }
    }
}

/// Whether a node adds a parameter to what flows.
fn is_bias(sight: &Sight<'_>, id: NodeId) -> bool {
    let node = sight.graph.node(id);
    let is_parameter = |mut id: NodeId| loop {
        match (&sight.graph.node(id).op, sight.graph.node(id).inputs.first()) {
            (Op::Parameter(_), _) => return true,
            (Op::Reshape(_) | Op::Broadcast(_), Some(input)) => id = *input,
            _ => return false,
        }
    };
    node.op == Op::Binary(crate::op::Binary::Add) && node.inputs.iter().copied().any(is_parameter)
}

fn batch_of_one(sight: &Sight<'_>, findings: &mut Findings) {
    let Some(batches) = sight.case.batches.filter(|batches| batches.smallest() == 1) else {
        return;
    };
    for norm in batch_norms(sight) {
        let Some(x) = sight.main(norm) else { continue };
        let shape = &sight.graph.node(x).ty.shape;
        let values = Over::Channels.group_elements(shape) / shape.samples().max(1);
        let severity = if values > 1 { Severity::Warn } else { Severity::Deny };
        let reason = format!(
            "{} samples in batches of {} leave one for the last, with {values} {} per channel",
            batches.samples,
            batches.batch,
            if values == 1 { "value" } else { "values" },
        );
        findings.add(severity, sight.layer(norm), reason);
    }
}
