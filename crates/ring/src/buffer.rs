//! Aligned memory for limbs, recycled through a process-wide arena on huge pages.
//!
//! Hot paths take and drop buffers of half a megabyte by the thousand. Going to the operating system for each would cost a page
//! fault per 4 KiB, and 4 KiB pages a miss of the address cache for every row of an NTT. Memory therefore comes from regions of
//! `REGION` bytes that the system is asked to back with pages of 2 MiB, and freed pieces are joined and handed out again,
//! dirty: what they hold is old public residues at worst, since whoever owns a secret zeroizes it before dropping it. Pages of
//! free pieces go back to the system beyond [`POOL_BYTES`].
//!
//! Whoever knows how much it will need asks for it with [`reserve`] and has another thread fetch the pages ahead of their use: on a
//! virtual machine, whose pages its host clears too, a fresh gigabyte can cost seconds.
//!
//! Consecutive buffers of the same power of two begin `SKEW` bytes further into their page: the same place of many limbs, which
//! sums of products read at once, then lies in different sets of the caches.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::heap;
use zeroize::Zeroize;

/// The alignment of every buffer, one cache line and one vector register.
pub const ALIGNMENT: usize = 64;

/// The most bytes of freed buffers that keep their pages, or as many as were reserved.
pub const POOL_BYTES: usize = 1 << 29;

/// Address space taken from the operating system at a time; pages count only once they are written.
pub const REGION: usize = 64 << 20;

/// One huge page.
const HUGE: usize = 2 << 20;

/// The most bytes of one buffer or reservation: what is added to align it stays below `isize::MAX`, which no slice exceeds.
const MOST: usize = isize::MAX as usize - 2 * REGION;

/// What is added to every buffer of a page or more: five cache lines.
const SKEW: usize = 5 * ALIGNMENT;

/// A fixed-length vector of words at a 64-byte boundary, from and to the arena.
pub struct AlignedVec {
    pointer: NonNull<u64>,
    /// Bytes taken from the arena.
    bytes: usize,
    len: usize,
}

// SAFETY: an AlignedVec is the only owner of its piece of the arena, as a Box is of its allocation.
unsafe impl Send for AlignedVec {}
// SAFETY: a shared AlignedVec only gives shared access.
unsafe impl Sync for AlignedVec {}

/// The operating system's memory.
mod system {
    /// `bytes` of zeroed, never freed address space at a multiple of `align`, with huge pages where there are; none where the system
    /// gives no more.
    #[cfg(target_os = "linux")]
    pub(super) fn map(bytes: usize, align: usize) -> Option<usize> {
        let whole = bytes.checked_add(align)?;
        // SAFETY: a fresh anonymous private mapping touches no existing memory.
        let raw = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                whole,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if raw == libc::MAP_FAILED {
            return None;
        }
        let start = (raw as usize).next_multiple_of(align);
        // SAFETY: [start, start + bytes) lies in the mapping; advice and trimming the rest of it do not touch other memory.
        // Failure of either costs speed or address space, nothing else.
        unsafe {
            let head = start - raw as usize;
            if head > 0 {
                libc::munmap(raw, head);
            }
            if align > head {
                libc::munmap((start + bytes) as *mut _, align - head);
            }
            libc::madvise(start as *mut _, bytes, libc::MADV_HUGEPAGE);
        }
        Some(start)
    }

    /// `bytes` of zeroed, never freed memory at a multiple of `align`; none where the system gives no more.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn map(bytes: usize, align: usize) -> Option<usize> {
        let layout = std::alloc::Layout::from_size_align(bytes, align).ok()?;
        // SAFETY: the layout is never of size zero.
        let raw = unsafe { std::alloc::alloc_zeroed(layout) };
        (!raw.is_null()).then_some(raw as usize)
    }

    /// Pages for [start, start + bytes), which keeps what it holds; false where the system cannot (Linux before 5.14).
    ///
    /// # Safety
    /// The range is mapped by [`map`].
    pub(super) unsafe fn populate(start: usize, bytes: usize) -> bool {
        #[cfg(target_os = "linux")]
        // SAFETY: as the caller promises; populating leaves the content alone, so that others may use the range meanwhile.
        return unsafe { libc::madvise(start as *mut _, bytes, libc::MADV_POPULATE_WRITE) == 0 };
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (start, bytes);
            false
        }
    }

    /// Gives the pages in [start, start + bytes) back; the addresses stay and read as 0 (or as before) until written again.
    ///
    /// # Safety
    /// The range is a free piece of the arena.
    pub(super) unsafe fn release(start: usize, bytes: usize) {
        #[cfg(target_os = "linux")]
        // SAFETY: as the caller promises; the range is a multiple of pages.
        unsafe {
            libc::madvise(start as *mut _, bytes, libc::MADV_DONTNEED);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (start, bytes);
    }
}

