//! Aligned memory for limbs, recycled through a process-wide pool.
//!
//! Hot paths take and drop buffers of tens of megabytes; going to the operating system for each would cost a page fault per
//! 4 KiB. Dropped buffers therefore wait in a free list by capacity, up to [`POOL_BYTES`] in all, and are handed out dirty:
//! what they hold is old public residues at worst, since whoever owns a secret zeroizes it before dropping it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroize;

/// The alignment of every buffer, one cache line and one vector register.
pub const ALIGNMENT: usize = 64;

/// The most bytes that wait in the pool; buffers dropped beyond it go back to the operating system.
pub const POOL_BYTES: usize = 1 << 30;

/// A fixed-length vector of words at a 64-byte boundary, from and to the pool.
pub struct AlignedVec {
    memory: ManuallyDrop<Block>,
    len: usize,
}

/// One allocation of `capacity` initialised words.
struct Block {
    pointer: NonNull<u64>,
    capacity: usize,
}

// SAFETY: a Block is the only owner of its allocation, as a Box is.
unsafe impl Send for Block {}
// SAFETY: a shared Block only gives shared access.
unsafe impl Sync for Block {}

impl Block {
    fn layout(capacity: usize) -> Layout {
        Layout::array::<u64>(capacity.max(1))
            .and_then(|l| l.align_to(ALIGNMENT))
            .expect("a buffer below isize::MAX bytes")
    }

    fn zeroed(capacity: usize) -> Self {
        let layout = Self::layout(capacity);
        // SAFETY: the layout is never of size zero.
        let raw = unsafe { alloc_zeroed(layout) };
        let pointer = NonNull::new(raw.cast()).unwrap_or_else(|| handle_alloc_error(layout));
        Block { pointer, capacity }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in zeroed() with the same layout, and freed only here.
        unsafe { dealloc(self.pointer.as_ptr().cast(), Self::layout(self.capacity)) }
    }
}

#[derive(Default)]
struct Pool {
    free: HashMap<usize, Vec<Block>>,
    bytes: usize,
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

fn pool() -> MutexGuard<'static, Option<Pool>> {
    // The pool is consistent between any two statements that can panic.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives all waiting buffers back to the operating system.
pub fn clear_pool() {
    let old = pool().take();
    drop(old);
}

impl AlignedVec {
    /// `len` words of unspecified, initialised content: the caller must write all of them.
    pub fn dirty(len: usize) -> Self {
        Self::recycled(len).unwrap_or_else(|| AlignedVec {
            memory: ManuallyDrop::new(Block::zeroed(len)),
            len,
        })
    }

    /// `len` words, all 0.
    pub fn zeroed(len: usize) -> Self {
        match Self::recycled(len) {
            Some(mut old) => {
                old.fill(0);
                old
            }
            None => AlignedVec {
                memory: ManuallyDrop::new(Block::zeroed(len)),
                len,
            },
        }
    }

    fn recycled(len: usize) -> Option<Self> {
        let mut guard = pool();
        let pool = guard.as_mut()?;
        let memory = pool.free.get_mut(&len)?.pop()?;
        pool.bytes -= 8 * memory.capacity;
        Some(AlignedVec {
            memory: ManuallyDrop::new(memory),
            len,
        })
    }

    /// Keeps the first `len` words; the memory stays until the drop.
    ///
    /// # Panics
    /// If `len` is above the present length.
    pub fn truncate(&mut self, len: usize) {
        assert!(
            len <= self.len,
            "a buffer of {} cannot be cut to {len}",
            self.len
        );
        self.len = len;
    }
}

impl Drop for AlignedVec {
    fn drop(&mut self) {
        // SAFETY: self.memory is not touched again after this, the only take.
        let memory = unsafe { ManuallyDrop::take(&mut self.memory) };
        let mut guard = pool();
        let pool = guard.get_or_insert_default();
        if pool.bytes + 8 * memory.capacity <= POOL_BYTES {
            pool.bytes += 8 * memory.capacity;
            pool.free.entry(memory.capacity).or_default().push(memory);
        }
    }
}

impl Deref for AlignedVec {
    type Target = [u64];
    fn deref(&self) -> &[u64] {
        // SAFETY: len never exceeds the capacity and every word was initialised by alloc_zeroed.
        unsafe { std::slice::from_raw_parts(self.memory.pointer.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedVec {
    fn deref_mut(&mut self) -> &mut [u64] {
        // SAFETY: as in deref, and &mut self makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.memory.pointer.as_ptr(), self.len) }
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
    /// Clears the whole allocation, also what lies behind a truncation; keeps the length.
    fn zeroize(&mut self) {
        let len = std::mem::replace(&mut self.len, self.memory.capacity);
        self[..].zeroize();
        self.len = len;
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
    fn cut_buffers_come_back_whole() {
        let mut a = AlignedVec::zeroed(777);
        a.truncate(5);
        assert_eq!(a.len(), 5);
        drop(a);
        assert_eq!(AlignedVec::dirty(777).len(), 777);
        clear_pool();
    }
}
