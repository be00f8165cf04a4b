// SPDX-License-Identifier: MIT OR Apache-2.0

use std::fs;
use std::path::Path;
use std::sync::Arc;

use image::{ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;

use super::*;
use crate::data::{BadPictures, Fit, ImageFolder, Loader, LoaderConfig, Pictures};

const SIZE: Pictures =
    Pictures { height: 4, width: 6, fit: Fit::ResizeAndCrop, bad: BadPictures::Refuse };

fn plain(columns: u32, rows: u32, colour: [u8; 3]) -> RgbImage {
    RgbImage::from_pixel(columns, rows, Rgb(colour))
}

fn save(at: &Path, name: &str, picture: &RgbImage, format: ImageFormat) {
    let path = at.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save_with_format(path, format).unwrap();
}

/// Two classes, three pictures.
fn some(at: &Path) {
    save(at, "cats/b.png", &plain(6, 4, [255, 0, 51]), ImageFormat::Png);
    save(at, "cats/a.JPG", &plain(12, 8, [100, 100, 100]), ImageFormat::Jpeg);
    save(at, "ants/deep/er.jpeg", &plain(9, 9, [0, 0, 0]), ImageFormat::Jpeg);
    fs::write(at.join("cats/.listing"), "not looked at").unwrap();
    fs::write(at.join("README"), "neither").unwrap();
}

#[test]
fn folders_are_classes_in_the_order_of_names() {
    let dir = TempDir::new().unwrap();
    some(dir.path());
    let set = ImageFolder::open(dir.path(), SIZE).unwrap();
    assert_eq!(set.classes(), ["ants", "cats"]);
    assert_eq!((set.len(), set.sample_shape(), Dataset::classes(&set)), (3, vec![3, 4, 6], 2));
    let names: Vec<_> = (0..3).map(|index| set.path(index).unwrap().file_name().unwrap()).collect();
    assert_eq!(names, ["er.jpeg", "a.JPG", "b.png"]);
    assert_eq!(set.path(3), None);
    let (pixels, label) = read(&set, 2).unwrap();
    assert_eq!(label, 1);
    for (channel, value) in [1.0, 0.0, 0.2].into_iter().enumerate() {
        assert!(pixels[channel * 24..][..24].iter().all(|pixel| *pixel == value), "{channel}");
    }
    // JPEG rounds.
    let (pixels, label) = read(&set, 1).unwrap();
    assert!(label == 1 && pixels.iter().all(|pixel| (pixel * 255.0 - 100.0).abs() <= 2.0));
    assert_eq!(read(&set, 0).unwrap(), (vec![0.0; 72], 0));
    assert_eq!(blamed(read(&set, 3)), "index");
}

#[test]
fn the_middle_is_resized() {
    let dir = TempDir::new().unwrap();
    // White at both ends, which are cut off; the rest grows darker downwards.
    let picture = RgbImage::from_fn(40, 16, |x, y| match (8..32).contains(&x) {
        true => Rgb([200 - (y / 4) as u8 * 50; 3]),
        false => Rgb([255; 3]),
    });
    save(dir.path(), "one/wide.png", &picture, ImageFormat::Png);
    let set = ImageFolder::open(dir.path(), SIZE).unwrap();
    let (pixels, _) = read(&set, 0).unwrap();
    for (row, expected) in [200.0, 150.0, 100.0, 50.0].into_iter().enumerate() {
        for pixel in &pixels[row * 6..][..6] {
            assert!((pixel * 255.0 - expected).abs() < 15.0, "row {row}: {pixel}");
        }
    }
    let exact = Pictures { fit: Fit::Exact, ..SIZE };
    let error = read(&ImageFolder::open(dir.path(), exact).unwrap(), 0).unwrap_err().to_string();
    assert!(error.contains("wide.png") && error.contains("expected 6 x 4 pixels, got 40 x 16"));
}

#[test]
fn a_test_set_has_the_classes_of_its_training_set() {
    let dir = TempDir::new().unwrap();
    some(dir.path());
    let train = ImageFolder::open(dir.path(), SIZE).unwrap();
    let test = TempDir::new().unwrap();
    save(test.path(), "cats/c.png", &plain(6, 4, [9, 9, 9]), ImageFormat::Png);
    let set = ImageFolder::open_with(test.path(), train.classes(), SIZE).unwrap();
    assert_eq!((Dataset::classes(&set), label(&set, 0).unwrap()), (2, 1));
    save(test.path(), "dogs/d.png", &plain(6, 4, [9, 9, 9]), ImageFormat::Png);
    let error = ImageFolder::open_with(test.path(), train.classes(), SIZE).unwrap_err().to_string();
    assert!(error.contains("dogs") && error.contains("ants, cats"), "{error}");
}

/// A text named as a picture, a picture that breaks off, one of another format, and a name that is
/// none.
fn spoil(at: &Path) {
    fs::write(at.join("cats/text.png"), "this is a cat\n").unwrap();
    fs::write(at.join("cats/empty.jpg"), "").unwrap();
    fs::write(at.join("cats/moving.png"), b"GIF89a\x01\0\x01\0\0\0\0;").unwrap();
    for (name, format) in [("cut.jpg", ImageFormat::Jpeg), ("cut.png", ImageFormat::Png)] {
        save(at, &format!("ants/{name}"), &noise(), format);
        let path = at.join("ants").join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() * 2 / 3]).unwrap();
    }
    let mut broken = fs::read(at.join("cats/b.png")).unwrap();
    broken[41] ^= 0xff; // within the compressed pixels
    fs::write(at.join("ants/broken.png"), broken).unwrap();
}

