// SPDX-License-Identifier: MIT OR Apache-2.0
//! D2: where is dropped.

use super::part::{Activation, Part};
use super::report::Findings;
use super::rule::{Rule, ARTICLE};
use super::sight::{Drop, Place, Sight};
use super::{Code, Finding, Severity};
use crate::op::{Drops, Op};
use crate::Error;

pub(super) static DROPOUT_ON_OUTPUT: Rule = Rule {
    code: Code::DropoutOnOutput,
    id: "D201",
    name: "dropout-on-output",
    title: "what the network returns is dropped",
    why: "No layer behind it can learn to do without the scores that are dropped: the loss sees zeros in \
          the place of answers, and its gradient is noise.",
    grades: &[(Severity::Warn, "always")],
    mend: "put the dropout before the last layer",
    source: ARTICLE,
    check: dropout_on_output,
};

pub(super) static DROPOUT_BEFORE_ACTIVATION: Rule = Rule {
    code: Code::DropoutBeforeActivation,
    id: "D202",
    name: "dropout-before-activation",
    title: "dropped before the activation function and not after it",
    why: "Features are dropped, not the linear combinations that make them. A sigmoid turns a dropped 0 \
          into 0.5, and functions that bend change what the scaling of the others keeps right. With ReLU \
          both orders give the same.",
    grades: &[
        (Severity::Warn, "before a function that bends elsewhere than at 0"),
        (Severity::Note, "before ReLU and leaky ReLU"),
    ],
    mend: "put the dropout behind the activation function",
    source: ARTICLE,
    check: dropout_before_activation,
};

pub(super) static DROPOUT_BEFORE_MAX_POOL: Rule = Rule {
    code: Code::DropoutBeforeMaxPool,
    id: "D203",
    name: "dropout-before-max-pool",
    title: "elements are dropped before the largest of them is taken",
    why: "The largest of a window is seldom dropped in all its places, but often replaced by the next, \
          and scaled up: the mean in train mode is another than in eval mode. Whole maps are dropped \
          as well on either side of a pool.",
    grades: &[(Severity::Warn, "dropout of elements")],
    mend: "put the dropout behind the pool, or drop whole feature maps",
    source: "How to Implement Dropout in PyTorch; Wu & Gu 2015, arXiv:1512.00242",
    check: dropout_before_max_pool,
};

pub(super) static DROPOUT_IN_SERIES: Rule = Rule {
    code: Code::DropoutInSeries,
    id: "D204",
    name: "dropout-in-series",
    title: "dropped twice with nothing learned in between",
    why: "Two dropouts in a row are one at a higher rate that nobody chose.",
    grades: &[(Severity::Warn, "always")],
    mend: "keep one of them, at the rate that is wanted",
    source: "Srivastava et al. 2014, JMLR 15(56): kept with probability (1 - p)(1 - q)",
    check: dropout_in_series,
};

pub(super) static DROPOUT_OF_PIXELS: Rule = Rule {
    code: Code::DropoutOfPixels,
    id: "D205",
    name: "dropout-of-pixels",
    title: "single pixels of feature maps are dropped",
    why: "Neighbouring pixels say much the same, so dropping single ones hides little from the convolution \
          that follows; it mostly lowers the learning rate. Networks as known as Wide ResNet do so.",
    grades: &[(Severity::Note, "always")],
    mend: "drop whole feature maps: Dropout2d",
    source: "How to Implement Dropout in PyTorch; Tompson et al. 2015, arXiv:1411.4280",
    check: dropout_of_pixels,
};

pub(super) static CHANNEL_DROPOUT_OF_ROWS: Rule = Rule {
    code: Code::ChannelDropoutOfRows,
    id: "D206",
    name: "channel-dropout-of-rows",
    title: "channels are dropped where there are none",
    why: "Dropout1d to Dropout3d drop whole slices of the second extent. Where that counts steps, whole \
          tokens are lost; where there are no further extents, there is nothing to drop together.",
    grades: &[
        (Severity::Deny, "an input of another rank than the layer takes"),
        (Severity::Warn, "sequences whose second extent counts steps"),
    ],
    mend: "take Dropout for rows, or put channels second",
    source: "the documentation of torch.nn.Dropout2d, which warns of such inputs",
    check: channel_dropout_of_rows,
};

