// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files in the folders of classes, in the order of their names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// What a folder of folders holds.
pub(super) struct Listing {
    pub(super) classes: Vec<String>,
    pub(super) files: Vec<Listed>,
    /// Files that are no pictures by their names.
    pub(super) others: Vec<Error>,
}

/// A picture and its class.
#[derive(Clone)]
pub(super) struct Listed {
    pub(super) path: PathBuf,
    pub(super) class: i32,
}

/// How the names of pictures end.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];
/// A picture's folder lies at most so deep in that of its class.
const DEEPEST: usize = 32;

/// Lists the pictures of each class, of these classes or of all that there are.
pub(super) fn of(dir: &Path, classes: Option<&[String]>) -> Result<Listing> {
    let mut folders = Vec::new();
    for path in sorted(dir)? {
        if path.is_dir() {
            folders.push((name(&path)?, path));
        }
    }
    if folders.is_empty() {
        return Err(nothing(dir, "there is no folder of a class in it"));
    }
    let known = match classes {
        Some(classes) => classes.to_vec(),
        None => folders.iter().map(|(name, _)| name.clone()).collect(),
    };
    let mut listing = Listing { classes: known, files: vec![], others: vec![] };
    let mut errors = Vec::new();
    for (name, path) in folders {
        match listing.classes.iter().position(|class| *class == name) {
            Some(class) => {
                let before = listing.files.len();
                listing.add(&path, i32::try_from(class).unwrap_or(i32::MAX), 0)?;
                if listing.files.len() == before {
                    let endings = ENDINGS.map(|ending| format!(".{ending}")).join(", ");
                    errors.push(nothing(&path, &format!("no name in it ends in one of {endings}")));
                }
            }
            None => {
                let reason = format!("no class is called so, of {}", listing.classes.join(", "));
                errors.push(nothing(&path, &reason));
            }
        }
    }
    Error::check(errors)?;
    Ok(listing)
}

impl Listing {
    fn add(&mut self, folder: &Path, class: i32, depth: usize) -> Result<()> {
        for path in sorted(folder)? {
            // A link to a folder may lead in a circle: it counts as a file.
            let kind = fs::symlink_metadata(&path).map_err(Error::io("read", &path))?;
            if kind.is_dir() && depth < DEEPEST {
                self.add(&path, class, depth + 1)?;
            } else if is_picture(&path) {
                self.files.push(Listed { path, class });
            } else {
                self.others.push(Error::Data {
                    expected: format!("a name that ends in one of {}", ENDINGS.join(", ")),
                    got: path.extension().map_or("none".into(), |it| it.to_string_lossy().into()),
                    path,
                    offset: 0,
                });
            }
        }
        Ok(())
    }
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// Paths in a folder but those that begin with a dot, which systems put there.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn name(folder: &Path) -> Result<String> {
    let name = folder.file_name().and_then(|name| name.to_str());
    name.map(String::from).ok_or_else(|| nothing(folder, "its name is not UTF-8"))
}

fn nothing(folder: &Path, reason: &str) -> Error {
    Error::io("find images in", folder)(io::Error::new(io::ErrorKind::NotFound, reason))
}
