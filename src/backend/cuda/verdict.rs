// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verdict of the self-test, remembered on disk for each device and each set of kernels.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::image::SOURCES;
use super::nvrtc::{cache_folder, fnv1a, nvrtc_version};
use super::system::System;
use super::{DeviceInfo, LoadedImage};
use crate::files::write_atomically;
use crate::{Error, Precision, Result};

/// What one comparison found.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What was compared, and the kernels that computed it.
    pub what: String,
    /// The largest difference from the CPU, relative to the largest element; infinite where masks
    /// differ.
    pub worst: f32,
    /// The largest difference that passes.
    pub tolerance: f32,
}

impl Check {
    /// Whether the device computes what the CPU does. NaN fails.
    pub fn passed(&self) -> bool {
        self.worst <= self.tolerance
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "ok" } else { "FAILED" };
        write!(
            f,
            "{:<60} worst {:>8.1e} of {:.0e}  {verdict}",
            self.what, self.worst, self.tolerance
        )
    }
}

/// What the self-test found on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The device's model.
    pub device: String,
    /// Hash of the kernels' sources.
    pub kernels: String,
    /// The form in which they were loaded.
    pub image: String,
    /// How matrix products were computed.
    pub precision: String,
    /// What compiled or loaded them: the driver's version and, where it had a part, NVRTC's.
    #[serde(default)]
    pub driver: String,
    /// Number of comparisons.
    pub checks: usize,
    /// The comparisons that failed, as printed.
    pub failed: Vec<String>,
}

impl Verdict {
    /// The verdict of comparisons made on a device.
    pub fn new(
        device: &DeviceInfo,
        image: LoadedImage,
        precision: Precision,
        checks: &[Check],
    ) -> Self {
        let failed = checks.iter().filter(|check| !check.passed());
        Verdict {
            device: device.model.clone(),
            kernels: kernel_hash(),
            image: image.to_string(),
            precision: format!("{precision:?}").to_lowercase(),
            driver: driver(device, image),
            checks: checks.len(),
            failed: failed.map(ToString::to_string).collect(),
        }
    }

    /// Whether every comparison passed, and there was one.
    pub fn passed(&self) -> bool {
        self.checks > 0 && self.failed.is_empty()
    }

    /// The user's folder of verdicts; `None` if the system has none.
    pub fn folder() -> Option<PathBuf> {
        Some(cache_folder()?.join("self-test"))
    }

    /// Writes the verdict to [`folder`](Verdict::folder), in place of an earlier one of the same
    /// device, kernels, image and precision. Returns the file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written; [`Error::Argument`] if the system has no such folder.
    pub fn remember(&self) -> Result<PathBuf> {
        let folder = Self::folder().ok_or_else(|| {
            let expected = format!("{} to be set", System::THIS.cache_variables());
            Error::argument("cache folder", expected, "neither")
        })?;
        self.remember_in(&folder)
    }

    /// As [`remember`](Verdict::remember), in a folder.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn remember_in(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::Internal { pass: "self-test", message: error.to_string() })?;
        let file = folder.join(self.file_name());
        write_atomically(&file, &text)?;
        Ok(file)
    }

    /// The verdict remembered of this device with the kernels of this program; `None` if it was
    /// never tested with them.
    ///
    /// # Errors
    /// [`Error::Io`] if a verdict is there and cannot be read.
    pub fn recall(
        device: &DeviceInfo,
        image: LoadedImage,
        precision: Precision,
    ) -> Result<Option<Self>> {
        match Self::folder() {
            Some(folder) => Self::recall_from(&folder, device, image, precision),
            None => Ok(None),
        }
    }

    /// As [`recall`](Verdict::recall), from a folder.
    ///
    /// # Errors
    /// [`Error::Io`] if a verdict is there and cannot be read.
    pub fn recall_from(
        folder: &Path,
        device: &DeviceInfo,
        image: LoadedImage,
        precision: Precision,
    ) -> Result<Option<Self>> {
        let sought = Verdict::new(device, image, precision, &[]);
        let file = folder.join(sought.file_name());
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", file)(error)),
        };
        // What another version wrote is no verdict on this one.
        let known: Option<Verdict> = serde_json::from_slice(&text).ok();
        Ok(known.filter(|known| known.key() == sought.key()))
    }

    fn key(&self) -> String {
        let parts = [&self.device, &self.kernels, &self.image, &self.precision, &self.driver];
        parts.map(String::as_str).join("\n")
    }

    fn file_name(&self) -> String {
        format!("{:016x}.json", fnv1a(self.key().as_bytes()))
    }
}

fn driver(device: &DeviceInfo, image: LoadedImage) -> String {
    let (major, minor) = device.driver;
    match (image, nvrtc_version()) {
        (LoadedImage::Nvrtc, Some((nvrtc, release))) => {
            format!("CUDA {major}.{minor}, NVRTC {nvrtc}.{release}")
        }
        _ => format!("CUDA {major}.{minor}"),
    }
}

/// Hash of the sources of all kernels: another one means other kernels.
pub fn kernel_hash() -> String {
    static HASH: OnceLock<String> = OnceLock::new();
    let hash = || {
        let texts: Vec<&str> = SOURCES.iter().map(|source| source.text).collect();
        format!("{:016x}", fnv1a(texts.concat().as_bytes()))
    };
    HASH.get_or_init(hash).clone()
}
