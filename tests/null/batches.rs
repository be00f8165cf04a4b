// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which kernels multiply batches of matrices on a GPU.

use kiln::backend::cuda::{work, Architecture, WorkItem};
use kiln::nn::{Module, Scope};
use kiln::op::TensorType;
use kiln::{Device, Mode, Net, Precision, Seed, Var};

struct Batches;

impl Module<(Var, Var)> for Batches {
    fn forward(&self, (a, b): &(Var, Var)) -> Var {
        a.matmul(b)
    }
}

/// Kernels of large tiles have no registers left to tell the pairs of a batch apart.
#[test]
fn batches_take_kernels_that_tell_pairs_apart() {
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
        let device = Device::on_paper(Architecture::SM_90).with_precision(precision);
        let mut net = Net::new(device, Seed(1), |_: &Scope| Batches).expect("a network");
        let batch = TensorType::f32([300, 512, 512].into());
        let plan = net.plan(Mode::Eval, &[batch.clone(), batch]).expect("a plan");
        let work = work(plan, Architecture::SM_90, precision).expect("the plan's work");
        let products: Vec<_> = work
            .steps
            .iter()
            .flatten()
            .filter_map(|item| match item {
                WorkItem::Launch(launch) if launch.kernel.starts_with("gemm") => Some(launch),
                WorkItem::Host { .. } => panic!("a step is left to the host"),
                _ => None,
            })
            .collect();
        assert_eq!(products.iter().map(|one| one.blocks[2]).sum::<u32>(), 300);
        assert!(products.iter().all(|one| one.kernel.ends_with("64x64")), "{products:?}");
    }
}
