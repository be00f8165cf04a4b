// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes wrong on a device comes back as an error that says what and where.

use std::time::Duration;
use std::{fs, thread};

use cudarc::driver::CudaContext;
use kiln::checkpoint::{self, Progress, MODEL_FILE, TRAINING_FILE};
use kiln::data::Position;
use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::nn::{Corners, Linear, Module, Upsample, UpsampleMode};
use kiln::optim::Adam;
use kiln::{Device, Error, Net, Seed, Tensor, Trainer};

use super::training::Branches;
use crate::common::*;

fn message(error: Error) -> String {
    match error {
        Error::Device { device, message } => {
            assert_eq!(device, "cuda:0");
            message
        }
        other => panic!("not an error of the device: {other}"),
    }
}

#[test]
fn too_little_memory_says_how_much_was_needed() {
    let Some(simulator) = simulator() else { return };
    simulator.set_memory(64 << 20);
    let net = Net::new(gpu(), Seed(1), |p| Linear::new(&p.at("fc"), 8192, 8192));
    let text = message(net.expect_err("256 MiB do not fit"));
    assert!(text.contains("out of memory: 257 MiB needed"), "{text}");
    assert!(text.contains("of 64 MiB free"), "{text}");
}

#[test]
fn a_lost_device_is_an_error_from_then_on() {
    let Some(simulator) = simulator() else { return };
    let mut net = Net::new(gpu(), Seed(1), |p| Linear::new(&p.at("fc"), 8, 8)).expect("a network");
    let x = Tensor::zeros([4, 8]);
    net.eval().forward(&x).expect("it works at first");
    simulator.inject_error(700);
    for _ in 0..2 {
        let text = message(net.eval().forward(&x).expect_err("the device is lost"));
        assert!(text.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{text}");
    }
    let text = message(net.parameter("fc.weight").expect_err("the device is lost"));
    assert!(text.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{text}");
}

#[test]
fn an_error_after_captures_leaves_the_backend_usable() {
    let _driver = driver();
    let mut net = Net::new(gpu(), Seed(1), |p| Linear::new(&p.at("fc"), 8, 8)).expect("a network");
    for rows in [4, 4, 4, 5, 5, 5, 4] {
        let output = net.eval().forward(&numbers(1, [rows, 8])).expect("a forward pass");
        assert_eq!(output.shape().dims(), [rows, 8]);
    }
    assert!(net.eval().forward(&numbers(1, [4, 9])).is_err());
    net.eval().forward(&numbers(1, [4, 8])).expect("a forward pass");
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let Some(_simulator) = simulator() else { return };
    let text = Device::cuda(3).expect_err("there is one device").to_string();
    assert_eq!(text, "cuda:3: no such device: the driver answers for 1");
    assert_eq!(Device::best().expect("a device").to_string(), "cuda:0");
}

/// Operations without a kernel are computed by the host, and such plans are not captured.
#[test]
fn operations_without_a_kernel_go_through_the_host() {
    /// Sequences that are stretched to more terms than a table of a kernel holds.
    const STRETCHED: usize = 40_000;
    struct Stretched(Linear);
    impl Module for Stretched {
        fn forward(&self, x: &kiln::Var) -> kiln::Var {
            let y = self.0.forward(x).reshape([5, 1, 7]);
            let linear = UpsampleMode::Linear(Corners::default());
            Upsample::to([STRETCHED], linear).forward(&y).tanh().reshape([5, STRETCHED])
        }
    }
    let driver = driver();
    let run = |device: Device| {
        let make = |p: &kiln::nn::Scope| Stretched(Linear::new(&p.at("fc"), 9, 7));
        let mut net = Net::new(device, Seed(1), make).expect("a network");
        let (x, dy) = (numbers(1, [5, 9]), numbers(2, [5, STRETCHED]));
        (0..3).map(|_| net.eval().gradients(&x, &dy).expect("gradients")).last().expect("three")
    };
    let (got, reference) = (run(gpu()), run(cpu()));
    assert_close("output", &got.output, &reference.output, 1e-5);
    for ((name, got), (_, reference)) in got.parameters.iter().zip(&reference.parameters) {
        assert_close(name, got, reference, 1e-5);
    }
    assert_eq!(driver.take_graph_launches().unwrap_or(0), 0);
}

#[test]
fn a_refused_launch_names_kernel_and_layer() {
    let Some(simulator) = simulator() else { return };
    let mut net = Net::new(gpu(), Seed(1), |p| Linear::new(&p.at("fc"), 8, 8)).expect("a network");
    let x = numbers(1, [4, 8]);
    // Issued, captured: the error of either leaves nothing behind.
    for _ in 0..2 {
        simulator.refuse_launches(701);
        let text = message(net.eval().forward(&x).expect_err("launches are refused"));
        let words =
            ["kernel gemm_nt_f32_64x64", "layer \"fc\"", "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"];
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        simulator.refuse_launches(0);
        net.eval().forward(&x).expect("a forward pass");
    }
}

/// A later driver may return what no header of today knows: an error with its number, like any other.
#[test]
fn codes_that_nobody_knows_are_errors() {
    let Some(simulator) = simulator() else { return };
    let x = numbers(1, [4, 8]);
    for code in [917, 987, 70_000, u32::MAX] {
        let make = |p: &kiln::nn::Scope| Linear::new(&p.at("fc"), 8, 8);
        let mut net = Net::new(gpu(), Seed(1), make).expect("a network");
        simulator.refuse_launches(code);
        let text = message(net.eval().forward(&x).expect_err("launches are refused"));
        assert!(text.ends_with(&format!("unknown ({code}): unknown")), "{text}");
        simulator.refuse_launches(0);
        net.eval().forward(&x).expect("a forward pass");
    }
}

/// What was issued of a run that failed half way is none of the next one's business, whichever
/// launch it was and however far the lanes are.
#[test]
fn a_run_that_failed_half_way_leaves_nothing_for_the_next() {
    let Some(simulator) = simulator() else { return };
    simulator.set_mode(Mode::Checked);
    let (x, y) = (numbers(1, [17, 12]), labels(1, 17, 10));
    for before in 0..12 {
        simulator.set_stream_order(StreamOrder::Random);
        simulator.set_seed(before);
        let net = Net::new(gpu(), Seed(7), Branches::new).expect("a network");
        let mut fit =
            Trainer::new(net, CrossEntropy::default(), Adam::new(1e-2)).expect("a trainer");
        simulator.refuse_launch(before, 701);
        let text = message(fit.step(&x, &y).expect_err("a launch is refused"));
        assert!(text.contains("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"), "{text}");
        fit.step(&x, &y).expect("a step").value().expect("a loss");
        // In a capture; the run is issued step by step instead.
        simulator.refuse_launch(before, 701);
        fit.step(&x, &y).expect("a step").value().expect("a loss");
        fit.step(&x, &y).expect("a step").value().expect("a loss");
        assert_eq!(simulator.take_reports(), Vec::<String>::new(), "{before}");
    }
}

/// Somebody else in the process may wait for the context, and no mode of capture bears that. The
/// run that was to be captured is issued step by step.
#[test]
fn a_capture_that_others_break_is_made_up_for() {
    let Some(simulator) = simulator() else { return };
    let mut net = Net::new(gpu(), Seed(1), |p| Linear::new(&p.at("fc"), 8, 8)).expect("a network");
    let x = numbers(1, [4, 8]);
    let (expected, weight) =
        (net.eval().forward(&x).expect("issued"), net.parameter("fc.weight").expect("a value"));
    simulator.set_capture_pause(Duration::from_secs(1));
    let (text, waits) = thread::scope(|scope| {
        let context = CudaContext::new(0).expect("a device");
        let waits = scope.spawn(move || {
            (0..5000).find(|_| {
                thread::sleep(Duration::from_millis(1));
                context.synchronize().is_err()
            })
        });
        let (output, warnings) = with_warnings(|| net.eval().forward(&x));
        assert_eq!(output.expect("issued"), expected);
        (warnings.join("\n"), waits.join().expect("no panic"))
    });
    assert!(waits.is_some(), "it was not broken by waiting");
    assert!(text.contains("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    simulator.set_capture_pause(Duration::ZERO);
    assert_eq!(net.parameter("fc.weight").expect("a value"), weight);
    for _ in 0..3 {
        assert_eq!(net.eval().forward(&x).expect("a forward pass"), expected);
    }
}

/// A device that is lost while it works fails what was issued, and what is on disk stays whole.
#[test]
fn checkpoints_outlive_their_device() {
    let Some(simulator) = simulator() else { return };
    let fit = |device| {
        let net =
            Net::new(device, Seed(7), |p| SimpleNet::new(p, 6, 5, 3, 0.5)).expect("a network");
        Trainer::new(net, CrossEntropy::default(), Adam::new(1e-2)).expect("a trainer")
    };
    let (x, y) = (numbers(1, [8, 6]), labels(1, 8, 3));
    let folder = tempfile::tempdir().expect("a folder");
    let progress = Progress {
        position: Position { epoch: 1, batch: 0 },
        notes: serde_json::json!({ "kept": true }),
        ..Progress::default()
    };
    let mut trained = fit(gpu());
    for _ in 0..3 {
        trained.step(&x, &y).expect("a step").value().expect("a loss");
    }
    checkpoint::save(&mut trained, &progress, folder.path()).expect("saved");
    let files = || {
        [MODEL_FILE, TRAINING_FILE].map(|name| fs::read(folder.path().join(name)).expect("a file"))
    };
    let (whole, weight) = (files(), trained.net().parameter("fc1.weight").expect("a value"));

    let pending = trained.step(&x, &y).expect("issued");
    simulator.inject_error(700);
    let text = message(pending.value().expect_err("the device is lost"));
    assert!(text.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{text}");
    let lost = checkpoint::save(&mut trained, &progress, folder.path());
    message(lost.expect_err("there is nothing to read from"));
    assert_eq!(files(), whole, "a failed save changed the files");

    let mut resumed = fit(cpu());
    let found = checkpoint::load(&mut resumed, folder.path()).expect("the checkpoint is whole");
    assert_eq!((found.position, resumed.updates()), (progress.position, 3));
    assert_eq!(resumed.net().parameter("fc1.weight").expect("a value"), weight);
}

/// A driver that lets nothing be captured is asked a few times and told of once.
#[test]
fn what_cannot_be_captured_is_issued() {
    let Some(simulator) = simulator() else { return };
    let mut net = Net::new(gpu(), Seed(1), |p| Linear::new(&p.at("fc"), 8, 8)).expect("a network");
    let x = numbers(1, [4, 8]);
    let expected = net.eval().forward(&x).expect("issued");
    simulator.clear_counters();
    let ((), warnings) = with_warnings(|| {
        for run in 0..6 {
            if run < 3 {
                simulator.refuse_launch(0, 701);
            }
            assert_eq!(net.eval().forward(&x).ok().as_ref(), Some(&expected), "run {run}");
        }
    });
    assert_eq!(simulator.counters().graph_launches, 0);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}
