// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln mask`: masks as numbers and as pictures.

use std::fs;

use kiln::mask::Mask;
use tempfile::TempDir;

use super::{fail, json, succeed};

#[test]
fn a_mask_is_told_and_written() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let ask = ["mask", "--layer", "dropout1", "--pass", "17", "--hidden", "32", "--batch", "3"];
    let ask = |more: &[&'static str]| [&ask[..], more].concat();
    let expected: Vec<u8> = (0..3u32)
        .flat_map(|sample| (0..32u32).map(move |element| (sample, element)))
        .map(|(sample, element)| {
            u8::from(Mask::new(9, "dropout1#0", 0.5).keeps(17, sample, element))
        })
        .collect();
    let kept = expected.iter().filter(|kept| **kept == 1).count();
    let report = json(at, &ask(&["--seed", "9", "--out", "mask.npy", "--json"]));
    assert_eq!(report["kept"].as_u64(), Some(kept as u64));
    assert_eq!(report["shape"], serde_json::json!([3, 32]));
    let bytes = fs::read(at.join("mask.npy")).unwrap();
    let start = bytes.len() - expected.len();
    assert_eq!((&bytes[..8], start % 64, bytes[start - 1]), (&b"\x93NUMPY\x01\x00"[..], 0, b'\n'));
    let header = String::from_utf8_lossy(&bytes[10..start]).into_owned();
    assert!(header.contains("'descr': '|b1'") && header.contains("'shape': (3, 32, )"), "{header}");
    assert_eq!(bytes[start..], expected);

    let text = succeed(at, &ask(&["--seed", "9", "--out", "mask.png"]));
    assert_eq!(text, format!("dropout1 pass 17 seed 9: kept {kept} of 96 elements of [3, 32]\n"));
    let file = fs::File::open(at.join("mask.png")).unwrap();
    let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height), (32, 3));
    assert!(pixels.iter().zip(&expected).all(|(pixel, kept)| (*pixel == 255) == (*kept == 1)));

    assert!(fail(at, &ask(&["--out", "mask.txt"])).contains(".npy or .png"));
    assert!(fail(at, &ask(&["--call", "1"])).contains("a number below 1"));
    assert!(fail(at, &["mask", "--layer", "fc1", "--pass", "0"]).contains("dropout1, dropout2"));
}
