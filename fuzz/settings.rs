// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settings of a project, in TOML.

use kiln::lint::Levels;

use super::harness::{judge, run};
use super::mutate::mutated;

#[test]
fn settings_of_a_project() {
    let seeds: Vec<Vec<u8>> = [
        "[lint]\nrate-low = \"allow\"\nD101 = 'deny'\n",
        "[lint]\nD205 = 'warn' # a comment\n[lint.layers.\"head.dropout\"]\nD101 = 'allow'\n",
        "lint = { D604 = 'deny', layers = { fc1 = { D402 = 'warn' } } }\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    run("settings_of_a_project", 3, |case| {
        let bytes = mutated(&mut case.numbers, &seeds).0;
        let path = case.write("kiln.toml", &bytes);
        let levels = case.within(256 * bytes.len() + (1 << 20), || Levels::from_file(&path));
        if let Err(error) = levels {
            judge(&error, &path);
        }
    });
}
