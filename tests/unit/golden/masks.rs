// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fixtures that freeze the masks.

use kiln::mask::{site_of, Mask};

use crate::common::golden::Fixture;
use crate::common::philox;

/// Every bit of every case. There is no tolerance to use.
pub(super) fn agree(fixture: &Fixture) -> f64 {
    let samples: Vec<u32> = fixture.list("samples");
    let cases = fixture.number::<usize>("cases");
    assert_eq!(cases, fixture.below("keep.").count());
    for case in 0..cases {
        let option = |name: &str| format!("{case}.{name}");
        let site = fixture.option(&option("site"));
        let site_hash = site_of(site);
        assert_eq!(site_hash, fixture.number::<u32>(&option("site_hash")), "hash of {site}");
        let (seed, step) = (fixture.number(&option("seed")), fixture.number(&option("step")));
        let p = fixture.number::<f64>(&option("p"));
        let mask = Mask::new(seed, site, p as f32);
        let kept = 32768.0 - fixture.number::<f64>(&option("drop15"));
        let scale = if kept == 0.0 { 0.0 } else { (32768.0 / kept) as f32 };
        assert_eq!(mask.scale(), scale, "scale of case {case}");
        let elements = fixture.number::<usize>(&option("elements"));
        let keep = fixture.get(&format!("keep.{case}"));
        assert_eq!(keep.shape, [samples.len(), elements]);
        for (row, &sample) in samples.iter().enumerate() {
            for element in 0..elements {
                let expected = keep.values[row * elements + element] == 1.0;
                let at = [step, sample, element as u32];
                let found = mask.keeps(step, sample, element as u32);
                assert_eq!(found, expected, "case {case}, sample {sample}, element {element}");
                assert_eq!(philox::keeps(seed, site_hash, p, at), expected, "second writing");
            }
        }
    }
    0.0
}

/// The generator is no public item of the crate. Its second writing here has to give these words,
/// and `unit::masks` compares the two over masks.
pub(super) fn agree_on_philox(fixture: &Fixture) -> f64 {
    assert_eq!(fixture.option("rounds"), "10");
    let words = |name: &str| -> Vec<u32> {
        fixture.get(name).values.iter().map(|&word| word as u32).collect()
    };
    let (counters, keys, outputs) = (words("counter"), words("key"), words("output"));
    let rows = counters.chunks_exact(4).zip(keys.chunks_exact(2)).zip(outputs.chunks_exact(4));
    for ((counter, key), output) in rows {
        let [counter, key] = [counter, key].map(<[u32]>::to_vec);
        let found = philox::philox4x32_10(
            counter.try_into().expect("four words"),
            key.try_into().expect("two words"),
        );
        assert_eq!(found, output);
    }
    0.0
}
