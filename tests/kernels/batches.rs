// SPDX-License-Identifier: MIT OR Apache-2.0
//! Products of batches: each pair of matrices in one launch of the kernels that layers use.

use crate::abi::*;
use crate::driver::Gpu;
use crate::float::Storage;
use crate::ledger::{Exactness, Want};
use crate::memory::Array;
use crate::product::{product, Matrix, Method};

/// f32 additions that lie between a product and a sum in any order.
const ROUNDINGS: f64 = 8.0;
const PAIRS: usize = 3;

pub(crate) fn run(gpu: &Gpu) {
    // Kernels of larger tiles take no batches.
    for method in Method::all().into_iter().filter(|method| method.tile == [64, 64]) {
        for shape in method.shapes(gpu) {
            for form in ["nt", "nn", "tn"] {
                batch(gpu, &method, form, shape);
            }
        }
    }
}

/// The matrices of a batch, and the same one behind the other.
fn matrices(method: &Method, rows: usize, columns: usize, seed: usize) -> (Vec<Matrix>, Array) {
    let pairs = (0..PAIRS).map(|pair| Matrix::random(method, rows, columns, 0, seed + 7 * pair));
    let pairs: Vec<Matrix> = pairs.collect();
    let all = pairs.iter().flat_map(|matrix| matrix.array.values.iter().map(|&x| x as f32));
    let all = Array::new(method.storage, &all.collect::<Vec<f32>>());
    (pairs, all)
}

fn batch(gpu: &Gpu, method: &Method, form: &str, [m, n, k]: [usize; 3]) {
    let [a_shape, b_shape] = match form {
        "nt" => [[m, k], [n, k]],
        "nn" => [[m, k], [k, n]],
        _ => [[k, m], [k, n]],
    };
    let (a, all_a) = matrices(method, a_shape[0], a_shape[1], 1);
    let (b, all_b) = matrices(method, b_shape[0], b_shape[1], 2);
    // Gradients of weights are in f32, whatever they are made from.
    let storage = if form == "tn" { Storage::F32 } else { method.storage };
    let d = Array::output(storage, PAIRS * m * n);
    let batch = KilnBatch { a: (m * k) as u64, b: (k * n) as u64, d: (m * n) as u64 };
    let split = KilnSplitK { splits: 1, ..KilnSplitK::default() };
    let kernel = format!("gemm_{form}_{}", method.name);
    let [across, down] = method.tiles(m, n);
    let blocks = [across, down, PAIRS];
    let (lda, ldb, ldd) = (a_shape[1] as i32, b_shape[1] as i32, n as i32);
    let (m_, n_, k_) = (m as i32, n as i32, k as i32);
    let (d_, a_, b_) = (d.address(), all_a.address(), all_b.address());
    match form {
        "nt" => {
            let params = KilnLinearParams {
                d: d_,
                a: a_,
                b: b_,
                m: m_,
                n: n_,
                k: k_,
                lda,
                ldb,
                ldd,
                split,
                batch,
                ..Default::default()
            };
            gpu.launch(&kernel, method.grid(blocks), &params);
        }
        "nn" => {
            let params = KilnInputGradientParams {
                d: d_,
                a: a_,
                b: b_,
                m: m_,
                n: n_,
                k: k_,
                lda,
                ldb,
                ldd,
                split,
                batch,
                ..Default::default()
            };
            gpu.launch(&kernel, method.grid(blocks), &params);
        }
        _ => {
            let mut params =
                KilnWeightGradientParams { split, batch, count: 1, ..Default::default() };
            params.products[0] = KilnWeightGradient {
                d: d_,
                a: a_,
                b: b_,
                m: m_,
                n: n_,
                k: k_,
                lda,
                ldb,
                store: KILN_STORE_OVERWRITE,
                ..Default::default()
            };
            gpu.launch(&kernel, method.grid([blocks[0] * blocks[1], 1, PAIRS]), &params);
        }
    }
    let pairs = a.iter().zip(&b);
    let product = |(a, b)| product(method, (a, form == "tn"), (b, form != "nt"));
    let want: Vec<Want> = pairs.flat_map(product).collect();
    let exactness = Exactness::new(storage, ROUNDINGS);
    gpu.ledger().compare(
        &kernel,
        &format!("{PAIRS} of {m} x {n} x {k}"),
        &d.read(),
        &want,
        exactness,
    );
}
