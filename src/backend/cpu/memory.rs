// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of the CPU backend: aligned arenas, and the slices of them that a step works on.

use std::sync::OnceLock;

use memmap2::MmapMut;

use crate::backend::{Arena, Span};
use crate::plan::Bytes;
use crate::{Error, Result};

const ELEMENT: usize = std::mem::size_of::<f32>();

/// Size of a huge page where pages have 4 KiB. A step walks through all parameters and moments,
/// which are more such pages than a processor keeps translations of: 2 to 3 % of a step of
/// 1.3 million parameters (Zen 4, `cargo xtask peers --cases b128adam`).
///
/// Where pages have 16 or 64 KiB, fewer translations do, and huge pages have 32 or 512 MiB, of which
/// a network would leave most unused: there none is asked for.
const HUGE_PAGE: usize = 2 << 20;

/// Where Linux says how large its huge pages are.
const HUGE_PAGE_FILE: &str = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";

/// All memory that networks reserved.
#[derive(Debug, Default)]
pub(super) struct Arenas(Vec<Aligned>);

/// Floating-point numbers that begin at a huge page if they fill one, else at a page.
#[derive(Debug)]
struct Aligned {
    map: MmapMut,
    /// In bytes, as the length.
    start: usize,
    length: usize,
}

impl Arenas {
    /// Reserves zeros.
    ///
    /// # Errors
    /// [`Error::Device`] if the system has not as much memory.
    pub(super) fn reserve(&mut self, bytes: Bytes) -> Result<Arena> {
        self.0.push(Aligned::zeros(bytes.0.next_multiple_of(ELEMENT))?);
        Ok(Arena((self.0.len() - 1) as u32))
    }

    pub(super) fn slice(&self, at: Span) -> &[f32] {
        let start = at.start.0 / ELEMENT;
        &self.0[at.arena.0 as usize].elements()[start..start + at.length.0 / ELEMENT]
    }

    pub(super) fn slice_mut(&mut self, at: Span) -> &mut [f32] {
        let start = at.start.0 / ELEMENT;
        &mut self.0[at.arena.0 as usize].elements_mut()[start..start + at.length.0 / ELEMENT]
    }

    /// Disjoint slices of any arenas, in the order of `spans`. An empty span gives an empty slice.
    ///
    /// # Panics
    /// If two spans overlap: the memory plan keeps the buffers of a step apart.
    pub(super) fn split(&mut self, spans: &[Span]) -> Vec<&mut [f32]> {
        let mut order: Vec<usize> =
            (0..spans.len()).filter(|&index| spans[index].length.0 > 0).collect();
        order.sort_unstable_by_key(|&index| (spans[index].arena, spans[index].start));
        let mut slices: Vec<&mut [f32]> = (0..spans.len()).map(|_| Default::default()).collect();
        let mut next = order.into_iter().peekable();
        for (number, arena) in self.0.iter_mut().enumerate() {
            let mut rest = arena.elements_mut();
            let mut passed = 0;
            while let Some(index) = next.next_if(|&i| spans[i].arena.0 as usize == number) {
                let start = spans[index].start.0 / ELEMENT;
                let (_, tail) = rest.split_at_mut(start - passed);
                let (slice, tail) = tail.split_at_mut(spans[index].length.0 / ELEMENT);
                passed = start + slice.len();
                slices[index] = slice;
                rest = tail;
            }
        }
        slices
    }
}

impl Aligned {
    fn zeros(length: usize) -> Result<Self> {
        let is_huge = length >= HUGE_PAGE && has_huge_pages();
        // Whole huge pages, wherever the map begins.
        let mapped = match is_huge {
            true => length.next_multiple_of(HUGE_PAGE) + HUGE_PAGE,
            false => length.max(ELEMENT), // no map is empty
        };
        let map = MmapMut::map_anon(mapped).map_err(|error| Error::Device {
            device: "cpu".into(),
            message: format!("cannot reserve {length} bytes: {error}"),
        })?;
        let start = match is_huge {
            true => map.as_ptr().align_offset(HUGE_PAGE).min(HUGE_PAGE),
            false => 0,
        };
        // A wish, which the system need not grant.
        #[cfg(target_os = "linux")]
        if is_huge {
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Aligned { map, start, length })
    }

    fn elements(&self) -> &[f32] {
        bytemuck::cast_slice(&self.map[self.start..self.start + self.length])
    }

    fn elements_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.map[self.start..self.start + self.length])
    }
}

/// Whether this system has huge pages of [`HUGE_PAGE`] bytes.
fn has_huge_pages() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| match std::fs::read_to_string(HUGE_PAGE_FILE) {
        Ok(bytes) => is_huge_page(&bytes),
        // Containers may hide the file; on x86 there is no other size.
        Err(_) => cfg!(all(target_os = "linux", target_arch = "x86_64")),
    })
}

/// What [`HUGE_PAGE_FILE`] says where huge pages have the size that is asked for.
fn is_huge_page(bytes: &str) -> bool {
    bytes.trim().parse() == Ok(HUGE_PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::ALIGNMENT;

    #[test]
    fn every_arena_is_zeros_that_begin_at_a_cache_line() {
        let mut arenas = Arenas::default();
        for bytes in [0, 3, 4, 4096, HUGE_PAGE - 4, HUGE_PAGE, 3 * HUGE_PAGE + 8] {
            let arena = arenas.reserve(Bytes(bytes)).unwrap();
            let length = Bytes(bytes / ELEMENT * ELEMENT);
            let slice = arenas.slice_mut(Span { arena, start: Bytes(0), length });
            assert_eq!(slice.as_ptr().align_offset(ALIGNMENT), 0, "{bytes} bytes");
            assert!(slice.iter().all(|&element| element == 0.0), "{bytes} bytes");
            slice.fill(1.0);
        }
    }

    #[test]
    fn huge_pages_are_wanted_only_where_pages_are_small() {
        assert!(is_huge_page("2097152\n"));
        for other in ["33554432\n", "536870912\n", "", "two"] {
            assert!(!is_huge_page(other), "{other:?}");
        }
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        let error = Arenas::default().reserve(Bytes(1 << 62)).unwrap_err().to_string();
        assert!(error.starts_with("cpu: cannot reserve 4611686018427387904 bytes: "), "{error}");
    }
}
