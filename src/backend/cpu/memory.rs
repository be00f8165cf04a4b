// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of the CPU backend: aligned arenas, and the slices of them that a step works on.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

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

/// All memory that a network reserved. Others may read an arena as it is; whoever writes then writes
/// to a copy.
#[derive(Debug, Default)]
pub(super) struct Arenas(Vec<Arc<Aligned>>);

/// A slice of an arena.
#[derive(Debug)]
pub(super) enum Slice<'a> {
    Own(&'a mut [f32]),
    Shared(&'a [f32]),
}

/// How a slice is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
}

/// Floating-point numbers that begin at a huge page if they fill one, else at a page.
#[derive(Debug)]
pub(super) struct Aligned {
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
        Ok(self.read_along(Arc::new(Aligned::zeros(bytes.0.next_multiple_of(ELEMENT))?)))
    }

    /// Makes an arena zeros of another size.
    ///
    /// # Errors
    /// As [`reserve`](Arenas::reserve); the arena stays as it is then.
    pub(super) fn grow(&mut self, arena: Arena, bytes: Bytes) -> Result<()> {
        let zeros = Aligned::zeros(bytes.0.next_multiple_of(ELEMENT))?;
        self.0[arena.0 as usize] = Arc::new(zeros);
        Ok(())
    }

    /// What an arena holds now, for others to read.
    pub(super) fn share(&self, arena: Arena) -> Arc<Aligned> {
        self.0[arena.0 as usize].clone()
    }

    /// An arena of numbers that others may read too.
    pub(super) fn read_along(&mut self, numbers: Arc<Aligned>) -> Arena {
        self.0.push(numbers);
        Arena((self.0.len() - 1) as u32)
    }

    pub(super) fn slice(&self, at: Span) -> &[f32] {
        &self.0[at.arena.0 as usize].elements()[range(at)]
    }

    /// # Errors
    /// As [`reserve`](Arenas::reserve), if others read the arena as it is.
    pub(super) fn slice_mut(&mut self, at: Span) -> Result<&mut [f32]> {
        Ok(&mut own(&mut self.0[at.arena.0 as usize])?.elements_mut()[range(at)])
    }

    /// Slices of arenas, in the order of `spans`, which are sorted by arena and start and disjoint.
    ///
    /// # Errors
    /// As [`reserve`](Arenas::reserve), if others read an arena as it is that is to be written.
    ///
    /// # Panics
    /// If two spans overlap: the memory plan keeps the buffers of a step apart.
    pub(super) fn split(&mut self, spans: &[(Span, Use)]) -> Result<Vec<Slice<'_>>> {
        let mut slices = Vec::with_capacity(spans.len());
        let mut arenas = self.0.iter_mut().enumerate();
        for of_arena in spans.chunk_by(|(a, _), (b, _)| a.arena == b.arena) {
            let number = of_arena[0].0.arena.0 as usize;
            let arena = arenas.find(|(index, _)| *index == number);
            let Some((_, arena)) = arena else { return Err(unknown()) };
            if of_arena.iter().all(|(_, how)| *how == Use::Read) {
                let elements = arena.elements();
                let read = |(span, _): &(Span, Use)| Slice::Shared(&elements[range(*span)]);
                slices.extend(of_arena.iter().map(read));
                continue;
            }
            let mut rest = own(arena)?.elements_mut();
            let mut passed = 0;
            for (span, _) in of_arena {
                let range = range(*span);
                let (_, tail) = rest.split_at_mut(range.start - passed);
                let (slice, tail) = tail.split_at_mut(range.len());
                passed = range.end;
                slices.push(Slice::Own(slice));
                rest = tail;
            }
        }
        Ok(slices)
    }
}

/// An arena's numbers to write to: a copy, if others read them as they are.
fn own(arena: &mut Arc<Aligned>) -> Result<&mut Aligned> {
    if Arc::get_mut(arena).is_none() {
        *arena = Arc::new(arena.copied()?);
    }
    Arc::get_mut(arena).ok_or_else(|| Error::Internal {
        pass: "cpu",
        message: "a copy of an arena is read by others".into(),
    })
}

fn unknown() -> Error {
    Error::Internal { pass: "cpu", message: "spans are out of order".into() }
}

/// The elements of a span.
fn range(at: Span) -> Range<usize> {
    let start = at.start.0 / ELEMENT;
    start..start + at.length.0 / ELEMENT
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

    fn copied(&self) -> Result<Self> {
        let mut copy = Aligned::zeros(self.length)?;
        copy.elements_mut().copy_from_slice(self.elements());
        Ok(copy)
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
            let slice = arenas.slice_mut(Span { arena, start: Bytes(0), length }).unwrap();
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

    #[test]
    fn what_others_read_stays_when_it_is_written() {
        let mut arenas = Arenas::default();
        let arena = arenas.reserve(Bytes(8)).unwrap();
        let all = Span { arena, start: Bytes(0), length: Bytes(8) };
        arenas.slice_mut(all).unwrap().fill(1.0);
        let before = arenas.slice(all).as_ptr();
        arenas.slice_mut(all).unwrap().fill(2.0);
        assert_eq!(arenas.slice(all).as_ptr(), before, "nobody else reads");
        let shared = arenas.share(arena);
        arenas.split(&[(all, Use::Read)]).unwrap();
        assert_eq!(arenas.slice(all).as_ptr(), before, "reading makes no copy");
        arenas.split(&[(all, Use::Write)]).unwrap();
        arenas.slice_mut(all).unwrap().fill(3.0);
        assert_eq!((shared.elements(), arenas.slice(all)), (&[2.0; 2][..], &[3.0; 2][..]));
    }
}