pub(super) static DROPOUT_ON_SKIP: Rule = Rule {
    code: Code::DropoutOnSkip,
    id: "D207",
    name: "dropout-on-skip",
    title: "what a skip connection carries is dropped",
    why:
        "A skip connection lets values and gradients through however deep the network is. What is \
          dropped on it is lost to every layer behind, and losses multiply from block to block.",
    grades: &[
        (Severity::Warn, "on the way that skips, or between two blocks"),
        (Severity::Note, "on what a branch of convolutions adds, right before the sum"),
    ],
    mend: "put the dropout into the branch, between its layers",
    source: "How to Implement Dropout in PyTorch; He et al. 2016, arXiv:1603.05027, section 3.1",
    check: dropout_on_skip,
};

fn dropouts<'s>(sight: &'s Sight<'_>) -> impl Iterator<Item = &'s Drop> {
    sight.dropouts.iter().filter(|drop| drop.p > 0.0)
}

fn dropout_on_output(sight: &Sight<'_>, findings: &mut Findings) {
    for drop in dropouts(sight) {
        let feeds_loss = sight
            .behind(drop.id, |part| part.is_plain() || matches!(part, Part::Activation(_)))
            .iter()
            .any(|user| sight.is_loss(*user));
        let what = match drop.place {
            Place::Input => continue,
            _ if sight.is_returned(drop.id) || feeds_loss => "no layer comes behind it",
            _ => continue,
        };
        findings.add(Severity::Warn, sight.layer(drop.id), format!("drops the output: {what}"));
    }
}

fn dropout_before_activation(sight: &Sight<'_>, findings: &mut Findings) {
    for drop in dropouts(sight) {
        let before = sight.before(drop.id, Part::is_plain).map(|before| sight.part(before));
        let is_bent = !matches!(
            before,
            Some(Part::Dense | Part::Conv | Part::BatchNorm | Part::LayerNorm | Part::Join)
        );
        if is_bent {
            continue;
        }
        for user in sight.behind(drop.id, Part::is_plain) {
            let Part::Activation(function) = sight.part(user) else { continue };
            let severity = match function {
                Activation::Relu | Activation::LeakyRelu => Severity::Note,
                Activation::Softmax | Activation::LogSoftmax => continue,
                _ => Severity::Warn,
            };
            let reason = format!("drops what {} is about to take", function.name());
            findings.add(severity, sight.layer(drop.id), reason);
        }
    }
}

fn dropout_before_max_pool(sight: &Sight<'_>, findings: &mut Findings) {
    let through = |part: Part| part.is_plain() || matches!(part, Part::Activation(_));
    for drop in dropouts(sight).filter(|drop| drop.pieces == Drops::Elements) {
        let behind = sight.behind(drop.id, through);
        if behind.iter().any(|user| sight.part(*user) == Part::MaxPool) {
            let reason = "drops elements of which a pool then takes the largest";
            findings.add(Severity::Warn, sight.layer(drop.id), reason);
        }
    }
}

fn dropout_in_series(sight: &Sight<'_>, findings: &mut Findings) {
    let through = |part: Part| {
        part.is_plain() || matches!(part, Part::Activation(_) | Part::MaxPool | Part::AvgPool)
    };
    for first in dropouts(sight) {
        let behind = sight.behind(first.id, through);
        for second in dropouts(sight).filter(|second| behind.contains(&second.id)) {
            let rate = 1.0 - (1.0 - first.p) * (1.0 - second.p);
            let reason = format!(
                "drops {:.2} of what {} has dropped {:.2} of: {rate:.2} together",
                second.p,
                sight.layer(first.id),
                first.p,
            );
            findings.add(Severity::Warn, sight.layer(second.id), reason);
        }
    }
}

