// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules about the source text that a search can check.

#[path = "tidy/rooms.rs"]
mod rooms;

use std::path::{Path, PathBuf};

/// Most lines a file may have.
const MAX_LINES: usize = 600;

/// Folders whose files are shorter, and the most lines of those.
const SHORTER: [(&str, usize); 1] = [("src/backend/cpu/", 400)];

/// Folders with files of ours.
const FOLDERS: [&str; 9] =
    ["src", "tests", "fuzz", "benches", "examples", "kernels", "simulator", "xtask", "scripts"];

/// Endings of files that begin with the licence.
const LICENSED: [&str; 8] = ["rs", "cu", "cuh", "h", "hpp", "cpp", "c", "py"];

struct Source {
    /// Path from the repository's root, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines that are neither comments nor documentation, up to the unit tests at the end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = self.lines().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
        code.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn extension(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or("")
    }
}

/// All files of ours, tests of what must not compile included.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    folders.retain(|folder| folder.is_dir());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                // Build output and what is not checked in.
                if !["target", "__pycache__", "data", "runs"].contains(&name.as_str())
                    || path.ends_with("src/data")
                {
                    folders.push(path);
                }
                continue;
            }
            if !LICENSED.iter().any(|ending| name.ends_with(&format!(".{ending}"))) {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("UTF-8 text");
            let relative = path.strip_prefix(root).expect("below the root");
            let path = relative.to_string_lossy().replace('\\', "/");
            sources.push(Source { path, text });
        }
    }
    if let Ok(text) = std::fs::read_to_string(root.join("build.rs")) {
        sources.push(Source { path: "build.rs".into(), text });
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 100, "found {} files", sources.len());
    sources
}

/// Fails with all places that break a rule.
fn demand(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// Places in code whose line a test picks.
fn places<'a>(sources: &'a [Source], picks: impl Fn(&Source, &str) -> bool + 'a) -> Vec<String> {
    let of = |source: &'a Source| {
        let hits: Vec<_> = source.code().filter(|(_, line)| picks(source, line)).collect();
        hits.into_iter().map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim()))
    };
    sources.iter().flat_map(of).collect()
}

#[test]
fn no_file_is_long() {
    let mut lengths: Vec<(usize, String)> =
        sources().into_iter().map(|source| (source.lines().count(), source.path)).collect();
    lengths.sort_by(|a, b| b.cmp(a));
    let longest: Vec<String> =
        lengths.iter().take(5).map(|(lines, path)| format!("{lines} {path}")).collect();
    assert!(
        lengths[0].0 <= MAX_LINES,
        "a file has more than {MAX_LINES} lines; the longest are:\n  {}",
        longest.join("\n  ")
    );
    let is_long = |(lines, path): &(usize, String)| {
        SHORTER.iter().any(|(folder, most)| path.starts_with(folder) && lines > most)
    };
    let long = lengths.into_iter().filter(is_long).map(|(lines, path)| format!("{lines} {path}"));
    demand("some folders have shorter files", long.collect());
}

#[test]
fn every_file_begins_with_its_licence() {
    let licence = "SPDX-License-Identifier: MIT OR Apache-2.0";
    let mut missing = Vec::new();
    for source in sources() {
        let mut lines = source.text.lines();
        let first = lines.next().unwrap_or("");
        let first = if first.starts_with("#!") { lines.next().unwrap_or("") } else { first };
        let marker = if source.extension() == "py" { "#" } else { "//" };
        if first != format!("{marker} {licence}") {
            missing.push(source.path);
        }
    }
    demand("the first line names the licence", missing);
}

