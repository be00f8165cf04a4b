// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether answers are as often right as they are sure.

use super::probabilities::{likeliest, Probabilities};
use crate::{Error, Result};

/// How confidences are divided to compare them with what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bins {
    /// So many stretches of equal width between 0 and 1, each with its upper end; 15 are usual.
    EqualWidth(usize),
    /// So many groups of almost equally many samples, from the least to the most sure; of equally sure ones
    /// the earlier come first.
    EqualCount(usize),
}

impl Bins {
    /// Fifteen of equal width, as Guo et al. take them.
    pub const USUAL: Bins = Bins::EqualWidth(15);
}

/// A sample's confidence and whether its answer is right, as 1 or 0.
type Answer = (f64, f64);

impl Probabilities {
    /// The expected calibration error: `sum_b n_b / n |right_b - sure_b|` over bins `b` of `n_b` samples,
    /// with the share of right answers in each and the mean probability of the answers. With
    /// [`Bins::EqualWidth`] as Guo et al. 2017 (arXiv:1706.04599) after Naeini et al. 2015, with
    /// [`Bins::EqualCount`] adaptive (Nguyen & O'Connor 2015, arXiv:1508.05154).
    ///
    /// # Errors
    /// As all figures with labels; [`Error::Argument`] for no bins.
    pub fn calibration_error(&self, labels: &[i32], bins: Bins) -> Result<f64> {
        let answer = |(row, label): (&[f64], usize)| {
            let guess = likeliest(row);
            (row[guess], f64::from(u8::from(guess == label)))
        };
        let answers: Vec<Answer> = self.labelled(labels)?.map(answer).collect();
        let groups = match bins {
            Bins::EqualWidth(0) | Bins::EqualCount(0) => {
                return Err(Error::argument("bins", "1 or more", 0));
            }
            Bins::EqualWidth(count) => of_equal_width(&answers, count),
            Bins::EqualCount(count) => of_equal_count(answers.clone(), count),
        };
        let gap =
            |group: &Vec<Answer>| group.iter().map(|(sure, right)| right - sure).sum::<f64>().abs();
        Ok(groups.iter().map(gap).sum::<f64>() / answers.len() as f64)
    }
}

fn of_equal_width(answers: &[Answer], count: usize) -> Vec<Vec<Answer>> {
    // Those that are empty count for nothing.
    let mut groups = std::collections::BTreeMap::<usize, Vec<Answer>>::new();
    for answer in answers {
        let end = (answer.0 * count as f64).ceil().clamp(1.0, count as f64);
        groups.entry(end as usize).or_default().push(*answer);
    }
    groups.into_values().collect()
}

fn of_equal_count(mut answers: Vec<Answer>, count: usize) -> Vec<Vec<Answer>> {
    answers.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = answers.len();
    let count = count.min(all);
    let start = |group: usize| (group as u128 * all as u128 / count as u128) as usize;
    (0..count).map(|group| answers[start(group)..start(group + 1)].to_vec()).collect()
}
