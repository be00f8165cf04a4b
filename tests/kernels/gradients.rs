// SPDX-License-Identifier: MIT OR Apache-2.0
//! gemm_nn and gemm_tn: the gradients of a linear layer.

use crate::abi::*;
use crate::driver::Gpu;
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::Array;
use crate::product::{product, Matrix, Method, Split};

/// f32 additions that lie between a product and a sum in any order.
const ROUNDINGS: f64 = 8.0;
const MASK_SCALE: f32 = 2.0;

pub(crate) fn run(gpu: &Gpu) {
    for method in Method::all() {
        for shape in method.shapes(gpu) {
            for &splits in method.splits(gpu) {
                for (masked, gap) in [(false, 0), (true, 8)] {
                    input_gradient(gpu, &method, shape, splits, masked, gap);
                    weight_gradients(gpu, &method, shape, splits, masked, gap);
                }
            }
        }
    }
}

/// `masked`: with a mask and a residual, which the result replaces.
fn input_gradient(
    gpu: &Gpu,
    method: &Method,
    [m, n, k]: [usize; 3],
    splits: usize,
    masked: bool,
    gap: usize,
) {
    let storage = method.storage;
    let a = Matrix::random(method, m, k, gap, 1);
    let b = Matrix::random(method, k, n, gap, 2);
    let source = Matrix::new(storage, m, n, gap, &Numbers::new(m).sparse(m * n));
    let residual = Matrix::random(method, m, n, gap, 3);
    let separate = Matrix::new(storage, m, n, gap, &vec![f32::NAN; m * n]);
    let d = if masked { &residual } else { &separate };
    let [across, down] = method.tiles(m, n);
    let blocks = [across, down, splits];
    let split = Split::new(method, blocks[0] * blocks[1], splits);
    let tail = match masked {
        true => KilnInputGradientTail {
            mask_source: source.array.address(),
            residual: residual.array.address(),
            mask_scale: MASK_SCALE,
        },
        false => KilnInputGradientTail::default(),
    };
    let params = KilnInputGradientParams {
        d: d.array.address(),
        a: a.array.address(),
        b: b.array.address(),
        m: m as i32,
        n: n as i32,
        k: k as i32,
        lda: a.stride as i32,
        ldb: b.stride as i32,
        ldd: d.stride as i32,
        split: split.params(),
        batch: KilnBatch::default(),
        tail,
    };
    let kernel = format!("gemm_nn_{}", method.name);
    gpu.launch(&kernel, method.grid(blocks), &params);
    split.assert_finished(&kernel);

    let mut want = product(method, (&a, false), (&b, true));
    if masked {
        let scale = f64::from(MASK_SCALE);
        for (at, sum) in want.iter_mut().enumerate() {
            let (row, column) = (at / n, at % n);
            let scale = if source.at(row, column) != 0.0 { scale } else { 0.0 };
            let residual = residual.at(row, column);
            let magnitude = scale * sum.magnitude + residual.abs();
            *sum = Want { value: scale * sum.value + residual, magnitude };
        }
    }
    let case = format!("{m} x {n} x {k} in {splits} parts, masked: {masked}");
    let exactness = Exactness::new(storage, ROUNDINGS);
    gpu.ledger().compare(&kernel, &case, &d.read(&kernel), &want, exactness);
}

/// One product of a group: its operands, and where its results go.
struct Member<'a> {
    a: &'a Matrix,
    b: &'a Matrix,
    m: usize,
    n: usize,
    d: Array,
    d_bias: Option<Array>,
    store: KilnStore,
}

