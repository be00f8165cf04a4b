// SPDX-License-Identifier: MIT OR Apache-2.0
//! A training whose dropout rates change goes on at the rates that it would have had.

use kiln::checkpoint::Resume;
use kiln::nn::DropoutSchedule;

use super::*;

fn scheduled(end: f32) -> Simple {
    let net = Net::new(Device::cpu(), Seed(7), |p| {
        let rising = move |_: &str, _| DropoutSchedule::Linear { start: 0.0, end, passes: 8 };
        SimpleNet::new(&p.with_dropout_schedule(rising), 6, 5, 3, 0.5)
    });
    Trainer::new(net.unwrap(), CrossEntropy::default(), Adam::new(0.01)).unwrap()
}

#[test]
fn a_training_goes_on_at_rates_that_were_set_and_scheduled() {
    let mut whole = scheduled(0.5);
    let dir = TempDir::new().unwrap();
    let mut expected = steps(&mut whole, 0..3);
    whole.set_dropout_rate("dropout2", 0.8).unwrap();
    expected.extend(steps(&mut whole, 3..5));
    checkpoint::save(&mut whole, &Progress::default(), dir.path()).unwrap();
    let rest = steps(&mut whole, 5..12);

    let mut resumed = scheduled(0.5);
    // What was set before gives way to what was saved.
    resumed.set_dropout_rate("dropout1", 0.1).unwrap();
    checkpoint::load(&mut resumed, dir.path()).unwrap();
    for pass in 0..12 {
        let expected = whole.net().dropout_rates(pass).unwrap();
        assert_eq!(resumed.net().dropout_rates(pass).unwrap(), expected);
    }
    assert_eq!(steps(&mut resumed, 5..12), rest);
    assert_eq!(parameters(resumed.net()), parameters(whole.net()));
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    checkpoint::save(&mut whole, &Progress::default(), a.path()).unwrap();
    checkpoint::save(&mut resumed, &Progress::default(), b.path()).unwrap();
    let file = |dir: &TempDir| fs::read(dir.path().join(TRAINING_FILE)).unwrap();
    assert!(file(&a) == file(&b), "the files differ");
}

#[test]
fn another_schedule_is_another_training_unless_it_is_allowed() {
    let dir = TempDir::new().unwrap();
    let mut fit = scheduled(0.5);
    steps(&mut fit, 0..3);
    fit.set_dropout_rate("dropout1", 0.3).unwrap();
    checkpoint::save(&mut fit, &Progress::default(), dir.path()).unwrap();

    let text = checkpoint::load(&mut scheduled(0.25), dir.path()).unwrap_err().to_string();
    let line = "dropout rate dropout1: expected Linear { start: 0.0, end: 0.25, passes: 8 }, \
                got Linear { start: 0.0, end: 0.5, passes: 8 }";
    assert!(text.contains(line), "{text}");
    let text = checkpoint::load(&mut trainer(7, Adam::new(0.01)), dir.path()).unwrap_err();
    let text = text.to_string();
    assert!(text.contains("dropout rate dropout2: expected none"), "{text}");
    assert!(text.contains("dropout[p changes]"), "{text}");

    let mut other = scheduled(0.25);
    Resume::new(dir.path()).allow("dropout rate").load(&mut other).unwrap();
    assert_eq!(other.net().dropout_rates(8).unwrap(), [("dropout1", 0.25), ("dropout2", 0.25)]);
    steps(&mut other, 3..5);
}
