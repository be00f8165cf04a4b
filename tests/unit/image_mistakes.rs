// SPDX-License-Identifier: MIT OR Apache-2.0
//! What layers of images say of input that they cannot take: one line, with the layer's path.

use kiln::nn::{
    AdaptiveAvgPool2d, AlphaDropout, BatchNorm, Conv2d, ConvOptions, ConvTranspose2d,
    ConvTransposeOptions, DropBlock2d, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout,
    GroupNorm, InstanceNorm2d, InstanceNormOptions, LayerNorm, MaxPool2d, Module, Scope,
    Sequential, StochasticDepth, Upsample, UpsampleMode, ZeroPad2d,
};
use kiln::{Device, Mode, Net, Seed, Tensor};

/// The message of a network that cannot be made.
fn refused<M: Module>(make: impl FnOnce(&Scope) -> M) -> String {
    let error = Net::new(Device::cpu(), Seed(1), make).err().expect("a mistake");
    let message = error.to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

/// The message of a pass in train mode that cannot be.
fn mistake<M: Module>(shape: &[usize], make: impl FnOnce(&Scope) -> M) -> String {
    let mut net = Net::new(Device::cpu(), Seed(1), make).expect("a network");
    let x = Tensor::zeros(shape);
    let message = net.train().forward(&x).expect_err("a mistake").to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message:?}");
    }
}

#[test]
fn channels_that_a_layer_does_not_have() {
    let conv = |p: &Scope| Conv2d::new(&p.at("conv1"), 1, 4, [3, 3]);
    let words = ["conv1: ", "[samples, 1, height, width]", "[2, 3, 8, 8]"];
    says(&mistake(&[2, 3, 8, 8], conv), &words);
    let make = |p: &Scope| ConvTranspose2d::new(&p.at("up"), 1, 4, [3, 3]);
    says(&mistake(&[2, 3, 8, 8], make), &["up: ", "[samples, 1, height, width]", "[2, 3, 8, 8]"]);
    let make = |p: &Scope| BatchNorm::new(&p.at("bn"), 1);
    says(&mistake(&[2, 3, 8, 8], make), &["bn: ", "[samples, 1, ...]", "[2, 3, 8, 8]"]);
    let make = |p: &Scope| GroupNorm::new(&p.at("norm"), 2, 4);
    says(&mistake(&[2, 3, 8, 8], make), &["norm: ", "[samples, 4, ...]", "[2, 3, 8, 8]"]);
    let make = |p: &Scope| InstanceNorm2d::new(&p.at("norm"), 1);
    says(&mistake(&[2, 3, 8, 8], make), &["norm: ", "[samples, 1, height, width]"]);
    let make = |p: &Scope| LayerNorm::new(&p.at("norm"), [8]);
    says(&mistake(&[2, 3, 7], make), &["norm: ", "[..., 8]", "[2, 3, 7]"]);
}

#[test]
fn kernels_larger_than_the_padded_image() {
    let conv = |p: &Scope| Conv2d::new(&p.at("conv1"), 3, 4, [5, 5]);
    says(&mistake(&[2, 3, 4, 8], conv), &["conv1: ", "hold a window of 5", "[2, 3, 4, 8]"]);
    let block = |p: &Scope| Sequential::new(p).with(|_| MaxPool2d::new([9, 9]));
    says(&mistake(&[2, 3, 8, 8], block), &["window of 9", "[2, 3, 8, 8]"]);
    // More is cut off than there is.
    let options = ConvTransposeOptions { padding: [4, 4], ..ConvTransposeOptions::default() };
    let make = |p: &Scope| ConvTranspose2d::with_options(&p.at("up"), 1, 1, [3, 3], options);
    says(&mistake(&[1, 1, 2, 2], make), &["up: ", "padding of 8"]);
}

#[test]
fn groups_that_do_not_divide_the_channels() {
    let options = ConvOptions { groups: 2, ..ConvOptions::default() };
    let make = |p: &Scope| Conv2d::with_options(&p.at("conv1"), 3, 4, [3, 3], options);
    says(&refused(make), &["conv1: groups: ", "divides 3 inputs and 4 outputs", "got 2"]);
    let options = ConvTransposeOptions { groups: 3, ..ConvTransposeOptions::default() };
    let make = |p: &Scope| ConvTranspose2d::with_options(&p.at("up"), 3, 4, [3, 3], options);
    says(&refused(make), &["up: groups: ", "divides 3 inputs and 4 outputs", "got 3"]);
    let make = |p: &Scope| GroupNorm::new(&p.at("norm"), 3, 4);
    says(&refused(make), &["norm: num_groups: ", "divides 4 channels", "got 3"]);
    says(&refused(|p| GroupNorm::new(&p.at("norm"), 0, 4)), &["norm: num_groups: ", "got 0"]);
}

