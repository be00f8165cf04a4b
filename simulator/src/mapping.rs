// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages of host memory from the operating system.

use std::ptr;

pub(crate) const PAGE: usize = 4096;

/// Private zeroed pages, given back on drop. Pages that are never touched cost nothing.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: usize,
    bytes: usize,
}

impl Mapping {
    /// Room for `bytes`, rounded up to whole pages; `None` when the host has no more.
    pub(crate) fn new(bytes: usize) -> Option<Self> {
        let bytes = bytes.max(1).checked_next_multiple_of(PAGE)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping at an address of the system's choice touches no existing memory.
        let address = unsafe {
            libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        (address != libc::MAP_FAILED).then_some(Self { address: address as usize, bytes })
    }

    pub(crate) fn address(&self) -> usize {
        self.address
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes pages from `offset` to the end inaccessible: touching them is a fault.
    pub(crate) fn forbid_from(&self, offset: usize) {
        // SAFETY: the range lies in this mapping, and nothing in Rust holds a reference into it.
        unsafe {
            libc::mprotect((self.address + offset) as *mut _, self.bytes - offset, libc::PROT_NONE)
        };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and its owner drops every address into it with it.
        unsafe { libc::munmap(self.address as *mut _, self.bytes) };
    }
}
