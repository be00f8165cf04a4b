// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants of D2.

use kiln::lint::{Code, Report, Severity};
use kiln::nn::{
    Conv1d, Dropout1d, Dropout2d, Dropout3d, Embedding, Lstm, MaxPool1d, MaxPool2d, Module,
};
use kiln::Var;

use super::{mutant, Mutant};
use crate::blocks::{bare, conv, dropout, linear, means, norm};
use crate::{batch, classifier, found, tokens};

const WORDS: usize = 1000;

pub(super) fn mutants() -> Vec<Mutant> {
    let mut mutants = on_output();
    mutants.extend(before_activation());
    mutants.extend(before_max_pool());
    mutants.extend(in_series());
    mutants.extend(of_pixels());
    mutants.extend(channels());
    mutants.extend(on_skip());
    mutants
}

/// Images, two convolutions and a classifier, with something between the convolutions.
fn images<M: Send + Sync + 'static>(
    of: impl FnOnce(&kiln::nn::Scope) -> M,
    between: fn(&M, &Var) -> Var,
) -> Report {
    classifier(batch(&[3, 16, 16]), |p| {
        let (a, b, own) = (conv(p, "a", 3, 32, 3), conv(p, "b", 32, 64, 3), of(&p.at("own")));
        let fc = linear(p, "fc", 64, 10);
        move |x: &Var| fc.forward(&means(&b.forward(&between(&own, &a.forward(x))).relu()))
    })
}

fn on_output() -> Vec<Mutant> {
    let warn =
        |name, look: fn() -> Report| mutant(Code::DropoutOnOutput, Severity::Warn, name, look);
    vec![
        warn("scores", || {
            classifier(batch(&[784]), |p| {
                let (fc, drop) = (linear(p, "fc", 784, 10), dropout(p, "drop", 0.5));
                move |x: &Var| drop.forward(&fc.forward(x))
            })
        }),
        warn("before a softmax at the end", || {
            found(batch(&[784]), |p| {
                let (fc, drop) = (linear(p, "fc", 784, 10), dropout(p, "drop", 0.5));
                move |x: &Var| drop.forward(&fc.forward(x)).softmax()
            })
        }),
        warn("features that are returned", || {
            found(batch(&[3, 16, 16]), |p| {
                let (conv, drop) = (conv(p, "conv", 3, 32, 3), dropout(p, "drop", 0.25));
                move |x: &Var| drop.forward(&conv.forward(x).relu()).flatten(1)
            })
        }),
        warn("a recurrent network's scores", || {
            classifier(tokens(20), |p| {
                let embedding = Embedding::new(&p.at("embedding"), WORDS, 64);
                let lstm = Lstm::new(&p.at("lstm"), 64, 128);
                let (fc, drop) = (linear(p, "fc", 128, 10), dropout(p, "drop", 0.3));
                move |x: &Var| {
                    drop.forward(&fc.forward(lstm.run(&embedding.forward(x)).last_hidden()))
                }
            })
        }),
    ]
}

fn before_activation() -> Vec<Mutant> {
    let of = Code::DropoutBeforeActivation;
    fn dense(activation: fn(&Var) -> Var) -> Report {
        classifier(batch(&[784]), |p| {
            let (a, drop) = (linear(p, "a", 784, 128), dropout(p, "drop", 0.5));
            let b = linear(p, "b", 128, 10);
            move |x: &Var| b.forward(&activation(&drop.forward(&a.forward(x))))
        })
    }
    vec![
        mutant(of, Severity::Note, "before ReLU", || dense(Var::relu)),
        mutant(of, Severity::Warn, "before a sigmoid", || dense(Var::sigmoid)),
        mutant(of, Severity::Warn, "before tanh", || dense(Var::tanh)),
        mutant(of, Severity::Warn, "behind batch norm, before GELU", || {
            classifier(batch(&[784]), |p| {
                let (a, bn) = (linear(p, "a", 784, 128), norm(p, "bn", 128));
                let (drop, b) = (dropout(p, "drop", 0.5), linear(p, "b", 128, 10));
                move |x: &Var| b.forward(&drop.forward(&bn.forward(&a.forward(x))).gelu())
            })
        }),
        mutant(of, Severity::Note, "maps before ReLU", || {
            images(|p| Dropout2d::new(p, 0.25), |drop, x| drop.forward(x).relu())
        }),
    ]
}

fn before_max_pool() -> Vec<Mutant> {
    let warn =
        |name, look: fn() -> Report| mutant(Code::DropoutBeforeMaxPool, Severity::Warn, name, look);
    vec![
        warn("behind ReLU", || {
            images(
                |p| dropout(p, "drop", 0.25),
                |drop, x| MaxPool2d::new([2, 2]).forward(&drop.forward(&x.relu())),
            )
        }),
        warn("before ReLU", || {
            images(
                |p| dropout(p, "drop", 0.25),
                |drop, x| MaxPool2d::new([2, 2]).forward(&drop.forward(x).relu()),
            )
        }),
        warn("on a line", || {
            found(batch(&[8, 100]), |p| {
                let (a, drop) = (Conv1d::new(&p.at("a"), 8, 32, [5]), dropout(p, "drop", 0.2));
                let fc = linear(p, "fc", 32 * 24, 10);
                move |x: &Var| {
                    let x = MaxPool1d::new([4]).forward(&drop.forward(&a.forward(x).relu()));
                    fc.forward(&x.flatten(1))
                }
            })
        }),
    ]
}

