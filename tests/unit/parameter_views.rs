// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parameters that a network takes under another shape than their own.

use kiln::loss::Mse;
use kiln::nn::{Init, Module, Param, Scope};
use kiln::optim::Adam;
use kiln::{Device, Net, Seed, Tensor, Trainer, Var};

/// A matrix of 5 x 12, which a backend may keep in an order of its own, as one of 4 x 15.
struct Viewed(Param);

impl Module for Viewed {
    fn forward(&self, x: &Var) -> Var {
        let weight = x.parameter(&self.0).reshape([4, 15]);
        x.matmul_transposed(&weight)
    }
}

/// Whatever order the matrix lies in, its numbers are read row by row.
#[test]
fn a_matrix_under_another_shape_is_read_row_by_row() {
    let viewed = |p: &Scope| Viewed(p.linear_weight("weight", 5, 12, Init::Zeros));
    let mut net = Net::new(Device::cpu(), Seed(3), viewed).expect("a network");
    let numbers: Vec<f32> = (0..60).map(|index| index as f32).collect();
    net.set_parameter("weight", &Tensor::new([5, 12], numbers).expect("a matrix")).expect("set");
    // The second of two samples picks each row's last number.
    let mut x = vec![0.0; 30];
    (x[0], x[29]) = (1.0, 1.0);
    let x = Tensor::new([2, 15], x).expect("two samples");
    let y = net.eval().forward(&x).expect("a pass");
    let expected = vec![0.0, 15.0, 30.0, 45.0, 14.0, 29.0, 44.0, 59.0];
    assert_eq!(y, Tensor::new([2, 4], expected).expect("two rows"));
}

/// Training moves it as one that every backend keeps row by row.
#[test]
fn a_matrix_under_another_shape_is_trained() {
    let trained = |network: fn(&Scope) -> Viewed| {
        let mut net = Net::new(Device::cpu(), Seed(3), network).expect("a network");
        net.set_parameter("weight", &wave([5, 12])).expect("a matrix");
        let mut fit = Trainer::new(net, Mse::default(), Adam::new(0.1)).expect("a trainer");
        for _ in 0..3 {
            fit.step(&wave([7, 15]), &wave([7, 4])).expect("a step");
        }
        fit.net().parameter("weight").expect("a matrix")
    };
    let packed = trained(|p| Viewed(p.linear_weight("weight", 5, 12, Init::Zeros)));
    let plain = trained(|p| Viewed(p.parameter("weight", [5, 12], Init::Zeros)));
    assert_ne!(plain, wave([5, 12]));
    assert_eq!(packed, plain);
}

fn wave(shape: [usize; 2]) -> Tensor {
    let values = (0..shape[0] * shape[1]).map(|index| (index as f32 * 0.7).sin()).collect();
    Tensor::new(shape, values).expect("as many numbers as the shape has")
}
