// SPDX-License-Identifier: MIT OR Apache-2.0
//! Saving and loading: weights to exchange with PyTorch, and the whole state of a training.
//!
//! | file | holds | written by |
//! |---|---|---|
//! | `model.safetensors` | the parameters, under the names and shapes of PyTorch's `state_dict` | [`save_weights`], [`save`] |
//! | `training.safetensors` | everything that the next step depends on | [`save`] |
//!
//! `training.safetensors` is complete in itself: values, moments, counters, the seed, the position
//! in the data and a description of what the next step does are in that one file, so that a crash
//! between two writes cannot leave a state that mixes two moments. It ends with a check sum over all
//! of it. Each file is written beside its place, synced and renamed over the old one: at any moment
//! there is either the old file or the new one. Equal states give equal bytes.
//!
//! Tensors pass between device and disk piece by piece: saving and loading take no more memory than
//! the largest of them.
//!
//! Loading checks everything before it changes anything. A file that is damaged gives
//! [`Error::Data`](crate::Error::Data), one that is sound but made for something else
//! [`Error::Checkpoint`](crate::Error::Checkpoint) with every mismatch. The [`Recipe`] in a training
//! file says what its results depend on: precision, layers with their options, loss, optimiser,
//! groups of parameters, averages, schedule, and what the caller adds, such as the data.
//!
//! ```
//! use kiln::checkpoint::{self, Progress};
//! use kiln::data::Position;
//! use kiln::loss::CrossEntropy;
//! use kiln::models::SimpleNet;
//! use kiln::optim::Adam;
//! use kiln::{Device, Net, Seed, Tensor, Trainer};
//!
//! let trainer = |seed| {
//!     let net = Net::new(Device::cpu(), seed, |p| SimpleNet::new(p, 4, 8, 3, 0.5))?;
//!     Trainer::new(net, CrossEntropy::default(), Adam::new(1e-3))
//! };
//! let (x, labels) = (Tensor::zeros([2, 4]), Tensor::labels([2], vec![0, 2])?);
//! # let dir = std::env::temp_dir().join(format!("kiln-checkpoint-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&dir).unwrap();
//!
//! let mut first = trainer(Seed(7))?;
//! first.step(&x, &labels)?;
//! let progress = Progress { position: Position { epoch: 0, batch: 1 }, ..Progress::default() };
//! checkpoint::save(&mut first, &progress, &dir)?;
//!
//! let mut second = trainer(Seed(0))?;
//! assert_eq!(checkpoint::load(&mut second, &dir)?, progress);
//! let (a, b) = (first.step(&x, &labels)?, second.step(&x, &labels)?);
//! assert_eq!(a.value()?, b.value()?); // same weights, same masks
//! # std::fs::remove_dir_all(&dir).unwrap();
//! # Ok::<(), kiln::Error>(())
//! ```

mod foreign;
mod reader;
mod recipe;
mod resume;
mod training;
mod weights;
mod writer;

pub use crate::files::{write_atomically, DirectoryLock};
pub use recipe::{content_hash, Recipe};
pub use resume::{load, Resume};
pub use training::{progress, save, Progress};
pub use weights::{
    load_weights, load_weights_with, position, save_weights, LoadedWeights, Strictness,
    WeightsOptions,
};

/// Name of the file with the parameters alone.
pub const MODEL_FILE: &str = "model.safetensors";

/// Name of the file with the whole state of a training.
pub const TRAINING_FILE: &str = "training.safetensors";
