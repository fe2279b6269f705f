//! What the targets share: an allocator that counts, and a folder to put broken files into.

use mlxrt::mlx::memory;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Once, OnceLock};

/// The system's allocator, with the largest single allocation since [`limited`] began.
struct Counting;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Lets panics that the library catches pass; one that gets out of a target still aborts it. To be called
/// by targets of which a package panics on broken input.
pub fn panics_may_be_caught() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

/// Runs what reads `data` and fails if it allocates much more than its size, in one piece or, in MLX's
/// memory, altogether: a length that a file claims must not be believed before the file is seen to be
/// that long.
pub fn limited(data: &[u8], times: usize, run: impl FnOnce()) {
    limited_to((1 << 20) + times * data.len(), run);
}

/// The same with a limit in bytes.
pub fn limited_to(limit: usize, run: impl FnOnce()) {
    LARGEST.store(0, Relaxed);
    memory::reset_peak().expect("MLX's counters");
    run();
    let (largest, arrays) = (LARGEST.load(Relaxed), memory::peak().expect("MLX's counters"));
    assert!(largest <= limit, "{largest} bytes at once, {limit} are allowed");
    assert!(arrays <= limit, "{arrays} bytes of arrays, {limit} are allowed");
}

/// The demo model.
pub fn demo() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/model"))
}

/// A folder of this process with the named files of the demo model in it.
pub fn folder(files: &[&str]) -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("mlxrt-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        for file in files {
            std::fs::copy(demo().join(file), folder.join(file)).expect("the demo model");
        }
        folder
    })
}
