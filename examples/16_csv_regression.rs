// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prices of houses from a CSV file: a regression with normalised inputs and early stopping.
//!
//! `cargo run --release --example 16_csv_regression`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::ops::ControlFlow;
use std::sync::Arc;

use kiln::data::{CsvFile, Loader, LoaderConfig, Normalisation, Normalised, Shuffle, Subset};
use kiln::nn::{Linear, Relu, Scope, Sequential};
use kiln::{loss::Mse, optim::Adam, Device, Event, Net, Result, Seed, Trainer};

/// Epochs without a better figure before it stops.
const PATIENCE: u64 = 10;

fn main() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/houses/houses.csv");
    let houses = CsvFile::new(path).target(["price"]).read()?;
    let (train, test) = Subset::split(Arc::new(houses), 320, 7)?;
    let measured = Normalisation::measure(&train)?;
    let loader = |set, batch_size, shuffle| {
        let set = Normalised::new(Arc::new(set), measured.clone())?;
        let config = LoaderConfig { batch_size, shuffle, ..LoaderConfig::default() };
        Loader::new(Arc::new(set), config)
    };
    let mut train = loader(train, 16, Shuffle::Seeded(7))?;
    let mut test = loader(test, 80, Shuffle::Sequential)?;

    let make = |p: &Scope| {
        Sequential::new(p)
            .with(|p| Linear::new(p, 4, 32))
            .with(|_| Relu)
            .with(|p| Linear::new(p, 32, 1))
    };
    let net = Net::new(Device::best()?, Seed(7), make)?;
    let mut fit = Trainer::new(net, Mse::default(), Adam::new(1e-2))?;
    let (mut best, mut best_epoch) = (f64::INFINITY, 0);
    let ended = fit.fit(&mut train, 100, |fit, event| {
        let Event::Epoch { epoch, loss } = event else { return Ok(ControlFlow::Continue(())) };
        let measured = fit.evaluate(&mut test)?.loss;
        println!("epoch {epoch}: loss {loss:.4}, on the test set {measured:.4}");
        if measured < best {
            (best, best_epoch) = (measured, epoch);
        }
        match epoch < best_epoch + PATIENCE {
            true => Ok(ControlFlow::Continue(())),
            false => Ok(ControlFlow::Break(epoch)),
        }
    })?;
    let unit = 100_000.0 * best.sqrt();
    println!("best in epoch {best_epoch}: off by {unit:.0}; stopped early: {}", ended.is_break());
    Ok(())
}
