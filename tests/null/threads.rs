// SPDX-License-Identifier: MIT OR Apache-2.0
//! What moves between threads: the compiler is the judge.

use kiln::loss::{CrossEntropy, Loss};
use kiln::models::{SimpleNet, VariableDropoutNet};
use kiln::nn::{Module, Scope, Sequential};
use kiln::{Net, Predictor, StepLoss, Trainer, View};

fn moves<T: Send>() {}
fn is_shared<T: Sync>() {}

#[test]
fn networks_and_trainers_move_between_threads() {
    moves::<Net<SimpleNet>>();
    moves::<Net<VariableDropoutNet>>();
    moves::<Net<Sequential>>();
    moves::<Net<Box<dyn Module>>>();
    moves::<Trainer<SimpleNet>>();
    moves::<Trainer<Box<dyn Module>>>();
    moves::<View<'static, Box<dyn Module>>>();
    moves::<Predictor<SimpleNet>>();
    moves::<Predictor<Box<dyn Module>>>();
    moves::<StepLoss>();
    moves::<Scope>();
    is_shared::<StepLoss>();
    moves::<Box<dyn Loss>>();
    is_shared::<CrossEntropy>();
}
