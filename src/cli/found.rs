// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a checkpoint holds for commands that do not train.

use std::path::{Path, PathBuf};

use kiln::checkpoint::{self, MODEL_FILE, TRAINING_FILE};
use kiln::data::Position;
use kiln::Result;

use super::session::Notes;

/// Weights and what is known of them.
pub(super) struct Found {
    /// The file with the weights.
    pub(super) weights: PathBuf,
    /// Where in the data they were taken, if the file says so.
    pub(super) position: Option<Position>,
    /// What the run that they belong to noted, if it is known.
    pub(super) notes: Option<Notes>,
}

/// Of a run directory, the training file counts: a run that was killed between replacing its two
/// files has an older file of weights, which says nothing of it.
pub(super) fn find(path: &Path) -> Result<Found> {
    let training = path.join(TRAINING_FILE);
    if training.is_file() {
        let progress = checkpoint::progress(path)?;
        let position = Some(progress.position);
        let notes = Some(Notes::of(path, progress)?);
        return Ok(Found { weights: training, position, notes });
    }
    let weights = match path.is_dir() {
        true => path.join(MODEL_FILE),
        false => path.into(),
    };
    let position = checkpoint::position(&weights)?;
    Ok(Found { weights, position, notes: None })
}
