// SPDX-License-Identifier: MIT OR Apache-2.0
//! Slices and elements chosen by integers, and their gradients. Some indices name nothing.

use crate::abi::*;
use crate::copies::elements;
use crate::driver::{divider, Gpu, Grid};
use crate::dropout::Site;
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Address, Array, Memory};

/// Extents: before the axis, along it, behind it, and how many are chosen.
type Extents = [usize; 4];

const NAN: u32 = 0x7fc1_7fc1;

pub(crate) fn run(gpu: &Gpu) {
    let few: &[Extents] = &[[1, 5, 3, 7], [3, 4, 2, 9], [2, 7, 1, 300]];
    let more: &[Extents] = &[[1, 1, 1, 1], [1, 33, 65, 40], [5, 31, 1, 1], [1, 300, 8, 1100]];
    for &extents in few.iter().chain(gpu.cases(more, &[])) {
        for bits in [16, 32, 128] {
            choose(gpu, "take", bits, extents);
        }
        for bits in [16, 32] {
            choose(gpu, "gather", bits, extents);
        }
        for storage in Storage::ALL {
            for (width, group) in [(1, 256), (4, 64), (4, 200), (64, 5), (256, 1), (256, 32)] {
                take_gradient(gpu, storage, extents, [width, group], None);
            }
            let site = Site::new("dropout#0", 0.3);
            take_dropout(gpu, storage, extents, &site);
            for (width, group) in [(4, 64), (64, 5)] {
                take_gradient(gpu, storage, extents, [width, group], Some(&site));
            }
            gather_gradient(gpu, storage, extents);
        }
    }
}

/// Indices of which some, below and above, name nothing.
fn indices(rows: usize, count: usize) -> Vec<i32> {
    let mut numbers = Numbers::new(rows + count);
    let index = |x: f32| match x {
        x if x < 0.05 => -1 - (rows as i32),
        x if x > 0.95 => rows as i32,
        x => (x * rows as f32) as i32,
    };
    numbers.between(0.0, 1.0, count).into_iter().map(index).collect()
}

fn words(indices: &[i32]) -> Memory {
    Memory::of_words(&indices.iter().map(|&index| index as u32).collect::<Vec<_>>())
}

/// The number of the element of x that an element of y is, if there is one.
fn source(extents: Extents, index: &[i32], family: &str, element: usize) -> Option<usize> {
    let [_, rows, inner, picks] = extents;
    let (line, place) = (element / inner, element % inner);
    let index = index[if family == "take" { line % picks } else { element }];
    let row = usize::try_from(index).ok().filter(|&row| row < rows)?;
    Some((line / picks * rows + row) * inner + place)
}

/// What is chosen by an index, all that does not depend on the kernel.
fn chosen([y, x, index]: [Address; 3], [outer, rows, inner, picks]: Extents) -> KilnChoiceParams {
    KilnChoiceParams {
        y,
        x,
        index,
        count: (outer * picks * inner) as u32,
        rows: rows as u32,
        inner: divider(inner),
        picks: divider(picks),
        nan: NAN,
        ..KilnChoiceParams::default()
    }
}

fn choose(gpu: &Gpu, family: &str, bits: usize, extents: Extents) {
    let [outer, rows, inner, picks] = extents;
    let count = outer * picks * inner;
    let index = indices(rows, if family == "take" { picks } else { count });
    // A unit of 128 bits is four words.
    let (word, units) = if bits == 128 { (32, 4) } else { (bits, 1) };
    let parts = |number: usize| (0..units).map(move |part| units * number + part);
    let x = Memory::of_bytes(&elements(word, (0..outer * rows * inner).flat_map(parts)));
    let y = Memory::of_bytes(&vec![0xff; count * bits / 8]);
    let named = words(&index);
    let params = chosen([y.address(), x.address(), named.address()], extents);
    let kernel = format!("{family}_{bits}");
    gpu.launch(&kernel, Grid::of(count.div_ceil(256)), &params);
    let unit = |element: usize| match source(extents, &index, family, element) {
        Some(from) => elements(word, parts(from)),
        None => NAN.to_ne_bytes()[..word / 8].repeat(units),
    };
    let want: Vec<u8> = (0..count).flat_map(unit).collect();
    gpu.ledger().compare_bytes(&kernel, &format!("{extents:?}"), &y.read(), &want);
}

/// Elements of a sample where dropout follows: all of what comes before the axis is one.
fn per_sample([outer, _, inner, picks]: Extents) -> usize {
    match outer {
        1 => inner,
        _ => inner * picks,
    }
}

/// What dropout makes of an element whose place in memory is given.
fn dropped(site: &Site, extents: Extents, element: usize, value: f64) -> f64 {
    let elements = per_sample(extents);
    match site.keeps(element / elements, element % elements) {
        true => f64::from(site.params.scale) * value,
        false => 0.0,
    }
}

