// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every kernel by itself, against its equations in f64: odd sizes, every storage type, every variant. What runs all
//! families fails if a kernel of `kernels/` was left out. They run on the simulated driver, which Linux alone can load;
//! `KILN_TEST_GPU=1` runs them on a real GPU, there also each family as a test of its own, so that a device that is lost
//! costs one.

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
#[expect(dead_code, reason = "the backend calls more of the driver")]
#[path = "../src/backend/cuda/calls.rs"]
mod calls;
#[path = "kernels/ceilings.rs"]
mod ceilings;
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
#[path = "kernels/samples.rs"]
mod samples;
#[path = "kernels/softmax.rs"]
mod softmax;
#[path = "kernels/state.rs"]
mod state;
#[path = "kernels/unscale.rs"]
mod unscale;
#[path = "kernels/walk.rs"]
mod walk;

use driver::Gpu;
use kiln_simcuda::Mode;

macro_rules! families {
    ($($family:ident)*) => {
        /// What launches and compares the kernels of each family.
        const FAMILIES: &[fn(&Gpu)] = &[$($family::run),*];

        /// Each family as a test of its own.
        mod alone {
            $(
                #[test]
                fn $family() {
                    super::run_alone(super::$family::run);
                }
            )*
        }
    };
}

families! {
    chain dropout reduce along softmax cross_entropy optimizer unscale copies pieces indexed samples state linear gradients batches
    pooling normalize batch_norm blend conv conv_thin recurrent recurrent_gradient walk ceilings
}

/// Launches all families, compares all results, and fails unless every kernel was among them.
fn run_all(mode: Mode) {
    let gpu = Gpu::open(mode);
    FAMILIES.iter().for_each(|run| run(&gpu));
    gpu.finish();
}

fn run_alone(run: fn(&Gpu)) {
    if !driver::is_real() {
        return driver::skipped(
            "on the simulated driver every_kernel_computes_its_equations runs it",
        );
    }
    let gpu = Gpu::open(Mode::Plain);
    run(&gpu);
    gpu.finish_part();
}

#[test]
fn every_kernel_computes_its_equations() {
    run_all(Mode::Plain);
}

#[test]
fn every_kernel_touches_only_its_memory() {
    match driver::is_real() {
        true => driver::skipped("only the simulated driver checks every access"),
        false => run_all(Mode::Checked),
    }
}

#[test]
fn launches_ask_for_what_they_need() {
    attributes::run();
}

#[test]
fn bugs_in_how_blocks_wait_are_found() {
    match driver::is_real() {
        true => driver::skipped("only the simulated driver has kernels with bugs"),
        false => walk::mutants_are_found(),
    }
}
