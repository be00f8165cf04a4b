// SPDX-License-Identifier: MIT OR Apache-2.0
//! Labelled texts, and the tokens that recurrent networks take of them.

mod file;
mod labelled;
mod texts;
mod vocabulary;

pub(super) use file::{bytes, lines, Line};
pub use labelled::{Labelled, LabelledText};
pub use texts::Texts;
pub use vocabulary::{Unit, Vocabulary};
