// SPDX-License-Identifier: MIT OR Apache-2.0
//! What benches use of a device: plans and launches run by themselves, timed on a real GPU alone.

use kiln::backend::cuda::lab::{Cache, Lab, Repeats, Subject};
use kiln::backend::cuda::{embedded, CudaOptions};
use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::optim::Adam;
use kiln::{Net, Seed, Trainer};

use crate::common::*;

const REPEATS: Repeats = Repeats { samples: 2, runs: 3 };

/// Fails unless a GPU was timed, or a simulated device was not.
fn assert_timed(lab: &Lab, what: &str, times: Option<Vec<f64>>) {
    match times {
        Some(times) => {
            assert!(!lab.info().simulated, "{what}: a simulated device was timed");
            assert!(times.len() == REPEATS.samples && times.iter().all(|&us| us > 0.0), "{what}");
        }
        None => assert!(lab.info().simulated, "{what}"),
    }
}

#[test]
fn plans_and_launches_run_by_themselves() {
    let driver = driver();
    let device = gpu();
    let net = Net::new(device, Seed(7), |p| SimpleNet::new(p, 31, 33, 10, 0.5)).expect("a network");
    let mut fit = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-2)).expect("a trainer");
    let (x, y) = (numbers(1, [17, 31]), labels(1, 17, 10));
    let plan = fit.plan(&x.ty(), &y.ty()).expect("a plan").clone();
    let mut lab = Lab::open(0, CudaOptions::default()).expect("a device");
    let values = |spec: &kiln::graph::ParamSpec| vec![0.01; spec.shape.elements()];
    let resident = lab.load(&plan, &[x, y], values).expect("a plan that runs");
    for cache in [Cache::Warm, Cache::Cold] {
        let times = lab.time(Subject::Plan(&resident), cache, REPEATS).expect("it is replayed");
        assert_timed(&lab, "the plan", times);
    }
    let launches = lab.launches(&resident);
    let names: Vec<&str> = launches.iter().map(|placed| placed.launch.kernel.as_str()).collect();
    assert!(names.contains(&"linear_cross_entropy_f32") && names.contains(&"adam"), "{names:?}");
    for placed in &launches {
        assert!(!plan.steps[placed.step].nodes.is_empty());
        for cache in [Cache::Warm, Cache::Cold] {
            let subject = Subject::Launch(&resident, placed);
            let times = lab.time(subject, cache, REPEATS).expect("it runs alone");
            assert_timed(&lab, &placed.launch.kernel, times);
        }
    }
    driver.assert_clean();
}

#[test]
fn ceilings_run() {
    let driver = driver();
    let mut lab = Lab::open(0, CudaOptions::default()).expect("a device");
    let copy = lab.copy(1 << 12).expect("memory");
    let nothing = lab.nothing().expect("a kernel");
    let mut work = vec![copy, nothing];
    for kernel in ["ceiling_f32", "ceiling_tf32", "ceiling_bf16", "ceiling_f16"] {
        work.push(lab.ceiling(kernel, 1, || 0x3f00_3f00).expect("a kernel"));
    }
    for work in &work {
        let times = lab.time(Subject::Loose(work), Cache::Warm, REPEATS).expect("it runs");
        assert_timed(&lab, &format!("{work:?}"), times);
    }
    driver.assert_clean();
}

/// The kernels' own tests load what the backend would.
#[test]
fn modules_hold_every_kernel() {
    let _driver = driver();
    let lab = Lab::open(0, CudaOptions::default()).expect("a device");
    let modules = lab.modules().expect("kernels in some form");
    let kernels: usize = modules.iter().map(|module| module.kernels.len()).sum();
    assert_eq!(kernels, embedded().kernels);
    assert!(modules.iter().all(|module| !module.image.is_empty()));
}