fn dropout_of_pixels(sight: &Sight<'_>, findings: &mut Findings) {
    for drop in dropouts(sight).filter(|drop| drop.pieces == Drops::Elements) {
        let shape = &sight.graph.node(drop.id).ty.shape;
        let has_pixels = shape.dims().iter().skip(2).any(|extent| *extent > 1);
        let of_conv = sight.origin(drop.id) == Part::Conv;
        if of_conv && has_pixels && drop.place != Place::Attention {
            let reason = format!("drops single elements of feature maps {shape}");
            findings.add(Severity::Note, sight.layer(drop.id), reason);
        }
    }
}

fn channel_dropout_of_rows(sight: &Sight<'_>, findings: &mut Findings) {
    for drop in dropouts(sight).filter(|drop| drop.pieces == Drops::Channels) {
        let node = sight.graph.node(drop.id);
        let mut before = sight.main(drop.id);
        while let Some(id) = before.filter(|id| sight.part(*id).is_plain()) {
            // Whoever exchanges extents knows what is where.
            if matches!(sight.graph.node(id).op, Op::Permute(_) | Op::Transpose) {
                break;
            }
            before = sight.main(id);
        }
        let of = before.map(|id| sight.part(id));
        if node.ty.shape.rank() == 3 && matches!(of, Some(Part::Embedding | Part::Recurrent)) {
            let reason = format!(
                "drops whole steps of sequences {}, whose second extent counts no channels",
                node.ty.shape
            );
            findings.add(Severity::Warn, sight.layer(drop.id), reason);
        }
    }
}

/// The layers that refuse what they are given, if that is all that an error says.
pub(super) fn refused(error: &Error) -> Option<Vec<Finding>> {
    match error {
        Error::Many(errors) => {
            let found: Option<Vec<_>> = errors.iter().map(refused).collect();
            found.map(|found| found.concat())
        }
        Error::Shape { layer, op, expected, got }
            if op == "dropout" && expected.contains("channels") =>
        {
            let reason = format!("takes {expected}, and is given {got}");
            let (code, severity) = (Code::ChannelDropoutOfRows, Severity::Deny);
            Some(vec![Finding { code, severity, layer: layer.clone(), reason }])
        }
        _ => None,
    }
}

fn dropout_on_skip(sight: &Sight<'_>, findings: &mut Findings) {
    let is_on = |id| dropouts(sight).find(|drop| drop.id == id && drop.pieces != Drops::Samples);
    let is_norm = |part: Part| {
        part.is_plain() || matches!(part, Part::Activation(_) | Part::BatchNorm | Part::LayerNorm)
    };
    for residual in &sight.residuals {
        let sums = sight.layer(residual.sum);
        for drop in residual.dropped.iter().filter_map(|id| is_on(*id)) {
            let reason = format!("drops {:.2} of what skips the branch{}", drop.p, of(sums));
            findings.add(Severity::Warn, sight.layer(drop.id), reason);
        }
        // Behind a sum, and before the next one parts: on what all blocks share.
        let before = sight.before(residual.from, is_norm);
        let is_between = before.is_some_and(|id| sight.residuals.iter().any(|of| of.sum == id));
        if let Some(drop) = is_on(residual.from).filter(|_| is_between) {
            let reason = format!("drops {:.2} of what one block hands to the next", drop.p);
            findings.add(Severity::Warn, sight.layer(drop.id), reason);
        }
        let mut last = residual.branch;
        while sight.part(last).is_plain() {
            last = sight.main(last).unwrap_or(residual.from);
        }
        if let Some(drop) = is_on(last).filter(|_| sight.origin(last) == Part::Conv) {
            let reason = format!("drops {:.2} of what its branch adds{}", drop.p, of(sums));
            findings.add(Severity::Note, sight.layer(drop.id), reason);
        }
    }
}

fn of(layer: &str) -> String {
    match layer {
        "" => String::new(),
        layer => format!(" of {layer}"),
    }
}