/// Pixels that fill a file.
fn noise() -> RgbImage {
    RgbImage::from_fn(64, 64, |x, y| {
        let draws = Pass::default().draws((y * 64 + x) as usize, 0).bits().to_le_bytes();
        Rgb([draws[0], draws[1], draws[2]])
    })
}

#[test]
fn bad_pictures_are_named_when_they_are_read() {
    let dir = TempDir::new().unwrap();
    some(dir.path());
    spoil(dir.path());
    let set = Arc::new(ImageFolder::open(dir.path(), SIZE).unwrap());
    assert_eq!(set.len(), 9);
    let mut failed = Vec::new();
    for index in 0..set.len() {
        let file = set.path(index).unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let Err(error) = read(&*set, index) else { continue };
        let Error::Data { path, offset, expected, got } = &error else { panic!("{error}") };
        assert_eq!(path, set.path(index).unwrap());
        let length = fs::metadata(path).unwrap().len();
        let (says, at) = match &*file {
            "text.png" => (got == "text" && expected == "a PNG or JPEG image", 0),
            "empty.jpg" => (got == "an empty file", 0),
            "moving.png" => (got == "Gif", 0),
            "cut.jpg" | "cut.png" => (got == "the end of the file", length),
            "broken.png" => (expected == "an intact Png image", 0),
            other => panic!("{other}: {error}"),
        };
        assert!(says && *offset == at, "{error}");
        failed.push(file);
    }
    assert_eq!(failed, ["broken.png", "cut.jpg", "cut.png", "empty.jpg", "moving.png", "text.png"]);
    let config = LoaderConfig { batch_size: 9, ..LoaderConfig::default() };
    let error = Loader::new(set, config).unwrap().next_batch().unwrap_err().to_string();
    assert!(error.contains("broken.png"), "{error}");
}

#[test]
fn bad_pictures_are_left_out_and_named() {
    let dir = TempDir::new().unwrap();
    some(dir.path());
    spoil(dir.path());
    fs::write(dir.path().join("cats/notes.txt"), "who is who").unwrap();
    let error = ImageFolder::open(dir.path(), SIZE).unwrap_err().to_string();
    assert!(error.contains("notes.txt") && error.contains("png, jpg, jpeg, got txt"), "{error}");

    let set = ImageFolder::open(dir.path(), Pictures { bad: BadPictures::Skip, ..SIZE }).unwrap();
    let names: Vec<_> =
        set.skipped().iter().map(|(path, _)| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(
        names,
        ["broken.png", "cut.jpg", "cut.png", "empty.jpg", "moving.png", "notes.txt", "text.png"]
    );
    assert!(set.skipped()[6].1.contains("text.png: at byte 0: expected a PNG"));
    assert_eq!(set.len(), 3);
    assert_eq!(MemoryDataset::read_all(&set).unwrap().labels(), [0, 1, 1]);
}

#[test]
fn folders_without_pictures_are_refused() {
    let dir = TempDir::new().unwrap();
    let error = ImageFolder::open(dir.path(), SIZE).unwrap_err().to_string();
    assert!(error.contains("no folder of a class"), "{error}");
    fs::create_dir(dir.path().join("cats")).unwrap();
    let error = ImageFolder::open(dir.path(), SIZE).unwrap_err().to_string();
    assert!(error.contains("cats") && error.contains(".png, .jpg, .jpeg"), "{error}");
    assert!(ImageFolder::open(dir.path().join("none"), SIZE)
        .unwrap_err()
        .to_string()
        .contains("none"));
    for size in [Pictures::of(0, 4), Pictures::of(4, 0), Pictures::of(usize::MAX, 2)] {
        assert_eq!(blamed(ImageFolder::open(dir.path(), size)), "size");
    }
}
