// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run's results depend on, beyond its tensors and counters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::resume::DROPOUT_RATE;
use crate::data::{Batch, Dataset, Fields, Loader, Pass};
use crate::graph::{Graph, Node, NodeId, LOSS};
use crate::loss::Noted;
use crate::nn::Module;
use crate::op::Op;
use crate::trainer::BatchTypes;
use crate::values::{Flat, Values};
use crate::{Convolutions, LossScale, Result, Tensor, Trainer};

/// What the results of a run depend on, as named entries of text, to be compared entry by entry.
///
/// [`save`](super::save) records what it can ask the trainer for. Data and loader are the caller's
/// to add, in [`Progress::recipe`](super::Progress::recipe). The device and the number of threads are
/// no part of it: a run may go on elsewhere.
///
/// ```
/// use kiln::checkpoint::Recipe;
///
/// let saved = Recipe::new().with("batch size", 64).with("augmentation", "flip");
/// let now = Recipe::new().with("batch size", 32).with("augmentation", "flip");
/// assert_eq!(now.differences(&saved), ["batch size: expected 32, got 64"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Recipe {
    entries: BTreeMap<String, String>,
}

/// Elements of a loss's input that are written out; more are told apart by their hash.
const SHOWN_ELEMENTS: usize = 16;

impl Recipe {
    /// A recipe without entries.
    pub fn new() -> Self {
        Recipe::default()
    }

    /// The same with an entry added or replaced.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.entries.insert(name.into(), value.to_string());
        self
    }

    /// The same with what decides which batches come: `data` (its [`content_hash`]), `samples`,
    /// `batch size`, `shuffle`, `last batch` and, if it is not 0, `data seed`.
    ///
    /// # Errors
    /// What reading the samples reports.
    pub fn with_loader(self, loader: &Loader) -> Result<Self> {
        let (data, config) = (loader.dataset(), loader.config());
        let recipe = match config.seed {
            0 => self,
            seed => self.with("data seed", seed),
        };
        Ok(recipe
            .with("data", content_hash(&**data)?)
            .with("samples", data.len())
            .with("batch size", config.batch_size)
            .with("shuffle", format!("{:?}", config.shuffle))
            .with("last batch", format!("{:?}", config.last_batch)))
    }

    /// An entry.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(String::as_str)
    }

    /// All entries, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// One line per entry that differs from `saved` or that only one of them has, in the order of
    /// the names.
    pub fn differences(&self, saved: &Recipe) -> Vec<String> {
        let shown = |value: Option<&str>| value.unwrap_or("none").to_string();
        let names: std::collections::BTreeSet<&String> =
            self.entries.keys().chain(saved.entries.keys()).collect();
        let differing = names.into_iter().filter(|name| self.get(name) != saved.get(name));
        differing
            .map(|name| {
                let (expected, got) = (shown(self.get(name)), shown(saved.get(name)));
                format!("{name}: expected {expected}, got {got}")
            })
            .collect()
    }

    /// The entries whose names pass.
    pub(super) fn filtered(&self, passes: impl Fn(&str) -> bool) -> Self {
        let kept = self.entries.iter().filter(|(name, _)| passes(name));
        Recipe { entries: kept.map(|(name, value)| (name.clone(), value.clone())).collect() }
    }

    /// What the next step of a trainer depends on: loss, optimiser, groups, averages, schedules,
    /// clipping, the division of batches, the precision, and the operations of each layer for a batch of these types.
    pub(super) fn of_trainer<M, I: Values, O: Values, T: Values>(
        trainer: &mut Trainer<M, I, O, T>,
        batch: Option<&BatchTypes<I, T>>,
    ) -> Result<Self>
    where
        M: Module<I, O>,
    {
        let (loss, optimizer) = (trainer.loss(), trainer.optimizer());
        let inputs = loss.inputs();
        let (key, noted) = (loss.key(), loss.noted());
        let mut recipe = Recipe::new()
            .with(
                "loss inputs",
                inputs.iter().map(contents).collect::<Result<Vec<_>>>()?.join(", "),
            )
            .with("optimizer", format!("{:?}", optimizer.rule))
            .with("learning rate", format!("{:?}", optimizer.rate))
            .with("schedule", format!("{:?}", trainer.schedule()))
            .with("clipping", format!("{:?}", trainer.max_norm()))
            .with("micro-batches", trainer.micro_batches());
        if let Some(average) = trainer.average() {
            recipe = recipe.with("average", format!("{average:?}"));
        }
        for (name, training) in trainer.tuning().described(optimizer.rule.weight_decay()) {
            recipe = recipe.with(format!("parameter {name}"), training);
        }
        if trainer.loss_scale() != LossScale::Off {
            recipe = recipe.with("loss scale", format!("{:?}", trainer.loss_scale()));
        }
        let net = trainer.net();
        recipe = recipe.with("precision", net.device().precision());
        // Without an entry they are as they are by default.
        let convolutions = net.device().convolutions();
        if convolutions != Convolutions::default() {
            recipe = recipe.with("convolutions", format!("{convolutions:?}").to_lowercase());
        }
        for (layer, schedule) in net.rates().described() {
            recipe = recipe.with(format!("{DROPOUT_RATE} {layer}"), schedule);
        }
        if let Some(batch) = batch {
            let given = Flat::of::<I>(batch.inputs.clone());
            let graph = net.traced::<I, O, T>(None, &given)?;
            recipe.entries.extend(layers(&graph));
        }
        match (noted, batch) {
            (Noted::Key, _) => recipe = recipe.with(LOSS_ENTRY, key),
            (Noted::Operations, Some(BatchTypes { inputs, targets: Some(targets) })) => {
                let mut given = Flat::of::<I>(inputs.clone());
                let of_targets = Flat::of::<T>(targets.clone());
                given.leaves.extend(of_targets.leaves);
                given.lists.extend(of_targets.lists);
                let graph = trainer.traced_loss(given)?;
                recipe.entries.extend(layers(&graph).remove_entry(LOSS_ENTRY));
            }
            (Noted::Operations, _) => {}
        }
        Ok(recipe)
    }
}

