// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that are not what was written.

use std::io::{Seek, SeekFrom};

use flate2::Crc;
use kiln::checkpoint::Resume;
use serde_json::{json, Value};

use super::*;

#[test]
fn damaged_files_are_errors_that_name_the_file() {
    let dir = TempDir::new().unwrap();
    saved(&dir, Adam::new(0.01));
    let path = dir.path().join(TRAINING_FILE);
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let cut =
        (0..whole.len()).step_by(37).map(|end| (format!("cut at {end}"), whole[..end].to_vec()));
    let grown = ("grown".to_string(), [&whole[..], b"x"].concat());
    let flipped = (header..whole.len()).step_by(29).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        (format!("flipped at {at}"), bytes)
    });
    let mut target = trainer(1, Adam::new(0.01));
    let before = parameters(target.net());
    for (how, bytes) in cut.chain([grown]).chain(flipped) {
        fs::write(&path, bytes).unwrap();
        let error = checkpoint::load(&mut target, dir.path()).expect_err(&how);
        assert!(matches!(error, Error::Data { .. }), "{how}: {error}");
        assert!(error.to_string().contains(TRAINING_FILE), "{how}: {error}");
        assert_eq!(error.to_string().lines().count(), 1, "{how}: {error}");
    }
    assert_eq!(parameters(target.net()), before);
    assert_eq!((target.updates(), target.net().pass(), target.net().seed()), (0, 0, Seed(1)));
}

/// Any single byte of the header may be wrong: loading never panics, and a file that still loads
/// does so without harm.
#[test]
fn no_header_makes_loading_panic() {
    let dir = TempDir::new().unwrap();
    saved(&dir, Adam::new(0.01));
    let path = dir.path().join(TRAINING_FILE);
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut failures = 0;
    let mut target = trainer(1, Adam::new(0.01));
    for at in 0..header {
        for value in [0, b'9', 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            fs::write(&path, bytes).unwrap();
            failures += usize::from(checkpoint::load(&mut target, dir.path()).is_err());
        }
    }
    assert!(failures > 2 * header, "{failures} of {} were noticed", 3 * header);
}

/// Each bit of the header and of the check sum, and bits all over the elements.
#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    let dir = TempDir::new().unwrap();
    saved(&dir, Adam::new(0.01));
    let path = dir.path().join(TRAINING_FILE);
    let whole = fs::read(&path).unwrap();
    let header = header_end(&whole);
    let mut target = trainer(1, Adam::new(0.01));
    let places =
        (0..header).chain((header..whole.len()).step_by(41)).chain(whole.len() - 4..whole.len());
    let mut loaded = Vec::new();
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    let mut set = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    for (at, bit) in places.flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        set(at, whole[at] ^ (1 << bit));
        let read = match bit {
            0 => checkpoint::load(&mut target, dir.path()).is_ok(),
            _ => checkpoint::progress(dir.path()).is_ok(),
        };
        if read {
            loaded.push((at, bit));
        }
        set(at, whole[at]);
    }
    assert!(checkpoint::progress(dir.path()).is_ok(), "and without a flip it loads");
    assert!(loaded.is_empty(), "{} flips pass, such as {:?}", loaded.len(), loaded[0]);
    assert_eq!((target.updates(), target.net().seed()), (0, Seed(1)));
}

fn header_end(whole: &[u8]) -> usize {
    8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize
}

/// Changes the state in a training file's header and makes its check sum right again.
fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let whole = fs::read(path).unwrap();
    let end = header_end(&whole);
    let mut header: Value = serde_json::from_slice(&whole[8..end]).unwrap();
    let text = header["__metadata__"]["kiln"].as_str().unwrap();
    let mut state: Value = serde_json::from_str(text).unwrap();
    change(&mut state);
    header["__metadata__"]["kiln"] = state.to_string().into();
    let header = header.to_string().into_bytes();
    let length = (header.len() as u64).to_le_bytes();
    let elements = &whole[end..whole.len() - 4];
    let mut edited = [&length[..], &header, elements].concat();
    let mut crc = Crc::new();
    crc.update(&edited);
    edited.extend(crc.sum().to_le_bytes());
    fs::write(path, edited).unwrap();
}

