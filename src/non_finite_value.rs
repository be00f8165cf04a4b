// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told of a value that is not finite.

use std::fmt;

/// The first value of a pass that is not finite, in the order in which a pass computes; from
/// [`View::first_non_finite`](crate::View::first_non_finite) and
/// [`Trainer::first_non_finite`](crate::Trainer::first_non_finite).
#[derive(Clone, Debug, PartialEq)]
pub struct NonFiniteValue {
    /// What has the value in it.
    pub origin: Origin,
    /// The first such element of it: NaN or an infinity.
    pub value: f32,
    /// Names of the parameters that were not finite to begin with: an update before made them so.
    pub parameters: Vec<String>,
}

/// What has a value in it that is not finite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The batch that was given.
    Input {
        /// Place among the network's inputs.
        index: usize,
        /// How many inputs there are.
        of: usize,
    },
    /// The output of a layer.
    Layer {
        /// Its path, `"fc1"`; empty for an operation of the network's own.
        path: String,
        /// The operation that yields the output, as named in the graph.
        op: &'static str,
    },
    /// The loss, of an output that is finite.
    Loss,
    /// The gradient of a parameter, of a loss that is finite.
    Gradient {
        /// The parameter's name.
        parameter: String,
    },
}

/// Names that a message lists.
const SHOWN_NAMES: usize = 3;

impl fmt::Display for NonFiniteValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Input { of: 1, .. } => write!(f, "the input has {} in it", self.value)?,
            Origin::Input { index, .. } => write!(f, "input {index} has {} in it", self.value)?,
            Origin::Layer { path, op } if path.is_empty() => {
                write!(f, "the network's own {op} is the first whose output is not finite")?;
                write!(f, " ({})", self.value)?;
            }
            Origin::Layer { path, .. } => {
                write!(f, "{path} is the first layer whose output is not finite ({})", self.value)?;
            }
            Origin::Loss => {
                write!(f, "all layers' outputs are finite, the loss is {}", self.value)?
            }
            Origin::Gradient { parameter } => {
                write!(f, "all layers' outputs are finite, the gradient of {parameter}")?;
                write!(f, " is not ({})", self.value)?;
            }
        }
        let (shown, more) = self.parameters.split_at(self.parameters.len().min(SHOWN_NAMES));
        if !shown.is_empty() {
            let names = shown.join(", ");
            write!(f, "; before that step already, {names}")?;
            if !more.is_empty() {
                write!(f, " and {} more parameters", more.len())?;
            }
            f.write_str(" had elements that are not")?;
        }
        Ok(())
    }
}
