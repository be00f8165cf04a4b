// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding the four files of a collection under the names and in the folders that they come in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::collection::{Collection, Mnist};
use super::image_set::{both, load};
use super::{Amount, ImageSet};
use crate::{Error, Result};

/// The files of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Those to train on.
    pub train: Pair,
    /// Those to test with.
    pub test: Pair,
}

/// An images file and its labels file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The images.
    pub images: PathBuf,
    /// Their labels.
    pub labels: PathBuf,
    /// Labels are `0..classes`.
    pub classes: usize,
}

impl Files {
    /// Reads all four.
    ///
    /// # Errors
    /// Those of [`load_pair`](super::load_pair).
    pub fn load(&self) -> Result<Mnist> {
        Ok(Mnist { train: self.train.load(Amount::All)?, test: self.test.load(Amount::All)? })
    }
}

impl Pair {
    /// Reads both, or as much of them as is wanted.
    ///
    /// # Errors
    /// Those of [`load_pair`](super::load_pair); [`Error::Argument`] if there are fewer images than
    /// are wanted.
    pub fn load(&self, amount: Amount) -> Result<ImageSet> {
        load([&self.images, &self.labels], self.classes, amount)
    }
}

/// Looks for a collection in a folder.
pub(super) fn find(collection: Collection, dir: &Path) -> Result<Files> {
    let listings: Vec<Listing> = places(collection, dir)
        .iter()
        .map(|at| Listing::of(at, collection))
        .collect::<Result<_>>()?;
    // The first of those with the most files.
    let fullest = listings.iter().map(Listing::count).max().unwrap_or(0);
    let listing = listings.into_iter().find(|listing| listing.count() == fullest);
    let listing = listing.unwrap_or_default();
    let pair = |part| {
        let file = |kind| listing.file(part, kind, collection, dir);
        let (images, labels) = both(file(Kind::Images), file(Kind::Labels))?;
        Ok(Pair { images, labels, classes: collection.classes() })
    };
    let (train, test) = both(pair(Part::Train), pair(Part::Test))?;
    Ok(Files { train, test })
}

/// Folders to look in: those under the collection's own name come first, since a folder may hold
/// several collections side by side.
fn places(collection: Collection, dir: &Path) -> Vec<PathBuf> {
    let own = child(dir, collection.folder());
    let mut places: Vec<PathBuf> = own.iter().filter_map(|own| child(own, RAW)).collect();
    places.extend(own);
    places.push(dir.into());
    places.extend(child(dir, RAW));
    places
}

/// Where torchvision keeps what it downloaded.
const RAW: &str = "raw";

/// A folder's child folder of this name, in upper or lower case.
fn child(dir: &Path, name: &str) -> Option<PathBuf> {
    let exact = dir.join(name);
    if exact.is_dir() {
        return Some(exact);
    }
    let entries = fs::read_dir(dir).ok()?.filter_map(std::result::Result::ok);
    let mut alike: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().eq_ignore_ascii_case(name))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    alike.sort();
    alike.into_iter().next()
}

/// What a folder holds of a collection.
#[derive(Debug, Default)]
struct Listing {
    found: Vec<Found>,
}

/// A file that may be one of the four. Of several, the first in this order is taken: plain ones
/// before gzip, files before those in a folder of their own.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    part: Part,
    kind: Kind,
    packing: Packing,
    lies: Lies,
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Train,
    Test,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Packing {
    Plain,
    Gzip,
}

/// Where a file was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lies {
    BesideTheOthers,
    InAFolderOfItsName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Images,
    Labels,
}

impl Listing {
    /// An empty one if there is no such folder.
    fn of(dir: &Path, collection: Collection) -> Result<Self> {
        let mut found = Vec::new();
        for path in entries(dir)? {
            let Some((prefix, mut file)) = Found::named(&path) else { continue };
            if !collection.goes_by(&prefix) {
                continue;
            }
            if path.is_dir() {
                let Some((inner, packing)) = unpacked_folder(&path, &file)? else { continue };
                file = Found { path: inner, packing, lies: Lies::InAFolderOfItsName, ..file };
            }
            found.push(file);
        }
        found.sort();
        Ok(Listing { found })
    }

    /// How many of the four there are.
    fn count(&self) -> usize {
        let mut kinds: Vec<_> = self.found.iter().map(|file| (file.part, file.kind)).collect();
        kinds.dedup(); // they are sorted
        kinds.len()
    }

    fn file(&self, part: Part, kind: Kind, collection: Collection, dir: &Path) -> Result<PathBuf> {
        let found = self.found.iter().find(|file| (file.part, file.kind) == (part, kind));
        found.map(|file| file.path.clone()).ok_or_else(|| {
            let (hyphen, dot) = (kind.name('-'), kind.name('.'));
            let name = collection.name_of(part);
            let names = [&hyphen, &dot].map(|kind| format!("{name}-{kind}, {name}-{kind}.gz"));
            let [own, raw] = [collection.folder(), RAW];
            let reason = format!("none of {} is there or in {own}/{raw}", names.join(", "));
            let missing = io::Error::new(io::ErrorKind::NotFound, reason);
            Error::io("find", dir.join(format!("{name}-{hyphen}")))(missing)
        })
    }
}

impl Kind {
    fn name(self, separator: char) -> String {
        match self {
            Kind::Images => format!("images{separator}idx3-ubyte"),
            Kind::Labels => format!("labels{separator}idx1-ubyte"),
        }
    }
}

impl Found {
    /// What a path's name says, and what stands before the part: `emnist-letters` of
    /// `EMNIST-letters-test-images.idx3-ubyte.gz`.
    fn named(path: &Path) -> Option<(String, Self)> {
        let name = path.file_name()?.to_str()?.to_lowercase().replace(['.', '_', ' '], "-");
        let (name, packing) = match name.strip_suffix("-gz") {
            Some(name) => (name, Packing::Gzip),
            None => (name.as_str(), Packing::Plain),
        };
        let kinds = [Kind::Images, Kind::Labels].into_iter();
        let (rest, kind) = kinds
            .filter_map(|kind| Some((name.strip_suffix(kind.name('-').as_str())?, kind)))
            .next()?;
        let parts = [("train-", Part::Train), ("t10k-", Part::Test), ("test-", Part::Test)];
        let (prefix, part) =
            parts.iter().find_map(|(part, meant)| Some((rest.strip_suffix(part)?, *meant)))?;
        let prefix = prefix.replace('-', "");
        Some((
            prefix,
            Found { part, kind, packing, lies: Lies::BesideTheOthers, path: path.into() },
        ))
    }
}

/// Some archives unpack each file into a folder of its name: the file in it.
fn unpacked_folder(folder: &Path, wanted: &Found) -> Result<Option<(PathBuf, Packing)>> {
    let files: Vec<PathBuf> = entries(folder)?.into_iter().filter(|path| !path.is_dir()).collect();
    let same = files.iter().find_map(|path| {
        let (_, file) = Found::named(path)?;
        ((file.part, file.kind) == (wanted.part, wanted.kind)).then_some((file.path, file.packing))
    });
    Ok(same.or_else(|| match files.as_slice() {
        [only] => Some((only.clone(), wanted.packing)),
        _ => None,
    }))
}

/// Paths in a folder, sorted; none if there is no such folder.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", dir)(error)),
    };
    let mut paths = Vec::new();
    for entry in listed {
        paths.push(entry.map_err(Error::io("read", dir))?.path());
    }
    paths.sort();
    Ok(paths)
}
