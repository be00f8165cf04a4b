// SPDX-License-Identifier: MIT OR Apache-2.0
//! How results pass from the core that computes them to the cores that read them.
//!
//! A cache line that another core has read must be taken back before it can be written again, and
//! every step of training writes what readers hold since the last. Where two cores have last caches
//! of their own, taking back is slow: 28 ns a line, one line after the other, against 4 ns
//! within a last cache (Zen 4, `cargo bench --bench kernel -- 'reference/write'`). A whole line that
//! is written past the caches need not be taken back; its readers wait a little longer instead. With
//! two threads on cores that share no last cache, a step of SimpleNet at batch 64 fell from 1.25 to
//! 0.80 ms; on cores that do, it rose from 0.73 to 0.74 ms (Adam, as `cargo xtask peers` times it).

/// Distance in bytes from which on no two addresses share a cache line: lines have 64 bytes on most
/// machines and 128 on Apple's, and x86 fetches them in pairs. The same everywhere, so that a plan is.
pub(crate) const APART: usize = 128;

/// Which threads read a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// The one that writes it.
    Writer,
    /// Others too.
    All,
}

/// How a result is stored. The bits are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stores {
    /// Near the core that computes it.
    Cached,
    /// Past the caches, where it is a whole aligned vector.
    Streamed,
}

/// Whether the last cache is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastCache {
    /// All cores share it, or nothing better is known.
    Whole,
    /// Groups of cores have one each.
    Split,
}

impl LastCache {
    /// That of this machine. AMD builds processors from groups of cores with a cache each; where a
    /// virtual machine's cores lie cannot be seen from inside, and may change while it runs.
    pub(crate) fn detect() -> Self {
        match is_amd() {
            true => LastCache::Split,
            false => LastCache::Whole,
        }
    }

    /// How a result for these readers is stored, when so many threads work on it.
    pub(crate) fn stores(self, readers: Readers, threads: usize) -> Stores {
        match (self, readers) {
            (LastCache::Split, Readers::All) if threads > 1 => Stores::Streamed,
            _ => Stores::Cached,
        }
    }
}

/// SSE4a tells AMD's processors and their descendants from all others.
#[cfg(target_arch = "x86_64")]
fn is_amd() -> bool {
    std::arch::is_x86_feature_detected!("sse4a")
}

#[cfg(not(target_arch = "x86_64"))]
fn is_amd() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_results_that_cross_split_caches_are_streamed() {
        use {LastCache::*, Readers::*};
        assert_eq!(Split.stores(All, 2), Stores::Streamed);
        for (cache, readers, threads) in [(Split, All, 1), (Split, Writer, 2), (Whole, All, 2)] {
            assert_eq!(cache.stores(readers, threads), Stores::Cached);
        }
    }
}
