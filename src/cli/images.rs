// SPDX-License-Identifier: MIT OR Apache-2.0
//! Colour images in files, and random changes of images.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use kiln::data::cifar::Cifar;
use kiln::data::idx::Amount;
use kiln::data::{
    Augmentation, Augmented, BadPictures, Dataset, Emoji, ImageFolder, Mislabelled, Normalisation,
    Normalised, Pictures, Subset,
};
use kiln::{Error, Result};

use super::args::{AugmentName, BadImagesName};
use super::data::{Choice, Sets, SPLIT_SEED};

/// Colour images in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Images {
    Cifar10,
    Cifar100,
    Folder,
}

/// Side that pictures in folders are brought to.
const SIDE: usize = 32;
/// Of pictures that are in no training and test folder, the share to test with is one of so many.
const TEST_SHARE: usize = 5;
/// Folders of the pictures to test with, besides `train`.
const TEST_FOLDERS: [&str; 3] = ["test", "val", "valid"];

impl Images {
    pub(super) const ALL: [Images; 3] = [Images::Cifar10, Images::Cifar100, Images::Folder];

    pub(super) fn name(self) -> &'static str {
        match self {
            Images::Cifar10 => "cifar10",
            Images::Cifar100 => "cifar100",
            Images::Folder => "folder",
        }
    }

    /// Reads or lists the images, and of those to train on only what is wanted.
    pub(super) fn load(self, directory: &Path, choice: &Choice) -> Result<Sets> {
        match self {
            Images::Cifar10 => cifar(Cifar::Ten, directory, choice),
            Images::Cifar100 => cifar(Cifar::Hundred, directory, choice),
            Images::Folder => folder(directory, choice),
        }
    }
}

/// Emoji in one drawing style, and others in another to test with.
pub(super) fn emoji(choice: &Choice) -> Result<Sets> {
    drawn(Arc::new(Emoji::train()?), Arc::new(Emoji::test()?), choice)
}

fn cifar(which: Cifar, directory: &Path, choice: &Choice) -> Result<Sets> {
    let files = which.find(directory)?;
    let amount = choice.train_samples.map(|count| Amount::First(count.get()));
    let train = files.load_train(amount.unwrap_or(Amount::All))?;
    let train = train.with_label_noise(choice.label_noise, SPLIT_SEED)?;
    let test = files.load_test(Amount::All)?;
    let normalisation = Normalisation::new(&which.mean(), &which.std())?;
    changed(Arc::new(train), Arc::new(test), Some(&normalisation), &choice.augment)
}

/// Pictures in `train` and `test`, or a share of all of them to test with.
fn folder(directory: &Path, choice: &Choice) -> Result<Sets> {
    let pictures = Pictures { bad: choice.bad_images, ..Pictures::of(SIDE, SIDE) };
    let inside = directory.join("train");
    let (train, test): (Arc<dyn Dataset>, Arc<dyn Dataset>) = match inside.is_dir() {
        true => {
            let train = ImageFolder::open(&inside, pictures)?;
            let tests = TEST_FOLDERS.map(|name| directory.join(name));
            let test = tests.iter().find(|path| path.is_dir()).unwrap_or(&tests[0]);
            let test = ImageFolder::open_with(test, train.classes(), pictures)?;
            warn_of_skipped(&train);
            warn_of_skipped(&test);
            // Sorted by class, of which the first ones would be few.
            let count = train.len();
            let (train, _) = Subset::split(Arc::new(train), count, SPLIT_SEED)?;
            (Arc::new(train), Arc::new(test))
        }
        false => {
            let all = ImageFolder::open(directory, pictures)?;
            warn_of_skipped(&all);
            let count = all.len() - all.len().div_ceil(TEST_SHARE);
            let (train, test) = Subset::split(Arc::new(all), count, SPLIT_SEED)?;
            (Arc::new(train), Arc::new(test))
        }
    };
    drawn(train, test, choice)
}

/// Pictures of any kind, of those to train on only what is wanted.
fn drawn(train: Arc<dyn Dataset>, test: Arc<dyn Dataset>, choice: &Choice) -> Result<Sets> {
    let train = first(train, choice.train_samples)?;
    let train = Arc::new(Mislabelled::new(train, choice.label_noise, SPLIT_SEED)?);
    let normalisation = Normalisation::new(&[0.5; 3], &[0.25; 3])?;
    changed(train, test, Some(&normalisation), &choice.augment)
}

fn warn_of_skipped(folder: &ImageFolder) {
    for (_, reason) in folder.skipped() {
        tracing::warn!(%reason, "a picture is left out");
    }
}

fn first(set: Arc<dyn Dataset>, count: Option<NonZeroUsize>) -> Result<Arc<dyn Dataset>> {
    match count.map(NonZeroUsize::get) {
        None => Ok(set),
        Some(count) if count <= set.len() => Ok(Arc::new(Subset::new(set, (0..count).collect())?)),
        Some(count) => {
            Err(Error::argument("train-samples", format!("at most {}", set.len()), count))
        }
    }
}

/// The sets as networks see them: what is trained on with its random changes, what is measured
/// without.
pub(super) fn changed(
    train: Arc<dyn Dataset>,
    test: Arc<dyn Dataset>,
    normalisation: Option<&Normalisation>,
    names: &[AugmentName],
) -> Result<Sets> {
    let normalised = |set: Arc<dyn Dataset>| -> Result<Arc<dyn Dataset>> {
        Ok(match normalisation {
            Some(normalisation) => Arc::new(Normalised::new(set, normalisation.clone())?),
            None => set,
        })
    };
    let measured = normalised(Arc::clone(&train))?;
    let trained_on = match names {
        [] => Arc::clone(&measured),
        names => {
            let side = train.sample_shape().into_iter().skip(1).min().unwrap_or(0);
            let changes: Vec<Augmentation> = names.iter().map(|name| name.change(side)).collect();
            normalised(Arc::new(Augmented::new(train, changes)?))?
        }
    };
    let test = normalised(test)?;
    Ok(Sets { train: trained_on, measured, test, texts: None, unknown: None })
}

impl AugmentName {
    /// The change of an image of this side.
    fn change(self, side: usize) -> Augmentation {
        match self {
            AugmentName::Crop => Augmentation::Crop { padding: side / 8 },
            AugmentName::Flip => Augmentation::Flip { probability: 0.5 },
            AugmentName::Cutout => {
                Augmentation::Cutout { side: (side / 4).max(1), probability: 1.0 }
            }
        }
    }
}

impl BadImagesName {
    pub(super) fn what(self) -> BadPictures {
        match self {
            BadImagesName::Refuse => BadPictures::Refuse,
            BadImagesName::Skip => BadPictures::Skip,
        }
    }
}
