// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device memory: host pages with a guard page behind each allocation, and in checked mode a shadow
//! of its bytes.

use std::collections::{BTreeMap, VecDeque};

use crate::mapping::{Mapping, PAGE};
use crate::races::{touch, Access, Conflict, Moment, WordAccess};

/// Where an allocation is in its life. Freed memory stays mapped for a while, so that late uses are
/// told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Life {
    Live = 0,
    Freed = 1,
    /// Allocated in stream order, at a point the stream has not reached.
    Pending = 2,
}

/// What checked mode knows about an allocation's bytes.
#[derive(Debug)]
struct Shadow {
    /// A bit per byte: it has been written.
    initialised: Mapping,
    /// A `WordAccess` per four bytes.
    accesses: Mapping,
    /// False once a plain kernel, whose writes are not seen, may have written.
    initialised_is_known: bool,
}

#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) bytes: usize,
    pub(crate) life: Life,
    pages: Mapping,
    shadow: Option<Shadow>,
}

/// A device range as the kernels' runtime sees it (`Region` of runtime/engine.h).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Region {
    begin: usize,
    end: usize,
    initialised: *mut u64,
    accesses: *mut WordAccess,
    life: Life,
}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    allocations: BTreeMap<usize, Allocation>,
    freed: VecDeque<usize>,
    pinned: BTreeMap<usize, Mapping>,
    pub(crate) used: usize,
}

/// Whether an allocation's bytes are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracking {
    None,
    Full,
}

impl Memory {
    /// The alignment of every device pointer.
    const ALIGNMENT: usize = 256;
    /// Freed allocations that are still recognised.
    const GRAVEYARD: usize = 1024;

    pub(crate) fn clear(&mut self) {
        let pinned = std::mem::take(&mut self.pinned);
        *self = Self { pinned, ..Self::default() }; // host memory belongs to the process
    }

    /// A new allocation filled with NaNs, or `None` when the host has no more. Its end touches the
    /// guard page as closely as the alignment allows.
    pub(crate) fn allocate(
        &mut self,
        bytes: usize,
        life: Life,
        tracking: Tracking,
    ) -> Option<usize> {
        let pages = Mapping::new(bytes.checked_next_multiple_of(PAGE)?.checked_add(PAGE)?)?;
        let end = pages.bytes() - PAGE;
        pages.forbid_from(end);
        let address = (pages.address() + end - bytes) & !(Self::ALIGNMENT - 1);
        // SAFETY: the range lies in the fresh mapping, before its guard page.
        unsafe { std::ptr::write_bytes(pages.address() as *mut u8, 0xff, end) };
        let shadow = match tracking {
            Tracking::None => None,
            Tracking::Full => Some(Shadow {
                initialised: Mapping::new(bytes / 8 + 16)?,
                accesses: Mapping::new((bytes / 4 + 1) * size_of::<WordAccess>())?,
                initialised_is_known: true,
            }),
        };
        self.allocations.insert(address, Allocation { bytes, life, pages, shadow });
        self.used += bytes;
        Some(address)
    }

    /// Frees the allocation that starts here; false if there is none, or no longer.
    pub(crate) fn free(&mut self, address: usize) -> bool {
        let Some(allocation) = self.allocations.get_mut(&address).filter(|a| a.life != Life::Freed)
        else {
            return false;
        };
        allocation.life = Life::Freed;
        allocation.pages.forbid_from(0);
        allocation.shadow = None;
        self.used -= allocation.bytes;
        self.freed.push_back(address);
        if self.freed.len() > Self::GRAVEYARD {
            if let Some(oldest) = self.freed.pop_front() {
                self.allocations.remove(&oldest);
            }
        }
        true
    }

    pub(crate) fn get_mut(&mut self, address: usize) -> Option<&mut Allocation> {
        self.allocations.get_mut(&address)
    }

    /// The allocation that holds this address, whatever its state, with its start.
    pub(crate) fn find(&self, address: usize) -> Option<(usize, &Allocation)> {
        let (start, allocation) = self.allocations.range(..=address).next_back()?;
        (address < start + allocation.bytes).then_some((*start, allocation))
    }

    pub(crate) fn live_count(&self) -> usize {
        self.allocations.values().filter(|a| a.life != Life::Freed).count()
    }

    /// Says what is wrong with a device range, or nothing. `Pending` memory is fine for work that
    /// is only being queued.
    pub(crate) fn complain(&self, address: usize, bytes: usize, when: When) -> Option<String> {
        let Some((start, allocation)) = self.find(address) else {
            return Some(format!("{address:#x} is not device memory"));
        };
        let (offset, size) = (address - start, allocation.bytes);
        match allocation.life {
            Life::Freed => {
                Some(format!("{address:#x} lies in a {size}-byte allocation that was freed"))
            }
            Life::Pending if when == When::Running => Some(format!(
                "{address:#x} lies in a {size}-byte allocation that does not exist yet in stream \
                 order"
            )),
            _ if offset + bytes > size => Some(format!(
                "{bytes} bytes at offset {offset} pass the end of a {size}-byte allocation"
            )),
            _ => None,
        }
    }

