// SPDX-License-Identifier: MIT OR Apache-2.0
//! Going on where a training stopped.

use std::path::{Path, PathBuf};

use super::reader::{Conversion, TensorFile};
use super::recipe::Recipe;
use super::training::{reserve, tensors, Progress, State, FORMER_FORMAT};
use super::writer::Named;
use super::TRAINING_FILE;
use crate::exec::Role;
use crate::graph::ParamId;
use crate::nn::Module;
use crate::trainer::BatchTypes;
use crate::values::Values;
use crate::{Result, Seed, Trainer};

/// Continues a training from what [`save`](super::save) wrote to the directory: values, moments,
/// counters and the seed. The next step gives the bits that the interrupted training would have
/// given. As [`Resume::load`] without more to compare.
///
/// # Errors
/// As [`Resume::load`].
pub fn load<M, I: Values, O: Values, T: Values>(
    trainer: &mut Trainer<M, I, O, T>,
    directory: impl AsRef<Path>,
) -> Result<Progress>
where
    M: Module<I, O>,
{
    Resume::new(directory.as_ref()).load(trainer)
}

/// How to continue a training, where more is known than its directory.
///
/// ```
/// use kiln::checkpoint::{self, Progress, Recipe, Resume};
/// use kiln::loss::Mse;
/// use kiln::nn::Linear;
/// use kiln::optim::{Schedule, Sgd};
/// use kiln::{Device, Net, Seed, Trainer};
///
/// # let dir = std::env::temp_dir().join(format!("kiln-resume-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// let trainer = |schedule| {
///     let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 3, 1))?;
///     Trainer::new(net, Mse::default(), Sgd::new(0.1))?.with_schedule(schedule)
/// };
/// let recipe = |shuffle: &str| Recipe::new().with("shuffle", shuffle);
/// let progress = Progress { recipe: recipe("seed 7"), ..Progress::default() };
/// checkpoint::save(&mut trainer(Schedule::Constant)?, &progress, &dir)?;
///
/// let mut other = trainer(Schedule::Step { size: 10, gamma: 0.1 })?;
/// let resume = Resume::new(&dir).recipe(recipe("seed 8"));
/// let error = resume.load(&mut other).unwrap_err().to_string();
/// assert!(error.contains("shuffle: expected seed 8, got seed 7"), "{error}");
/// assert!(error.contains("schedule: expected Step"), "{error}");
/// Resume::new(&dir).recipe(recipe("seed 7")).allow("schedule").load(&mut other)?;
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Resume {
    directory: PathBuf,
    recipe: Option<Recipe>,
    allowed: Vec<String>,
    updates_per_epoch: Option<u64>,
}

/// The entry of a recipe for the optimiser's learning rate.
const RATE: &str = "learning rate";

/// What its entries for rates of dropout begin with.
pub(super) const DROPOUT_RATE: &str = "dropout rate";

