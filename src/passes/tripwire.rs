// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last look at a plan: that it draws and changes only what its mode and its goal may.

use super::{Goal, Mode, Request};
use crate::graph::NodeId;
use crate::op::Op;
use crate::plan::{Place, Plan};
use crate::{Error, Result};

/// Refuses a plan whose steps draw random numbers in eval mode, change state that is not trained outside
/// of train mode, or change anything where only values are asked for. A plan never changes once it is made,
/// so no run need be looked at.
///
/// # Errors
/// [`Error::Internal`] that names the layer.
pub(super) fn check(plan: &Plan, request: &Request) -> Result<()> {
    let only_reads = matches!(request.goal, Goal::Forward | Goal::Layers);
    let offence = |id: &NodeId| -> Option<&'static str> {
        match &plan.graph.node(*id).op {
            op if op.is_random() && request.mode == Mode::Eval => {
                Some("draws random numbers in eval mode")
            }
            Op::SetState(..) if request.mode != Mode::Train => {
                Some("changes state outside of train mode")
            }
            Op::SetState(..) => None,
            op if op.is_effect() && only_reads && request.mode != Mode::Train => {
                Some("changes what a forward pass only reads")
            }
            _ => None,
        }
    };
    for step in &plan.steps {
        if let Some((id, what)) = step.nodes.iter().find_map(|id| Some((*id, offence(id)?))) {
            return Err(refused(plan, id, what));
        }
        // Whatever its nodes say: what it writes, it changes.
        let writes_state = |id: &&_| {
            !matches!(plan.buffer(**id).place, Place::Arena(_) | Place::Output(_))
                && request.mode != Mode::Train
                && only_reads
        };
        if step.writes.iter().find(writes_state).is_some() {
            let id = step.nodes.first().copied().unwrap_or(NodeId::at(0));
            return Err(refused(plan, id, "writes to what a forward pass only reads"));
        }
    }
    Ok(())
}

fn refused(plan: &Plan, id: NodeId, what: &str) -> Error {
    let layer = match plan.graph.layer(id).path.as_str() {
        "" => "the network",
        path => path,
    };
    Error::Internal { pass: "tripwire", message: format!("layer {layer} {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{BatchNorm, Dropout, Module, Sequential};
    use crate::op::TensorType;
    use crate::passes::Draws;
    use crate::{Device, Net, Seed};

    /// A plan of one mode, as if it had been made for another.
    fn told(mode: Mode, layer: impl FnOnce(&crate::nn::Scope) -> Box<dyn Module>) -> Result<()> {
        let mut net =
            Net::new(Device::cpu(), Seed(7), |p| Sequential::new(p).with(|p| layer(&p.at("own"))))?;
        let plan = net.plan(Mode::Train, &[TensorType::f32([4, 8].into())])?;
        check(plan, &Request { mode, goal: Goal::Forward })
    }

    #[test]
    fn what_draws_in_eval_mode_is_named() {
        let layer = |p: &crate::nn::Scope| -> Box<dyn Module> { Box::new(Dropout::new(p, 0.5)) };
        let error = told(Mode::Eval, layer).unwrap_err().to_string();
        assert_eq!(error, "internal: tripwire: layer 0.own draws random numbers in eval mode");
        told(Mode::Train, layer).unwrap();
        told(Mode::MonteCarlo(Draws::ONE), layer).unwrap();
    }

    #[test]
    fn what_changes_state_outside_of_train_mode_is_named() {
        let layer = |p: &crate::nn::Scope| -> Box<dyn Module> { Box::new(BatchNorm::new(p, 8)) };
        for mode in [Mode::Eval, Mode::MonteCarlo(Draws::ONE)] {
            let error = told(mode, layer).unwrap_err().to_string();
            assert_eq!(
                error,
                "internal: tripwire: layer 0.own changes state outside of train mode"
            );
        }
        told(Mode::Train, layer).unwrap();
    }
}