fn in_series() -> Vec<Mutant> {
    let warn =
        |name, look: fn() -> Report| mutant(Code::DropoutInSeries, Severity::Warn, name, look);
    vec![
        warn("two in a row", || {
            classifier(batch(&[784]), |p| {
                let (a, b) = (linear(p, "a", 784, 128), linear(p, "b", 128, 10));
                let drops = [dropout(p, "d1", 0.5), dropout(p, "d2", 0.3)];
                move |x: &Var| b.forward(&drops[1].forward(&drops[0].forward(&a.forward(x).relu())))
            })
        }),
        warn("one called twice", || {
            classifier(batch(&[784]), |p| {
                let (a, b) = (linear(p, "a", 784, 128), linear(p, "b", 128, 10));
                let drop = dropout(p, "drop", 0.25);
                move |x: &Var| b.forward(&drop.forward(&drop.forward(&a.forward(x)).relu()))
            })
        }),
        warn("maps and then features", || {
            classifier(batch(&[3, 16, 16]), |p| {
                let (a, b) = (conv(p, "a", 3, 32, 3), linear(p, "b", 32 * 64, 10));
                let (maps, features) = (Dropout2d::new(&p.at("maps"), 0.25), dropout(p, "d", 0.5));
                move |x: &Var| {
                    let x = maps.forward(&MaxPool2d::new([2, 2]).forward(&a.forward(x).relu()));
                    b.forward(&features.forward(&x.flatten(1)))
                }
            })
        }),
    ]
}

fn of_pixels() -> Vec<Mutant> {
    let note =
        |name, look: fn() -> Report| mutant(Code::DropoutOfPixels, Severity::Note, name, look);
    vec![
        note("between convolutions", || {
            images(|p| dropout(p, "drop", 0.25), |drop, x| drop.forward(&x.relu()))
        }),
        note("behind a pool", || {
            images(
                |p| dropout(p, "drop", 0.25),
                |drop, x| drop.forward(&MaxPool2d::new([2, 2]).forward(&x.relu())),
            )
        }),
        note("on a line", || {
            found(batch(&[8, 100]), |p| {
                let (a, drop) = (Conv1d::new(&p.at("a"), 8, 32, [5]), dropout(p, "drop", 0.2));
                let b = Conv1d::new(&p.at("b"), 32, 4, [5]);
                move |x: &Var| b.forward(&drop.forward(&a.forward(x).relu()))
            })
        }),
    ]
}

fn channels() -> Vec<Mutant> {
    let of = Code::ChannelDropoutOfRows;
    vec![
        mutant(of, Severity::Deny, "maps of rows", || {
            classifier(batch(&[784]), |p| {
                let (a, b) = (linear(p, "a", 784, 128), linear(p, "b", 128, 10));
                let drop = Dropout2d::new(&p.at("drop"), 0.5);
                move |x: &Var| b.forward(&drop.forward(&a.forward(x).relu()))
            })
        }),
        mutant(of, Severity::Deny, "maps of sequences", || {
            found(batch(&[20, 64]), |p| {
                let (a, drop) = (linear(p, "a", 64, 128), Dropout2d::new(&p.at("drop"), 0.2));
                move |x: &Var| a.forward(&drop.forward(x))
            })
        }),
        mutant(of, Severity::Deny, "volumes of images", || {
            images(|p| Dropout3d::new(p, 0.2), |drop, x| drop.forward(&x.relu()))
        }),
        mutant(of, Severity::Warn, "steps of texts", || {
            found(tokens(20), |p| {
                let embedding = Embedding::new(&p.at("embedding"), WORDS, 64);
                let (drop, fc) = (Dropout1d::new(&p.at("drop"), 0.2), linear(p, "fc", 64, 10));
                move |x: &Var| fc.forward(&drop.forward(&embedding.forward(x)))
            })
        }),
        mutant(of, Severity::Warn, "steps of a recurrent layer", || {
            found(batch(&[20, 64]), |p| {
                let lstm = Lstm::new(&p.at("lstm"), 64, 128);
                let (drop, fc) = (Dropout1d::new(&p.at("drop"), 0.2), linear(p, "fc", 128, 10));
                move |x: &Var| fc.forward(&drop.forward(&lstm.forward(x)))
            })
        }),
    ]
}

fn on_skip() -> Vec<Mutant> {
    let of = Code::DropoutOnSkip;
    vec![
        mutant(of, Severity::Warn, "what skips", || {
            classifier(batch(&[128]), |p| {
                let (a, b) = (linear(p, "a", 128, 128), linear(p, "b", 128, 10));
                let drop = dropout(p, "drop", 0.2);
                move |x: &Var| b.forward(&(drop.forward(x) + a.forward(x).relu()))
            })
        }),
        mutant(of, Severity::Warn, "maps that skip", || {
            images(
                |p| (Dropout2d::new(&p.at("drop"), 0.2), bare(p, "inner", 32, 32, 3)),
                |own, x| own.0.forward(&x.relu()) + own.1.forward(&x.relu()),
            )
        }),
        mutant(of, Severity::Warn, "between two blocks", || {
            classifier(batch(&[128]), |p| {
                let layers = ["a", "b", "c", "d"].map(|name| linear(p, name, 128, 128));
                let (drop, head) = (dropout(p, "drop", 0.2), linear(p, "head", 128, 10));
                move |x: &Var| {
                    let x = x + layers[1].forward(&layers[0].forward(x).relu());
                    let x = drop.forward(&x);
                    let x = &x + layers[3].forward(&layers[2].forward(&x).relu());
                    head.forward(&x)
                }
            })
        }),
        mutant(of, Severity::Note, "what a branch adds", || {
            images(
                |p| (Dropout2d::new(&p.at("drop"), 0.2), bare(p, "inner", 32, 32, 3)),
                |own, x| {
                    let x = x.relu();
                    &x + own.0.forward(&own.1.forward(&x))
                },
            )
        }),
    ]
}