/// A hash over the number, fields and elements of all samples, which are read in order: 32
/// hexadecimal digits of SHA-256. Data sets that give equal samples have equal hashes, however they
/// are stored. Where samples depend on the [`Pass`], it is over those of the first.
///
/// # Errors
/// What reading a sample reports.
///
/// ```
/// use kiln::checkpoint::content_hash;
/// use kiln::data::MemoryDataset;
///
/// let set = |labels| MemoryDataset::new(vec![0.5, 1.5], &[1], labels, 2);
/// assert_eq!(content_hash(&set(vec![0, 1])?)?, content_hash(&set(vec![0, 1])?)?);
/// assert_ne!(content_hash(&set(vec![0, 1])?)?, content_hash(&set(vec![1, 0])?)?);
/// # Ok::<(), kiln::Error>(())
/// ```
pub fn content_hash(dataset: &dyn Dataset) -> Result<String> {
    let mut hash = Sha256::new();
    let fields = dataset.fields();
    fields.check()?;
    hash.update(head(dataset.len(), &fields));
    for batch in Batch::read_in_turn(dataset, Pass::default()) {
        let batch = batch?;
        let samples = batch.samples();
        let tensors = || batch.inputs.iter().chain(&batch.targets);
        let bytes: Vec<Vec<u8>> = tensors().map(little_endian).collect::<Result<_>>()?;
        for (tensor, field) in tensors().zip(fields.all()) {
            // How far samples are padded; where lengths matter, they are a field.
            if field.varying.is_some() {
                hash.update((tensor.shape().dims()[1] as u64).to_le_bytes());
            }
        }
        for sample in 0..samples {
            for bytes in &bytes {
                let each = bytes.len() / samples;
                hash.update(&bytes[sample * each..][..each]);
            }
        }
    }
    Ok(shortened(hash))
}

