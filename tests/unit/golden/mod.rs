// SPDX-License-Identifier: MIT OR Apache-2.0
//! kiln against what PyTorch computed: every fixture, on every backend.

mod classifier;
mod groups;
mod images;
mod layers;
mod losses;
mod masks;
mod more_layers;
mod networks;
mod ops;
mod optimizers;
mod recurrent;
mod schedules;
mod steps;
mod structures;
mod trajectory;

use std::fmt::Write;
use std::panic::catch_unwind;

use sha2::{Digest, Sha256};

use crate::common::golden::{fixtures, folder, Fixture};
use crate::common::summary;
use crate::common::targets::targets;

/// Every fixture is of a known kind and agrees.
#[test]
fn every_fixture() {
    let mut cases = 0;
    let mut worst = (0.0, String::new());
    let mut failed = Vec::new();
    for fixture in fixtures() {
        for target in targets() {
            // What failed is printed where it failed; one failure hides no other.
            match catch_unwind(|| agree(&fixture, &target.device())) {
                Ok(share) if share > worst.0 => worst = (share, fixture.stem.clone()),
                Ok(_) => {}
                Err(_) => failed.push(format!("{} on {}", fixture.stem, target.name)),
            }
        }
        cases += 1;
    }
    assert!(cases > 0, "no fixtures");
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    let (share, stem) = worst;
    summary(&format!(
        "golden: {cases} cases on {} backends, worst {:.0} % of its tolerance ({stem})",
        targets().len(),
        share * 100.0,
    ));
}

/// Compares one fixture; yields the share of the tolerance that was used.
fn agree(fixture: &Fixture, device: &kiln::Device) -> f64 {
    match fixture.option("kind") {
        "layer" => layers::agree(fixture, device),
        "op" => ops::agree(fixture, device),
        "batch_norm" => images::agree_on_training(fixture, device),
        "loss" => losses::agree(fixture, device),
        "optimizer" => optimizers::agree(fixture, device),
        "clip" => optimizers::agree_on_clipping(fixture, device),
        "schedule" => schedules::agree(fixture),
        "plateau" => schedules::agree_on_plateau(fixture),
        "step" if fixture.option("name") == "classifier" => classifier::agree(fixture, device),
        "step" => steps::agree(fixture, device),
        "random" => more_layers::agree_on_random(fixture, device),
        "instance_norm" => more_layers::agree_on_state(fixture, device),
        "network" => networks::agree(fixture, device),
        "recurrent" => recurrent::agree(fixture, device),
        "embedding" => recurrent::agree_on_embedding(fixture, device),
        "groups" => groups::agree(fixture, device),
        "structure" => structures::agree(fixture, device),
        "mask" => masks::agree(fixture),
        "philox" => masks::agree_on_philox(fixture),
        other => panic!("{}: nothing tests fixtures of kind {other}", fixture.stem),
    }
}

/// The files are the ones that the generator wrote.
#[test]
fn the_manifest_lists_every_file_by_its_hash() {
    let manifest = std::fs::read_to_string(folder().join("MANIFEST")).expect("MANIFEST");
    let mut listed = Vec::new();
    for line in manifest.lines().filter(|line| !line.starts_with('#')) {
        let (hash, path) = line.split_once("  ").expect("hash, two spaces, path");
        let bytes = std::fs::read(folder().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let digest = Sha256::digest(&bytes).iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("strings take text");
            text
        });
        assert_eq!(digest, hash, "{path} is not what the generator wrote");
        listed.push(path.trim_start_matches("data/").trim_end_matches(".safetensors").to_string());
    }
    listed.sort();
    let mut found: Vec<String> = fixtures().into_iter().map(|fixture| fixture.stem).collect();
    found.sort();
    assert_eq!(listed, found, "MANIFEST and data/ list the same files");
}
