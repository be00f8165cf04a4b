// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order of rooms in ARCHITECTURE.md is what the imports say.

use std::collections::BTreeMap;

use super::{demand, read, sources, Source};

/// The heading under which a fenced block lists the rooms, the lowest first.
const HEADING: &str = "## Rooms, from the ground up";

/// For each room its floor, counted from the ground.
fn floors() -> BTreeMap<String, usize> {
    let text = read("ARCHITECTURE.md");
    let (_, section) = text.split_once(HEADING).expect("the order of rooms");
    let block = section.split("```").nth(1).expect("a fenced block");
    let lines = block.lines().filter(|line| !line.trim().is_empty()).enumerate();
    lines
        .flat_map(|(floor, line)| line.split_whitespace().map(move |room| (room.into(), floor)))
        .collect()
}

/// The room of a file of the library: its folder or, in `src` itself, its name.
fn room(source: &Source) -> Option<&str> {
    let path = source.path.strip_prefix("src/")?;
    match path.split('/').next()?.trim_end_matches(".rs") {
        "lib" | "main" => None,
        room => Some(room),
    }
}

/// Names that `lib.rs` re-exports, each with its room.
fn re_exported(root: &str) -> BTreeMap<&str, &str> {
    let mut rooms = BTreeMap::new();
    for statement in root.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next()) {
        let Some((room, names)) = statement.split_once("::") else { continue };
        let names = names.trim_matches(|c| "{}".contains(c)).split(',');
        rooms.extend(names.map(|name| (name.trim(), room)));
    }
    rooms
}

/// The first names of all paths in a text that begin with `crate::`, of `crate::{a::B, C}` both.
fn imported(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for rest in text.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => names.extend(first_names_of_group(group)),
            None => names.push(first_name(rest)),
        }
    }
    names
}

/// The first names of the paths in a group, up to its closing brace.
fn first_names_of_group(group: &str) -> Vec<&str> {
    let (mut depth, mut names, mut is_start) = (0, Vec::new(), true);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            _ if is_start && !character.is_whitespace() => {
                names.push(first_name(&group[at..]));
                is_start = false;
            }
            _ => {}
        }
    }
    names
}

fn first_name(path: &str) -> &str {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    &path[..end]
}

#[test]
fn imports_are_read_as_the_compiler_reads_them() {
    let text =
        "use crate::graph::{Graph, NodeId};\nuse crate::{\n    op::{Op, Unary}, Error, Shape\n};";
    assert_eq!(imported(text), ["graph", "op", "Error", "Shape"]);
    let exported = re_exported("pub use error::{Error, Result};\npub use shape::Shape;");
    assert_eq!(exported.get("Result"), Some(&"error"));
    assert_eq!(exported.get("Shape"), Some(&"shape"));
}

#[test]
fn rooms_import_downwards() {
    let (floors, sources) = (floors(), sources());
    let root = read("src/lib.rs");
    let exported = re_exported(&root);
    let mut broken = Vec::new();
    for source in &sources {
        let Some(own) = room(source) else { continue };
        let Some(floor) = floors.get(own) else {
            broken.push(format!("{}: ARCHITECTURE.md has no room {own}", source.path));
            continue;
        };
        if source.path.contains("/tests") {
            continue;
        }
        let code: Vec<&str> = source.code().map(|(_, line)| line).collect();
        for name in imported(&code.join("\n")) {
            let theirs = exported.get(name).copied().unwrap_or(name);
            if theirs != own && floors.get(theirs).is_none_or(|theirs| theirs > floor) {
                broken.push(format!("{}: {own} imports {name}", source.path));
            }
        }
    }
    demand("a room imports from its own floor and those below", broken);
}
