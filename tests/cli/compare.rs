// SPDX-License-Identifier: MIT OR Apache-2.0
//! Comparisons: several seeds, sweeps and tables of rates, results and the page about them, and going on.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::{fail, json, run, succeed};

/// Quick settings of a comparison on the digits.
const QUICK: [&str; 7] = ["compare", "--hidden", "16", "--train-samples", "100", "--epochs", "2"];

/// The files that hold results.
const RESULTS: [&str; 3] = ["result.json", "report.html", "curves.svg"];

fn quick(at: &Path, args: &[&str]) -> Value {
    json(at, &[&QUICK[..], &["--json"], args].concat())
}

fn text(at: &Path, file: &str) -> String {
    fs::read_to_string(at.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn rates(object: &Value) -> Vec<&str> {
    let arms = object["arms"].as_array().unwrap();
    arms.iter().map(|arm| arm["dropout"].as_str().unwrap()).collect()
}

pub(crate) fn assert_same_results(at: &Path, a: &str, b: &str) {
    for file in RESULTS {
        assert_eq!(text(at, &format!("{a}/{file}")), text(at, &format!("{b}/{file}")), "{file}");
    }
}

#[test]
fn machines_are_told_of_every_training_and_every_difference() {
    let dir = TempDir::new().unwrap();
    let object = quick(dir.path(), &["--out", "C"]);
    assert_eq!((&object["net"], &object["data"]), (&"simple".into(), &"digits".into()));
    assert_eq!(object["seeds"], serde_json::json!([0, 1, 2]));
    let runs = object["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 6);
    for (place, run) in runs.iter().enumerate() {
        let number = |key: &str| run[key].as_f64().unwrap_or_else(|| panic!("{key} in {run}"));
        assert_eq!((number("seed"), number("p")), ((place / 2) as f64, 0.5 * (place % 2) as f64));
        for key in ["train_mode_accuracy", "train_accuracy", "test_accuracy", "ece"] {
            assert!((0.0..=1.0).contains(&number(key)), "{key} in {run}");
        }
        assert!(number("train_loss") > 0.0 && number("test_loss") > 0.0);
        assert!(number("seconds") > 0.0);
        assert_eq!(number("gap"), number("train_accuracy") - number("test_accuracy"));
    }
    // Without dropout and batch norm the modes are the same.
    assert_eq!(runs[0]["train_mode_accuracy"], runs[0]["train_accuracy"]);

    let test = |run: usize| runs[run]["test_accuracy"].as_f64().unwrap();
    let gain = (0..3).map(|seed| test(2 * seed + 1) - test(2 * seed)).sum::<f64>() / 3.0;
    assert_eq!(object["gain"].as_f64().unwrap(), gain);
    let difference = &object["arms"][1]["differences"]["test_accuracy"];
    assert_eq!(difference["mean"].as_f64().unwrap(), gain);
    let signs = ["above", "below", "equal"].map(|sign| difference[sign].as_u64().unwrap());
    assert_eq!(signs.iter().sum::<u64>(), 3);
    assert!(object["arms"][1]["verdict"].is_string() && object["arms"][0]["verdict"].is_null());

    for file in ["model.safetensors", "training.safetensors", "metrics.jsonl", "run.json"] {
        for run in ["p0/seed0", "p0/seed2", "p0.5/seed1"] {
            assert!(dir.path().join("C").join(run).join(file).is_file(), "{run}/{file}");
        }
    }
    // A run directory of its own for each: the other commands know it.
    let scores = json(dir.path(), &["eval", "--checkpoint", "C/p0.5/seed1", "--json"]);
    assert_eq!(scores["accuracy"].as_f64().unwrap(), test(3));
}

#[test]
fn a_sweep_and_a_table_compare_several_networks() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let sweep = ["--seeds", "2", "--sweep", "0,0.2,0.8", "--out", "S"];
    let object = quick(at, &sweep);
    assert_eq!(rates(&object), ["0", "0.2", "0.8"]);
    assert_eq!(object["runs"].as_array().unwrap().len(), 6);
    assert_eq!(object["runs"][1]["p"].as_f64(), Some(0.2), "as it was written");
    let best = object["best"].as_str().unwrap();
    assert!(["0.2", "0.8"].contains(&best), "{best}");

    let table = ["--seeds", "1", "--rates", "0.2,0.5;0,0.5", "--out", "T"];
    let object = quick(at, &table);
    assert_eq!(rates(&object), ["0", "0.2+0.5", "0+0.5"]);
    assert!(object["arms"][1]["p"].is_null());
    // The rates of a layer are those of its masks.
    let drops = |run: &str, layer: &str| {
        let args = ["mask", "--checkpoint", run, "--layer", layer, "--pass", "0", "--json"];
        let mask = json(at, &args);
        1.0 - mask["kept"].as_f64().unwrap() / mask["elements"].as_f64().unwrap()
    };
    assert!((drops("T/p0.2+0.5/seed0", "dropout1") - 0.2).abs() < 0.1);
    assert!((drops("T/p0.2+0.5/seed0", "dropout2") - 0.5).abs() < 0.1);
    // The baseline of the table is that of the sweep, which has the same seed.
    let model = |run: &str| fs::read(at.join(run).join("model.safetensors")).unwrap();
    assert_eq!(model("S/p0/seed0"), model("T/p0/seed0"));
    assert_ne!(model("S/p0/seed0"), model("S/p0/seed1"));
}

/// Networks whose rates differ by layer, and one that could not be compared without them.
#[test]
fn every_network_can_be_compared() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let variable = ["compare", "--net", "variable", "--train-samples", "20", "--epochs", "1"];
    let object = json(at, &[&variable[..], &["--seeds", "1", "--json", "--out", "V"]].concat());
    assert_eq!(rates(&object), ["0", "0.2+0.5"]);
    let rnn =
        ["compare", "--net", "rnn", "--train-samples", "30", "--epochs", "1", "--hidden", "4"];
    let args = ["--seeds", "1", "--rates", "0.1,0.3", "--json", "--out", "R"];
    assert_eq!(rates(&json(at, &[&rnn[..], &args].concat())), ["0", "0.1+0.3"]);
}

#[test]
fn people_are_told_of_intervals_and_signs() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let told = succeed(at, &[&QUICK[..], &["--out", "C"]].concat());
    for words in [
        "dropout 0 against 0.5, seeds 0 to 2: same first parameters",
        "seed 2  dropout 0.5",
        "differences from dropout 0 with the same seed, means over 3 seeds",
        "signs that dropout helps:",
        " of 3 seeds)\nverdict: ",
        "report: C",
    ] {
        assert!(told.contains(words), "no {words:?} in {told}");
    }
    let again = succeed(at, &["compare", "--resume", "C", "--quiet"]);
    assert!(!again.contains("seed 2  dropout") && told.contains(again.trim()), "{again}");
    let one = succeed(at, &[&QUICK[..], &["--seeds", "1", "--out", "D"]].concat());
    assert!(one.contains("with the one seed tried") && !one.contains("95 %"), "{one}");
}

