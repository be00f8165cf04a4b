// SPDX-License-Identifier: MIT OR Apache-2.0
//! Colour images in files, and random changes of them, in the program.

use std::fs;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;

use crate::{epochs, fail, json, model, run, succeed};

/// CIFAR files with four images each, in so many classes of one label or two.
fn write_cifar(directory: &Path, names: &[&str], labels: impl Fn(u8) -> Vec<u8>) {
    fs::create_dir_all(directory).unwrap();
    for (file, name) in names.iter().enumerate() {
        let mut bytes = Vec::new();
        for image in 0..4_u8 {
            let number = file as u8 * 4 + image;
            bytes.extend(labels(number));
            bytes.extend((0..3072_u32).map(|at| (at * u32::from(number + 1) % 251) as u8));
        }
        fs::write(directory.join(name), bytes).unwrap();
    }
}

/// Twenty images to train on and four to test with, which take little time.
pub(crate) fn write_cifar10(directory: &Path) {
    let batches: Vec<String> = (1..=5).map(|batch| format!("data_batch_{batch}.bin")).collect();
    let mut names: Vec<&str> = batches.iter().map(String::as_str).collect();
    names.push("test_batch.bin");
    write_cifar(directory, &names, |number| vec![number % 10]);
}

/// Three pictures of each of two classes.
fn write_pictures(directory: &Path) {
    for (class, red) in [("apples", 200), ("pears", 20)] {
        fs::create_dir_all(directory.join(class)).unwrap();
        for number in 0..3_u8 {
            let picture = RgbImage::from_pixel(40, 36, Rgb([red, 150 + number, 30]));
            let (name, format) = match number {
                0 => ("0.jpg".to_string(), ImageFormat::Jpeg),
                _ => (format!("{number}.png"), ImageFormat::Png),
            };
            picture.save_with_format(directory.join(class).join(name), format).unwrap();
        }
    }
}

#[test]
fn a_run_with_random_changes_goes_on_as_if_it_had_never_stopped() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    write_cifar10(&at.join("here/cifar-10-batches-bin"));
    let args = ["train", "--quiet", "--net", "residual", "--data", "cifar10:here", "--batch", "5"];
    let changed = [&args[..], &["--augment", "crop,flip,cutout", "--seed", "3"]].concat();
    succeed(at, &[&changed[..], &["--epochs", "2", "--out", "whole"]].concat());
    succeed(at, &[&changed[..], &["--epochs", "1", "--threads", "2", "--out", "parts"]].concat());
    succeed(at, &["train", "--quiet", "--threads", "1", "--resume", "parts", "--epochs", "2"]);
    assert_eq!(model(at, "whole"), model(at, "parts"));
    assert_eq!(epochs(at, "parts"), [1, 2]);
    succeed(at, &[&args[..], &["--seed", "3", "--epochs", "2", "--out", "plain"]].concat());
    assert_ne!(model(at, "whole"), model(at, "plain"));
    let others = ["train", "--resume", "parts", "--epochs", "3", "--augment", "flip"];
    let text = fail(at, &others);
    assert!(text.contains("augment: expected") && text.contains("cutout"), "{text}");

    // What is measured is not changed at random.
    let evaluated = json(at, &["eval", "--checkpoint", "whole", "--json"]);
    let metrics = fs::read_to_string(at.join("whole/metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert_eq!(evaluated["loss"], last["test_loss"]);
    assert_eq!(evaluated["samples"], 4);
}

#[test]
fn bad_pictures_end_the_program_or_are_left_out() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    write_pictures(&at.join("fruit/train"));
    write_pictures(&at.join("fruit/test"));
    let args = ["train", "--net", "spatial-cnn", "--data", "folder:fruit", "--epochs", "1"];
    let trained = json(at, &[&args[..], &["--batch", "3", "--out", "A", "--json"]].concat());
    assert_eq!(trained["data"], "folder");

    fs::write(at.join("fruit/train/pears/text.png"), "a pear\n").unwrap();
    let text = fail(at, &[&args[..], &["--out", "B"]].concat());
    assert!(text.contains("text.png: at byte 0: expected a PNG or JPEG image, got text"), "{text}");
    let skipping = [&args[..], &["--bad-images", "skip", "--out", "C", "--quiet"]].concat();
    let output = run(at, &skipping);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("text.png") && stderr.lines().count() == 1, "{stderr}");

    // Without a folder of its own, a share of the pictures is the test set.
    let alone = ["eval", "--checkpoint", "A", "--data", "folder:fruit/test", "--json"];
    assert_eq!(json(at, &alone)["samples"], 2);
}

#[test]
fn files_that_are_not_as_published_are_one_line() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    write_cifar(&at.join("cut"), &["train.bin", "test.bin"], |number| vec![number, number * 9]);
    let train = at.join("cut/train.bin");
    let bytes = fs::read(&train).unwrap();
    fs::write(&train, &bytes[..bytes.len() - 7]).unwrap();
    write_cifar10(&at.join("foreign"));
    let batch = at.join("foreign/data_batch_2.bin");
    let mut bytes = fs::read(&batch).unwrap();
    bytes[3073] = 77;
    fs::write(&batch, bytes).unwrap();
    let table: [(&str, &[&str]); 4] = [
        ("cifar100:cut", &["cut/train.bin", "at byte 12289", "12296 bytes in all"]),
        ("cifar10:foreign", &["data_batch_2.bin", "at byte 3073", "a label below 10", "77"]),
        ("cifar10:none", &["none/data_batch_1.bin", "none/test_batch.bin"]),
        ("folder:none", &["none"]),
    ];
    for (data, words) in table {
        let text = fail(at, &["train", "--net", "cnn", "--data", data]).replace('\\', "/");
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
    }
    let crop = ["train", "--data", "digits", "--augment", "turn"];
    let text = String::from_utf8(run(at, &crop).stderr).unwrap();
    assert!(text.contains("crop, flip, cutout"), "{text}");
}
