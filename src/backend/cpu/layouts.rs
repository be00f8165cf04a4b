// SPDX-License-Identifier: MIT OR Apache-2.0
//! Layouts of parameters, and which of them kernels do not know.

use super::launch::recurrent;
use crate::backend::Layout;
use crate::graph::{ParamId, ParamRole, ParamSpec, ParamUsage};
use crate::kernel::{FusedImages, Kernel};
use crate::plan::{BufferId, Place, Plan, Step};

/// Biases are padded to half a panel, so that kernels load whole vectors.
const BIAS_MULTIPLE: usize = 16;

/// The layout of a parameter.
pub(super) fn layout(parameter: &ParamSpec) -> Layout {
    match (parameter.usage, parameter.shape.rank()) {
        (ParamUsage::LinearWeight, _) => Layout::Panels,
        (ParamUsage::Plain, 1) => Layout::Padded(BIAS_MULTIPLE),
        (ParamUsage::Plain, _) => Layout::RowMajor,
    }
}

/// A parameter that a step reads in a layout that its kernel does not know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Foreign {
    /// Which of the step's inputs it is.
    pub(super) index: usize,
    pub(super) layout: Layout,
    /// Whose shape the layout is for; the step may take it under another.
    pub(super) parameter: ParamId,
}

/// The parameters that are brought to another layout for a step: all kernels expect row-major but for
/// the weight and the bias of linear layers, and numbers of channels, which may have padding behind.
/// What such a layer is applied to may be a parameter too.
pub(super) fn foreign(plan: &Plan, step: &Step) -> Vec<Foreign> {
    let layout_of = |read: &Option<BufferId>| match plan.buffer((*read)?).place {
        Place::Parameter(id) => {
            let spec = &plan.graph.parameters()[id.index()];
            let layout = layout(spec);
            (spec.role == ParamRole::Trained && layout != Layout::RowMajor).then_some((layout, id))
        }
        _ => None,
    };
    let knows = |index, layout| match (&step.kernel, layout) {
        // An average lies as its parameter does.
        (Kernel::Average, _) => true,
        (Kernel::Linear { .. }, _) => index >= 1,
        (Kernel::InputGradient { .. }, _) => index == 1,
        (Kernel::Conv { .. }, Layout::Padded(_)) => index == 2,
        (Kernel::FusedImages(FusedImages::ConvNormalize { .. }), Layout::Padded(_)) => index >= 2,
        (Kernel::Normalize(_) | Kernel::StatisticsGradient(_), Layout::Padded(_)) => index >= 1,
        (Kernel::NormalizeGradient(_), Layout::Padded(_)) => index >= 2,
        (Kernel::Recurrent(_) | Kernel::RecurrentGradient(..), _) => {
            recurrent::knows_layout(&step.kernel, index)
        }
        _ => false,
    };
    let reads = step.reads.iter().enumerate();
    let all = reads.filter_map(|(index, read)| layout_of(read).map(|found| (index, found)));
    let foreign = all.filter(|&(index, (layout, _))| !knows(index, layout));
    foreign.map(|(index, (layout, parameter))| Foreign { index, layout, parameter }).collect()
}