#[test]
fn the_page_is_whole_and_asks_for_nothing() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    quick(at, &["--seeds", "2", "--sweep", "0.2,0.9", "--out", "C"]);
    let page = text(at, "C/report.html");
    for words in [
        "<!DOCTYPE html>\n<html lang=\"en\">",
        "<meta name=\"viewport\"",
        "<title>Dropout compared: SimpleNet 784-16-16-10 on digits</title>",
        "prefers-color-scheme: dark",
        "<h2>Verdict</h2>",
        "<strong>Dropout 0.9:</strong>",
        "<caption>Differences from dropout 0 with the same seed, over 2 seeds",
        "training accuracy in train mode",
        "calibration error (ECE)",
        "warn[D101] dropout1: drops 0.90",
        "<th scope=\"row\">seeds</th><td>0, 1</td>",
        "<h2>Machine</h2>",
    ] {
        assert!(page.contains(words), "no {words} in the page");
    }
    for word in ["http:", "https:", "<script", "<link", "<img", "url(", "@import", "src=", "NaN"] {
        assert!(!page.contains(word), "{word} in the page");
    }
    assert_eq!(page.matches("<svg ").count(), 4);
    assert_eq!(page.matches("role=\"img\" aria-labelledby=").count(), 4);
    assert_eq!(page.matches("<desc id=").count(), 4);
    for tag in ["svg", "figure", "div", "table", "tr", "th", "td", "p", "ul", "li", "h2", "main"] {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    let ids: Vec<&str> =
        page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let different: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(different.len(), ids.len(), "{ids:?}");
    for reference in
        page.split("aria-labelledby=\"").skip(1).filter_map(|rest| rest.split('"').next())
    {
        assert!(reference.split(' ').all(|id| ids.contains(&id)), "{reference}");
    }
}

