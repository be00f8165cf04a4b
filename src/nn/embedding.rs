// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows of a table for tokens.

use super::{Init, Module, Param, Scope};
use crate::graph::{LayerPath, Var};
use crate::op::Op;

/// For each token its row of a learned table, as `torch.nn.Embedding`.
///
/// # Shapes
/// `x`: `i32 [...]` of any rank, numbers of rows; `y`: `[..., width]`. Parameters: `weight [rows, width]`,
/// normal with mean 0 and deviation 1; the row that is padding is 0 at first and never trained.
///
/// # Errors
/// Arguments that cannot be come back from [`Net::new`](crate::Net::new). A token that names no row is an
/// error of the run, before anything is computed.
///
/// ```
/// use kiln::nn::{Embedding, EmbeddingOptions};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let options = EmbeddingOptions { padding: Some(0), ..EmbeddingOptions::default() };
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| {
///     Embedding::with_options(&p.at("embedding"), 10, 3, options)
/// })?;
/// let y = net.eval().forward(&Tensor::labels([2, 4], vec![1, 2, 3, 4, 9, 8, 0, 0])?)?;
/// assert_eq!(y.shape().dims(), [2, 4, 3]);
/// assert_eq!(y.values()?[18..], [0.0; 6]);
/// let error = net.eval().forward(&Tensor::labels([1], vec![10])?).unwrap_err().to_string();
/// assert_eq!(error, "embedding: take: index 0 of input 0: expected a number from 0 to 9, got 10");
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Embedding {
    layer: LayerPath,
    weight: Param,
    padding: Option<usize>,
}

/// What an embedding can be told besides its sizes; PyTorch's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EmbeddingOptions {
    /// The row of the token that fills sequences up, counted from the end if negative. It has no
    /// gradient: PyTorch's `padding_idx`.
    pub padding: Option<isize>,
    /// PyTorch's `max_norm`, which scales rows of the table in the forward pass. It is refused: forward
    /// passes change no parameters here.
    pub max_norm: Option<f32>,
}

impl Embedding {
    /// A table of `rows` rows of `width` features.
    pub fn new(p: &Scope, rows: usize, width: usize) -> Self {
        Self::with_options(p, rows, width, EmbeddingOptions::default())
    }

    /// A table of `rows` rows of `width` features.
    pub fn with_options(p: &Scope, rows: usize, width: usize, options: EmbeddingOptions) -> Self {
        if let Some(max_norm) = options.max_norm {
            p.reject("max_norm", "none, since forward passes change no parameters", max_norm);
        }
        let padding = options.padding.and_then(|row| {
            let from_the_end = row.unsigned_abs();
            let number = match row {
                0.. => Some(from_the_end).filter(|&number| number < rows),
                _ => rows.checked_sub(from_the_end),
            };
            if number.is_none() {
                let expected = format!("a row from -{rows} to {}", rows.saturating_sub(1));
                p.reject("padding", &expected, row);
            }
            number
        });
        let weight = p.parameter("weight", [rows, width], Init::Embedding { padding });
        Embedding { layer: p.layer("Embedding"), weight, padding }
    }
}

impl Module for Embedding {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| {
            let take = Op::Take { axis: 0, padding: self.padding };
            x.parameter(&self.weight).apply(take, &[x])
        })
    }
}
