// SPDX-License-Identifier: MIT OR Apache-2.0
//! Layers of images, once each.

use kiln::nn::{
    AdaptiveAvgPool2d, AlphaDropout, AvgPool2d, Conv1d, Conv2d, Conv3d, ConvOptions,
    ConvTranspose2d, ConvTransposeOptions, Corners, Dropout1d, Dropout2d, Dropout3d,
    FeatureAlphaDropout, GroupNorm, InstanceNorm2d, LayerNorm, MaxPool2d, Padding, Relu, Scope,
    Sequential, StochasticDepth, Upsample, UpsampleMode, ZeroPad2d,
};

use super::zoo::Build;

/// Adds each with the shapes of its inputs: few pixels, since some backends compute them by their plain
/// meaning.
pub(crate) fn add_to(add: &mut impl FnMut(&'static str, &[&[usize]], Build)) {
    let images: &[&[usize]] = &[&[3, 5, 4, 6]];
    let sequences: &[&[usize]] = &[&[3, 5, 7]];
    add("conv1d", sequences, |p, x, _| Box::new(Conv1d::new(p, x[1], 4, [3])));
    add("conv2d", images, |p, x, _| Box::new(Conv2d::with_options(p, x[1], 4, [3, 2], strided())));
    add("conv3d", &[&[2, 2, 3, 4, 3]], |p, x, _| Box::new(Conv3d::new(p, x[1], 3, [2, 2, 2])));
    add("conv_relu_dropout2d", images, |p, x, rate| {
        let (inputs, padding) = (x[1], Padding::Same);
        let options = ConvOptions { padding, ..ConvOptions::default() };
        let conv = move |p: &Scope| Conv2d::with_options(p, inputs, 33, [3, 3], options);
        let dropout = move |p: &Scope| Dropout2d::new(p, rate);
        Box::new(Sequential::new(p).with(conv).with(|_| Relu).with(dropout))
    });
    add("conv_transpose2d", images, |p, x, _| {
        let options = ConvTransposeOptions {
            stride: [2, 1],
            padding: [1, 0],
            output_padding: [1, 0],
            ..ConvTransposeOptions::default()
        };
        Box::new(ConvTranspose2d::with_options(p, x[1], 4, [3, 2], options))
    });
    add("max_pool2d", images, |_, _, _| Box::new(MaxPool2d::new([2, 2])));
    add("avg_pool2d", images, |_, _, _| Box::new(AvgPool2d::new([2, 3])));
    add("adaptive_avg_pool2d", images, |_, _, _| Box::new(AdaptiveAvgPool2d::new(3, 4)));
    add("zero_pad2d", images, |_, _, _| Box::new(ZeroPad2d::new([1, 2, 0, 3])));
    add("upsample_nearest", images, |_, _, _| {
        Box::new(Upsample::by([2.0, 1.5], UpsampleMode::Nearest))
    });
    add("upsample_bilinear", images, |_, _, _| {
        Box::new(Upsample::to([7, 4], UpsampleMode::Linear(Corners::Free)))
    });
    // Behind a convolution, whose results lie channels-last where kernels want them so.
    add("conv_upsample", images, |p, x, _| {
        let inputs = x[1];
        let upsample = |_: &Scope| Upsample::by([2.0, 2.0], UpsampleMode::Linear(Corners::Aligned));
        Box::new(Sequential::new(p).with(move |p| Conv2d::new(p, inputs, 7, [2, 2])).with(upsample))
    });
    add("layer_norm", &[&[31, 33], &[3, 5, 7]], |p, x, _| {
        Box::new(LayerNorm::new(p, [*x.last().expect("an extent")]))
    });
    add("layer_norm_image", images, |p, x, _| Box::new(LayerNorm::new(p, &x[1..])));
    add("group_norm", &[&[3, 6, 4, 5], &[5, 6]], |p, x, _| Box::new(GroupNorm::new(p, 2, x[1])));
    add("instance_norm2d", images, |p, x, _| Box::new(InstanceNorm2d::new(p, x[1])));
    add("dropout1d", sequences, |p, _, rate| Box::new(Dropout1d::new(&p.at("dropout"), rate)));
    add("dropout2d", images, |p, _, rate| Box::new(Dropout2d::new(&p.at("dropout"), rate)));
    add("dropout3d", &[&[2, 9, 3, 2, 3]], |p, _, rate| {
        Box::new(Dropout3d::new(&p.at("dropout"), rate))
    });
    let elements: &[&[usize]] = &[&[31, 33], &[2, 3, 5, 7]];
    add("alpha_dropout", elements, |p, _, rate| {
        Box::new(AlphaDropout::new(&p.at("dropout"), rate))
    });
    add("feature_alpha_dropout", elements, |p, _, rate| {
        Box::new(FeatureAlphaDropout::new(&p.at("dropout"), rate))
    });
    add("stochastic_depth", elements, |p, _, rate| {
        Box::new(StochasticDepth::new(&p.at("dropout"), rate))
    });
}

/// A convolution with strides that leave rows over.
fn strided() -> ConvOptions<2> {
    let padding = Padding::Zeros([1, 0]);
    ConvOptions { stride: [2, 2], padding, ..ConvOptions::default() }
}
