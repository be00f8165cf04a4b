// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files: reading regular ones only, replacing them in one go, one writer per directory.

mod atomic;
mod lock;
pub(crate) mod regular;
mod rename;

pub use atomic::write_atomically;
pub(crate) use atomic::Replacement;
pub use lock::DirectoryLock;
