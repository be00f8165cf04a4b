// SPDX-License-Identifier: MIT OR Apache-2.0
//! kiln: a training engine that compiles a network's step once and runs it as a plan.
//!
//! A network is a [`nn::Module`], written as one would write it in PyTorch. [`Net`] traces it into
//! a graph, and each view of it ([`Net::train`], [`Net::eval`], [`Net::monte_carlo`]) runs a plan
//! compiled for that mode. [`Trainer`] compiles forward, loss, backward and optimiser into one
//! plan and steps through batches.
//!
//! ```
//! use kiln::loss::CrossEntropy;
//! use kiln::nn::{Dropout, Linear, Module, Scope};
//! use kiln::optim::Adam;
//! use kiln::{Device, Net, Seed, Tensor, Trainer, Var};
//!
//! struct SimpleNet { fc1: Linear, dropout1: Dropout, fc2: Linear }
//!
//! impl SimpleNet {
//!     fn new(p: &Scope, input: usize, hidden: usize, classes: usize, rate: f32) -> Self {
//!         SimpleNet {
//!             fc1: Linear::new(&p.at("fc1"), input, hidden),
//!             dropout1: Dropout::new(&p.at("dropout1"), rate),
//!             fc2: Linear::new(&p.at("fc2"), hidden, classes),
//!         }
//!     }
//! }
//!
//! impl Module for SimpleNet {
//!     fn forward(&self, x: &Var) -> Var {
//!         let x = self.dropout1.forward(&self.fc1.forward(x).relu());
//!         self.fc2.forward(&x)
//!     }
//! }
//!
//! let net = Net::new(Device::best()?, Seed(7), |p| SimpleNet::new(p, 4, 16, 3, 0.5))?;
//! let mut fit = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-3))?;
//! let (x, labels) = (Tensor::zeros([8, 4]), Tensor::labels([8], vec![1; 8])?);
//! let loss = fit.step(&x, &labels)?; // train mode, by construction
//! let scores = fit.net().eval().forward(&x)?; // eval mode, by construction
//! assert!(loss.value()? > 0.0);
//! assert_eq!(scores.shape().dims(), [8, 3]);
//! # Ok::<(), kiln::Error>(())
//! ```
//!
//! The modules below are listed in the order of the way of the data.

#![deny(rustdoc::broken_intra_doc_links)]

mod allocate;
mod device;
mod dropout_rates;
mod dtype;
mod error;
mod files;
mod fit;
mod linted;
mod loss_scale;
mod monte_carlo;
mod net;
mod non_finite;
mod non_finite_value;
mod past_masks;
mod precision;
mod predictor;
mod printable;
mod runner;
mod scalars;
mod shape;
mod summary;
mod tensor;
mod trainer;
mod values;
mod view;

pub mod loss;
pub mod nn;

pub mod graph;
pub mod mask;
pub mod op;
mod philox;

pub mod kernel;
pub mod lint;
pub mod passes;
pub mod plan;

pub mod backend;
pub mod exec;

pub mod checkpoint;
pub mod data;
pub mod metrics;
pub mod optim;
pub mod uncertainty;

pub mod models;
pub mod self_test;
pub mod timed;
pub mod torch_random;
pub mod watch;

pub use device::Device;
pub use dtype::DType;
pub use error::{Error, Result};
pub use fit::{Evaluation, Event};
pub use graph::Var;
pub use loss_scale::LossScale;
pub use monte_carlo::MonteCarlo;
pub use net::{Net, Seed};
pub use non_finite::NonFinite;
pub use non_finite_value::{NonFiniteValue, Origin};
pub use passes::{Draws, Dropouts, Masks, Mode};
pub use past_masks::DrawnMask;
pub use precision::{Convolutions, Precision};
pub use predictor::Predictor;
pub use printable::{grouped, Printable, PrintableLines};
pub use scalars::{
    DropoutRates, RateSlot, Scalar, Scalars, TrainingState, UpdateRates, MONTE_CARLO_PASS,
};
pub use shape::Shape;
pub use summary::{LayerSummary, Summary};
pub use tensor::Tensor;
pub use trainer::{StepLoss, Trainer};
pub use values::{Tensors, Values};
pub use view::{Gradients, LayerOutput, View};

#[cfg(doctest)]
mod does_not_compile;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
