// SPDX-License-Identifier: MIT OR Apache-2.0
//! What operations are told apart by.

use std::fmt;

/// Index of a node in its graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

/// Index of a tensor given with each run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InputId(pub(crate) u32);

/// Index of a parameter in its network, in order of creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub(crate) u32);

impl NodeId {
    /// Position in the graph.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn at(index: usize) -> Self {
        NodeId(index as u32)
    }
}

impl InputId {
    /// Position among the inputs.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ParamId {
    /// Position among the parameters.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The parameter at a position.
    pub fn at(index: usize) -> Self {
        ParamId(index as u32)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl fmt::Debug for InputId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input{}", self.0)
    }
}

impl fmt::Debug for ParamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parameter{}", self.0)
    }
}