/// What a hash says of a data set before its samples.
fn head(len: usize, fields: &Fields) -> Vec<u8> {
    let mut numbers = vec![len];
    match fields.as_labelled() {
        Some((shape, classes)) => {
            numbers.extend([classes, shape.len()]);
            numbers.extend(shape);
        }
        None => {
            let described = format!("{fields:?}");
            let text = described.as_bytes().iter().map(|byte| usize::from(*byte));
            numbers.push(usize::MAX);
            numbers.extend(text);
        }
    }
    numbers.iter().flat_map(|number| (*number as u64).to_le_bytes()).collect()
}

fn little_endian(tensor: &Tensor) -> Result<Vec<u8>> {
    match tensor.integers() {
        Ok(values) => Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Err(_) => Ok(tensor.values()?.iter().flat_map(|value| value.to_le_bytes()).collect()),
    }
}

fn shortened(hash: Sha256) -> String {
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tensor's type and elements, or their hash.
fn contents(tensor: &Tensor) -> Result<String> {
    let integers = |values: &[i32]| values.iter().map(|v| v.to_string()).collect::<Vec<_>>();
    let elements = match tensor.integers() {
        Ok(values) => integers(values),
        Err(_) => tensor.values()?.iter().map(|value| format!("{value:?}")).collect(),
    };
    let listed = elements.join(", ");
    match elements.len() > SHOWN_ELEMENTS {
        true => Ok(format!("{} {}", tensor.ty(), shortened(Sha256::new_with_prefix(listed)))),
        false => Ok(format!("{} [{listed}]", tensor.ty())),
    }
}

/// An entry per layer, with its operations in order, and one for those outside any layer. Inputs are
/// named by the layer that yields them and their number in it, so that together the entries say how
/// everything hangs together, and a change in one layer leaves those of most others alone.
///
/// The operations of a loss are an entry of their own.
fn layers(graph: &Graph) -> BTreeMap<String, String> {
    let mut layers: BTreeMap<String, (String, usize)> = BTreeMap::new();
    let mut places: Vec<(&str, usize)> = Vec::new();
    for (id, node) in graph.nodes() {
        let layer = graph.layer(id);
        let path = if layer.kind == LOSS { LOSS_PATH } else { &layer.path };
        let empty = || (layer.kind.to_string(), 0);
        let (text, count) = layers.entry(entry_of(path)).or_insert_with(empty);
        let place = |input: &NodeId| place(places[input.index()], path);
        text.push(' ');
        text.push_str(&operation(graph, node));
        if !node.inputs.is_empty() {
            let inputs: Vec<String> = node.inputs.iter().map(place).collect();
            text.push_str(&format!("({})", inputs.join(", ")));
        }
        places.push((path, *count));
        *count += 1;
    }
    let returned = graph.outputs().iter().map(|output| place(places[output.index()], ""));
    let returned: Vec<String> = returned.collect();
    if let Some((text, _)) = layers.get_mut(LOSS_ENTRY) {
        text.push_str(&format!(" return {}", returned.first().map_or("nothing", String::as_str)));
    }
    let (text, _) = layers.entry(entry_of("")).or_default();
    text.push_str(&format!(" return {}", returned.join(", ")));
    layers.into_iter().map(|(name, (text, _))| (name, text)).collect()
}

/// The entry of a recipe for the loss.
const LOSS_ENTRY: &str = "loss";

/// What stands for the path of a loss, which has none.
const LOSS_PATH: &str = "(loss)";

fn entry_of(path: &str) -> String {
    match path {
        "" => "network".into(),
        LOSS_PATH => LOSS_ENTRY.into(),
        path => format!("layer {path}"),
    }
}

/// Where a value comes from, as seen from a layer.
fn place((path, number): (&str, usize), from: &str) -> String {
    match path {
        path if path == from => format!("#{number}"),
        "" => format!("network#{number}"),
        path => format!("{path}#{number}"),
    }
}

fn operation(graph: &Graph, node: &Node) -> String {
    match &node.op {
        Op::Parameter(parameter) => graph.parameters()[parameter.index()].name.clone(),
        Op::Dropout(dropout) => dropout.to_string(),
        op => format!("{op:?}"),
    }
}
