// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bars for what plans launch: of all products of a training step, those of the article's networks and of a
//! wide MLP, the work that runs in main loops under bars, and how well those do together.

use std::collections::BTreeMap;

use kiln::backend::cuda::{work, Architecture, WorkItem};
use kiln::loss::{CrossEntropy, Loss, Mse};
use kiln::models::{SimpleNet, VariableDropoutNet};
use kiln::nn::{Linear, Module, Scope};
use kiln::optim::Adam;
use kiln::{Device, Net, Precision, Seed, Tensor, Trainer, Var};

use super::bars;
use super::measure::Measured;
use crate::Result;

/// A network with a batch, and what its products may take.
struct Case {
    name: &'static str,
    products: fn(Gpu) -> kiln::Result<Vec<Product>>,
    /// Most instructions per multiplying one in f32, tf32 and 16 bits, weighted by work.
    most: [f64; 3],
    /// The same where a multiprocessor has 100 KB of shared memory, into which fewer stages and columns fit.
    most_in_little_memory: [f64; 3],
}

/// Of the work of products, what the last layer of a classifier comes to: its ten classes fill no tile.
const MOST_GUARDED: f64 = 0.02;

const ROWS_256: [f64; 3] = [1.24, 4.2, 3.65];

/// Small batches take small tiles, whose fragments serve fewer multiplications.
const CASES: &[Case] = &[
    Case {
        name: "SimpleNet at batch 256",
        products: simple_net,
        most: ROWS_256,
        most_in_little_memory: ROWS_256,
    },
    Case {
        name: "VariableDropoutNet at batch 256",
        products: variable_net,
        most: ROWS_256,
        most_in_little_memory: ROWS_256,
    },
    Case {
        name: "two layers of 4096 at batch 4096",
        products: wide,
        most: [1.2, 2.9, 2.1],
        // Of the small tile sm_86 and sm_89 have 51 instructions in a step of 16 bits, sm_120 48.
        most_in_little_memory: [1.2, 3.9, 3.25],
    },
];

/// A device on paper, and what is computed there.
type Gpu = (Architecture, Precision);

/// Work of a kernel, in floating-point operations.
struct Product {
    kernel: String,
    flops: f64,
}

/// The bars that the plans for an architecture miss with the kernels that were compiled for it.
pub(super) fn misses(arch: &str, measured: &BTreeMap<String, Measured>) -> Result<Vec<String>> {
    let architecture: Architecture = arch.parse()?;
    let mut missed = Vec::new();
    let is_little = matches!(arch, "sm_86" | "sm_89" | "sm_120");
    for case in CASES {
        let most = if is_little { case.most_in_little_memory } else { case.most };
        for (precision, limit) in [
            (Precision::F32, most[0]),
            (Precision::Tf32, most[1]),
            (Precision::Bf16, most[2]),
            (Precision::F16, most[2]),
        ] {
            let products = (case.products)((architecture, precision))?;
            let found = of_products(&products, measured, limit);
            let where_ = format!("{} in {precision} on {arch}", case.name);
            missed.extend(found.into_iter().map(|what| format!("{where_}: {what}")));
        }
    }
    Ok(missed)
}

fn of_products(
    products: &[Product],
    measured: &BTreeMap<String, Measured>,
    limit: f64,
) -> Vec<String> {
    let mut missed = Vec::new();
    let (mut all, mut guarded, mut instructions) = (0.0, 0.0, 0.0);
    for Product { kernel, flops } in products {
        all += flops;
        if !bars::has_main_loop(kernel) {
            guarded += flops;
            continue;
        }
        match measured.get(kernel).and_then(|kernel| kernel.main_loop.as_ref()) {
            Some(main) => instructions += flops * main.per_multiply(),
            None => missed.push(format!("P1 {kernel} was not compiled")),
        }
    }
    if guarded > MOST_GUARDED * all {
        let share = 100.0 * guarded / all;
        missed.push(format!("P2 {share:.0}% of the products' work is in loops without bars"));
    }
    let per_multiply = instructions / (all - guarded);
    if per_multiply > limit {
        missed.push(format!("P3 {per_multiply:.2} instructions per multiply > {limit}"));
    }
    missed
}

