// SPDX-License-Identifier: MIT OR Apache-2.0
//! The networks, with PyTorch's names.

use candle_core::{Module, ModuleT, Result, Tensor};
use candle_nn::rnn::{LSTM, LSTMConfig, RNN, lstm};
use candle_nn::{
    BatchNorm, Conv2d, Conv2dConfig, Embedding, Linear, VarBuilder, batch_norm, conv2d,
    conv2d_no_bias, embedding, linear,
};

use super::dropping::Dropping;
use super::protocol::case::{CLASSES, HIDDEN, INPUTS, Network, WIDTH, WORDS};

const EPSILON: f64 = 1e-5;

/// A network.
pub enum Net {
    Dense { layers: [Linear; 3], rates: [f32; 2] },
    Cnn { convs: [Conv2d; 2], layers: [Linear; 2] },
    Spatial([Conv2d; 2]),
    Residual(Block),
    Rnn { embedding: Embedding, lstm: [LSTM; 2], fc: Linear },
    Resnet { conv: Conv2d, norm: (String, BatchNorm), blocks: Vec<Block>, fc: Linear },
}

/// Two convolutions beside what came in.
pub struct Block {
    convs: [Conv2d; 2],
    norms: [(String, BatchNorm); 2],
    dropout: String,
    shortcut: Option<(Conv2d, (String, BatchNorm))>,
}

impl Net {
    pub fn new(network: Network, vb: &VarBuilder) -> Result<Net> {
        let same = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        let dense = |hidden: usize, rates| -> Result<Net> {
            let fc1 = linear(INPUTS, hidden, vb.pp("fc1"))?;
            let layers =
                [fc1, linear(hidden, 512, vb.pp("fc2"))?, linear(512, CLASSES, vb.pp("fc3"))?];
            Ok(Net::Dense { layers, rates })
        };
        let convs = || -> Result<[Conv2d; 2]> {
            Ok([conv2d(3, 64, 3, same, vb.pp("conv1"))?, conv2d(64, 128, 3, same, vb.pp("conv2"))?])
        };
        match network {
            Network::Simple => dense(512, [0.5, 0.5]),
            Network::Variable => dense(1024, [0.2, 0.5]),
            Network::Cnn => {
                let layers =
                    [linear(128 * 8 * 8, 512, vb.pp("fc1"))?, linear(512, CLASSES, vb.pp("fc2"))?];
                Ok(Net::Cnn { convs: convs()?, layers })
            }
            Network::Spatial => Ok(Net::Spatial(convs()?)),
            Network::Residual => Ok(Net::Residual(Block {
                convs: [
                    conv2d(64, 64, 3, same, vb.pp("conv1"))?,
                    conv2d(64, 64, 3, same, vb.pp("conv2"))?,
                ],
                norms: [norm(64, vb.pp("bn1"))?, norm(64, vb.pp("bn2"))?],
                dropout: "dropout".into(),
                shortcut: None,
            })),
            Network::Rnn => {
                let second = LSTMConfig { layer_idx: 1, ..LSTMConfig::default() };
                let layers = [
                    lstm(WIDTH, HIDDEN, LSTMConfig::default(), vb.pp("lstm"))?,
                    lstm(HIDDEN, HIDDEN, second, vb.pp("lstm"))?,
                ];
                let embedding = embedding(WORDS, WIDTH, vb.pp("embedding"))?;
                Ok(Net::Rnn { embedding, lstm: layers, fc: linear(HIDDEN, CLASSES, vb.pp("fc"))? })
            }
            Network::ResnetSmall => {
                let mut blocks = Vec::new();
                let mut inputs = 16;
                for (stage, outputs) in [16, 32, 64].into_iter().enumerate() {
                    for block in 0..3 {
                        let name = format!("layer{}.{block}", stage + 1);
                        blocks.push(Block::of_resnet([inputs, outputs], &name, vb.pp(&name))?);
                        inputs = outputs;
                    }
                }
                let conv = conv2d_no_bias(3, 16, 3, same, vb.pp("conv1"))?;
                Ok(Net::Resnet {
                    conv,
                    norm: norm(16, vb.pp("bn1"))?,
                    blocks,
                    fc: linear(64, CLASSES, vb.pp("fc"))?,
                })
            }
        }
    }

