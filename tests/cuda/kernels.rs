// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every kernel against the CPU: odd sizes, both precisions, every order of threads, and with all
//! accesses checked.

use kiln::backend::cuda::{self_test, CudaOptions, Precision};
use kiln::Device;

use crate::common::*;

/// Runs the comparisons and lists those that fail.
fn failures(device: &Device, size: usize) -> Vec<String> {
    let checks = self_test(device, size).expect("the device works");
    assert!(checks.len() > 30, "only {} comparisons", checks.len());
    checks.iter().filter(|check| !check.passed()).map(ToString::to_string).collect()
}

#[test]
fn kernels_compute_what_the_cpu_does() {
    let simulator = simulator();
    for size in [1, 31, 33, 65] {
        assert_eq!(failures(&gpu(), size), Vec::<String>::new());
    }
    assert_eq!(simulator.take_reports(), Vec::<String>::new());
}

#[test]
fn tensor_cores_compute_what_the_cpu_does() {
    let simulator = simulator();
    let options = CudaOptions { precision: Precision::Tf32, ..CudaOptions::default() };
    let device = Device::cuda_with(0, options).expect("the simulated driver has a device");
    for size in [33, 72] {
        assert_eq!(failures(&device, size), Vec::<String>::new());
    }
    assert_eq!(simulator.take_reports(), Vec::<String>::new());
}

#[test]
fn the_order_of_threads_does_not_matter() {
    let simulator = simulator();
    for order in [ThreadOrder::Descending, ThreadOrder::Random] {
        simulator.set_thread_order(order);
        assert_eq!(failures(&gpu(), 33), Vec::<String>::new(), "{order:?}");
    }
}

#[test]
fn every_access_is_in_bounds_and_ordered() {
    let simulator = simulator();
    simulator.set_mode(Mode::Checked);
    for size in [5, 33] {
        assert_eq!(failures(&gpu(), size), Vec::<String>::new());
    }
    assert_eq!(simulator.take_reports(), Vec::<String>::new());
}
