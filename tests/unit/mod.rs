// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the CPU is enough for, and values that are known beforehand.

mod dropout_rates;
mod fit;
mod folded_norms;
mod given_masks;
mod golden;
mod groups;
mod image_mistakes;
mod indices;
mod initial_values;
mod limits;
mod loss_scale;
mod masks;
mod metrics;
mod modes;
mod non_finite;
mod options;
mod parameter_views;
mod past_masks;
mod plans;
mod predictor;
mod recurrent;
mod statistics;
mod summary;
mod texts;
mod trainer;
mod values;
