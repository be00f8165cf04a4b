// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masks that are asked for are those that were used.

use kiln::nn::{Dropout, Dropout2d, Lstm, Module, RecurrentOptions, Scope};
use kiln::op::TensorType;
use kiln::{Device, Net, Seed, Tensor, Var, MONTE_CARLO_PASS};

fn net<M>(of: impl FnOnce(&Scope) -> M) -> Net<M> {
    Net::new(Device::cpu(), Seed(0x5eed_0bad_cafe), of).expect("a network")
}

fn ones(shape: &[usize]) -> Tensor {
    Tensor::new(shape, vec![1.0; shape.iter().product()]).expect("ones")
}

/// 1 where something is left.
fn left(x: &Tensor) -> Vec<f32> {
    x.values().expect("f32").iter().map(|x| f32::from(u8::from(*x != 0.0))).collect()
}

#[test]
fn a_past_mask_is_the_one_that_was_used() {
    for shape in [vec![5, 33], vec![3, 4, 7], vec![2, 6, 3, 5]] {
        let mut net = net(|p| Dropout::new(&p.at("dropout1"), 0.4));
        let types = [TensorType::f32(shape.as_slice().into())];
        let passes: Vec<Tensor> =
            (0..4).map(|_| net.train().forward(&ones(&shape)).expect("a pass")).collect();
        for (pass, y) in passes.iter().enumerate() {
            let masks = net.mask("dropout1", pass as u32, &types).expect("masks");
            assert_eq!((masks.len(), masks[0].shape()), (1, y.shape()));
            assert_eq!(masks[0].values().expect("f32"), left(y), "{shape:?} {pass}");
        }
        // A pass that is to come.
        let masks = net.mask("dropout1", net.pass(), &types).expect("masks");
        let next = net.train().forward(&ones(&shape)).expect("a pass");
        assert_eq!(masks[0].values().expect("f32"), left(&next));
    }
}

#[test]
fn channels_and_draws_have_their_masks() {
    let mut maps = net(|p| Dropout2d::new(&p.at("maps"), 0.5));
    let shape = [3, 16, 2, 2];
    let y = maps.train().forward(&ones(&shape)).expect("a pass");
    let masks = maps.mask("maps", 0, &[TensorType::f32(shape.into())]).expect("masks");
    assert_eq!(masks[0].values().expect("f32"), left(&y));

    let mut net = net(|p| Dropout::new(&p.at("dropout"), 0.5));
    let y = left(&net.monte_carlo(3).forward(&ones(&[2, 16])).expect("a pass"));
    let types = [TensorType::f32([6, 16].into())];
    let masks = net.mask("dropout", MONTE_CARLO_PASS, &types).expect("masks");
    for (row, mask) in masks[0].values().expect("f32").chunks(16).enumerate() {
        let (sample, draw) = (row / 3, row % 3);
        assert_eq!(*mask, y[(draw * 2 + sample) * 16..][..16], "draw {draw} of sample {sample}");
    }
}

struct TwiceInARow(Dropout);

impl Module<Var, (Var, Var)> for TwiceInARow {
    fn forward(&self, x: &Var) -> (Var, Var) {
        (self.0.forward(x), self.0.forward(x))
    }
}

#[test]
fn a_layer_has_a_mask_for_each_time_it_drops() {
    let mut net = net(|p| TwiceInARow(Dropout::new(&p.at("dropout"), 0.5)));
    let (a, b) = net.train().forward(&ones(&[4, 64])).expect("a pass");
    let masks = net.mask("dropout", 0, &[TensorType::f32([4, 64].into())]).expect("masks");
    let found: Vec<&[f32]> = masks.iter().map(|mask| mask.values().expect("f32")).collect();
    assert_eq!(found, [left(&a), left(&b)]);
    assert_ne!(found[0], found[1]);

    let options = RecurrentOptions { layers: 3, dropout: 0.3, ..RecurrentOptions::default() };
    let lstm = self::net(|p| Lstm::with_options(&p.at("lstm"), 8, 16, options));
    let masks = lstm.mask("lstm", 0, &[TensorType::f32([2, 5, 8].into())]).expect("masks");
    assert_eq!(masks.iter().map(|mask| mask.shape().dims()).collect::<Vec<_>>(), [[2, 5, 16]; 2]);
}

#[test]
fn a_layer_that_drops_nothing_is_told_which_do() {
    let net = net(|p| Dropout::new(&p.at("dropout"), 0.5));
    let error = net.mask("fc1", 0, &[TensorType::f32([4, 64].into())]).unwrap_err();
    assert_eq!(error.to_string(), "layer: expected one of dropout, got fc1");
}