/// A free piece of the arena.
#[derive(Clone, Copy)]
struct Piece {
    bytes: usize,
    /// Estimate of the bytes that have pages.
    resident: usize,
}

#[derive(Default)]
struct Arena {
    free: BTreeMap<usize, Piece>,
    /// (bytes, start) of the same pieces.
    by_size: BTreeSet<(usize, usize)>,
    /// Σ resident.
    resident: usize,
    /// What was reserved so far.
    reserved: usize,
}

static ARENA: Mutex<Option<Arena>> = Mutex::new(None);

fn arena() -> MutexGuard<'static, Option<Arena>> {
    // The arena is consistent between any two statements that can panic.
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena {
    fn insert(&mut self, start: usize, piece: Piece) {
        self.free.insert(start, piece);
        self.by_size.insert((piece.bytes, start));
        self.resident += piece.resident;
    }
    fn remove(&mut self, start: usize) -> Option<Piece> {
        let piece = self.free.remove(&start)?;
        self.by_size.remove(&(piece.bytes, start));
        self.resident -= piece.resident;
        Some(piece)
    }
    /// The start of `bytes` (a multiple of [`ALIGNMENT`]): the front of the smallest piece that fits.
    fn take(&mut self, bytes: usize) -> usize {
        let found = self
            .by_size
            .range((bytes, 0)..)
            .next()
            .map(|&(_, start)| start);
        let start = found.unwrap_or_else(|| {
            let region = bytes.max(REGION).next_multiple_of(HUGE);
            let start = system::map(region, HUGE).unwrap_or_else(|| heap::end(region));
            self.give(
                start,
                Piece {
                    bytes: region,
                    resident: 0,
                },
            );
            // joined with the piece below it where regions meet
            *self
                .free
                .range(..=start)
                .next_back()
                .map_or(&start, |(s, _)| s)
        });
        let piece = self.remove(start).unwrap_or(Piece { bytes, resident: 0 });
        if piece.bytes > bytes {
            let resident = piece.resident.saturating_sub(bytes);
            let rest = Piece {
                bytes: piece.bytes - bytes,
                resident,
            };
            self.insert(start + bytes, rest);
        }
        start
    }
    /// Takes a piece back, joined with its neighbours.
    fn give(&mut self, mut start: usize, mut piece: Piece) {
        let below = self
            .free
            .range(..start)
            .next_back()
            .map(|(&s, p)| (s, p.bytes));
        if let Some((s, bytes)) = below
            && s + bytes == start
            && let Some(p) = self.remove(s)
        {
            start = s;
            piece.bytes += p.bytes;
            piece.resident += p.resident;
        }
        if let Some(p) = self.remove(start + piece.bytes) {
            piece.bytes += p.bytes;
            piece.resident += p.resident;
        }
        if self.resident + piece.resident > self.reserved.max(POOL_BYTES) {
            Self::release(start, &mut piece);
        }
        self.insert(start, piece);
    }
    /// Gives back the whole huge pages of a free piece.
    fn release(start: usize, piece: &mut Piece) {
        let (from, to) = (
            start.next_multiple_of(HUGE),
            (start + piece.bytes) / HUGE * HUGE,
        );
        if from < to {
            // SAFETY: the range lies within the free piece.
            unsafe { system::release(from, to - from) };
            piece.resident = piece.resident.min(piece.bytes - (to - from));
        }
    }
}

/// Room in the arena that was asked for ahead of its use.
#[derive(Debug)]
pub struct Reservation {
    start: usize,
    bytes: usize,
    populated: bool,
}

/// Adds room for `bytes` to the arena, to be taken at once by whoever needs buffers, and lets freed buffers keep as many.
///
/// Pages come when [`Reservation::populate`] is called, from any thread; where the system has no call for that, they come here. None where
/// the system does not give as many.
pub fn reserve(bytes: usize) -> Option<Reservation> {
    if bytes > MOST {
        return None;
    }
    let bytes = bytes.max(1).next_multiple_of(HUGE);
    let start = system::map(bytes, HUGE)?;
    // SAFETY: the range was just mapped.
    let can = unsafe { system::populate(start, HUGE) };
    if !can {
        for page in (start..start + bytes).step_by(4096) {
            // SAFETY: the page lies in the new mapping, which nobody else knows of yet.
            unsafe { (page as *mut u8).write_volatile(0) };
        }
    }
    let mut guard = arena();
    let arena = guard.get_or_insert_default();
    arena.reserved += bytes;
    arena.give(start, Piece { bytes, resident: 0 });
    Some(Reservation {
        start,
        bytes,
        populated: !can,
    })
}

/// Bytes reserved so far.
pub fn reserved() -> usize {
    arena().as_ref().map_or(0, |a| a.reserved)
}