/// `saved` has made 5 updates and stands at batch 2 of epoch 1.
#[test]
fn numbers_that_cannot_be_are_refused_whatever_the_check_sum() {
    type Change = fn(&mut Value);
    let always: [(&str, Change, &str); 7] = [
        ("averaged", |state| state["averaged"] = 100.into(), "a part of"),
        ("skipped", |state| state["skipped"] = json!({ "fc1.weight": 100 }), "a part of"),
        ("pass", |state| state["pass"] = (1_u64 << 31).into(), "number of a pass"),
        ("draws", |state| state["monte_carlo_pass"] = u32::MAX.into(), "number of a pass"),
        ("updates", |state| state["updates"] = 6.into(), "one per pass"),
        (
            "epoch",
            |state| state["progress"]["position"]["epoch"] = (1_u64 << 32).into(),
            "number of an epoch",
        ),
        ("format", |state| state["format"] = 3.into(), "format 3"),
    ];
    let in_an_epoch_of_3: [(&str, Change, &str); 4] = [
        ("batch", |state| state["progress"]["position"]["batch"] = 3.into(), "below 3"),
        ("place", |state| state["progress"]["position"]["batch"] = 1.into(), "5 updates"),
        ("passes", |state| state["pass"] = 6.into(), "6 passes"),
        ("fewer updates", |state| state["updates"] = 4.into(), "4 updates"),
    ];
    let mut target = trainer(1, Adam::new(0.01));
    for (per_epoch, cases) in [(None, &always[..]), (Some(3), &in_an_epoch_of_3[..])] {
        for (what, change, words) in cases {
            let dir = TempDir::new().unwrap();
            saved(&dir, Adam::new(0.01));
            let mut resume = Resume::new(dir.path());
            if let Some(per_epoch) = per_epoch {
                resume = resume.updates_per_epoch(per_epoch);
            }
            let path = dir.path().join(TRAINING_FILE);
            edit(&path, |_| {});
            let untouched = resume.load(&mut trainer(1, Adam::new(0.01)));
            assert!(untouched.is_ok(), "{what}, unchanged: {untouched:?}");
            edit(&path, change);
            let error = resume.load(&mut target).expect_err(what);
            assert!(matches!(error, Error::Data { .. }), "{what}: {error}");
            assert!(error.to_string().contains(words), "{what}: {error}");
        }
    }
    assert_eq!((target.updates(), target.net().pass(), target.net().seed()), (0, 0, Seed(1)));
}

/// Written by the first version, by `saved` with Adam, a cosine schedule, clipping and three parts:
/// it goes on with the bits that training gives today.
#[test]
fn files_of_the_first_format_are_read() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(TRAINING_FILE);
    fs::copy(fixture("first_format.safetensors"), &path).unwrap();
    let mut whole = elaborate(7);
    steps(&mut whole, 0..5);
    let mut resumed = elaborate(0);
    let progress = checkpoint::load(&mut resumed, dir.path()).unwrap();
    assert_eq!(progress.position, Position { epoch: 1, batch: 2 });
    assert_eq!(progress.notes, serde_json::json!({ "note": [1, "two"] }));
    assert_eq!(steps(&mut whole, 5..8), steps(&mut resumed, 5..8));

    let mut other = elaborate(0).with_clipping(2.0).unwrap();
    let error = checkpoint::load(&mut other, dir.path()).unwrap_err();
    assert_eq!(mismatches(&error), ["clipping: expected Some(2.0), got Some(0.5)"]);
    let mut damaged = fs::read(&path).unwrap();
    let end = damaged.len();
    damaged[end - 9] ^= 1;
    fs::write(&path, damaged).unwrap();
    let error = checkpoint::load(&mut resumed, dir.path()).unwrap_err();
    assert!(matches!(error, Error::Data { .. }), "{error}");
}

/// Headers that announce more than there is, or more than there can be.
#[test]
fn a_header_is_not_believed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("w.safetensors");
    let file = |header: &str, data: usize| {
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], header.as_bytes(), &vec![0; data]].concat()
    };
    let huge = r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#;
    let long = format!(
        r#"{{"{}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#,
        "\\u001b".repeat(4000)
    );
    let cases = [
        (u64::MAX.to_le_bytes().to_vec(), "a header of"),
        ((1_u64 << 62).to_le_bytes().to_vec(), "a header of"),
        (file("{}", 4), "an end at"),
        (file(huge, 0), "overflow"),
        (file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4), "invalid shape"),
        (file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8), "invalid offset"),
        (file(&long, 4), "expected no such tensor"),
        (vec![], "0 bytes"),
        (b"short".to_vec(), "5 bytes"),
    ];
    for (bytes, words) in cases {
        fs::write(&path, bytes).unwrap();
        let text = checkpoint::load_weights(&mut net(1), &path).unwrap_err().to_string();
        assert!(text.contains(words), "{words}: {text}");
        assert!(text.len() < 1000 && !text.chars().any(char::is_control), "{words}: {text}");
    }
}
