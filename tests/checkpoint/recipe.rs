// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that changes results is written down, and a run goes on with the same alone.

use std::sync::Arc;

use kiln::checkpoint::{content_hash, Recipe, Resume};
use kiln::data::{Array, Arrays, Loader, LoaderConfig, MemoryDataset, Shuffle};
use kiln::loss::Loss;
use kiln::nn::{Dropout, LeakyRelu, Linear, Module, Scope};
use kiln::optim::AdamW;
use kiln::{LossScale, Var};

use super::*;

/// Everything that a run can have otherwise.
#[derive(Clone, Copy)]
struct Run {
    rate: f32,
    slope: f32,
    early: bool,
    precision: Precision,
    scale: LossScale,
    smoothing: f32,
    weight: f32,
    optimizer: fn() -> Optimizer,
    schedule: fn() -> Schedule,
    clip: f64,
    parts: usize,
    pixel: f32,
    batch: usize,
    shuffle: u64,
}

const RUN: Run = Run {
    rate: 0.5,
    slope: 0.01,
    early: false,
    precision: Precision::F32,
    scale: LossScale::Off,
    smoothing: 0.0,
    weight: 1.0,
    optimizer: || Adam::new(0.01).into(),
    schedule: || Schedule::Constant,
    clip: 1.0,
    parts: 1,
    pixel: 0.5,
    batch: 8,
    shuffle: 7,
};

struct Layers {
    fc1: Linear,
    relu: LeakyRelu,
    dropout: Dropout,
    fc2: Linear,
    early: bool,
}

impl Module for Layers {
    fn forward(&self, x: &Var) -> Var {
        let x = self.fc1.forward(x);
        let x = match self.early {
            true => self.relu.forward(&self.dropout.forward(&x)),
            false => self.dropout.forward(&self.relu.forward(&x)),
        };
        self.fc2.forward(&x)
    }
}

impl Run {
    fn trainer(&self, seed: u64) -> Trainer<Layers> {
        let make = |p: &Scope| Layers {
            fc1: Linear::new(&p.at("fc1"), 4, 5),
            relu: LeakyRelu { slope: self.slope },
            dropout: Dropout::new(&p.at("dropout"), self.rate),
            fc2: Linear::new(&p.at("fc2"), 5, 3),
            early: self.early,
        };
        let device = Device::cpu().with_precision(self.precision);
        let loss = CrossEntropy {
            label_smoothing: self.smoothing,
            weights: Some(vec![1.0, 2.0, self.weight]),
            ..CrossEntropy::default()
        };
        assert!(loss.inputs().len() == 1, "class weights are an input");
        let net = Net::new(device, Seed(seed), make).unwrap();
        let trainer = Trainer::new(net, loss, (self.optimizer)()).unwrap();
        let trainer = trainer.with_loss_scale(self.scale).unwrap();
        let trainer = trainer.with_schedule((self.schedule)()).unwrap();
        trainer.with_clipping(self.clip).unwrap().with_micro_batches(self.parts).unwrap()
    }

    fn loader(&self) -> Loader {
        let mut inputs: Vec<f32> = (0..160).map(|i| (i * 37 % 23) as f32 / 11.0 - 1.0).collect();
        inputs[17] = self.pixel;
        let labels = (0..40).map(|i| i % 3).collect();
        let set = MemoryDataset::new(inputs, &[4], labels, 3).unwrap();
        let shuffle = Shuffle::Seeded(self.shuffle);
        let config = LoaderConfig { batch_size: self.batch, shuffle, ..LoaderConfig::default() };
        Loader::new(Arc::new(set), config).unwrap()
    }

    fn recipe(&self) -> Recipe {
        Recipe::new().with_loader(&self.loader()).unwrap()
    }

    fn resume(&self, dir: &TempDir) -> Result<Progress> {
        Resume::new(dir.path()).recipe(self.recipe()).load(&mut self.trainer(0))
    }
}

/// Trains for a number of batches and saves after each.
fn go_on(
    run: &Run,
    trainer: &mut Trainer<Layers>,
    loader: &mut Loader,
    batches: u64,
    dir: &TempDir,
) {
    for _ in 0..batches {
        let (x, labels) = loader.next_batch().unwrap().into_rows().unwrap();
        trainer.step(&x, &labels).unwrap();
        let (position, recipe) = (loader.position(), run.recipe());
        let progress = Progress { position, recipe, ..Progress::default() };
        checkpoint::save(trainer, &progress, dir.path()).unwrap();
    }
}