impl Reservation {
    /// Bytes reserved.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// Fetches the pages, those last that buffers are taken from first: who takes buffers meanwhile and this meet in the middle.
    pub fn populate(mut self) {
        let mut end = self.start + self.bytes;
        while !self.populated {
            let start = end.saturating_sub(REGION).max(self.start);
            // SAFETY: the range was mapped for this reservation, and the arena never unmaps.
            // A failure (no memory left) leaves the rest to its first use.
            self.populated =
                !unsafe { system::populate(start, end - start) } || start == self.start;
            end = start;
        }
    }
}

impl AlignedVec {
    /// `len` words of unspecified, initialised content: the caller must write all of them.
    ///
    /// # Panics
    /// If so many words can't be addressed ("capacity overflow"), as [`Vec`] does.
    pub fn dirty(len: usize) -> Self {
        assert!(len <= MOST / 8, "capacity overflow: {len} words");
        let words = 8 * len.max(1);
        let bytes = words.next_multiple_of(ALIGNMENT) + if words >= 4096 { SKEW } else { 0 };
        let start = arena().get_or_insert_default().take(bytes);
        AlignedVec {
            pointer: NonNull::new(start as *mut u64).expect("no region begins at address 0"),
            bytes,
            len,
        }
    }

    /// `len` words, all 0.
    ///
    /// # Panics
    /// As [`AlignedVec::dirty`].
    pub fn zeroed(len: usize) -> Self {
        let mut out = Self::dirty(len);
        out.fill(0);
        out
    }
}

impl Drop for AlignedVec {
    fn drop(&mut self) {
        let piece = Piece {
            bytes: self.bytes,
            resident: self.bytes,
        };
        arena()
            .get_or_insert_default()
            .give(self.pointer.as_ptr() as usize, piece);
    }
}

impl Deref for AlignedVec {
    type Target = [u64];
    fn deref(&self) -> &[u64] {
        // SAFETY: the piece holds len words, and every word of a region is initialised from the start.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedVec {
    fn deref_mut(&mut self) -> &mut [u64] {
        // SAFETY: as in deref, and &mut self makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.len) }
    }
}

impl Clone for AlignedVec {
    fn clone(&self) -> Self {
        let mut out = Self::dirty(self.len);
        out.copy_from_slice(self);
        out
    }
}

impl Zeroize for AlignedVec {
    /// Clears every word; keeps the length.
    fn zeroize(&mut self) {
        self[..].zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_cleared_on_request() {
        for len in [0, 1, 8, 1000, 1 << 16] {
            let mut a = AlignedVec::zeroed(len);
            assert_eq!(a.as_ptr() as usize % ALIGNMENT, 0);
            assert!(a.len() == len && a.iter().all(|&x| x == 0));
            a.fill(7);
            let b = a.clone();
            drop(a);
            assert!(AlignedVec::zeroed(len).iter().all(|&x| x == 0));
            assert!(b.iter().all(|&x| x == 7));
        }
    }

    #[test]
    fn buffers_beyond_the_address_space_are_refused() {
        // 8·len, or what is added to align it, would wrap: a few bytes that claim to be 2^61 words
        let refused = |make: fn(usize), size: usize| {
            std::panic::catch_unwind(|| make(size)).expect_err("refused")
        };
        for len in [
            usize::MAX,
            usize::MAX / 8,
            usize::MAX / 8 - 1,
            (usize::MAX - (1 << 20)) / 8,
            isize::MAX as usize / 8,
        ] {
            refused(|len| drop(AlignedVec::dirty(len)), len);
            refused(|len| drop(AlignedVec::zeroed(len)), len);
        }
        for bytes in [usize::MAX, usize::MAX - HUGE, isize::MAX as usize] {
            assert!(reserve(bytes).is_none());
        }
        // the arena is as it was
        assert_eq!(AlignedVec::zeroed(8).len(), 8);
    }

    #[test]
    fn reserved_room_is_used_and_keeps_what_it_holds() {
        // larger than any other test's buffer, so that it comes from here
        let words = 9 << 20;
        let before = reserved();
        let reservation = reserve(8 * words + HUGE).expect("memory");
        assert!(reserved() - before == reservation.bytes());
        assert!(reservation.bytes() >= 8 * words + HUGE);
        let (from, to) = (reservation.start, reservation.start + reservation.bytes);
        let mut a = AlignedVec::dirty(words);
        let at = a.as_ptr() as usize;
        assert!(from <= at && at < to, "{at:x} is not in {from:x}..{to:x}");
        a.fill(9);
        std::thread::spawn(move || reservation.populate())
            .join()
            .expect("populates");
        assert!(a.iter().all(|&x| x == 9));
    }
}