/// What is finished is not trained again, what is missing is, and the results are the same to the byte.
#[test]
fn more_seeds_and_lost_trainings_end_in_the_same_results() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    quick(at, &["--seeds", "3", "--out", "whole"]);
    quick(at, &["--seeds", "2", "--out", "parts"]);
    let finished =
        || fs::metadata(at.join("parts/p0/seed0/finished.json")).unwrap().modified().unwrap();
    let before = finished();
    let resumed = json(at, &["compare", "--resume", "parts", "--seeds", "3", "--json"]);
    assert_same_results(at, "whole", "parts");
    assert!(resumed["runs"][0]["seconds"].as_f64() > Some(0.0), "times are found again");
    // As if it had ended within the last measuring, and before any checkpoint.
    fs::remove_file(at.join("parts/p0.5/seed1/finished.json")).unwrap();
    fs::remove_dir_all(at.join("parts/p0/seed2")).unwrap();
    json(at, &["compare", "--out", "parts", "--resume", "--json"]);
    assert_same_results(at, "whole", "parts");
    assert_eq!(finished(), before);

    let refused =
        |args: &[&str]| fail(at, &[&["compare", "--quiet", "--resume", "parts"], args].concat());
    let text = refused(&["--seeds", "2", "--lr", "1"]);
    assert!(text.contains("seeds: expected 3 or more") && text.contains("lr: expected"), "{text}");
    let text = refused(&["--sweep", "0.2"]);
    assert!(
        text.contains("sweep: expected 0, 0.5, with which") && text.contains("got 0, 0.2"),
        "{text}"
    );
    assert!(refused(&["--epochs", "3"]).contains("epochs: expected 2"));
    let elsewhere = refused(&["--out", "other"]);
    assert!(elsewhere.contains("out: expected the directory of --resume"), "{elsewhere}");
    fs::write(at.join("parts/p0/seed0/finished.json"), "{}").unwrap();
    assert!(refused(&[]).contains("seed0/finished.json: "));
    fs::write(at.join("parts/compare.json"), "{}").unwrap();
    assert!(refused(&[]).contains("not a comparison"));
    assert!(fail(at, &["compare", "--resume", "nowhere"]).contains("nowhere/compare.json"));
}

/// Each is one line that names the argument, and nothing is left behind.
#[test]
fn what_cannot_be_compared_is_refused() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let table: &[(&[&str], i32, &[&str])] = &[
        (&["--seeds", "0"], 2, &["--seeds"]),
        (&["--seeds", "x"], 2, &["--seeds"]),
        (&["--seeds", "18446744073709551615"], 1, &["seeds: expected at most 10000"]),
        (&["--seeds", "2", "--seed", "18446744073709551615"], 1, &["seeds: ", "from 1844"]),
        (&["--sweep", "0,1.0"], 1, &["sweep: ", "below 1", "got 1"]),
        (&["--sweep", "0.5,NaN"], 1, &["sweep: ", "NaN"]),
        (&["--sweep=-0.5"], 1, &["sweep: ", "-0.5"]),
        (&["--sweep", "0.2,0.5,0.2"], 1, &["sweep: ", "0.2 twice"]),
        (&["--sweep", "0"], 1, &["sweep: ", "above 0"]),
        (&["--sweep", "0.2,half"], 2, &["--sweep", "half"]),
        (&["--sweep", "0.2", "--p", "0.5"], 2, &["--sweep", "--p"]),
        (&["--sweep", "0.2", "--rates", "0.2,0.2"], 2, &["--sweep", "--rates"]),
        (&["--rates", "0.2"], 1, &["rates: ", "2 rates in each row, of dropout1, dropout2"]),
        (&["--rates", "0.2,0.5;0.1,0.2,0.3"], 1, &["rates: ", "0.1,0.2,0.3"]),
        (&["--rates", "0.2,1"], 1, &["rates: ", "below 1"]),
        (&["--rates", "0.2,nan"], 1, &["rates: ", "NaN"]),
        (&["--net", "residual", "--rates", "0.1,0.2"], 1, &["one rate in each row, of features.1"]),
        (&["--resume"], 1, &["resume", "--out"]),
    ];
    for (args, code, words) in table {
        let output = run(at, &[&["compare"], *args].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{args:?}: {stderr}");
        for word in *words {
            assert!(stderr.contains(word), "{args:?}: no {word} in {stderr}");
        }
        assert_eq!(fs::read_dir(at).unwrap().count(), 0, "{args:?} left something behind");
    }
}
