// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CUDA backend on the simulated driver: what kernels compute and how they are ordered, never
//! how fast they are. `KILN_TEST_GPU=1` runs the same tests on a real GPU; those that need the
//! simulated driver then say so. The simulated driver runs on Linux alone.

#![cfg(target_os = "linux")]

#[path = "cuda/bench.rs"]
mod bench;
#[path = "cuda/common.rs"]
mod common;
#[path = "cuda/convolutions.rs"]
mod convolutions;
#[path = "cuda/copies.rs"]
mod copies;
#[path = "cuda/dropout_rates.rs"]
mod dropout_rates;
#[path = "cuda/embedding.rs"]
mod embedding;
#[path = "cuda/failures.rs"]
mod failures;
#[path = "cuda/feeding.rs"]
mod feeding;
#[path = "cuda/fused_images.rs"]
mod fused_images;
#[path = "cuda/images.rs"]
mod images;
#[path = "cuda/kernels.rs"]
mod kernels;
#[path = "cuda/lab.rs"]
mod lab;
#[path = "cuda/loss_scale.rs"]
mod loss_scale;
#[path = "cuda/pipeline.rs"]
mod pipeline;
#[path = "cuda/plans.rs"]
mod plans;
#[path = "cuda/precision.rs"]
mod precision;
#[path = "cuda/predictor.rs"]
mod predictor;
#[path = "cuda/program.rs"]
mod program;
#[path = "cuda/recurrent.rs"]
mod recurrent;
#[path = "cuda/recurrent_options.rs"]
mod recurrent_options;
#[path = "cuda/state.rs"]
mod state;
#[path = "cuda/thin.rs"]
mod thin;
#[path = "cuda/threads.rs"]
mod threads;
#[path = "cuda/training.rs"]
mod training;
