// SPDX-License-Identifier: MIT OR Apache-2.0
//! D5: sequences.

use super::part::Part;
use super::report::Findings;
use super::rule::Rule;
use super::sight::Sight;
use super::{Code, Severity};
use crate::graph::NodeId;
use crate::op::{Binary, Op, Recurrent};

pub(super) static PADDED_LAST_STATE: Rule = Rule {
    code: Code::PaddedLastState,
    id: "D501",
    name: "padded-last-state",
    title: "the last state of padded sequences without their lengths",
    why: "An embedding with a row for padding says that sequences are filled up. Without their lengths a \
          recurrent layer goes on over the padding, and its last state is one that no token made.",
    grades: &[(Severity::Warn, "the embedding has a row for padding, and the last state is used")],
    mend: "give the lengths: Sequences::new(&x).with_lengths(&lengths)",
    source: "the documentation of torch.nn.utils.rnn.pack_padded_sequence",
    check: padded_last_state,
};

pub(super) static WEIGHT_DROPOUT_WITH_ZONEOUT: Rule = Rule {
    code: Code::WeightDropoutWithZoneout,
    id: "D502",
    name: "weight-dropout-with-zoneout",
    title: "dropped recurrent weights and zoneout at once",
    why: "Both disturb what a step hands to the next: one the weights, the other the states. Each is tuned \
          to do so alone, and together states are lost that neither meant to lose.",
    grades: &[(Severity::Warn, "always")],
    mend: "keep one of them",
    source: "Merity et al. 2017, arXiv:1708.02182; Krueger et al. 2016, arXiv:1606.01305",
    check: weight_dropout_with_zoneout,
};

fn padded_last_state(sight: &Sight<'_>, findings: &mut Findings) {
    let pads = |id: &NodeId| matches!(sight.graph.node(*id).op, Op::Take { padding: Some(_), .. });
    for id in sight.all(|part| part == Part::Recurrent) {
        let Op::Recurrent(Recurrent { lengths, .. }) = sight.graph.node(id).op else { continue };
        // A single step is not padded: it is one of those that a layer with options goes over.
        let steps = sight.graph.node(id).ty.shape.dims().get(1);
        if lengths.is_given() || steps == Some(&1) || !is_last_used(sight, id) {
            continue;
        }
        let embedding = upstream(sight, id).into_iter().find(pads);
        if let Some(embedding) = embedding {
            let reason = format!(
                "its last state is used, its input comes from {}, which pads, and no lengths are given",
                sight.layer(embedding),
            );
            findings.add(Severity::Warn, sight.layer(id), reason);
        }
    }
}

/// Whether a state at the end of a recurrent layer's steps is used by itself.
fn is_last_used(sight: &Sight<'_>, id: NodeId) -> bool {
    let graph = sight.graph;
    let steps = graph.node(id).ty.shape.dims().get(1).copied().unwrap_or(0);
    let is_taken = |id: NodeId| !sight.users(id).is_empty() || graph.outputs().contains(&id);
    let mut open = vec![id];
    while let Some(at) = open.pop() {
        for &user in sight.users(at) {
            let last_of = |axis: usize| graph.node(at).ty.shape.dims().get(axis).copied();
            match graph.node(user).op {
                // The states after the steps follow those of all steps.
                Op::Result(index)
                    if at == id && index <= 2 && !is_saved(sight, id, index) && is_taken(user) =>
                {
                    return true;
                }
                Op::Slice { axis, start, length: 1 }
                    if last_of(axis) == Some(steps) && start + 1 == steps && is_taken(user) =>
                {
                    return true;
                }
                Op::Concat { axis: 2 } | Op::Permute(_) | Op::Dropout(_) => open.push(user),
                _ => {}
            }
        }
    }
    false
}

/// Whether a result is what backward needs of each step, which is no state.
fn is_saved(sight: &Sight<'_>, id: NodeId, index: usize) -> bool {
    sight.graph.node(id).further.get(index.saturating_sub(1)).is_none_or(|ty| ty.shape.rank() > 2)
}

/// Everything that a node depends on.
fn upstream(sight: &Sight<'_>, id: NodeId) -> Vec<NodeId> {
    let mut seen = vec![false; id.index() + 1];
    let (mut open, mut found) = (vec![id], Vec::new());
    while let Some(at) = open.pop() {
        for &input in &sight.graph.node(at).inputs {
            if !std::mem::replace(&mut seen[input.index()], true) {
                open.push(input);
                found.push(input);
            }
        }
    }
    found.sort();
    found
}

fn weight_dropout_with_zoneout(sight: &Sight<'_>, findings: &mut Findings) {
    let zoneout =
        sight.all(|part| part == Part::Join).into_iter().find(|id| is_zoneout(sight, *id));
    let Some(zoneout) = zoneout else { return };
    let is_weight = |id: &NodeId| {
        let node = sight.graph.node(*id);
        matches!(node.op, Op::Dropout(_))
            && sight.part(*id) == Part::Weight
            && upstream(sight, *id).iter().any(|id| is_parameter(sight, *id))
    };
    for id in sight.graph.nodes().map(|(id, _)| id).filter(is_weight) {
        let reason = match sight.layer(zoneout) {
            "" => "drops weights of a network whose states zone out".into(),
            layer => format!("drops weights of a network whose states zone out in {layer}"),
        };
        findings.add(Severity::Warn, sight.layer(id), reason);
    }
}

fn is_parameter(sight: &Sight<'_>, id: NodeId) -> bool {
    matches!(sight.graph.node(id).op, Op::Parameter(_))
}

/// Whether a node keeps some elements of an old state and takes the others of a new one: `old +
/// dropout(new - old)`, or a choice between both by a random mask.
fn is_zoneout(sight: &Sight<'_>, id: NodeId) -> bool {
    let node = sight.graph.node(id);
    match node.op {
        Op::Binary(Binary::Add) => {
            let [a, b] = [node.inputs[0], node.inputs[1]];
            [(a, b), (b, a)].into_iter().any(|(old, change)| {
                let mut change = Some(change);
                let mut is_dropped = false;
                while let Some(at) = change {
                    match sight.part(at) {
                        Part::Dropout => is_dropped = true,
                        part if part.is_plain() => {}
                        _ => break,
                    }
                    change = sight.main(at);
                }
                let difference = change.map(|id| sight.graph.node(id));
                is_dropped
                    && difference.is_some_and(|node| {
                        node.op == Op::Binary(Binary::Subtract) && node.inputs.contains(&old)
                    })
            })
        }
        Op::Where => {
            let mask = node.inputs[0];
            let is_random = |id: &NodeId| sight.graph.node(*id).op.is_random();
            is_random(&mask)
                || (sight.part(mask) == Part::Weight && upstream(sight, mask).iter().any(is_random))
        }
        _ => false,
    }
}
