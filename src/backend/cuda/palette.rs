// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers of which a channel has at most 256: pictures of bytes, scaled and normalised in whatever way.
//! A byte says which of them an element is, and so nothing is rounded.

/// Numbers of each channel, in the order in which they were met.
#[derive(Debug)]
pub(super) struct Palette {
    /// Elements of a channel in a sample.
    plane: usize,
    channels: Vec<Channel>,
}

/// Numbers that a byte can tell apart.
pub(super) const COLOURS: usize = 256;

/// Places of a table in which at most a quarter is taken.
const SLOTS: usize = 4 * COLOURS;

#[derive(Clone, Debug)]
struct Channel {
    /// By their bits.
    colours: Vec<u32>,
    /// By a hash of its bits, the number of a colour, counted from 1; 0 for none.
    slots: Vec<u16>,
}

impl Palette {
    /// Of samples with so many channels of so many elements each.
    pub(super) fn new(channels: usize, plane: usize) -> Self {
        let channel = Channel { colours: Vec::new(), slots: vec![0; SLOTS] };
        Palette { plane, channels: vec![channel; channels] }
    }

    /// The bytes of whole samples; `None` if a channel has more numbers than a byte can tell.
    pub(super) fn encode(&mut self, values: &[f32]) -> Option<Vec<u8>> {
        let mut codes = Vec::with_capacity(values.len());
        let count = self.channels.len();
        for (index, plane) in values.chunks(self.plane).enumerate() {
            let channel = &mut self.channels[index % count];
            for value in plane {
                codes.push(channel.code(value.to_bits())?);
            }
        }
        Some(codes)
    }

    /// For each channel the bits of 256 numbers; zeros stand for those that did not occur.
    pub(super) fn words(&self) -> Vec<u32> {
        let mut words = Vec::with_capacity(COLOURS * self.channels.len());
        for channel in &self.channels {
            let end = words.len() + COLOURS;
            words.extend(&channel.colours);
            words.resize(end, 0);
        }
        words
    }
}

impl Channel {
    fn code(&mut self, bits: u32) -> Option<u8> {
        let mut slot = (bits.wrapping_mul(0x9e37_79b1) >> 22) as usize;
        loop {
            match usize::from(self.slots[slot]).checked_sub(1) {
                Some(known) if self.colours[known] == bits => return u8::try_from(known).ok(),
                Some(_) => slot = (slot + 1) % SLOTS,
                None => {
                    let code = u8::try_from(self.colours.len()).ok()?;
                    self.colours.push(bits);
                    self.slots[slot] = u16::from(code) + 1;
                    return Some(code);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits are kept, whatever number they are, and each channel has its own.
    #[test]
    fn bytes_tell_numbers_to_the_bit() {
        let odd = [-0.0, 0.0, f32::NAN, f32::from_bits(0x7fc0_0001), f32::INFINITY, 1e-40];
        let normalised = |byte: u32| (byte as f32 / 255.0 - 0.1307) / 0.3081;
        let first: Vec<f32> = odd.into_iter().chain((0..250).map(normalised)).collect();
        let second: Vec<f32> = (0..256).map(|byte| byte as f32 * 3.7).rev().collect();
        let mut palette = Palette::new(2, 256);
        for values in [[&first[..], &second].concat(), [&second[..], &first].concat()] {
            let mut own = Palette::new(2, 256);
            let codes = own.encode(&values).expect("256 numbers each");
            let words = own.words();
            let told = |(at, code): (usize, &u8)| words[at / 256 * 256 + usize::from(*code)];
            let told: Vec<u32> = codes.iter().enumerate().map(told).collect();
            assert_eq!(told, values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>());
        }
        palette.encode(&[&first[..], &second].concat()).expect("256 numbers each");
        palette.encode(&[&first[..], &second].concat()).expect("the same");
        assert!(palette.encode(&[&second[..], &first].concat()).is_none(), "a 257th");
    }
}