/// Three products in one launch: one, its mirror image, and the first again without a bias.
fn weight_gradients(
    gpu: &Gpu,
    method: &Method,
    [m, n, k]: [usize; 3],
    splits: usize,
    accumulate: bool,
    gap: usize,
) {
    let a = Matrix::random(method, k, m, gap, 1);
    let b = Matrix::random(method, k, n, gap, 2);
    let store = if accumulate { KILN_STORE_ACCUMULATE } else { KILN_STORE_OVERWRITE };
    let array = |count: usize, store| match store {
        KILN_STORE_ACCUMULATE => {
            Array::new(Storage::F32, &Numbers::new(count).between(-1.0, 1.0, count))
        }
        _ => Array::output(Storage::F32, count),
    };
    let member = |a, b, m, n, biased: bool, store| Member {
        a,
        b,
        m,
        n,
        d: array(m * n, store),
        d_bias: biased.then(|| array(m, store)),
        store,
    };
    let mut members = vec![member(&a, &b, m, n, true, store)];
    // Where columns are read 16 bytes at a time, outputs still come in eights.
    let fits = m >= method.tile[1] && n >= method.tile[0] && m % 8 == 0;
    if method.guarded || fits {
        members.push(member(&b, &a, n, m, true, KILN_STORE_OVERWRITE));
    }
    members.push(member(&a, &b, m, n, false, KILN_STORE_OVERWRITE));

    let mut params = KilnWeightGradientParams { count: members.len() as i32, ..Default::default() };
    let tiles_of = |member: &Member<'_>| method.tiles(member.m, member.n).iter().product::<usize>();
    let tiles: usize = members.iter().map(tiles_of).sum();
    // As many parts of the rows as of the products, and one more: there may be more than rows.
    let bias_parts = splits + usize::from(splits > 1);
    let (mut blocks, mut before, mut runs) = (0, 0, 0);
    for (product, member) in params.products.iter_mut().zip(&members) {
        *product = member.params(k);
        product.first_block = blocks as u32;
        product.ticket = before as i32;
        product.partials = (before * splits * method.area()) as u64;
        product.bias_parts = bias_parts as u32;
        let of_tiles = if splits > 1 { tiles * splits * method.area() } else { 0 };
        let columns = KILN_GEMM_BIAS_COLUMNS as usize;
        product.bias_partials = (of_tiles + runs * bias_parts * columns) as u64;
        product.bias_ticket = (tiles + runs) as i32;
        let own = if member.d_bias.is_some() { member.m.div_ceil(columns) } else { 0 };
        blocks += tiles_of(member) + own * bias_parts;
        before += tiles_of(member);
        runs += own;
    }
    let of_biases = [runs * bias_parts * KILN_GEMM_BIAS_COLUMNS as usize, runs];
    let split = Split::with_biases(method, tiles, splits, of_biases);
    params.split = split.params();
    let kernel = format!("gemm_tn_{}", method.name);
    gpu.launch(&kernel, method.grid([blocks, 1, splits]), &params);
    split.assert_finished(&kernel);
    for (index, member) in members.iter().enumerate() {
        let case = format!("{m} x {n} x {k} in {splits} parts, product {index}, gap {gap}");
        member.compare(gpu, method, &kernel, &case, k);
    }
}

impl Member<'_> {
    fn params(&self, k: usize) -> KilnWeightGradient {
        KilnWeightGradient {
            d: self.d.address(),
            d_bias: self.d_bias.as_ref().map(Array::address).unwrap_or_default(),
            a: self.a.array.address(),
            b: self.b.array.address(),
            m: self.m as i32,
            n: self.n as i32,
            k: k as i32,
            lda: self.a.stride as i32,
            ldb: self.b.stride as i32,
            store: self.store,
            ..KilnWeightGradient::default()
        }
    }

    fn compare(&self, gpu: &Gpu, method: &Method, kernel: &str, case: &str, k: usize) {
        let exactness = Exactness::new(Storage::F32, ROUNDINGS);
        let on_top = |array: &Array, at: usize, sum: Want| match self.store {
            KILN_STORE_ACCUMULATE => {
                let held = array.values[at];
                Want { value: sum.value + held, magnitude: sum.magnitude + held.abs() }
            }
            _ => sum,
        };
        let sums = product(method, (self.a, true), (self.b, true));
        let want: Vec<Want> =
            sums.iter().enumerate().map(|(at, &sum)| on_top(&self.d, at, sum)).collect();
        gpu.ledger().compare(kernel, case, &self.d.read(), &want, exactness);
        let Some(d_bias) = &self.d_bias else { return };
        let column = |column: usize| {
            let add = |sum: Want, x: f64| Want {
                value: sum.value + x,
                magnitude: sum.magnitude + x.abs(),
            };
            let sum = (0..k).map(|row| self.a.at(row, column)).fold(Want::plain(0.0), add);
            on_top(d_bias, column, sum)
        };
        let want: Vec<Want> = (0..self.m).map(column).collect();
        gpu.ledger().compare(kernel, &format!("d_bias, {case}"), &d_bias.read(), &want, exactness);
    }
}