#[test]
fn each_difference_is_named_and_all_at_once() {
    let dir = TempDir::new().unwrap();
    go_on(&RUN, &mut RUN.trainer(7), &mut RUN.loader(), 2, &dir);
    RUN.resume(&dir).unwrap();
    type Change = (&'static str, fn(&mut Run));
    let changes: [Change; 13] = [
        ("precision: expected bf16, got f32", |run| run.precision = Precision::Bf16),
        ("loss scale: expected Static(8.0), got none", |run| run.scale = LossScale::Static(8.0)),
        ("layer dropout: ", |run| run.rate = 0.25),
        ("network: ", |run| run.slope = 0.02),
        ("loss: ", |run| run.smoothing = 0.1),
        ("loss inputs: expected f32[3] [1.0, 2.0, 3.0], got f32[3] [1.0, 2.0, 1.0]", |run| {
            run.weight = 3.0;
        }),
        ("optimizer: ", |run| run.optimizer = || AdamW::new(0.01).into()),
        ("schedule: ", |run| run.schedule = || Schedule::Cosine { period: 9, minimum: 0.0 }),
        ("clipping: expected Some(2.0), got Some(1.0)", |run| run.clip = 2.0),
        ("micro-batches: expected 2, got 1", |run| run.parts = 2),
        ("data: ", |run| run.pixel = 0.75),
        ("batch size: expected 10, got 8", |run| run.batch = 10),
        ("shuffle: expected Seeded(8), got Seeded(7)", |run| run.shuffle = 8),
    ];
    let mut all = RUN;
    for (line, change) in changes {
        let mut other = RUN;
        change(&mut other);
        change(&mut all);
        let error = other.resume(&dir).expect_err(line);
        assert_eq!(mismatches(&error).len(), 1, "{line}: {error}");
        assert!(mismatches(&error)[0].starts_with(line), "{line}: {error}");
    }
    let error = all.resume(&dir).unwrap_err();
    assert_eq!(mismatches(&error).len(), changes.len(), "{error}");
    for (line, _) in changes {
        assert!(mismatches(&error).iter().any(|found| found.starts_with(line)), "{line}: {error}");
    }
    let rate = "layer dropout: expected Dropout dropout[p=8192/32768](network#1), \
                got Dropout dropout[p=16384/32768](network#1)";
    assert!(mismatches(&error).contains(&rate.to_string()), "{error}");
}

#[test]
fn the_same_layers_in_another_order_are_another_network() {
    let dir = TempDir::new().unwrap();
    go_on(&RUN, &mut RUN.trainer(7), &mut RUN.loader(), 1, &dir);
    let error = Run { early: true, ..RUN }.resume(&dir).unwrap_err();
    assert!(mismatches(&error).iter().any(|line| line.starts_with("layer dropout: ")), "{error}");
}

#[test]
fn what_is_allowed_may_differ() {
    let dir = TempDir::new().unwrap();
    go_on(&RUN, &mut RUN.trainer(7), &mut RUN.loader(), 2, &dir);
    let other = Run { rate: 0.1, slope: 0.1, clip: 9.0, ..RUN };
    let resume = Resume::new(dir.path()).recipe(RUN.recipe());
    let mut target = other.trainer(0);
    let error = resume.clone().allow("clipping").allow("network").load(&mut target);
    assert_eq!(mismatches(&error.unwrap_err()).len(), 1);
    let all = resume.clone().allow("clipping").allow("network").allow("layer");
    all.load(&mut target).unwrap();
    assert_eq!(target.updates(), 2);
    // A part of a name allows nothing.
    assert!(resume
        .allow("clip")
        .allow("network")
        .allow("layer")
        .load(&mut other.trainer(0))
        .is_err());
}

/// Batches of five to an epoch: from each of 12 places the rest of the run gives the same bytes.
#[test]
fn a_run_goes_on_within_an_epoch() {
    let whole = TempDir::new().unwrap();
    go_on(&RUN, &mut RUN.trainer(7), &mut RUN.loader(), 12, &whole);
    for cut in [1, 3, 5, 6, 9, 11] {
        let dir = TempDir::new().unwrap();
        go_on(&RUN, &mut RUN.trainer(7), &mut RUN.loader(), cut, &dir);
        let (mut trainer, mut loader) = (RUN.trainer(0), RUN.loader());
        let resume = Resume::new(dir.path()).recipe(RUN.recipe()).updates_per_epoch(5);
        let progress = resume.load(&mut trainer).unwrap();
        assert_eq!(progress.position, Position { epoch: cut / 5, batch: cut % 5 });
        loader.seek(progress.position).unwrap();
        go_on(&RUN, &mut trainer, &mut loader, 12 - cut, &dir);
        for file in [TRAINING_FILE, MODEL_FILE] {
            let read = |dir: &TempDir| fs::read(dir.path().join(file)).unwrap();
            assert!(read(&dir) == read(&whole), "{file}, cut off after {cut} batches");
        }
    }
}

/// Checkpoints of earlier versions are resumed by these: the first is from a separate implementation.
#[test]
fn hashes_of_data_never_change() {
    let labelled = MemoryDataset::new(vec![0.5, 1.5], &[1], vec![0, 1], 2).unwrap();
    assert_eq!(content_hash(&labelled).unwrap(), "b89a0a56cd228951fc6fcefa9ea915f7");

    let array = || Array::f32([0.5, 1.5], &[1]);
    let of = |set: Result<Arrays>| content_hash(&set.unwrap()).unwrap();
    let labels = Arrays::new([array()], [Array::labels([0, 1], 2)]);
    assert_eq!(of(labels), "b89a0a56cd228951fc6fcefa9ea915f7", "however they are stored");
    let others = [
        of(Arrays::new([array()], [])),
        of(Arrays::new([array()], [Array::i32([0, 1], &[])])),
        of(Arrays::new([array()], [Array::f32([0.0, 1.0], &[])])),
        of(Arrays::new([array()], [Array::f32([0.0, 1.0], &[1])])),
        of(Arrays::new([array()], [Array::f32([1.0, 1.0], &[1])])),
        of(Arrays::new([array(), Array::f32([0.0, 1.0], &[1])], [])),
    ];
    for (place, hash) in others.iter().enumerate() {
        assert!(!others[..place].contains(hash), "{others:?}");
    }
}

/// Equal seeds of data are no entry, so that earlier checkpoints are resumed.
#[test]
fn the_seed_of_data_is_in_the_recipe() {
    let recipe = |seed| {
        let set = MemoryDataset::new(vec![0.5, 1.5], &[1], vec![0, 1], 2).unwrap();
        let config = LoaderConfig { seed, ..LoaderConfig::default() };
        Recipe::new().with_loader(&Loader::new(Arc::new(set), config).unwrap()).unwrap()
    };
    assert_eq!(recipe(0).get("data seed"), None);
    assert_eq!(recipe(3).differences(&recipe(0)), ["data seed: expected 3, got none"]);
}

/// A rate that was set goes on with the run, and one of the resuming trainer gives way to it.
#[test]
fn a_rate_that_was_set_is_restored() {
    let dir = TempDir::new().unwrap();
    let mut trainer = RUN.trainer(7);
    go_on(&RUN, &mut trainer, &mut RUN.loader(), 1, &dir);
    // The state is text in a text.
    let is_noted = |dir: &TempDir| {
        let file = fs::read(dir.path().join(TRAINING_FILE)).unwrap();
        file.windows(8).any(|bytes| bytes == br#"\"rate\""#)
    };
    assert!(!is_noted(&dir), "without one, files are as they were");
    trainer.set_rate(0.123_456_789).unwrap();
    let mut loader = RUN.loader();
    loader.next_batch().unwrap();
    go_on(&RUN, &mut trainer, &mut loader, 1, &dir);
    assert!(is_noted(&dir));

    let mut resumed = RUN.trainer(0);
    resumed.set_rate(9.0).unwrap();
    let resume = Resume::new(dir.path()).recipe(RUN.recipe());
    resume.load(&mut resumed).unwrap();
    assert_eq!(resumed.rate().to_bits(), trainer.rate().to_bits());
    let again = TempDir::new().unwrap();
    let mut same = loader;
    let mut other = RUN.loader();
    other.seek(same.position()).unwrap();
    go_on(&RUN, &mut trainer, &mut same, 2, &dir);
    go_on(&RUN, &mut resumed, &mut other, 2, &again);
    let read = |dir: &TempDir| fs::read(dir.path().join(TRAINING_FILE)).unwrap();
    assert!(read(&dir) == read(&again));

    // Who wants another rate gets it.
    let mut free = RUN.trainer(0);
    free.set_rate(0.5).unwrap();
    Resume::new(dir.path()).recipe(RUN.recipe()).allow("learning rate").load(&mut free).unwrap();
    let mut unset = RUN.trainer(0);
    assert!(free.rate() > 3.0 * trainer.rate());
    go_on(&RUN, &mut unset, &mut RUN.loader(), 1, &dir);
    Resume::new(dir.path()).recipe(RUN.recipe()).load(&mut free).unwrap();
    assert_eq!(free.rate(), unset.rate());
}

#[test]
fn schedules_from_functions_are_told_apart() {
    fn decay(name: &'static str, gamma: f64) -> Schedule {
        Schedule::from_fn(name, move |base, update| base * gamma.powf(update as f64 / 100.0))
    }
    let run = |schedule: fn() -> Schedule| Run { schedule, ..RUN };
    let dir = TempDir::new().unwrap();
    let first = run(|| decay("decay", 0.5));
    go_on(&first, &mut first.trainer(7), &mut first.loader(), 2, &dir);
    run(|| decay("decay", 0.5)).resume(&dir).unwrap();
    for other in [run(|| decay("decay", 0.25)), run(|| decay("fall", 0.5)), RUN] {
        let error = other.resume(&dir).unwrap_err();
        assert_eq!(mismatches(&error).len(), 1, "{error}");
        assert!(mismatches(&error)[0].starts_with("schedule: expected "), "{error}");
    }
}
