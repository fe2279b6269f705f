//! An allocator that counts, for tests of what an input may cost. Each thread's own numbers serve tests that
//! run beside each other; those of the process are for a test program that does one thing at a time.
#![allow(dead_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

thread_local! {
    /// Bytes that this thread has allocated.
    pub static ALLOCATED: Cell<usize> = const { Cell::new(0) };
    /// The largest single allocation of this thread.
    pub static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// Bytes that the process holds.
pub static HELD: AtomicUsize = AtomicUsize::new(0);
/// The most that it ever held.
pub static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: the system's allocator does the work. What is resized is allocated anew, and so counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size();
        // A thread that is ending has no numbers.
        let _ = ALLOCATED.try_with(|bytes| bytes.set(bytes.get() + size));
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
        MOST.fetch_max(HELD.fetch_add(size, Relaxed) + size, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;
