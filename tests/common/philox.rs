// SPDX-License-Identifier: MIT OR Apache-2.0
//! Philox4x32-10 and the mask scheme written a second time, round by round as in the paper
//! (Salmon et al., SC'11), to judge the crate's by. The fixture of kind `philox` judges this one.

/// Four words from a counter and a key.
pub(crate) fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key[0] = key[0].wrapping_add(0x9e37_79b9);
            key[1] = key[1].wrapping_add(0xbb67_ae85);
        }
        let product0 = u64::from(counter[0]) * 0xd251_1f53;
        let product1 = u64::from(counter[2]) * 0xcd9e_8d57;
        counter = [
            (product1 >> 32) as u32 ^ counter[1] ^ key[0],
            product1 as u32,
            (product0 >> 32) as u32 ^ counter[3] ^ key[1],
            product0 as u32,
        ];
    }
    counter
}

/// Whether an element is kept: eight 15-bit lanes of one call decide for eight elements.
pub(crate) fn keeps(seed: u64, site: u32, p: f64, [step, sample, element]: [u32; 3]) -> bool {
    let key = [seed as u32, (seed >> 32) as u32];
    let words = philox4x32_10([element / 8, sample, step, site], key);
    let lanes: Vec<u32> =
        words.iter().flat_map(|word| [word & 0x7fff, word >> 16 & 0x7fff]).collect();
    lanes[element as usize % 8] >= (p * 32768.0).round() as u32
}