    pub fn forward(&self, x: &Tensor, dropping: &Dropping) -> Result<Tensor> {
        match self {
            Net::Dense { layers: [fc1, fc2, fc3], rates } => {
                let x = dropping.elements("dropout1", rates[0], &fc1.forward(x)?.relu()?)?;
                let x = dropping.elements("dropout2", rates[1], &fc2.forward(&x)?.relu()?)?;
                fc3.forward(&x)
            }
            Net::Cnn { convs: [conv1, conv2], layers: [fc1, fc2] } => {
                let x = conv1.forward(x)?.relu()?.max_pool2d(2)?;
                let x = conv2.forward(&x)?.relu()?.max_pool2d(2)?;
                let x = dropping.maps("dropout_conv", 0.25, &x)?.flatten_from(1)?;
                fc2.forward(&dropping.elements("dropout_fc", 0.5, &fc1.forward(&x)?.relu()?)?)
            }
            Net::Spatial([conv1, conv2]) => {
                let x = dropping.maps("spatial_dropout", 0.2, &conv1.forward(x)?.relu()?)?;
                conv2.forward(&x)?.relu()
            }
            Net::Residual(block) => block.forward(x, dropping),
            Net::Rnn { embedding, lstm: [first, second], fc } => {
                let x = dropping.elements("dropout", 0.5, &embedding.forward(x)?)?;
                let x = first.states_to_tensor(&first.seq(&x)?)?;
                let states = second.seq(&dropping.elements("lstm", 0.5, &x)?)?;
                let Some(last) = states.last() else { candle_core::bail!("a text without words") };
                fc.forward(&dropping.elements("dropout", 0.5, last.h())?)
            }
            Net::Resnet { conv, norm, blocks, fc } => {
                let mut x = norm.1.forward_t(&conv.forward(x)?, dropping.trains())?.relu()?;
                for block in blocks {
                    x = block.forward(&x, dropping)?;
                }
                fc.forward(&x.mean((2, 3))?)
            }
        }
    }

    /// The batch norms, by name.
    pub fn norms(&self) -> Vec<&(String, BatchNorm)> {
        match self {
            Net::Residual(block) => block.all_norms().collect(),
            Net::Resnet { norm, blocks, .. } => {
                std::iter::once(norm).chain(blocks.iter().flat_map(Block::all_norms)).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Block {
    fn of_resnet([inputs, outputs]: [usize; 2], name: &str, vb: VarBuilder) -> Result<Block> {
        let stride = if inputs == outputs { 1 } else { 2 };
        let conv = |inputs, side, stride, vb| {
            let config = Conv2dConfig { padding: side / 2, stride, ..Conv2dConfig::default() };
            conv2d_no_bias(inputs, outputs, side, config, vb)
        };
        let shortcut = if stride == 1 {
            None
        } else {
            let vb = vb.pp("downsample");
            Some((conv(inputs, 1, stride, vb.pp("0"))?, norm(outputs, vb.pp("1"))?))
        };
        Ok(Block {
            convs: [conv(inputs, 3, stride, vb.pp("conv1"))?, conv(outputs, 3, 1, vb.pp("conv2"))?],
            norms: [norm(outputs, vb.pp("bn1"))?, norm(outputs, vb.pp("bn2"))?],
            dropout: format!("{name}.dropout"),
            shortcut,
        })
    }

    fn forward(&self, x: &Tensor, dropping: &Dropping) -> Result<Tensor> {
        let ([conv1, conv2], [(_, norm1), (_, norm2)]) = (&self.convs, &self.norms);
        let trains = dropping.trains();
        let out = norm1.forward_t(&conv1.forward(x)?, trains)?.relu()?;
        let out = dropping.maps(&self.dropout, 0.1, &out)?;
        let out = norm2.forward_t(&conv2.forward(&out)?, trains)?;
        let shortcut = match &self.shortcut {
            Some((conv, (_, norm))) => norm.forward_t(&conv.forward(x)?, trains)?,
            None => x.clone(),
        };
        (out + shortcut)?.relu()
    }

    fn all_norms(&self) -> impl Iterator<Item = &(String, BatchNorm)> {
        self.norms.iter().chain(self.shortcut.iter().map(|(_, norm)| norm))
    }
}

/// A batch norm and its name.
fn norm(channels: usize, vb: VarBuilder) -> Result<(String, BatchNorm)> {
    Ok((vb.prefix(), batch_norm(channels, EPSILON, vb)?))
}
