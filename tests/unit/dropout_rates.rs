// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout rates that change from pass to pass.

use kiln::loss::CrossEntropy;
use kiln::mask::Mask;
use kiln::models::SimpleNet;
use kiln::nn::{
    Dropout, Dropout2d, DropoutSchedule, Lstm, Module, RecurrentOptions, Scope, Sequential,
    StochasticDepth,
};
use kiln::op::TensorType;
use kiln::optim::Adam;
use kiln::{Device, Error, Net, Result, Seed, Tensor, Trainer, MONTE_CARLO_PASS};

const SEED: u64 = 0x5eed_0bad_cafe;

fn net<M>(of: impl FnOnce(&Scope) -> M) -> Result<Net<M>> {
    Net::new(Device::cpu(), Seed(SEED), of)
}

fn drops(schedule: DropoutSchedule) -> Result<Net<Dropout>> {
    net(|p| Dropout::scheduled(&p.at("drop"), schedule))
}

fn ones(shape: &[usize]) -> Tensor {
    Tensor::new(shape, vec![1.0; shape.iter().product()]).expect("ones")
}

/// What dropout of a constant rate makes of ones in a pass.
fn dropped(p: f32, pass: u32, shape: [usize; 2]) -> Vec<f32> {
    let mask = Mask::new(SEED, "drop#0", p);
    let places = (0..shape[0] as u32).flat_map(|s| (0..shape[1] as u32).map(move |e| (s, e)));
    let value = |(sample, element)| match mask.keeps(pass, sample, element) {
        true => mask.scale(),
        false => 0.0,
    };
    places.map(value).collect()
}

#[test]
fn each_pass_drops_at_its_rate() -> Result<()> {
    let shape = [5, 33];
    let mut net = drops(DropoutSchedule::Linear { start: 0.0, end: 0.8, passes: 4 })?;
    for (pass, p) in [0.0, 0.2, 0.4, 0.6, 0.8, 0.8].into_iter().enumerate() {
        let y = net.train().forward(&ones(&shape))?;
        assert_eq!(y.values()?, dropped(p, pass as u32, shape), "pass {pass}");
        assert_eq!(net.plans(), 1);
    }
    // Evaluation knows nothing of it.
    assert_eq!(net.eval().forward(&ones(&shape))?, ones(&shape));
    Ok(())
}

#[test]
fn past_masks_are_those_of_rates_that_were_set_since() -> Result<()> {
    let shape = [3, 40];
    let types = [TensorType::f32(shape.into())];
    let mut net = drops(DropoutSchedule::curriculum(0.5, 20))?;
    let mut passes = Vec::new();
    for pass in 0..9 {
        match pass {
            3 => net.set_dropout_rate("drop", 0.7)?,
            6 => net.set_dropout_rate("drop", 0.0)?,
            _ => {}
        }
        passes.push(net.train().forward(&ones(&shape))?);
    }
    let rates: Vec<f32> = (0..9)
        .map(|pass| net.dropout_rates(pass).map(|rates| rates[0].1))
        .collect::<Result<_>>()?;
    assert_eq!(rates[3..], [0.7, 0.7, 0.7, 0.0, 0.0, 0.0]);
    assert!(rates[0] == 0.0 && rates[1] > 0.19 && rates[2] > rates[1], "{rates:?}");
    for (pass, y) in passes.iter().enumerate() {
        let mask = net.mask("drop", pass as u32, &types)?;
        let kept: Vec<f32> = y.values()?.iter().map(|y| f32::from(u8::from(*y != 0.0))).collect();
        assert_eq!(mask[0].values()?, kept, "pass {pass}");
    }
    // A rate of an earlier pass is not what Monte Carlo views draw at.
    net.set_dropout_rate("drop", 0.4)?;
    let y = net.monte_carlo(2).forward(&ones(&shape))?;
    let (y, samples) = (y.values()?, shape[0]);
    let of_draws = net.mask("drop", MONTE_CARLO_PASS, &[TensorType::f32([6, 40].into())])?;
    let scale = Mask::new(SEED, "drop#0", 0.4).scale();
    for (row, mask) in of_draws[0].values()?.chunks(40).enumerate() {
        let (sample, draw) = (row / 2, row % 2);
        let y = &y[(draw * samples + sample) * 40..][..40];
        assert!(mask.iter().map(|kept| kept * scale).eq(y.iter().copied()), "row {row}");
    }
    Ok(())
}

/// Losses and parameters of a few steps.
fn trained(
    schedule: impl Fn(f32) -> Option<DropoutSchedule>,
    micro_batches: usize,
) -> Result<(Vec<f32>, Vec<Tensor>)> {
    let net = net(|p| match schedule(0.4) {
        None => SimpleNet::new(p, 6, 40, 3, 0.4),
        Some(schedule) => {
            let p = p.with_dropout_schedule(move |_, _| schedule.clone());
            SimpleNet::new(&p, 6, 40, 3, 0.4)
        }
    })?;
    let fit = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-2))?;
    let mut fit = fit.with_micro_batches(micro_batches)?;
    let mut losses = Vec::new();
    for step in 0..6 {
        let x = (0..48).map(|i| ((i * 37 + step * 11) % 23) as f32 / 11.0 - 1.0).collect();
        let labels = (0..8).map(|i| (i + step) % 3).collect();
        let loss = fit.step(&Tensor::new([8, 6], x)?, &Tensor::labels([8], labels)?)?;
        losses.push(loss.value()?);
    }
    let net = fit.net();
    let names: Vec<String> = net.parameter_names().into_iter().map(String::from).collect();
    let parameters: Result<Vec<Tensor>> = names.iter().map(|name| net.parameter(name)).collect();
    Ok((losses, parameters?))
}

