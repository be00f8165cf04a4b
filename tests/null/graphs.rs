// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules of graphs: what building refuses, and what passes leave true.

use std::sync::Arc;

use kiln::graph::{Builder, InputId, NodeId};
use kiln::op::{Binary, MatMul, Op, Softmax, TensorType, Unary};
use kiln::{DType, Mode, Shape};

use super::networks::{all_facts, cases, goals};

/// A builder with inputs of these types, and a way to apply an operation to all of them.
fn refusal(op: Op, inputs: &[TensorType]) -> String {
    let mut builder = Builder::new(Arc::default());
    let nodes: Vec<NodeId> =
        inputs.iter().map(|ty| builder.input(input_id(), ty.clone())).collect();
    match builder.add(op, &nodes) {
        Ok(node) => format!("taken: {}", builder.graph().node(node).ty),
        Err(mismatch) => format!("expected {}, got {}", mismatch.expected, mismatch.got),
    }
}

/// Ids of inputs are handed out by tracing; any will do for a shape rule.
fn input_id() -> InputId {
    let case = &cases()[2];
    let plan = case.forward_plan(Mode::Eval, &crate::common::reference::one_lane());
    let input = plan.graph.nodes().find_map(|(_, node)| match node.op {
        Op::Input(input) => Some(input),
        _ => None,
    });
    input.expect("a network takes an input")
}

fn f32s(dims: &[usize]) -> TensorType {
    TensorType::f32(dims.into())
}

#[test]
fn shape_rules_take_what_fits() {
    let labels = TensorType::i32([4].into());
    let cases = [
        (Op::Unary(Unary::Relu), vec![f32s(&[2, 3])], "taken: f32[2, 3]"),
        (Op::Binary(Binary::Add), vec![f32s(&[2, 3]), f32s(&[2, 3])], "taken: f32[2, 3]"),
        (Op::MatMul(MatMul::LINEAR), vec![f32s(&[4, 3]), f32s(&[5, 3])], "taken: f32[4, 5]"),
        (Op::Transpose, vec![f32s(&[4, 3])], "taken: f32[3, 4]"),
        (Op::Reshape([6].into()), vec![f32s(&[2, 3])], "taken: f32[6]"),
        (Op::Broadcast([4, 3].into()), vec![f32s(&[3])], "taken: f32[4, 3]"),
        (Op::SumTo(Shape::scalar()), vec![f32s(&[4, 3])], "taken: f32[]"),
        (Op::Softmax(Softmax::Log), vec![f32s(&[4, 3])], "taken: f32[4, 3]"),
        (Op::Reshape([4].into()), vec![labels], "taken: i32[4]"),
    ];
    for (op, inputs, expected) in cases {
        let name = op.name();
        assert_eq!(refusal(op, &inputs), expected, "{name}");
    }
}

#[test]
fn shape_rules_refuse_what_does_not_and_say_what_came() {
    let labels = TensorType::i32([4].into());
    let cases = [
        (Op::Unary(Unary::Relu), vec![labels.clone()], "i32[4]"),
        (Op::Binary(Binary::Add), vec![f32s(&[2, 3]), f32s(&[3, 2])], "[3, 2]"),
        (Op::Binary(Binary::Add), vec![f32s(&[2, 3])], "[2, 3]"),
        (Op::MatMul(MatMul::LINEAR), vec![f32s(&[4, 3]), f32s(&[3, 5])], "[3, 5]"),
        (Op::MatMul(MatMul::LINEAR), vec![f32s(&[4]), f32s(&[3, 4])], "[4]"),
        (Op::Transpose, vec![f32s(&[2, 3, 4])], "[2, 3, 4]"),
        (Op::Reshape([7].into()), vec![f32s(&[2, 3])], "[2, 3]"),
        (Op::Broadcast([4, 3].into()), vec![f32s(&[4])], "[4]"),
        (Op::SumTo([2].into()), vec![f32s(&[4, 3])], "[4, 3]"),
        (Op::Softmax(Softmax::Plain), vec![labels], "i32[4]"),
        (Op::Softmax(Softmax::Plain), vec![TensorType::f32(Shape::scalar())], "[]"),
    ];
    for (op, inputs, got) in cases {
        let name = op.name();
        let message = refusal(op, &inputs);
        assert!(message.starts_with("expected ") && message.contains(got), "{name}: {message}");
    }
}

/// Public ways to build cannot make a graph that the verifier rejects, except by outputs of another
/// graph.
#[test]
fn the_verifier_notices_outputs_from_elsewhere() {
    let ty = f32s(&[2, 3]);
    let mut small = Builder::new(Arc::default());
    let x = small.input(input_id(), ty.clone());
    let mut large = small.clone();
    let y = large.add(Op::Unary(Unary::Relu), &[x]).expect("a tensor");
    assert!(large.finish(vec![y]).verify("test").is_ok());
    let error = small.finish(vec![y]).verify("test").unwrap_err().to_string();
    assert_eq!(error, "internal: test: output %1 does not exist");
}

/// A node copied with inputs of another type gets the type that its rule says, so it verifies.
#[test]
fn copies_are_inferred_anew() {
    let mut builder = Builder::new(Arc::default());
    let x = builder.input(input_id(), f32s(&[2, 3]));
    let y = builder.add(Op::Unary(Unary::Relu), &[x]).expect("a tensor");
    let relu = builder.graph().node(y).clone();
    let wide = builder.input(input_id(), f32s(&[5, 7]));
    let copy = builder.copy(&relu, &[wide]).expect("a tensor");
    assert_eq!(builder.shape(copy).dims(), [5, 7]);
    let labels = builder.input(input_id(), TensorType { shape: [2].into(), dtype: DType::I32 });
    assert!(builder.copy(&relu, &[labels]).is_err());
    assert!(builder.finish(vec![copy]).verify("test").is_ok());
}

/// All plans' graphs verify, and equal requests give equal plans.
#[test]
fn plans_are_data_and_the_same_for_the_same_input() {
    for case in cases() {
        for (name, goal) in goals() {
            for facts in all_facts() {
                let plan = case.plan(Mode::Train, goal.clone(), &facts);
                plan.graph.verify("test").unwrap_or_else(|e| panic!("{} {name}: {e}", case.name));
                let again = case.plan(Mode::Train, goal.clone(), &facts);
                assert!(plan == again, "{} {name}: two plans of one request differ", case.name);
            }
        }
    }
}
