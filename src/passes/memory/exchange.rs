// SPDX-License-Identifier: MIT OR Apache-2.0
//! What crosses between host and device in a run, where kernels do not use host memory themselves.

use crate::plan::Bytes;

/// The arena's beginning: what the host gives beside tensors, inputs, and numbers that are returned.
pub(super) struct Exchange {
    given: usize,
    alignment: usize,
    /// Buffers and their bytes.
    inputs: Vec<(usize, usize)>,
    numbers: Vec<(usize, usize)>,
}

impl Exchange {
    pub(super) fn new(given: usize, alignment: usize) -> Self {
        Exchange { given, alignment, inputs: Vec::new(), numbers: Vec::new() }
    }

    /// A buffer that is uploaded.
    pub(super) fn input(&mut self, buffer: usize, bytes: usize) {
        self.inputs.push((buffer, bytes));
    }

    /// A buffer of one element that is returned.
    pub(super) fn number(&mut self, buffer: usize, bytes: usize) {
        self.numbers.push((buffer, bytes));
    }

    /// Small inputs first: a large one may come from elsewhere than the host, and is left out of the
    /// copy then. The result is the size of all.
    pub(super) fn assign(mut self, mut place: impl FnMut(usize, Bytes)) -> Bytes {
        self.inputs.sort_by_key(|&(buffer, bytes)| (bytes, buffer));
        let mut end = self.given.next_multiple_of(self.alignment);
        for (buffer, bytes) in self.inputs.into_iter().chain(self.numbers) {
            place(buffer, Bytes(end));
            end = (end + bytes).next_multiple_of(self.alignment);
        }
        Bytes(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crosses_lies_in_one_stretch() {
        let mut exchange = Exchange::new(100, 64);
        exchange.input(0, 1000);
        exchange.number(3, 4);
        exchange.input(1, 0);
        exchange.input(2, 60);
        let mut places = [usize::MAX; 4];
        let end = exchange.assign(|buffer, Bytes(offset)| places[buffer] = offset);
        assert_eq!((places, end), ([192, 128, 128, 1216], Bytes(1280)));
    }
}
