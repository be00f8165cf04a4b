// SPDX-License-Identifier: MIT OR Apache-2.0
//! Japanese Vowels: frames of speech in text files, to tell speakers apart.

use std::path::Path;

use super::text::{self, Line};
use super::{Dataset, Field, Fields, Pass, Sample};
use crate::{Error, Result};

/// Nine men who say the vowels /ae/, as sequences of 7 to 29 frames of twelve features (LPC cepstrum coefficients): the
/// data set Japanese Vowels of UCI's repository (Kudo, Toyama & Shimbo 1999), which is read from its files. A sample
/// is its frames, whose number varies, that number, and the speaker.
///
/// ```
/// use kiln::data::{Dataset, Vowels};
///
/// # let folder = std::env::temp_dir().join(format!("kiln-vowels-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// let frame = "0.5 ".repeat(12);
/// // An utterance of two frames from each speaker.
/// std::fs::write(folder.join("ae.train"), format!("{frame}\n{frame}\n\n").repeat(9)).unwrap();
/// std::fs::write(folder.join("size_ae.train"), "1 1 1 1 1 1 1 1 1\n").unwrap();
/// let vowels = Vowels::train(&folder)?;
/// assert_eq!((vowels.len(), vowels.classes()), (9, 9));
/// assert_eq!(vowels.frames(3).map(<[f32]>::len), Some(2 * 12));
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Vowels {
    /// Features of all frames, one utterance behind the other.
    features: Vec<f32>,
    /// Where each utterance ends in them.
    ends: Vec<usize>,
    speakers: Vec<i32>,
    /// Frames of the longest.
    longest: usize,
}

/// Lengths that batches are padded to, at most: a network has a plan for each.
const LENGTHS: usize = 8;

impl Vowels {
    /// Features of a frame.
    pub const FEATURES: usize = 12;

    /// Speakers to tell apart.
    pub const SPEAKERS: usize = 9;

    /// Reads the 270 utterances to train on: `ae.train` in a folder, and `size_ae.train`, which says how many are
    /// each speaker's.
    ///
    /// # Errors
    /// [`Error::Data`], which names the line, where a frame has not twelve numbers, and where there are not as
    /// many utterances, apart by empty lines, as the sizes say; [`Error::Io`] if a file cannot be read.
    pub fn train(folder: &Path) -> Result<Self> {
        Self::read(&folder.join("ae.train"), &folder.join("size_ae.train"))
    }

    /// Reads the 370 utterances to test with: `ae.test` and `size_ae.test`.
    ///
    /// # Errors
    /// As [`train`](Vowels::train).
    pub fn test(folder: &Path) -> Result<Self> {
        Self::read(&folder.join("ae.test"), &folder.join("size_ae.test"))
    }

    /// The features of an utterance, frame by frame; `None` past the end.
    pub fn frames(&self, index: usize) -> Option<&[f32]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.features[start..end])
    }

    fn read(frames: &Path, sizes: &Path) -> Result<Self> {
        let spoken = sizes_in(sizes, &text::bytes(sizes, "a file of sizes")?)?;
        let bytes = text::bytes(frames, "a file of frames")?;
        let mut read = Vowels { features: vec![], ends: vec![], speakers: vec![], longest: 1 };
        let (mut last, mut is_inside) = (None, false);
        for line in text::lines(&bytes) {
            let numbers = line.text(frames)?;
            match (numbers.trim().is_empty(), is_inside) {
                (true, _) => is_inside = false,
                (false, true) => read.add(&line, numbers, frames)?,
                (false, false) => {
                    let number = read.ends.len();
                    let Some(speaker) = spoken.iter().position(|end| number < *end) else {
                        let expected = told(&spoken, sizes);
                        return Err(line.wrong(frames, &expected, "the beginning of one more"));
                    };
                    is_inside = true;
                    read.ends.push(read.features.len());
                    read.speakers.push(speaker as i32);
                    read.add(&line, numbers, frames)?;
                }
            }
            last = Some(line);
        }
        match last {
            _ if Some(&read.ends.len()) == spoken.last() => Ok(read),
            Some(line) => {
                let got = format!("the end of the file behind {}", read.ends.len());
                Err(line.wrong(frames, &told(&spoken, sizes), got))
            }
            None => Err(Error::Data {
                path: frames.into(),
                offset: 0,
                expected: told(&spoken, sizes),
                got: "an empty file".into(),
            }),
        }
    }

    /// Adds a frame to the last utterance.
    fn add(&mut self, line: &Line<'_>, numbers: &str, path: &Path) -> Result<()> {
        let before = self.features.len();
        for word in numbers.split_whitespace() {
            match word.parse::<f32>() {
                Ok(feature) if feature.is_finite() => self.features.push(feature),
                _ => return Err(line.wrong(path, "numbers", format!("{word:?}"))),
            }
        }
        let got = self.features.len() - before;
        if got != Self::FEATURES {
            return Err(line.wrong(path, &format!("{} features", Self::FEATURES), got));
        }
        if let Some(end) = self.ends.last_mut() {
            *end = self.features.len();
        }
        let utterance = self.ends.len() - 1;
        self.longest = self.longest.max(self.length(utterance));
        Ok(())
    }
}

impl Dataset for Vowels {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn fields(&self) -> Fields {
        let frames = Field::f32([self.longest, Self::FEATURES]);
        let frames = frames.in_steps_of(self.longest.div_ceil(LENGTHS));
        Fields::of(frames).input(Field::length_of(0)).target(Field::class(Self::SPEAKERS))
    }

    fn read(&self, index: usize, _: Pass, sample: &mut Sample<'_>) -> Result<()> {
        let expected = || Error::argument("index", format!("below {}", self.len()), index);
        sample.input(0).write_f32(self.frames(index).ok_or_else(expected)?)?;
        sample.set_label(self.speakers[index])
    }

    fn length(&self, index: usize) -> usize {
        self.frames(index).map_or(0, <[f32]>::len) / Self::FEATURES
    }
}

/// How many utterances there are up to the last of each speaker.
fn sizes_in(path: &Path, bytes: &[u8]) -> Result<Vec<usize>> {
    let mut ends: Vec<usize> = Vec::new();
    let mut last = None;
    for line in text::lines(bytes) {
        for word in line.text(path)?.split_whitespace() {
            let Some(size) = word.parse::<u32>().ok().filter(|size| *size > 0) else {
                let expected = "how many utterances a speaker has";
                return Err(line.wrong(path, expected, format!("{word:?}")));
            };
            if ends.len() == Vowels::SPEAKERS {
                return Err(line.wrong(
                    path,
                    &speakers_expected(),
                    format!("{word:?} behind them"),
                ));
            }
            ends.push(ends.last().unwrap_or(&0) + size as usize);
        }
        last = Some(line);
    }
    match last {
        _ if ends.len() == Vowels::SPEAKERS => Ok(ends),
        Some(line) => {
            let got = format!("those of {}", ends.len());
            Err(line.wrong(path, &speakers_expected(), got))
        }
        None => Err(Error::Data {
            path: path.into(),
            offset: 0,
            expected: speakers_expected(),
            got: "an empty file".into(),
        }),
    }
}

fn speakers_expected() -> String {
    format!("the sizes of {} speakers", Vowels::SPEAKERS)
}

/// What the sizes say of the utterances.
fn told(spoken: &[usize], sizes: &Path) -> String {
    let count = spoken.last().unwrap_or(&0);
    let name = sizes.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("{count} utterances (as {name} has it)")
}
