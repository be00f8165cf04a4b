// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files of CIFAR, and pictures in folders.

use std::fs;
use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};
use kiln::data::cifar::{Cifar, Files};
use kiln::data::idx::Amount;
use kiln::data::{BadPictures, Batch, Dataset, ImageFolder, Pass, Pictures};

use super::harness::{judge, judge_text, run};
use super::mutate::mutated;

#[test]
fn files_of_cifar() {
    let records = |each: usize, count: usize| -> Vec<u8> {
        (0..each * count).map(|at| if at % each < 2 { 7 } else { (at * 5) as u8 }).collect()
    };
    let seeds = [records(3073, 1), records(3073, 3), records(3074, 2)];
    run("files_of_cifar", 2, |case| {
        let bytes = mutated(&mut case.numbers, &seeds).0;
        let path = case.write("batch.bin", &bytes);
        let labels = *case.numbers.pick(&[Cifar::Ten, Cifar::Hundred, Cifar::HundredCoarse]);
        let amount = match case.numbers.below(3) {
            0 => Amount::All,
            1 => Amount::First(case.numbers.below(4)),
            _ => Amount::First(case.numbers.edge() as usize),
        };
        let files = Files { labels, train: vec![path.clone()], test: vec![] };
        let limit = bytes.len() + (64 << 10);
        match case.within(limit, || files.load_train(amount)) {
            Ok(images) => {
                assert!(images.len() * 3072 <= bytes.len());
                let known = |label: &u8| usize::from(*label) < labels.classes();
                assert!(images.labels().iter().all(known));
            }
            Err(error) => judge(&error, &path),
        }
    });
}

#[test]
fn pictures_in_folders() {
    let picture = RgbImage::from_fn(23, 17, |x, y| Rgb([x as u8 * 9, y as u8 * 13, (x ^ y) as u8]));
    let encoded = |format| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("memory");
        bytes.into_inner()
    };
    let seeds = [encoded(ImageFormat::Png), encoded(ImageFormat::Jpeg)];
    run("pictures_in_folders", 2, |case| {
        let class = case.folder.join("root/class");
        fs::create_dir_all(&class).expect("a folder");
        let path = class.join(case.numbers.pick(&["a.png", "a.jpg"]));
        let _ = fs::remove_file(class.join("a.png"));
        let _ = fs::remove_file(class.join("a.jpg"));
        let bytes = mutated(&mut case.numbers, &seeds).0;
        case.write("picture", &bytes);
        fs::write(&path, &bytes).expect("a file");
        let size = Pictures::of(1 + case.numbers.below(9), 1 + case.numbers.below(9));
        let set = ImageFolder::open(case.folder.join("root"), size).expect("one picture");
        let skipping = Pictures { bad: BadPictures::Skip, ..size };
        let rest = ImageFolder::open(case.folder.join("root"), skipping).expect("one picture");
        match Batch::read(&set, &[0], Pass::default()) {
            Ok(_) => assert_eq!((rest.len(), rest.skipped().len()), (1, 0)),
            Err(error) => {
                judge(&error, &path);
                assert_eq!((rest.len(), rest.skipped().len()), (0, 1));
                judge_text(&rest.skipped()[0].1);
            }
        }
    });
}