fn take_dropout(gpu: &Gpu, storage: Storage, extents: Extents, site: &Site) {
    let [outer, rows, inner, picks] = extents;
    let count = outer * picks * inner;
    let index = indices(rows, picks);
    let x = Array::new(storage, &Numbers::new(picks).nonzero(outer * rows * inner));
    let y = Array::output(storage, count);
    let named = words(&index);
    let params = KilnChoiceParams {
        elements: divider(per_sample(extents)),
        scalars: gpu.scalars(),
        mask: site.params,
        ..chosen([y.address(), x.address(), named.address()], extents)
    };
    let kernel = format!("take_dropout_{}", storage.name());
    gpu.launch(&kernel, Grid::of(count.div_ceil(256)), &params);
    let want = |element: usize| {
        let taken = source(extents, &index, "take", element).map_or(f64::NAN, |at| x.values[at]);
        Want::plain(dropped(site, extents, element, taken))
    };
    let want: Vec<Want> = (0..count).map(want).collect();
    let exactness = Exactness::new(storage, 0.0);
    gpu.ledger().compare(&kernel, &format!("{extents:?}"), &y.read(), &want, exactness);
}

/// The sums that a gradient kernel should find.
fn sums(extents: Extents, index: &[i32], family: &str, dy: &[f64], before: f64) -> Vec<Want> {
    let [outer, rows, inner, _] = extents;
    let mut sums = vec![Want { value: before, magnitude: 1.0 }; outer * rows * inner];
    for (element, dy) in dy.iter().enumerate() {
        if let Some(at) = source(extents, index, family, element) {
            sums[at].value += dy;
            sums[at].magnitude += dy.abs();
        }
    }
    sums
}

fn take_gradient(
    gpu: &Gpu,
    storage: Storage,
    extents: Extents,
    [width, group]: [usize; 2],
    site: Option<&Site>,
) {
    let [outer, rows, inner, picks] = extents;
    let index = indices(rows, picks);
    let dy = Array::new(storage, &Numbers::new(picks).between(-1.0, 1.0, outer * picks * inner));
    let dx = Array::output(Storage::F32, outer * rows * inner);
    let named = words(&index);
    let (lines, groups) = (outer * inner, rows.div_ceil(group));
    let params = KilnChoiceGradientParams {
        dx: dx.address(),
        index: named.address(),
        dy: dy.address(),
        rows: rows as u32,
        picks: picks as u32,
        inner: inner as u32,
        lines: lines as u32,
        columns: divider(inner),
        width: width as u32,
        group: group as u32,
        groups: divider(groups),
        drops: u32::from(site.is_some()),
        elements: divider(per_sample(extents)),
        scalars: gpu.scalars(),
        mask: site.map(|site| site.params).unwrap_or_default(),
    };
    let kernel = format!("take_gradient_{}", storage.name());
    gpu.launch(&kernel, Grid::of(groups * lines.div_ceil(width)), &params);
    let left = |(element, &dy): (usize, &f64)| match site {
        Some(site) => dropped(site, extents, element, dy),
        None => dy,
    };
    let left: Vec<f64> = dy.values.iter().enumerate().map(left).collect();
    let want = sums(extents, &index, "take", &left, 0.0);
    let drops = site.is_some();
    let case = format!("{extents:?}, {width} lines and {group} rows per block, dropout {drops}");
    let exactness = Exactness::new(Storage::F32, 16.0);
    gpu.ledger().compare(&kernel, &case, &dx.read(), &want, exactness);
}

/// What was there before is added to.
fn gather_gradient(gpu: &Gpu, storage: Storage, extents: Extents) {
    let [outer, rows, inner, picks] = extents;
    let count = outer * picks * inner;
    let index = indices(rows, count);
    let dy = Array::new(storage, &Numbers::new(picks).between(-1.0, 1.0, count));
    let dx = Array::new(Storage::F32, &vec![0.5; outer * rows * inner]);
    let named = words(&index);
    let params = KilnChoiceGradientParams {
        dx: dx.address(),
        index: named.address(),
        dy: dy.address(),
        rows: rows as u32,
        picks: picks as u32,
        inner: inner as u32,
        lines: (outer * inner) as u32,
        columns: divider(inner),
        ..KilnChoiceGradientParams::default()
    };
    let kernel = format!("gather_gradient_{}", storage.name());
    gpu.launch(&kernel, Grid::of((outer * inner).div_ceil(256)), &params);
    let want = sums(extents, &index, "gather", &dy.values, 0.5);
    let exactness = Exactness::new(Storage::F32, 16.0);
    gpu.ledger().compare(&kernel, &format!("{extents:?}"), &dx.read(), &want, exactness);
}