fn simple_net(gpu: Gpu) -> kiln::Result<Vec<Product>> {
    classifier(gpu, |p| SimpleNet::new(p, 784, 512, 10, 0.5))
}

fn variable_net(gpu: Gpu) -> kiln::Result<Vec<Product>> {
    classifier(gpu, VariableDropoutNet::new)
}

fn classifier<M: Module>(gpu: Gpu, make: impl FnOnce(&Scope) -> M) -> kiln::Result<Vec<Product>> {
    const BATCH: usize = 256;
    let labels = Tensor::labels([BATCH], vec![0; BATCH])?;
    products(gpu, make, CrossEntropy::default(), [Tensor::zeros([BATCH, 784]), labels])
}

/// Hidden layers of a large perceptron.
struct Wide([Linear; 2]);

impl Module for Wide {
    fn forward(&self, x: &Var) -> Var {
        self.0.iter().fold(x.clone(), |x, layer| layer.forward(&x).relu())
    }
}

fn wide(gpu: Gpu) -> kiln::Result<Vec<Product>> {
    const WIDTH: usize = 4096;
    let layer = |p: &Scope, name: &str| Linear::new(&p.at(name), WIDTH, WIDTH);
    let make = |p: &Scope| Wide(["fc1", "fc2"].map(|name| layer(p, name)));
    let batch = || Tensor::zeros([WIDTH, WIDTH]);
    products(gpu, make, Mse::default(), [batch(), batch()])
}

/// The products of a training step with Adam.
fn products<M: Module>(
    (architecture, precision): Gpu,
    make: impl FnOnce(&Scope) -> M,
    loss: impl Loss + 'static,
    [x, y]: [Tensor; 2],
) -> kiln::Result<Vec<Product>> {
    let device = Device::on_paper(architecture).with_precision(precision);
    let net = Net::new(device, Seed(7), make)?;
    let mut fit = Trainer::new(net, loss, Adam::new(1e-3))?;
    let plan = fit.plan(&x.ty(), &y.ty())?;
    let work = work(plan, architecture, precision)?;
    let mut products = Vec::new();
    for (step, items) in plan.steps.iter().zip(work.steps) {
        let kernels = items.into_iter().filter_map(|item| match item {
            WorkItem::Launch(launch) if step.flops > 0 => Some(launch.kernel),
            _ => None,
        });
        let kernels: Vec<String> =
            kernels.filter(|name| name.contains("gemm") || name.contains("linear")).collect();
        let flops = step.flops as f64 / kernels.len().max(1) as f64;
        products.extend(kernels.into_iter().map(|kernel| Product { kernel, flops }));
    }
    Ok(products)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(kernel: &str, flops: f64) -> Product {
        Product { kernel: kernel.into(), flops }
    }

    #[test]
    fn work_outside_of_main_loops_is_a_miss() {
        let measured = BTreeMap::new();
        let mostly = [product("gemm_tn_bf16_any", 3.0), product("gemm_nt_bf16_64x64", 97.0)];
        let found = of_products(&mostly, &measured, 2.0);
        assert!(found[0].starts_with("P1 gemm_nt_bf16_64x64"), "{found:?}");
        assert!(found[1].starts_with("P2 3%"), "{found:?}");
        let little = [product("gemm_tn_bf16_any", 1.0), product("gemm_nt_bf16_64x64", 99.0)];
        assert_eq!(of_products(&little, &measured, 2.0).len(), 1);
    }

    #[test]
    fn plans_of_small_layers_leave_no_other_to_the_guarded_kernels() {
        for case in CASES {
            for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
                let gpu = (Architecture::SM_90, precision);
                let products = (case.products)(gpu).expect("a plan");
                let all: f64 = products.iter().map(|product| product.flops).sum();
                let outside = products.iter().filter(|one| !bars::has_main_loop(&one.kernel));
                let outside: f64 = outside.map(|product| product.flops).sum();
                assert!(outside <= MOST_GUARDED * all, "{} {precision}", case.name);
            }
        }
    }
}
