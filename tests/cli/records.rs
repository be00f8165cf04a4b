// SPDX-License-Identifier: MIT OR Apache-2.0
//! A plain reader of TensorBoard's event files, which trusts no check sum that it has not worked out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What is read of a record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Event {
    pub(crate) step: u64,
    pub(crate) version: Option<String>,
    /// `SessionLog.status`.
    pub(crate) session: Option<u64>,
    pub(crate) tag: String,
    pub(crate) scalar: Option<f32>,
    pub(crate) histogram: Option<Histogram>,
}

#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) count: f64,
    pub(crate) edges: Vec<f64>,
    pub(crate) counts: Vec<f64>,
}

#[derive(Clone, Debug)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

type Fields = BTreeMap<u64, Field>;

/// The records of all files in a folder, in the order of the files' names.
pub(crate) fn read(folder: &Path) -> Vec<Vec<Event>> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.iter().all(|path| path.to_string_lossy().contains("tfevents")), "{paths:?}");
    paths.iter().map(|path| records(&fs::read(path).unwrap())).collect()
}

fn records(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let length = checked(&mut bytes, 8);
        let length = u64::from_le_bytes(length.try_into().unwrap());
        events.push(event(checked(&mut bytes, length as usize)));
    }
    events
}

/// So many bytes and their check sum.
fn checked<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let content = take(bytes, length);
    let sum = u32::from_le_bytes(take(bytes, 4).try_into().unwrap());
    let mut crc = !0_u32;
    for byte in content {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    let masked = (!crc).rotate_right(15).wrapping_add(0xa282_ead8);
    assert_eq!(sum, masked);
    content
}

fn event(bytes: &[u8]) -> Event {
    let fields = fields(bytes);
    let since_1970 = f64::from_bits(number(&fields, 1));
    assert!((1e9..1e11).contains(&since_1970), "{since_1970}");
    let mut event = Event { step: number(&fields, 2), ..Event::default() };
    event.version = fields.get(&3).map(|_| text(&fields, 3));
    event.session = fields.get(&7).map(|_| number(&message(&fields, 7), 1));
    if fields.contains_key(&5) {
        let value = message(&message(&fields, 5), 1);
        event.tag = text(&value, 1);
        event.scalar = value.get(&2).map(|_| f32::from_bits(number(&value, 2) as u32));
        event.histogram = value.get(&5).map(|_| histogram(&message(&value, 5)));
    }
    event
}

fn histogram(fields: &Fields) -> Histogram {
    let double = |field: u64| f64::from_bits(number(fields, field));
    let doubles = |field: u64| {
        let chunks = bytes(fields, field).chunks_exact(8);
        chunks.map(|chunk| f64::from_le_bytes(chunk.try_into().unwrap())).collect()
    };
    let (min, max, count) = (double(1), double(2), double(3));
    Histogram { min, max, count, edges: doubles(6), counts: doubles(7) }
}

fn fields(mut bytes: &[u8]) -> Fields {
    let mut fields = Fields::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, length).to_vec())
            }
            5 => Field::Number(u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()).into()),
            other => panic!("wire type {other}"),
        };
        assert!(fields.insert(key >> 3, field).is_none(), "twice");
    }
    fields
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (content, rest) = bytes.split_at(length);
    *bytes = rest;
    content
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

fn number(fields: &Fields, field: u64) -> u64 {
    match fields.get(&field) {
        Some(Field::Number(number)) => *number,
        other => panic!("field {field} is {other:?}"),
    }
}

fn bytes(fields: &Fields, field: u64) -> &[u8] {
    match fields.get(&field) {
        Some(Field::Bytes(bytes)) => bytes,
        other => panic!("field {field} is {other:?}"),
    }
}

fn text(fields: &Fields, field: u64) -> String {
    String::from_utf8(bytes(fields, field).to_vec()).unwrap()
}

fn message(of: &Fields, field: u64) -> Fields {
    fields(bytes(of, field))
}