    /// The table that a kernel's accesses are checked against, sorted by address.
    pub(crate) fn regions(&self) -> Vec<Region> {
        let region = |(begin, allocation): (&usize, &Allocation)| {
            let (initialised, accesses) = match &allocation.shadow {
                Some(shadow) if shadow.initialised_is_known => {
                    (shadow.initialised.address(), shadow.accesses.address())
                }
                Some(shadow) => (0, shadow.accesses.address()),
                None => (0, 0),
            };
            Region {
                begin: *begin,
                end: begin + allocation.bytes,
                initialised: initialised as *mut u64,
                accesses: accesses as *mut WordAccess,
                life: allocation.life,
            }
        };
        self.allocations.iter().map(region).collect()
    }

    /// A plain kernel ran: what it wrote is not known.
    pub(crate) fn forget_initialised(&mut self) {
        for shadow in self.allocations.values_mut().filter_map(|a| a.shadow.as_mut()) {
            shadow.initialised_is_known = false;
        }
    }

    /// Records that `moment` accesses a live range, and gives the first conflict with earlier work.
    pub(crate) fn touch(
        &mut self,
        address: usize,
        bytes: usize,
        access: Access,
        moment: &Moment,
    ) -> Option<Conflict> {
        let (start, shadow) = self.shadow(address)?;
        if bytes == 0 {
            return None;
        }
        let offset = address - start;
        let words = shadow.words(offset / 4, (offset + bytes).div_ceil(4));
        let conflict = touch(words, access, moment);
        if access == Access::Write {
            shadow.set_initialised(offset, bytes);
        }
        conflict
    }

    /// The offset of the first byte of the range that was never written, if that is followed.
    pub(crate) fn first_uninitialised(&mut self, address: usize, bytes: usize) -> Option<usize> {
        let (start, shadow) = self.shadow(address)?;
        let offset = address - start;
        if !shadow.initialised_is_known {
            return None;
        }
        shadow.uninitialised(offset, bytes).next()
    }

    /// A copy carries along which bytes were initialised.
    pub(crate) fn copy_initialised(&mut self, from: usize, to: usize, bytes: usize) {
        let Some((start, shadow)) = self.shadow(from) else { return };
        if !shadow.initialised_is_known {
            return;
        }
        let offset = from - start;
        let missing: Vec<usize> =
            shadow.uninitialised(offset, bytes).map(|byte| byte - offset).collect();
        let Some((start, shadow)) = self.shadow(to) else { return };
        for byte in missing {
            shadow.clear_initialised(to - start + byte);
        }
    }

    fn shadow(&mut self, address: usize) -> Option<(usize, &mut Shadow)> {
        let (start, allocation) = self.allocations.range_mut(..=address).next_back()?;
        Some((*start, allocation.shadow.as_mut()?))
    }

    /// Page-locked host memory.
    pub(crate) fn allocate_pinned(&mut self, bytes: usize) -> Option<usize> {
        let pages = Mapping::new(bytes)?;
        let address = pages.address();
        self.pinned.insert(address, pages);
        Some(address)
    }

    pub(crate) fn free_pinned(&mut self, address: usize) -> bool {
        self.pinned.remove(&address).is_some()
    }

    /// Whole pages, as they are locked.
    pub(crate) fn pinned_bytes(&self) -> usize {
        self.pinned.values().map(Mapping::bytes).sum()
    }

    pub(crate) fn is_pinned(&self, address: usize) -> bool {
        self.pinned
            .range(..=address)
            .next_back()
            .is_some_and(|(start, pages)| address < start + pages.bytes())
    }
}

/// Whether a range is looked at when work is queued or when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Queued,
    Running,
}

impl Shadow {
    fn words(&mut self, first: usize, end: usize) -> &mut [WordAccess] {
        let base = self.accesses.address() as *mut WordAccess;
        // SAFETY: the mapping holds a word per four bytes of the allocation, zero pages are valid
        // words, and the exclusive borrow of the shadow is the only way in while no kernel runs.
        unsafe { std::slice::from_raw_parts_mut(base.add(first), end - first) }
    }

    fn bits(&mut self) -> &mut [u64] {
        let base = self.initialised.address() as *mut u64;
        // SAFETY: as above; whole pages hold whole words.
        unsafe { std::slice::from_raw_parts_mut(base, self.initialised.bytes() / 8) }
    }

    /// The bytes of a range that were never written.
    fn uninitialised(&mut self, offset: usize, bytes: usize) -> impl Iterator<Item = usize> + '_ {
        let bits = &*self.bits();
        let words = offset / 64..(offset + bytes).div_ceil(64);
        let incomplete = words.filter(|word| bits[*word] != u64::MAX);
        let all = incomplete.flat_map(|word| word * 64..word * 64 + 64);
        all.filter(move |byte| {
            (offset..offset + bytes).contains(byte) && bits[byte / 64] >> (byte % 64) & 1 == 0
        })
    }

    fn clear_initialised(&mut self, byte: usize) {
        self.bits()[byte / 64] &= !(1 << (byte % 64));
    }

    fn set_initialised(&mut self, offset: usize, bytes: usize) {
        let bits = self.bits();
        let mut byte = offset;
        while byte < offset + bytes {
            if byte.is_multiple_of(64) && byte + 64 <= offset + bytes {
                bits[byte / 64] = u64::MAX;
                byte += 64;
            } else {
                bits[byte / 64] |= 1 << (byte % 64);
                byte += 1;
            }
        }
    }
}
