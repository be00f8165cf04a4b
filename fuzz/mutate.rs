// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making almost right files of right ones.

use super::harness::Numbers;

/// What was done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// A few bits are others, or the end is missing.
    Slight,
    /// Anything.
    Any,
}

/// A seed with one to four changes, and what they amount to. It differs from the seed.
pub(crate) fn mutated(numbers: &mut Numbers, seeds: &[Vec<u8>]) -> (Vec<u8>, Damage) {
    let seed = numbers.pick(seeds);
    loop {
        let mut bytes = seed.clone();
        let mut damage = Damage::Slight;
        for _ in 0..1 + numbers.below(4) {
            let change = numbers.below(9);
            if change > 1 {
                damage = Damage::Any;
            }
            match change {
                0 => flip(numbers, &mut bytes),
                1 => bytes.truncate(numbers.below(bytes.len() + 1)),
                2 => set_length(numbers, &mut bytes),
                3 => splice(numbers, &mut bytes, seeds),
                4 => repeat(numbers, &mut bytes),
                5 => remove(numbers, &mut bytes),
                6 | 7 => bytes = other_number(numbers, &bytes),
                _ => {
                    *bytes_at(numbers, &mut bytes, 1).first_mut().unwrap_or(&mut 0) =
                        numbers.bits() as u8
                }
            }
        }
        if bytes != *seed {
            return (bytes, damage);
        }
    }
}

/// A text with some of its numbers, words and marks exchanged.
pub(crate) fn mutated_text(numbers: &mut Numbers, text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..1 + numbers.below(3) {
        bytes = match numbers.below(3) {
            0 => other_word(numbers, &bytes),
            _ => other_number(numbers, &bytes),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn flip(numbers: &mut Numbers, bytes: &mut [u8]) {
    for _ in 0..1 + numbers.below(3) {
        let bit = 1 << numbers.below(8);
        bytes_at(numbers, bytes, 1).iter_mut().for_each(|byte| *byte ^= bit);
    }
}

/// Most fields that count something are near the front: in the first 64 bytes, half of the time.
fn bytes_at<'a>(numbers: &mut Numbers, bytes: &'a mut [u8], width: usize) -> &'a mut [u8] {
    let reach = match numbers.below(2) {
        0 => bytes.len().min(64),
        _ => bytes.len(),
    };
    match reach.checked_sub(width) {
        Some(last) => {
            let at = numbers.below(last + 1);
            &mut bytes[at..at + width]
        }
        None => &mut [],
    }
}

/// A binary field, in either order of bytes.
fn set_length(numbers: &mut Numbers, bytes: &mut [u8]) {
    let edge = numbers.edge();
    let field: Vec<u8> = match numbers.below(4) {
        0 => (edge as u32).to_be_bytes().into(),
        1 => (edge as u32).to_le_bytes().into(),
        2 => edge.to_le_bytes().into(),
        _ => (numbers.below(1 << 12) as u32).to_be_bytes().into(),
    };
    let at = bytes_at(numbers, bytes, field.len());
    at.iter_mut().zip(field).for_each(|(to, from)| *to = from);
}

fn splice(numbers: &mut Numbers, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let other = numbers.pick(seeds);
    let (here, there) = (numbers.below(bytes.len() + 1), numbers.below(other.len() + 1));
    bytes.truncate(here);
    bytes.extend_from_slice(&other[there..]);
}

fn repeat(numbers: &mut Numbers, bytes: &mut Vec<u8>) {
    let (start, end) = range(numbers, bytes.len());
    let piece = bytes[start..end].to_vec();
    for _ in 0..1 + numbers.below(3) {
        bytes.splice(end..end, piece.iter().copied());
    }
}

fn remove(numbers: &mut Numbers, bytes: &mut Vec<u8>) {
    let (start, end) = range(numbers, bytes.len());
    bytes.drain(start..end);
}

/// A short range.
fn range(numbers: &mut Numbers, length: usize) -> (usize, usize) {
    let start = numbers.below(length + 1);
    (start, (start + numbers.below(64)).min(length))
}

/// Exchanges a number in a text for one that is harder.
fn other_number(numbers: &mut Numbers, bytes: &[u8]) -> Vec<u8> {
    let hard = [
        "-1",
        "1e400",
        "-0.0",
        "1e-320",
        "NaN",
        "null",
        "true",
        "\"\"",
        "[]",
        "{}",
        "0.5",
        "1e18",
        "99999999999999999999999",
        "[[[[[[[[]]]]]]]]",
    ];
    let edge = numbers.edge().to_string();
    let new = match numbers.below(2) {
        0 => edge.as_str(),
        _ => *numbers.pick(&hard),
    };
    exchange(numbers, bytes, u8::is_ascii_digit, new)
}

/// Exchanges a word in a text for one that acts, misleads or does not end.
fn other_word(numbers: &mut Numbers, bytes: &[u8]) -> Vec<u8> {
    let long = "w".repeat(1 + numbers.below(5000));
    let hard =
        ["", "fc1", "..", "/dev/zero", "mnist:/dev", "\\u001b[2J\\u0007\\r\\n", "\u{202e}", &long];
    let new = *numbers.pick(&hard);
    exchange(numbers, bytes, u8::is_ascii_alphabetic, new)
}

/// Exchanges one run of bytes of a kind.
fn exchange(numbers: &mut Numbers, bytes: &[u8], kind: fn(&u8) -> bool, new: &str) -> Vec<u8> {
    let starts = |&at: &usize| kind(&bytes[at]) && (at == 0 || !kind(&bytes[at - 1]));
    let starts: Vec<usize> = (0..bytes.len()).filter(starts).collect();
    if starts.is_empty() {
        return bytes.to_vec();
    }
    let start = *numbers.pick(&starts);
    let length = bytes[start..].iter().take_while(|byte| kind(byte)).count();
    [&bytes[..start], new.as_bytes(), &bytes[start + length..]].concat()
}
