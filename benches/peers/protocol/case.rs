// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cases by their names: a letter for the network, the batch, and what is done.

use super::Result;

pub const INPUTS: usize = 784;
pub const CLASSES: usize = 10;
pub const WORDS: usize = 10_000;
pub const STEPS: usize = 64;
/// Features of a word, and units of a recurrent layer.
pub const WIDTH: usize = 128;
pub const HIDDEN: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Network {
    /// 784-512-512-10, dropout 0.5.
    Simple,
    /// 784-1024-512-10, dropout 0.2 and 0.5.
    Variable,
    Cnn,
    Rnn,
    Residual,
    Spatial,
    ResnetSmall,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pass {
    /// Forward, loss, backward, update by SGD with rate 0.01 and momentum 0.9.
    Sgd,
    /// By Adam with rate 0.001.
    Adam,
    /// Forward in eval mode.
    Eval,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Case {
    Net {
        network: Network,
        batch: usize,
        pass: Pass,
    },
    /// Dropout with p = 0.5 of 16M elements, forward and backward.
    Elements,
    /// Of feature maps of 64x128x32x32.
    Maps,
}

/// Extents of what dropout alone is given.
pub const ELEMENTS: [usize; 2] = [1024, 16384];
pub const MAPS: [usize; 4] = [64, 128, 32, 32];

impl Case {
    /// The case of this name.
    pub fn parse(name: &str) -> Result<Case> {
        match name {
            "drop16m" => return Ok(Case::Elements),
            "drop2d" => return Ok(Case::Maps),
            _ => {}
        }
        let unknown = || format!("no case {name}");
        let letter = name.chars().next().ok_or_else(unknown)?;
        let network = match letter {
            'a' => Network::Simple,
            'b' => Network::Variable,
            'c' => Network::Cnn,
            'd' => Network::Rnn,
            'e' => Network::Residual,
            'f' => Network::Spatial,
            'g' => Network::ResnetSmall,
            _ => return Err(unknown().into()),
        };
        let rest = &name[1..];
        let (digits, pass) =
            rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(unknown)?);
        let pass = match pass {
            "sgd" => Pass::Sgd,
            "adam" => Pass::Adam,
            "eval" => Pass::Eval,
            _ => return Err(unknown().into()),
        };
        Ok(Case::Net { network, batch: digits.parse()?, pass })
    }
}

impl Network {
    /// Extents of a batch; tokens of the recurrent network.
    pub fn input(self, batch: usize) -> Vec<usize> {
        match self {
            Network::Simple | Network::Variable => vec![batch, INPUTS],
            Network::Rnn => vec![batch, STEPS],
            Network::Residual => vec![batch, 64, 32, 32],
            Network::Cnn | Network::Spatial | Network::ResnetSmall => vec![batch, 3, 32, 32],
        }
    }
}