#[test]
fn training_at_a_rate_that_never_changes_is_training_at_a_constant() -> Result<()> {
    let constant = trained(|_| None, 1)?;
    assert_eq!(trained(|p| Some(DropoutSchedule::Constant(p)), 1)?, constant);
    let line = |p| DropoutSchedule::Linear { start: p, end: p, passes: 3 };
    assert_eq!(trained(|p| Some(line(p)), 1)?, constant);
    let other = trained(|p| Some(DropoutSchedule::Linear { start: 0.0, end: p, passes: 3 }), 1)?;
    assert_ne!(other.0, constant.0);
    Ok(())
}

#[test]
fn the_parts_of_a_batch_drop_at_the_rate_of_its_step() -> Result<()> {
    let rising = |p| Some(DropoutSchedule::Cosine { start: 0.0, end: p, passes: 4 });
    let ((whole, _), (parts, _)) = (trained(rising, 1)?, trained(rising, 3)?);
    for (whole, part) in whole.iter().zip(&parts) {
        assert!((whole - part).abs() < 1e-3, "{whole} and {part}");
    }
    Ok(())
}

#[test]
fn layers_of_every_kind_take_schedules() -> Result<()> {
    let off = || DropoutSchedule::Table(vec![(0, 0.5), (1, 0.0)]);
    let mut maps = net(|p| Dropout2d::scheduled(&p.at("maps"), off()))?;
    let mut samples = net(|p| StochasticDepth::scheduled(&p.at("skip"), off()))?;
    let options = RecurrentOptions { layers: 3, dropout: 0.5, ..RecurrentOptions::default() };
    let make = move |p: &Scope| {
        let p = p.at("lstm").with_dropout_schedule(move |_, _| off());
        Sequential::new(&p).with(|p| Lstm::with_options(p, 8, 16, options))
    };
    let mut lstm = net(make)?;
    fn both<M: Module>(net: &mut Net<M>, shape: &[usize]) -> Result<[bool; 2]> {
        let mut is_eval = [true; 2];
        for is_eval in &mut is_eval {
            let x = ones(shape);
            *is_eval = net.train().forward(&x)? == net.eval().forward(&x)?;
        }
        Ok(is_eval)
    }
    assert_eq!(both(&mut maps, &[4, 16, 2, 2])?, [false, true]);
    assert_eq!(both(&mut samples, &[16, 3])?, [false, true]);
    assert_eq!(both(&mut lstm, &[4, 5, 8])?, [false, true]);
    assert_eq!(lstm.dropout_rates(0)?.len(), 1);
    Ok(())
}

#[test]
fn rates_that_are_none_are_refused_with_their_layer() -> Result<()> {
    let refused = |schedule| drops(schedule).map(drop).unwrap_err().to_string();
    let expected = "expected a probability in [0, 1)";
    assert_eq!(refused(DropoutSchedule::Constant(1.0)), format!("drop: p: {expected}, got 1"));
    let end = DropoutSchedule::Linear { start: 0.0, end: f32::NAN, passes: 5 };
    assert_eq!(refused(end), format!("drop: end of the schedule: {expected}, got NaN"));

    // What only shows in its pass leaves everything as it was.
    let late = DropoutSchedule::from_fn("late", |pass| if pass == 3 { f32::NAN } else { 0.5 });
    let mut net = drops(late)?;
    for _ in 0..3 {
        net.train().forward(&ones(&[2, 8]))?;
    }
    for _ in 0..2 {
        let error = net.train().forward(&ones(&[2, 8])).unwrap_err();
        assert!(matches!(&error, Error::Argument { layer, .. } if layer == "drop"));
        assert_eq!(error.to_string(), format!("drop: p of pass 3: {expected}, got NaN"));
        assert_eq!(net.pass(), 3);
    }
    let error = net.mask("drop", 3, &[TensorType::f32([2, 8].into())]).unwrap_err();
    assert_eq!(error.to_string(), format!("drop: p of pass 3: {expected}, got NaN"));
    net.eval().forward(&ones(&[2, 8]))?;

    for (p, got) in [(1.0, "1"), (-0.5, "-0.5"), (f32::NAN, "NaN")] {
        let error = net.set_dropout_rate("drop", p).unwrap_err();
        assert_eq!(error.to_string(), format!("drop: p: {expected}, got {got}"));
    }
    let error = net.set_dropout_rate("fc1", 0.5).unwrap_err();
    assert_eq!(error.to_string(), "layer: expected one of drop, got fc1");
    let mut constant = self::net(|p| Dropout::new(&p.at("drop"), 0.5))?;
    let error = constant.set_dropout_rate("drop", 0.5).unwrap_err().to_string();
    assert_eq!(error, "layer: expected a network with dropout whose rate changes, got drop");
    net.set_dropout_rate("drop", 0.25)?;
    net.train().forward(&ones(&[2, 8]))?;
    Ok(())
}

#[test]
fn there_is_an_end_to_rates_that_change() {
    let many = |count: usize| {
        net(|p| {
            let layers = (0..count).map(|_| DropoutSchedule::Constant(0.1));
            layers.fold(Sequential::new(p), |all, schedule| {
                all.with(|p| Dropout::scheduled(p, schedule))
            })
        })
    };
    many(64).expect("a network");
    let error = many(65).map(drop).unwrap_err().to_string();
    assert_eq!(error, "64: p: expected at most 64 rates that change, got one more");
}
