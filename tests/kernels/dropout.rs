// SPDX-License-Identifier: MIT OR Apache-2.0
//! dropout, dropout_ragged, dropout_channels and their like for rates that change; masks bit for bit.

use kiln::mask::{site_of, Mask};

use crate::abi::*;
use crate::abi_images::KilnChannelDropoutParams;
use crate::driver::{divider, scalars_bytes, Gpu, Grid, SCALARS};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};

const SEED: u64 = 0x0123_4567_89ab_cdef;
const SAMPLES: usize = 5;
const POSITIONS: usize = 3;
const SCHEDULED: &str = "scheduled_dropout";
const SCHEDULED_CHANNELS: &str = "scheduled_dropout_channels";

/// A dropout site as users ask for it and as kernels are told.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    mask: Mask,
    pub(crate) params: KilnMask,
}

impl Site {
    pub(crate) fn new(name: &str, p: f32) -> Self {
        let drop15 = (f64::from(p) * 32768.0).round() as u32;
        let mut params = KilnMask {
            round_keys: [0; 2 * KILN_PHILOX_ROUNDS as usize],
            site: site_of(name),
            threshold: (32768 - drop15) * 0x0001_0001,
            scale: if drop15 == 32768 { 0.0 } else { 32768.0 / (32768 - drop15) as f32 },
        };
        for (round, keys) in params.round_keys.chunks_exact_mut(2).enumerate() {
            keys[0] = (SEED as u32).wrapping_add(0x9e37_79b9u32.wrapping_mul(round as u32));
            keys[1] = ((SEED >> 32) as u32).wrapping_add(0xbb67_ae85u32.wrapping_mul(round as u32));
        }
        Site { mask: Mask::new(SEED, name, p), params }
    }

    /// The same as kernels are told whose rate lies behind the scalars, at the words that are returned.
    pub(crate) fn scheduled(&self) -> (KilnMask, Memory) {
        let mut bytes = scalars_bytes(&SCALARS);
        // A rate of another layer stands before it.
        bytes.extend([0xff; 8]);
        let words = (bytes.len() / 4) as u32;
        bytes.extend(self.params.threshold.to_ne_bytes());
        bytes.extend(self.params.scale.to_ne_bytes());
        let params = KilnMask { threshold: words, scale: f32::NAN, ..self.params };
        (params, Memory::of_bytes(&bytes))
    }

    /// Whether an element of a sample of this micro-batch is kept.
    pub(crate) fn keeps(&self, sample: usize, element: usize) -> bool {
        self.mask.keeps(SCALARS.pass, SCALARS.sample_offset + sample as u32, element as u32)
    }
}

pub(crate) fn run(gpu: &Gpu) {
    let cases =
        [(1, 0.5), (8, 0.5), (31, 0.3), (33, 0.5), (64, 0.3), (65, 0.0), (1000, 0.5), (40, 1.0)];
    for storage in Storage::ALL {
        for &(elements, p) in gpu.cases(&cases, &cases[1..4]) {
            let site = Site::new(&format!("dropout{elements}#0"), p);
            if elements % 8 == 0 {
                dropout(gpu, "dropout", storage, elements, &site);
            }
            dropout(gpu, "dropout_ragged", storage, elements, &site);
            dropout(gpu, SCHEDULED, storage, elements, &site);
            channels(gpu, "dropout_channels", storage, elements, &site);
            channels(gpu, SCHEDULED_CHANNELS, storage, elements, &site);
        }
    }
}

fn dropout(gpu: &Gpu, family: &str, storage: Storage, elements: usize, site: &Site) {
    let x = Array::new(storage, &Numbers::new(elements).nonzero(SAMPLES * elements));
    let y = Array::output(storage, SAMPLES * elements);
    let (mask, given) = site.scheduled();
    let (mask, scalars) = match family {
        SCHEDULED => (mask, given.address()),
        _ => (site.params, gpu.scalars()),
    };
    let params = KilnDropoutParams {
        y: y.address(),
        x: x.address(),
        scalars,
        samples: SAMPLES as u32,
        elements: elements as u32,
        blocks: divider(elements.div_ceil(8)),
        offset_factor: 1,
        mask,
    };
    let kernel = format!("{family}_{}", storage.name());
    let threads = SAMPLES * elements.div_ceil(8);
    gpu.launch(&kernel, Grid::of(threads.div_ceil(256)), &params);
    let keeps = |index: usize| site.keeps(index / elements, index % elements);
    compare(gpu, &kernel, storage, &x, &y.read(), site, keeps);
}

fn channels(gpu: &Gpu, family: &str, storage: Storage, channels: usize, site: &Site) {
    let sample = POSITIONS * channels;
    let x = Array::new(storage, &Numbers::new(channels).nonzero(SAMPLES * sample));
    let (mask, given) = site.scheduled();
    let (mask, scalars) = match family {
        SCHEDULED_CHANNELS => (mask, given.address()),
        _ => (site.params, gpu.scalars()),
    };
    let params = KilnChannelDropoutParams {
        y: x.address(),
        x: x.address(),
        scalars,
        samples: SAMPLES as u32,
        positions: POSITIONS as u32,
        channels: channels as u32,
        blocks: divider(channels.div_ceil(8)),
        rows: divider(POSITIONS),
        mask,
    };
    let kernel = format!("{family}_{}", storage.name());
    let threads = SAMPLES * POSITIONS * channels.div_ceil(8);
    gpu.launch(&kernel, Grid::of(threads.div_ceil(256)), &params);
    let keeps = |index: usize| site.keeps(index / sample, index % channels);
    compare(gpu, &kernel, storage, &x, &x.read(), site, keeps);
}

/// Inputs are not zero, so the zeros of a result are the mask.
fn compare(
    gpu: &Gpu,
    kernel: &str,
    storage: Storage,
    x: &Array,
    got: &[f64],
    site: &Site,
    keeps: impl Fn(usize) -> bool,
) {
    let case = format!("{} elements, {site:?}", got.len());
    let kept: Vec<bool> = (0..got.len()).map(&keeps).collect();
    let seen: Vec<bool> = got.iter().map(|&y| y != 0.0).collect();
    assert_eq!(seen, kept, "{kernel} {case}: the mask");
    let scale = f64::from(site.params.scale);
    let value = |(&x, &kept): (&f64, &bool)| Want::plain(if kept { scale * x } else { 0.0 });
    let want: Vec<Want> = x.values.iter().zip(&kept).map(value).collect();
    gpu.ledger().compare(kernel, &case, got, &want, Exactness::new(storage, 0.0));
}
