// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every kernel by itself on the simulated driver, against its equations in f64: odd sizes, every
//! storage type, every variant. Both tests fail if a kernel of `kernels/` was left out. The simulated
//! driver runs on Linux alone.

#![cfg(target_os = "linux")]

#[rustfmt::skip]
#[expect(dead_code, reason = "kernels and host agree on more than this one side uses")]
#[path = "../src/backend/cuda/abi.rs"]
mod abi;
#[rustfmt::skip]
#[expect(dead_code, reason = "kernels and host agree on more than this one side uses")]
#[path = "../src/backend/cuda/abi_images.rs"]
mod abi_images;
#[rustfmt::skip]
#[expect(dead_code, reason = "kernels and host agree on more than this one side uses")]
#[path = "../src/backend/cuda/abi_recurrent.rs"]
mod abi_recurrent;
#[path = "kernels/along.rs"]
mod along;
#[path = "kernels/attributes.rs"]
mod attributes;
#[path = "kernels/batch_norm.rs"]
mod batch_norm;
#[path = "kernels/batches.rs"]
mod batches;
#[path = "kernels/blend.rs"]
mod blend;
#[path = "kernels/chain.rs"]
mod chain;
#[path = "kernels/conv.rs"]
mod conv;
#[path = "kernels/conv_norm.rs"]
mod conv_norm;
#[path = "kernels/conv_pools.rs"]
mod conv_pools;
#[path = "kernels/conv_thin.rs"]
mod conv_thin;
#[path = "kernels/copies.rs"]
mod copies;
#[path = "../src/op/corrections.rs"]
mod corrections;
#[path = "kernels/cross_entropy.rs"]
mod cross_entropy;
#[path = "kernels/driver.rs"]
mod driver;
#[path = "kernels/dropout.rs"]
mod dropout;
#[path = "kernels/float.rs"]
mod float;
#[path = "kernels/function.rs"]
mod function;
#[path = "kernels/gradients.rs"]
mod gradients;
#[path = "kernels/indexed.rs"]
mod indexed;
#[expect(dead_code, reason = "the backend puts more than launches on streams")]
#[path = "../src/backend/cuda/launch.rs"]
mod launch;
#[path = "kernels/ledger.rs"]
mod ledger;
#[path = "kernels/linear.rs"]
mod linear;
#[path = "kernels/loss.rs"]
mod loss;
#[path = "kernels/memory.rs"]
mod memory;
#[path = "kernels/normalize.rs"]
mod normalize;
#[path = "kernels/optimizer.rs"]
mod optimizer;
#[path = "kernels/pieces.rs"]
mod pieces;
#[path = "kernels/pooling.rs"]
mod pooling;
#[path = "kernels/product.rs"]
mod product;
#[path = "kernels/recurrent.rs"]
mod recurrent;
#[path = "kernels/recurrent_gradient.rs"]
mod recurrent_gradient;
#[path = "kernels/reduce.rs"]
mod reduce;
#[path = "kernels/softmax.rs"]
mod softmax;
#[path = "kernels/state.rs"]
mod state;

use driver::Gpu;
use kiln_simcuda::Mode;

/// Launches all families, compares all results, and fails unless every kernel was among them.
fn run_all(mode: Mode) {
    let gpu = Gpu::open(mode);
    chain::run(&gpu);
    dropout::run(&gpu);
    reduce::run(&gpu);
    along::run(&gpu);
    softmax::run(&gpu);
    cross_entropy::run(&gpu);
    optimizer::run(&gpu);
    copies::run(&gpu);
    pieces::run(&gpu);
    indexed::run(&gpu);
    state::run(&gpu);
    linear::run(&gpu);
    gradients::run(&gpu);
    batches::run(&gpu);
    pooling::run(&gpu);
    normalize::run(&gpu);
    batch_norm::run(&gpu);
    blend::run(&gpu);
    conv::run(&gpu);
    conv_thin::run(&gpu);
    recurrent::run(&gpu);
    recurrent_gradient::run(&gpu);
    gpu.finish();
}

#[test]
fn every_kernel_computes_its_equations() {
    run_all(Mode::Plain);
}

#[test]
fn every_kernel_touches_only_its_memory() {
    run_all(Mode::Checked);
}
#[test]
fn launches_ask_for_what_they_need() {
    attributes::run();
}