impl Resume {
    /// From the training in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Resume { directory, recipe: None, allowed: Vec::new(), updates_per_epoch: None }
    }

    /// Compares this with the [`Progress::recipe`] that was saved.
    #[must_use]
    pub fn recipe(mut self, recipe: Recipe) -> Self {
        self.recipe = Some(recipe);
        self
    }

    /// Lets an entry of a recipe differ: `"schedule"`, `"layer fc1"`; `"layer"` for all layers,
    /// `"network"` for operations outside any, and `"parameter"` for all groups. The training goes on with what the trainer has.
    /// With `"learning rate"`, that is the trainer's too where one was [set](Trainer::set_rate), and with
    /// `"dropout rate"` all rates of dropout are.
    #[must_use]
    pub fn allow(mut self, entry: impl Into<String>) -> Self {
        self.allowed.push(entry.into());
        self
    }

    /// Says that each batch is one update, of so many in an epoch: counters that contradict each
    /// other or the position in the data are noticed then.
    #[must_use]
    pub fn updates_per_epoch(mut self, updates: u64) -> Self {
        self.updates_per_epoch = Some(updates);
        self
    }

    /// Sets everything that the trainer's next step depends on.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) with everything in which network, loss,
    /// optimiser, groups, frozen parameters, averages, schedule, clipping, division of batches, precision or the caller's recipe differ;
    /// [`Error::Data`](crate::Error::Data) if the file is damaged or contradicts itself. The trainer
    /// is unchanged then.
    pub fn load<M, I: Values, O: Values, T: Values>(
        &self,
        trainer: &mut Trainer<M, I, O, T>,
    ) -> Result<Progress>
    where
        M: Module<I, O>,
    {
        let file = TensorFile::open(&self.directory.join(TRAINING_FILE))?;
        let state = State::of(&file)?;
        let (places, tensors): (Vec<_>, Vec<_>) = tensors(trainer).into_iter().unzip();
        let batch = batch_types(&state);
        let mut wrong = match &batch {
            Ok(batch) => self.differences(trainer, &state, batch.as_ref()),
            // The network cannot even take the batches of the one that was saved.
            Err(error) => vec![format!("network: {error}")],
        };
        wrong.extend(tensors.iter().filter_map(|t| file.misfit(&t.name, t, Conversion::None)));
        let known = |name: &&str| tensors.iter().any(|tensor| tensor.name == **name);
        let unknown = file.names().filter(|name| !known(name));
        wrong.extend(unknown.map(|name| file.unexpected(name)));
        if !wrong.is_empty() {
            return Err(file.mismatch(wrong));
        }
        self.check_counters(&file, &state)?;
        if let Some(sum) = state.checksum {
            let found = file.sum_of_elements(&tensors)?;
            if found != sum {
                let expected = format!("tensors with check sum {sum:08x}");
                return Err(file.invalid(0, &expected, format!("{found:08x}")));
            }
        }
        restore(trainer, &file, &places, &tensors, &state)?;
        if !self.allowed.iter().any(|allowed| allowed == RATE) {
            trainer.restore_rate(state.rate);
        }
        if !self.allowed.iter().any(|allowed| allowed == DROPOUT_RATE) {
            trainer.net().rates_mut().restore(&state.dropout_rates);
        }
        if let Some(batch) = batch? {
            trainer.set_batch(Some(batch));
        }
        Ok(state.progress)
    }

    /// Everything about the trainer and the caller's recipe that is not as it was.
    fn differences<M, I: Values, O: Values, T: Values>(
        &self,
        trainer: &mut Trainer<M, I, O, T>,
        state: &State,
        batch: Option<&BatchTypes<I, T>>,
    ) -> Vec<String>
    where
        M: Module<I, O>,
    {
        let mut differences = match Recipe::of_trainer(trainer, batch) {
            Ok(now) => self.compare(&now, &state.recipe, state.format),
            // Nor can it if a layer refuses them.
            Err(error) => vec![format!("network: {error}")],
        };
        if let Some(now) = &self.recipe {
            differences.extend(self.compare(now, &state.progress.recipe, state.format));
        }
        differences
    }

    /// Differences that matter. What earlier versions did not write down cannot be compared.
    fn compare(&self, now: &Recipe, saved: &Recipe, format: u32) -> Vec<String> {
        let unknown = |name: &str| format == FORMER_FORMAT && saved.get(name).is_none();
        let group = |name: &str, allowed: &str| {
            name.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let matters =
            |name: &str| !unknown(name) && !self.allowed.iter().any(|allowed| group(name, allowed));
        now.filtered(matters).differences(&saved.filtered(matters))
    }

    fn check_counters(&self, file: &TensorFile, state: &State) -> Result<()> {
        let Some(per_epoch) = self.updates_per_epoch else { return Ok(()) };
        let at = state.progress.position;
        if at.batch >= per_epoch.max(1) {
            let expected = format!("a batch below {per_epoch}, the batches of an epoch");
            return Err(file.invalid(0, &expected, at.batch));
        }
        let updates = at.epoch.checked_mul(per_epoch).and_then(|done| done.checked_add(at.batch));
        let passes = u64::from(state.pass);
        let agreed = updates == Some(state.updates)
            && state.updates % u64::from(crate::MONTE_CARLO_PASS) == passes;
        if !agreed {
            let expected = format!("the updates of {} epochs and {} batches", at.epoch, at.batch);
            let got = format!("{} updates in {passes} passes", state.updates);
            return Err(file.invalid(0, &expected, got));
        }
        Ok(())
    }
}

/// The types of the batch that a checkpoint describes, in the structures of a network and a loss.
fn batch_types<I: Values, T: Values>(state: &State) -> Result<Option<BatchTypes<I, T>>> {
    let Some(inputs) = &state.batch else { return Ok(None) };
    let inputs = inputs.structured::<I>("inputs")?;
    let targets = state.targets.as_ref().map(|types| types.structured::<T>("targets"));
    Ok(Some(BatchTypes { inputs, targets: targets.transpose()? }))
}

fn restore<M, I: Values, O: Values, T: Values>(
    trainer: &mut Trainer<M, I, O, T>,
    file: &TensorFile,
    places: &[(Role, ParamId)],
    tensors: &[Named],
    state: &State,
) -> Result<()>
where
    M: Module<I, O>,
{
    reserve(trainer)?;
    let (store, backend) = trainer.net().state();
    for (&(role, id), tensor) in places.iter().zip(tensors) {
        let mut elements = file.elements(&tensor.name)?;
        store.write_in_pieces(backend, role, id, |piece| elements.fill(piece))?;
    }
    let net = trainer.net();
    net.set_seed(Seed(state.seed));
    net.set_pass(state.pass);
    net.set_monte_carlo_pass(state.monte_carlo_pass);
    let tuning = trainer.tuning().clone().with_skipped(&state.skipped);
    trainer.set_counts(tuning, state.averaged);
    trainer.go_on(state.updates, state.training())?;
    Ok(())
}
