// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes wrong on a device comes back as an error that says what and where.

use kiln::nn::{Linear, Module};
use kiln::{Device, Error, Net, Seed, Tensor};

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
    let simulator = simulator();
    simulator.set_memory(64 << 20);
    let net = Net::new(gpu(), Seed(1), |p| Linear::new(&p.at("fc"), 8192, 8192));
    let text = message(net.expect_err("256 MiB do not fit"));
    assert!(text.contains("out of memory: 257 MiB needed"), "{text}");
    assert!(text.contains("of 64 MiB free"), "{text}");
}

#[test]
fn a_lost_device_is_an_error_from_then_on() {
    let simulator = simulator();
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
    let _simulator = simulator();
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
    let _simulator = simulator();
    let text = Device::cuda(3).expect_err("there is one device").to_string();
    assert_eq!(text, "cuda:3: no such device: the driver answers for 1");
    assert_eq!(Device::best().expect("a device").to_string(), "cuda:0");
}

/// Operations without a kernel are computed by the host, and such plans are not captured.
#[test]
fn operations_without_a_kernel_go_through_the_host() {
    struct Columns(Linear);
    impl Module for Columns {
        fn forward(&self, x: &kiln::Var) -> kiln::Var {
            let y = self.0.forward(x);
            y.transpose().tanh().transpose()
        }
    }
    let simulator = simulator();
    let run = |device: Device| {
        let make = |p: &kiln::nn::Scope| Columns(Linear::new(&p.at("fc"), 9, 7));
        let mut net = Net::new(device, Seed(1), make).expect("a network");
        let (x, dy) = (numbers(1, [5, 9]), numbers(2, [5, 7]));
        (0..3).map(|_| net.eval().gradients(&x, &dy).expect("gradients")).last().expect("three")
    };
    let (got, reference) = (run(gpu()), run(cpu()));
    assert_close("output", &got.output, &reference.output, 1e-5);
    for ((name, got), (_, reference)) in got.parameters.iter().zip(&reference.parameters) {
        assert_close(name, got, reference, 1e-5);
    }
    assert_eq!(simulator.counters().graph_launches, 0);
}
