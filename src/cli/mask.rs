// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln mask`: any mask of any pass, without running anything.

use std::path::Path;

use kiln::checkpoint::{self, write_atomically};
use kiln::{Device, Error, Result, Tensor};
use serde_json::json;

use super::args::MaskArgs;
use super::data::TextClasses;
use super::network;
use super::output::Output;
use super::session::Notes;
use super::settings::{NetSettings, Settings};

/// Samples in a batch, unless a run says otherwise.
const BATCH: usize = 64;

pub(super) fn run(args: &MaskArgs, output: &mut Output) -> Result<()> {
    let (settings, sizes, dropout, seed, batch) = match &args.checkpoint {
        Some(directory) => {
            let notes = Notes::of(directory, checkpoint::progress(directory)?)?;
            let Settings { net, seed, step, dropout, data, .. } = notes.settings;
            let sizes = notes.texts.as_ref().map_or(data.sizes(), TextClasses::sizes);
            (net, sizes, dropout, seed, step.batch.get())
        }
        None => {
            let net = NetSettings::new(&args.net)?;
            (net, net.usual_sizes()?, None, 0, BATCH)
        }
    };
    let seed = args.seed.unwrap_or(seed);
    let batch = args.batch.map_or(batch, usize::from);
    let net = network::net_within(|net| net, settings, sizes, Device::cpu(), seed, dropout)?;
    let masks = net.mask(&args.layer, args.pass, &settings.batch_of(batch, sizes))?;
    let Some(mask) = masks.get(args.call) else {
        let expected = format!("a number below {}", masks.len());
        return Err(Error::argument("call", expected, args.call));
    };
    if let Some(file) = &args.out {
        write(mask, file)?;
    }
    let kept = mask.values()?.iter().filter(|kept| **kept != 0.0).count();
    let elements = mask.shape().elements();
    output.result(&format!(
        "{} pass {} seed {seed}: kept {kept} of {elements} elements of {}",
        args.layer,
        args.pass,
        mask.shape(),
    ))?;
    output.json(&json!({
        "layer": args.layer,
        "call": args.call,
        "calls": masks.len(),
        "pass": args.pass,
        "seed": seed,
        "shape": mask.shape().dims(),
        "kept": kept,
        "elements": elements,
        "out": args.out.as_ref().map(|file| file.display().to_string()),
    }))
}

fn write(mask: &Tensor, file: &Path) -> Result<()> {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let bytes = match ending {
        "npy" => npy(mask)?,
        "png" => png(mask)?,
        _ => {
            let expected = "a file that ends with .npy or .png";
            return Err(Error::argument("out", expected, file.display()));
        }
    };
    write_atomically(file, &bytes)
}

/// NumPy's format, version 1.0: a header in Python's words, and the elements as bytes, 1 for kept.
fn npy(mask: &Tensor) -> Result<Vec<u8>> {
    let extents: String = mask.shape().dims().iter().map(|extent| format!("{extent}, ")).collect();
    let dictionary = format!("{{'descr': '|b1', 'fortran_order': False, 'shape': ({extents}), }}");
    // Everything before the elements fills blocks of 64 bytes.
    let length = (10 + dictionary.len() + 1).next_multiple_of(64) - 10;
    let length_bytes = u16::try_from(length)
        .map_err(|_| Error::argument("out", "a shape that a header of .npy holds", mask.shape()))?;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(length_bytes.to_le_bytes());
    bytes.extend(format!("{dictionary:<width$}\n", width = length - 1).bytes());
    bytes.extend(mask.values()?.iter().map(|kept| u8::from(*kept != 0.0)));
    Ok(bytes)
}

/// A picture with a row per sample: white for kept, black for dropped.
fn png(mask: &Tensor) -> Result<Vec<u8>> {
    let (height, width) = (mask.shape().samples(), mask.shape().sample_elements());
    let too_large = || Error::argument("out", "a mask that fits a picture", mask.shape());
    let side = |extent: usize| u32::try_from(extent).ok().filter(|side| *side > 0);
    let (rows, columns) = (side(height).ok_or_else(too_large)?, side(width).ok_or_else(too_large)?);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, columns, rows);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let failed =
        |error: png::EncodingError| Error::Internal { pass: "png", message: error.to_string() };
    let pixels: Vec<u8> =
        mask.values()?.iter().map(|kept| if *kept == 0.0 { 0 } else { 255 }).collect();
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}