#[test]
fn nothing_is_left_to_do() {
    // Put together here, so that this file does not hold them.
    let marks =
        [["to", "do!("], ["unimple", "mented!("], ["#[igno", "re"], ["TO", "DO"], ["FIX", "ME"]];
    let marks = marks.map(|halves| halves.concat());
    let mut broken = Vec::new();
    for source in sources() {
        for (number, line) in source.lines() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                broken.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    demand("no stubs, no skipped tests, no notes to oneself", broken);
}

#[test]
fn layers_and_losses_name_no_backend() {
    let inside = |source: &Source| {
        ["src/nn/", "src/loss/", "src/models/", "src/op/", "src/graph/"]
            .iter()
            .any(|folder| source.path.starts_with(folder))
    };
    let names = ["backend", "Backend", "cuda", "Cuda", "Cpu", "Device"];
    let found = places(&sources(), |source, line| {
        inside(source) && names.iter().any(|name| line.contains(name))
    });
    demand("networks and graphs know nothing of devices", found);
}

/// They see facts about backends, and nothing that could reach one.
#[test]
fn passes_and_kernels_touch_no_device() {
    let names = ["dyn Backend", "Device", "Arena {", "Cpu", "cudarc", "unsafe"];
    let system = ["std::env", "std::fs", "std::thread"];
    let found = places(&sources(), |source, line| {
        let is_pass =
            source.path.starts_with("src/passes/") || source.path.starts_with("src/kernel/");
        is_pass && names.iter().chain(&system).any(|name| line.contains(name))
    });
    demand("passes see facts, never devices", found);
}

#[test]
fn only_the_command_line_prints() {
    let macros = ["println!", "eprintln!", "print!", "eprint!", "dbg!"];
    let found = places(&sources(), |source, line| {
        source.path.starts_with("src/")
            && !source.path.starts_with("src/cli/")
            && source.path != "src/main.rs"
            && macros.iter().any(|name| line.contains(name))
    });
    demand("the library prints nothing", found);
}

/// Iteration over a hash map would make plans differ from run to run.
#[test]
fn plans_are_made_from_ordered_maps() {
    let compiler = ["src/graph/", "src/op/", "src/passes/", "src/kernel/", "src/plan.rs"];
    let found = places(&sources(), |source, line| {
        compiler.iter().any(|folder| source.path.starts_with(folder))
            && (line.contains("HashMap") || line.contains("HashSet"))
    });
    demand("no hash maps where plans are made", found);
}

/// Where `unsafe` has a reason: vector instructions, the CUDA driver, the simulator, and what the
/// benches compare with.
#[test]
fn unsafe_code_has_its_places() {
    let places_of_unsafe = [
        "src/backend/cpu/",
        "src/backend/cuda/",
        "simulator/",
        "tests/",
        "benches/kernel/reference.rs",
    ];
    let found = places(&sources(), |source, line| {
        source.extension() == "rs"
            && !places_of_unsafe.iter().any(|folder| source.path.starts_with(folder))
            && (line.contains("unsafe {")
                || line.contains("unsafe fn")
                || line.contains("unsafe impl"))
    });
    demand("no unsafe code elsewhere", found);
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whoever runs `.ci/run` sees what the workflow sees, and nobody can change what its actions do.
#[test]
fn the_workflow_runs_the_one_script_with_pinned_actions() {
    let workflow = read(".github/workflows/ci.yml");
    let values = |key: &str| -> Vec<String> {
        let values = workflow.lines().map(|line| line.trim_start().trim_start_matches("- "));
        values.filter_map(|line| Some(line.strip_prefix(key)?.trim().to_owned())).collect()
    };
    let (actions, commands) = (values("uses:"), values("run:"));
    assert!(!actions.is_empty() && commands.iter().any(|command| command.starts_with(".ci/run")));
    let is_pinned = |action: &String| {
        let commit = action.split(['@', ' ']).nth(1).unwrap_or("");
        commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    demand("actions are pinned", actions.into_iter().filter(|action| !is_pinned(action)).collect());
    // `defaults` has a `run:` without a command.
    let is_known = |command: &String| {
        [".ci/run", "rustup toolchain install"].iter().any(|start| command.starts_with(start))
            || command.is_empty()
    };
    let others = commands.into_iter().filter(|command| !is_known(command)).collect();
    demand("the workflow installs Rust and runs .ci/run", others);
}

/// `.ci/run minimum` tries what `Cargo.toml` promises; the other places must promise the same.
#[test]
fn the_minimum_version_is_one() {
    let version = env!("CARGO_PKG_RUST_VERSION");
    let promise = format!("rust-version = \"{version}\"");
    assert!(read("Cargo.toml").lines().any(|line| line == promise), "{promise}");
    for package in ["simulator/Cargo.toml", "xtask/Cargo.toml"] {
        assert!(read(package).contains("rust-version.workspace = true"), "{package}");
    }
    assert!(read("README.md").contains(&format!("Rust {version}")), "README names Rust {version}");
}

/// A platform of the table that nothing builds for would be a promise that nobody keeps.
#[test]
fn cross_check_and_workflow_cover_the_platforms() {
    let (readme, script) = (read("README.md"), read("scripts/cross-check"));
    let workflow = read(".github/workflows/ci.yml");
    let table = readme.split("## Platforms").nth(1).expect("a section of platforms");
    let table = table.split("\n## ").next().unwrap_or("");
    for (name, target) in [
        ("Linux x86-64", None),
        ("Linux aarch64", Some("aarch64-unknown-linux-gnu")),
        ("Windows x86-64", Some("x86_64-pc-windows-gnu")),
        ("macOS aarch64", Some("aarch64-apple-darwin")),
    ] {
        assert!(table.contains(&format!("| {name}")), "README's table has no {name}");
        assert!(workflow.contains(&format!("name: {name}")), "the workflow has no {name}");
        assert!(target.is_none_or(|target| script.contains(target)), "{target:?}");
    }
}
