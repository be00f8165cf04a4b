// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text made safe for a terminal, and numbers made legible.

use std::fmt::{self, Display, Write};

/// Shows a value with its control characters escaped: a name in a file could otherwise clear a
/// terminal, change its title or forge lines of output. So are the marks that reverse the direction
/// of text.
///
/// ```
/// let name = "fc1\u{1b}[2J\nerror: forged";
/// assert_eq!(kiln::Printable(name).to_string(), "fc1\\u{1b}[2J\\nerror: forged");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Printable<T>(pub T);

/// As [`Printable`], for messages that may have several lines.
#[derive(Clone, Copy, Debug)]
pub struct PrintableLines<T>(pub T);

/// A number with its thousands apart.
///
/// ```
/// assert_eq!(kiln::grouped(1_234_567), "1,234,567");
/// ```
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Filter { to: f, kept: &[] }, "{}", self.0)
    }
}

impl<T: Display> Display for PrintableLines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Filter { to: f, kept: &['\n', '\t'] }, "{}", self.0)
    }
}

struct Filter<'a, 'b> {
    to: &'a mut fmt::Formatter<'b>,
    kept: &'static [char],
}

impl Write for Filter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        let unsafe_char = |c: char| is_unsafe(c) && !self.kept.contains(&c);
        while let Some(at) = rest.find(unsafe_char) {
            let (plain, tail) = rest.split_at(at);
            self.to.write_str(plain)?;
            let mut tail = tail.chars();
            if let Some(character) = tail.next() {
                write!(self.to, "{}", character.escape_default())?;
            }
            rest = tail.as_str();
        }
        self.to.write_str(rest)
    }
}

fn is_unsafe(character: char) -> bool {
    let turns_text = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || turns_text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_acts_on_a_terminal_is_escaped() {
        let cases = [
            ("naïve 漢字 [2J \\n", "naïve 漢字 [2J \\n"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("a\r\nb\tc\0", "a\\r\\nb\\tc\\u{0}"),
            ("\u{9b}31m \u{7f}", "\\u{9b}31m \\u{7f}"),
            ("abc\u{202e}txt.exe", "abc\\u{202e}txt.exe"),
        ];
        for (text, shown) in cases {
            assert_eq!(Printable(text).to_string(), shown);
        }
        assert_eq!(PrintableLines("a\n\tb\u{1b}").to_string(), "a\n\tb\\u{1b}");
    }
}
