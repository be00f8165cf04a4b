// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CUDA backend on the simulated driver: what kernels compute and how they are ordered, never
//! how fast they are.

#[path = "cuda/common.rs"]
mod common;
#[path = "cuda/failures.rs"]
mod failures;
#[path = "cuda/images.rs"]
mod images;
#[path = "cuda/kernels.rs"]
mod kernels;
#[path = "cuda/training.rs"]
mod training;