#[test]
fn a_batch_of_one_value_per_channel() {
    let make = |p: &Scope| BatchNorm::new(&p.at("bn"), 4);
    let words = ["bn: ", "2 values or more per channel in train mode", "[1, 4]"];
    says(&mistake(&[1, 4], make), &words);
    // In eval mode it is none.
    let mut net = Net::new(Device::cpu(), Seed(1), make).expect("a network");
    net.eval().forward(&Tensor::zeros([1, 4])).expect("a pass");
    let make = |p: &Scope| InstanceNorm2d::new(&p.at("norm"), 4);
    says(&mistake(&[3, 4, 1, 1], make), &["norm: ", "2 pixels or more", "[3, 4, 1, 1]"]);
}

#[test]
fn ranks_and_options_that_do_not_fit() {
    says(&mistake(&[4, 3], |p| Dropout1d::new(&p.at("d"), 0.5)), &["d: ", "channels, length"]);
    says(&mistake(&[4, 3, 2], |p| Dropout2d::new(&p.at("d"), 0.5)), &["d: ", "height, width"]);
    says(&mistake(&[4, 3, 2, 2], |p| Dropout3d::new(&p.at("d"), 0.5)), &["d: ", "depth, height"]);
    says(&mistake(&[4], |p| FeatureAlphaDropout::new(&p.at("d"), 0.5)), &["d: ", "channels, ..."]);
    says(&mistake(&[4, 3], |p| DropBlock2d::new(&p.at("d"), 0.5, 3)), &["d: ", "height, width"]);
    for p in [-0.1, 1.1, f32::NAN] {
        let words = ["d: p: expected a probability in [0, 1]"];
        says(&refused(|s| Dropout2d::new(&s.at("d"), p)), &words);
        says(&refused(|s| AlphaDropout::new(&s.at("d"), p)), &words);
        says(&refused(|s| FeatureAlphaDropout::new(&s.at("d"), p)), &words);
        says(&refused(|s| StochasticDepth::new(&s.at("d"), p)), &words);
        says(&refused(|s| DropBlock2d::new(&s.at("d"), p, 3)), &words);
    }
    says(&refused(|s| DropBlock2d::new(&s.at("d"), 0.5, 0)), &["d: block_size: ", "got 0"]);
    let options = ConvTransposeOptions { output_padding: [1, 0], ..Default::default() };
    let make = |p: &Scope| ConvTranspose2d::with_options(&p.at("up"), 1, 1, [3, 3], options);
    says(&refused(make), &["up: output_padding: ", "below the stride [1, 1]", "got [1, 0]"]);
    says(&refused(|p| LayerNorm::new(&p.at("norm"), [3, 0])), &["norm: normalized_shape: "]);
    let options = InstanceNormOptions { momentum: 1.5, ..Default::default() };
    let make = |p: &Scope| InstanceNorm2d::with_options(&p.at("norm"), 3, options);
    says(&refused(make), &["norm: momentum: ", "[0, 1]", "got 1.5"]);
    says(&mistake(&[2, 3, 4], |_| AdaptiveAvgPool2d::new(1, 1)), &["height, width"]);
    says(&mistake(&[2, 3, 4, 4], |_| AdaptiveAvgPool2d::new(0, 1)), &["1 or more rows"]);
    says(&mistake(&[2, 3, 4], |_| ZeroPad2d::new([1; 4])), &["height, width"]);
    let nearest = UpsampleMode::Nearest;
    says(&mistake(&[2, 3, 4], |_| Upsample::to([4, 4], nearest)), &["each of 1 spatial", "got 2"]);
    says(&mistake(&[2, 3, 4], |_| Upsample::to([0], nearest)), &["1 element or more"]);
    says(&mistake(&[2, 3, 4], |_| Upsample::by([-1.0], nearest)), &["positive factors", "-1"]);
    says(&mistake(&[2, 3, 4], |_| Upsample::by([1e300], nearest)), &["no more than a tensor"]);
    says(&mistake(&[2, 3, 4, 4], |_| Upsample::to([1 << 30, 1 << 30], nearest)), &["elements"]);
}

/// Layers of one kind in several places are told apart.
#[test]
fn the_path_is_that_of_the_layer() {
    let make = |p: &Scope| {
        Sequential::new(&p.at("features"))
            .with(|p| Conv2d::new(p, 3, 4, [3, 3]))
            .with(|p| Conv2d::new(p, 5, 6, [3, 3]))
    };
    let mut net = Net::new(Device::cpu(), Seed(1), make).expect("a network");
    let x = Tensor::zeros([2, 3, 8, 8]);
    let message = net.plan(Mode::Eval, &[x.ty()]).expect_err("a mistake").to_string();
    says(&message, &["features.1: ", "[samples, 5, height, width]", "[2, 4, 6, 6]"]);
}
