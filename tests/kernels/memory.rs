// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device memory of the tests.

use cudarc::driver::result;

use crate::float::Storage;

/// An address in device memory; 0 stands for nothing. The name that `abi.rs` expects.
#[allow(unreachable_pub)] // fields of the generated structures are public
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Address(pub u64);

/// Device memory that is freed when dropped. It is as long as its content, so that the simulated
/// driver sees every access beyond it.
#[derive(Debug)]
pub(crate) struct Memory {
    address: u64,
    bytes: usize,
}

impl Memory {
    /// The driver's context is the thread's: memory is only made while a `Gpu` is open.
    pub(crate) fn of_bytes(content: &[u8]) -> Self {
        // SAFETY: the context is current, and the size is not zero.
        let address = unsafe { result::malloc_sync(content.len().max(1)) }.expect("device memory");
        if !content.is_empty() {
            // SAFETY: the range was just allocated with this length.
            unsafe { result::memcpy_htod_sync(address, content) }.expect("copied");
        }
        Memory { address, bytes: content.len() }
    }

    pub(crate) fn of_words(words: &[u32]) -> Self {
        Self::of_bytes(&words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>())
    }

    /// Tickets as kernels want them: zeros.
    pub(crate) fn tickets(count: usize) -> Self {
        Self::of_words(&vec![0; count])
    }

    /// Room for partial sums, full of NaNs.
    pub(crate) fn partials(count: usize) -> Self {
        Self::of_words(&vec![f32::NAN.to_bits(); count])
    }

    pub(crate) fn address(&self) -> Address {
        Address(self.address)
    }

    pub(crate) fn read(&self) -> Vec<u8> {
        let mut content = vec![0; self.bytes];
        // SAFETY: all launches were waited for, and the range is this memory.
        unsafe { result::memcpy_dtoh_sync(&mut content, self.address) }.expect("copied");
        content
    }

    /// Fails unless kernels left their tickets as they found them.
    pub(crate) fn assert_zero(&self, kernel: &str) {
        assert!(self.read().iter().all(|&byte| byte == 0), "{kernel} leaves tickets behind");
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated once, freed once, and every launch that used it was waited for. While a
        // test is failing the context may be gone, and the error with it.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// An array of a storage type, and what was put into it.
#[derive(Debug)]
pub(crate) struct Array {
    storage: Storage,
    memory: Memory,
    /// The numbers that it was made with, rounded to the storage type.
    pub(crate) values: Vec<f64>,
}

impl Array {
    pub(crate) fn new(storage: Storage, values: &[f32]) -> Self {
        let memory = Memory::of_bytes(&storage.encode(values));
        let values = values.iter().map(|&x| f64::from(storage.round(x))).collect();
        Array { storage, memory, values }
    }

    /// A place for results, full of NaNs: what a kernel does not write is not a number.
    pub(crate) fn output(storage: Storage, count: usize) -> Self {
        Self::new(storage, &vec![f32::NAN; count])
    }

    pub(crate) fn address(&self) -> Address {
        self.memory.address()
    }

    /// What it holds now.
    pub(crate) fn read(&self) -> Vec<f64> {
        self.storage.decode(&self.memory.read())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.memory.read()
    }
}
