// SPDX-License-Identifier: MIT OR Apache-2.0
//! Layers in a row.

use super::{Module, Scope};
use crate::graph::Var;

/// Modules applied one after another; children are named `0`, `1`, ... as in
/// `torch.nn.Sequential`.
///
/// ```
/// use kiln::nn::{Linear, Module, Relu, Sequential};
/// use kiln::{Device, Net, Seed};
///
/// let net = Net::new(Device::cpu(), Seed(7), |p| {
///     Sequential::new(p)
///         .with(|p| Linear::new(p, 4, 8))
///         .with(|_| Relu)
///         .with(|p| Linear::new(p, 8, 3))
/// })?;
/// assert_eq!(net.parameter_names(), ["0.weight", "0.bias", "2.weight", "2.bias"]);
/// # Ok::<(), kiln::Error>(())
/// ```
pub struct Sequential {
    scope: Scope,
    modules: Vec<Box<dyn Module>>,
}

impl Sequential {
    /// An empty sequence at this place of the network.
    pub fn new(p: &Scope) -> Self {
        Sequential { scope: p.clone(), modules: vec![] }
    }

    /// Appends the module that `make` builds at the place of the next child.
    #[must_use]
    pub fn with<M: Module + 'static>(mut self, make: impl FnOnce(&Scope) -> M) -> Self {
        let child = self.scope.at(&self.modules.len().to_string());
        self.modules.push(Box::new(make(&child)));
        self
    }
}

impl Module for Sequential {
    fn forward(&self, x: &Var) -> Var {
        self.modules.iter().fold(x.clone(), |x, module| module.forward(&x))
    }
}

impl std::fmt::Debug for Sequential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.scope.path();
        f.debug_struct("Sequential")
            .field("path", &place)
            .field("len", &self.modules.len())
            .finish()
    }
}
