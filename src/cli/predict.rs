// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln predict`: the class of each line of a text.

use kiln::checkpoint;
use kiln::data::{Batch, Dataset, Pass, Texts};
use kiln::{Error, Result};
use serde_json::json;

use super::args::{Common, PredictArgs};
use super::data::TextClasses;
use super::found::{find, Found};
use super::lines::Lines;
use super::network::{self, AnyNet};
use super::output::Output;

/// Lines that are labelled together.
const BATCH: usize = 256;

pub(super) fn run(args: &PredictArgs, common: &Common, output: &mut Output) -> Result<()> {
    let mut device = network::device(common)?;
    let Found { weights, notes, .. } = find(&args.checkpoint)?;
    let Some(notes) = notes else {
        let expected = "the directory of a run, whose training file says what its network takes";
        return Err(Error::argument("checkpoint", expected, args.checkpoint.display()));
    };
    let settings = notes.settings;
    let Some(texts) = notes.texts else {
        let expected = "a network that takes texts, since files of single images are not read";
        let got = format!("{} on {}", settings.net.name().as_str(), settings.data.name());
        return Err(Error::argument("checkpoint", expected, got));
    };
    // As the run itself measures, unless something else is asked for.
    if let (None, Some(name)) = (common.precision, settings.precision) {
        device = device.with_precision(name.precision());
    }
    let mut net = network::net(settings.net, texts.sizes(), device, 0)?;
    checkpoint::load_weights(&mut net, &weights)?;
    let mut lines = Lines::open(args.file.as_deref())?;
    loop {
        let mut asked = Asked::new(&texts);
        let end = asked.fill(&mut lines);
        // What came before a bad line is answered.
        asked.answer(&mut net, &texts, output)?;
        if end? == End::OfLines {
            return Ok(());
        }
    }
}

/// Why no more lines are asked about together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There are no more.
    OfLines,
    OfBatch,
}

/// Lines to be labelled.
struct Asked {
    texts: Texts,
    /// The number of each line, the line and how many of its tokens are unknown.
    lines: Vec<(usize, String, usize)>,
}

impl Asked {
    fn new(known: &TextClasses) -> Self {
        Asked { texts: Texts::new(&known.vocabulary, 0), lines: vec![] }
    }

    fn fill(&mut self, lines: &mut Lines) -> Result<End> {
        while self.lines.len() < BATCH {
            let Some((number, line)) = lines.next()? else { return Ok(End::OfLines) };
            let before = self.texts.unknown();
            if self.texts.add(&line, None) == 0 {
                let unit = self.texts.vocabulary().unit().name();
                return Err(lines.wrong(&format!("a text of {unit}"), format!("{line:?}")));
            }
            self.lines.push((number, line, self.texts.unknown() - before));
        }
        Ok(End::OfBatch)
    }

    fn answer(self, net: &mut AnyNet, known: &TextClasses, output: &mut Output) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let all: Vec<usize> = (0..self.texts.len()).collect();
        let batch = Batch::read(&self.texts, &all, Pass::default())?;
        let scores = net.eval().forward(&batch.inputs)?;
        let rows = scores.values()?.chunks(known.labels.len());
        for ((number, line, unknown), scores) in self.lines.into_iter().zip(rows) {
            let (class, probability) = likeliest(scores)?;
            let label = &known.labels[class];
            output.result(&format!("{label}\t{probability:.4}"))?;
            output.json(&json!({
                "line": number,
                "text": line,
                "class": label,
                "probability": probability,
                "unknown_tokens": unknown,
            }))?;
        }
        Ok(())
    }
}

/// The class of the highest score and its share of the sum of all exponentials.
fn likeliest(scores: &[f32]) -> Result<(usize, f64)> {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if score.is_nan() {
            return Err(Error::argument("checkpoint", "a network that gives numbers", "NaN"));
        }
        if *score > scores[best] {
            best = class;
        }
    }
    let sum: f64 = scores.iter().map(|score| f64::from(score - scores[best]).exp()).sum();
    Ok((best, 1.0 / sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_score_tells_the_class() {
        assert_eq!(likeliest(&[1.0, 1.0]).unwrap(), (0, 0.5));
        let (class, probability) = likeliest(&[0.0, 3.0_f32.ln(), 0.0]).unwrap();
        assert!(class == 1 && (probability - 0.6).abs() < 1e-7, "{probability}");
        assert!(likeliest(&[0.0, f32::NAN]).is_err());
    }
}
