// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks of fully connected layers.

use kiln::lint::{Case, Use};
use kiln::loss::{from_fn, BceWithLogits, Mse};
use kiln::models::{SimpleNet, VariableDropoutNet};
use kiln::nn::{AlphaDropout, Dropout, Keep, LayerNorm, Linear, Module};
use kiln::op::TensorType;
use kiln::Var;

use super::Network;
use crate::blocks::{dropout, linear};
use crate::{batch, classifier, found, found_in, make, trained, BATCH};

pub(super) fn networks() -> Vec<Network> {
    vec![
        (
            "SimpleNet",
            Box::new(|| {
                classifier(batch(&[784]), |p| {
                    let net = SimpleNet::new(p, 784, 512, 10, 0.5);
                    move |x: &Var| net.forward(x)
                })
            }),
        ),
        (
            "VariableDropoutNet",
            Box::new(|| {
                classifier(batch(&[784]), |p| {
                    let net = VariableDropoutNet::new(p);
                    move |x: &Var| net.forward(x)
                })
            }),
        ),
        // Srivastava et al. 2014, JMLR 15(56): 0.2 of the input, 0.5 of hidden layers.
        (
            "dropped input",
            Box::new(|| {
                classifier(batch(&[784]), |p| {
                    let layers = [linear(p, "a", 784, 800), linear(p, "b", 800, 800)];
                    let drops =
                        [dropout(p, "d0", 0.2), dropout(p, "d1", 0.5), dropout(p, "d2", 0.5)];
                    let last = linear(p, "c", 800, 10);
                    move |x: &Var| {
                        let x = drops[0].forward(x);
                        let x = drops[1].forward(&layers[0].forward(&x).relu());
                        last.forward(&drops[2].forward(&layers[1].forward(&x).relu()))
                    }
                })
            }),
        ),
        // Vincent et al. 2008: noise on the input, a narrow code, a sigmoid at the end.
        (
            "denoising autoencoder",
            Box::new(|| {
                found(batch(&[784]), |p| {
                    let noise = dropout(p, "noise", 0.3);
                    let (encoder, decoder) =
                        (linear(p, "encoder", 784, 128), linear(p, "decoder", 128, 784));
                    move |x: &Var| {
                        decoder.forward(&encoder.forward(&noise.forward(x)).relu()).sigmoid()
                    }
                })
            }),
        ),
        // A code is linear on purpose, and narrower than what it comes from and goes to.
        (
            "linear code",
            Box::new(|| {
                found(batch(&[784]), |p| {
                    let layers = [
                        linear(p, "a", 784, 256),
                        linear(p, "code", 256, 16),
                        linear(p, "b", 16, 256),
                        linear(p, "c", 256, 784),
                    ];
                    let drop = dropout(p, "drop", 0.2);
                    move |x: &Var| {
                        let x = drop.forward(&layers[0].forward(x).relu());
                        let code = layers[1].forward(&x);
                        layers[3].forward(&layers[2].forward(&code).relu())
                    }
                })
            }),
        ),
        // Gal & Ghahramani 2015, arXiv:1506.02142: regression with Monte Carlo passes.
        (
            "Monte Carlo regression",
            Box::new(|| {
                let case = Case { used: Use::MonteCarlo, ..Case::default() };
                found_in(&case, batch(&[13]), |p| {
                    let layers =
                        [linear(p, "a", 13, 100), linear(p, "b", 100, 100), linear(p, "c", 100, 1)];
                    let drops = [dropout(p, "d1", 0.2), dropout(p, "d2", 0.2)];
                    move |x: &Var| {
                        let x = drops[0].forward(&layers[0].forward(x).relu());
                        layers[2].forward(&drops[1].forward(&layers[1].forward(&x).relu()))
                    }
                })
            }),
        ),
        (
            "regression with tanh",
            Box::new(|| {
                let net = make(|p| {
                    let layers =
                        [linear(p, "a", 40, 128), linear(p, "b", 128, 128), linear(p, "c", 128, 4)];
                    let drop = dropout(p, "drop", 0.25);
                    crate::Function(move |x: &Var| {
                        let x = layers[1].forward(&layers[0].forward(x).tanh()).tanh();
                        layers[2].forward(&drop.forward(&x))
                    })
                });
                trained(net, Mse::default(), &batch(&[40]), &batch(&[4]))
            }),
        ),
        (
            "several labels",
            Box::new(|| {
                let net = make(|p| {
                    let layers = [linear(p, "a", 500, 256), linear(p, "b", 256, 30)];
                    let drop = dropout(p, "drop", 0.5);
                    crate::Function(move |x: &Var| {
                        layers[1].forward(&drop.forward(&layers[0].forward(x).silu()))
                    })
                });
                trained(net, BceWithLogits::default(), &batch(&[500]), &batch(&[30]))
            }),
        ),
        // Bromley et al. 1993: one tower for both inputs.
        (
            "siamese",
            Box::new(|| {
                struct Siamese(Linear, Dropout, Linear);
                impl Module<(Var, Var), (Var, Var)> for Siamese {
                    fn forward(&self, (a, b): &(Var, Var)) -> (Var, Var) {
                        let tower =
                            |x: &Var| self.2.forward(&self.1.forward(&self.0.forward(x).relu()));
                        (tower(a), tower(b))
                    }
                }
                let net = make(|p| {
                    Siamese(
                        linear(p, "a", 784, 256),
                        dropout(p, "drop", 0.3),
                        linear(p, "b", 256, 64),
                    )
                });
                let distance = from_fn(|(a, b): &(Var, Var), same: &Var| {
                    let distance = (a - b).square().sum_over([1], Keep::Nothing);
                    ((distance - same).square()).mean()
                });
                let inputs = (batch(&[784]), batch(&[784]));
                trained(net, distance, &inputs, &TensorType::f32([BATCH].into()))
            }),
        ),
        // Klambauer et al. 2017, arXiv:1706.02515: SELU and dropout to the value that it tends to.
        (
            "self-normalising",
            Box::new(|| {
                classifier(batch(&[128]), |p| {
                    let layers = [
                        linear(p, "a", 128, 256),
                        linear(p, "b", 256, 256),
                        linear(p, "c", 256, 10),
                    ];
                    let drops = ["d1", "d2"].map(|name| AlphaDropout::new(&p.at(name), 0.2));
                    let selu = |x: Var| x.gt(0.0).where_(&x, (x.exp() - 1.0) * 1.6733) * 1.0507;
                    move |x: &Var| {
                        let x = drops[0].forward(&selu(layers[0].forward(x)));
                        layers[2].forward(&drops[1].forward(&selu(layers[1].forward(&x))))
                    }
                })
            }),
        ),
        // Tolstikhin et al. 2021, arXiv:2105.01601, over features alone.
        (
            "normed branches",
            Box::new(|| {
                classifier(batch(&[128]), |p| {
                    let norm = LayerNorm::new(&p.at("norm"), [128]);
                    let (a, b) = (linear(p, "a", 128, 512), linear(p, "b", 512, 128));
                    let drops = [dropout(p, "d1", 0.1), dropout(p, "d2", 0.1)];
                    let head = linear(p, "head", 128, 10);
                    move |x: &Var| {
                        let y = drops[0].forward(&a.forward(&norm.forward(x)).gelu());
                        head.forward(&(x + drops[1].forward(&b.forward(&y))))
                    }
                })
            }),
        ),
        // Gated layers (Dauphin et al. 2016, arXiv:1612.08083), and a residual MLP with low rates.
        (
            "gated and residual",
            Box::new(|| {
                classifier(batch(&[128]), |p| {
                    let layers: Vec<[Linear; 3]> = (0..3)
                        .map(|n| {
                            ["value", "gate", "out"]
                                .map(|name| linear(p, &format!("{name}{n}"), 128, 128))
                        })
                        .collect();
                    let drops: Vec<Dropout> =
                        (0..3).map(|n| dropout(p, &format!("drop{n}"), 0.1)).collect();
                    let head = linear(p, "head", 128, 10);
                    move |x: &Var| {
                        let mut x = x.clone();
                        for ([value, gate, out], drop) in layers.iter().zip(&drops) {
                            let gated = value.forward(&x) * gate.forward(&x).sigmoid();
                            x = &x + out.forward(&drop.forward(&gated));
                        }
                        head.forward(&x)
                    }
                })
            }),
        ),
    ]
}
