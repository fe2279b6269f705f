//! Arrays whose data stay in a mapped file: the system reads a page when it is first used, shares it
//! between processes, and may drop it again when memory is short.

use super::Array;
use crate::error::{Error, Result};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A file in memory.
#[derive(Clone)]
pub struct MappedFile(Arc<memmap2::MmapMut>);

impl MappedFile {
    /// Maps a file. Nothing that is written to the memory reaches the file. The file must not be shortened
    /// while it is mapped: the system ends a process that uses what is no longer there.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::bad_file(path, error))?;
        // Private and writable: MLX may compute into the memory of an array that it frees.
        // SAFETY: that the file is not shortened is the caller's promise.
        let map = unsafe { memmap2::MmapOptions::new().no_reserve_swap().map_copy(&file) };
        Ok(MappedFile(Arc::new(map.map_err(|error| Error::bad_file(path, error))?)))
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// An array of the shape and type of `like` on some of the bytes. `None` where MLX cannot use memory
    /// that is not its own (on GPUs), or not at this place.
    pub fn array(&self, range: Range<usize>, like: &Array) -> Result<Option<Array>> {
        imp::array(self, range, like)
    }
}

/// Memory for an array's data, in large pages where the system has them: those take less work to get, and to find.
pub struct LargePages {
    map: memmap2::MmapMut,
    length: usize,
}

/// Before the data, whose length MLX puts there.
const BEFORE: usize = 64;

/// Gives whole pages of these bytes back to the system: what was in them is lost.
///
/// # Safety
/// Nobody reads them any more; whoever owns the memory may free it.
pub unsafe fn forget(bytes: &mut [u8]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 1 << 16;
        let start = bytes.as_mut_ptr() as usize;
        let (begin, end) = (start.next_multiple_of(PAGE), (start + bytes.len()) / PAGE * PAGE);
        if begin < end {
            // SAFETY: pages that hold nothing but these bytes.
            unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_DONTNEED) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

impl LargePages {
    /// Room for so many bytes, zeros. `None` where the system or MLX has no such memory.
    pub fn new(length: usize) -> Option<Self> {
        if !imp::can_map() {
            return None;
        }
        let map = memmap2::MmapMut::map_anon(BEFORE + length).ok()?;
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Some(LargePages { map, length })
    }

    /// The bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[BEFORE..BEFORE + self.length]
    }

    /// Makes it the data of an evaluated array of as many bytes, and of all its clones.
    pub fn replace(self, array: &Array) -> Result<()> {
        if array.nbytes() != self.length {
            return Err(Error::Internal(format!("{} bytes are not those of {array:?}", self.length)));
        }
        imp::replace(self, array)
    }
}

#[cfg(not(target_os = "macos"))]
mod imp {
    use super::super::{error, sys};
    use super::*;
    use memmap2::UncheckedAdvice::DontNeed;
    use std::ffi::{c_char, c_int, c_void};
    use std::sync::OnceLock;

    unsafe extern "C" {
        fn shim_can_map() -> bool;
        fn shim_map_array(
            out: *mut sys::mlx_array,
            data: *mut c_char,
            shape: *const c_int,
            dims: usize,
            dtype: sys::mlx_dtype,
            owner: *mut c_void,
            release: unsafe extern "C" fn(*mut c_void),
        ) -> c_int;
        fn shim_replace_data(
            array: sys::mlx_array,
            data: *mut c_char,
            owner: *mut c_void,
            release: unsafe extern "C" fn(*mut c_void),
        ) -> c_int;
    }

    pub(super) fn can_map() -> bool {
        static CAN: OnceLock<bool> = OnceLock::new();
        // SAFETY: looks at an allocation of its own.
        *CAN.get_or_init(|| unsafe { shim_can_map() })
    }

    /// What an array holds on to.
    struct Owner {
        file: MappedFile,
        range: Range<usize>,
    }

    impl Drop for Owner {
        /// Gives the pages back that no other array shares: after a conversion nobody reads them again.
        fn drop(&mut self) {
            let (begin, end) = (self.range.start.next_multiple_of(PAGE), self.range.end / PAGE * PAGE);
            if begin < end {
                // SAFETY: whole pages of an array that is gone. Should they be read again, they are read
                // from the file.
                let _ = unsafe { self.file.0.unchecked_advise_range(DontNeed, begin, end - begin) };
            }
        }
    }

    /// A multiple of every page size in use.
    const PAGE: usize = 1 << 16;

    /// # Safety
    /// `owner` is a `T` from Box::into_raw, which MLX gives back once.
    unsafe extern "C" fn release<T>(owner: *mut c_void) {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(owner.cast::<T>()) });
    }

    pub(super) fn replace(memory: LargePages, array: &Array) -> Result<()> {
        let owner = Box::into_raw(Box::new(memory));
        // SAFETY: the owner lives until `release` is called; its data and the word before are writable.
        let failed = unsafe {
            let data = (*owner).bytes_mut().as_mut_ptr();
            shim_replace_data(array.raw(), data.cast(), owner.cast(), release::<LargePages>) != 0
        };
        if failed {
            // SAFETY: nobody took it.
            drop(unsafe { Box::from_raw(owner) });
            return Err(Error::Internal(format!("no memory to give {array:?} other data")));
        }
        Ok(())
    }

    pub(super) fn array(file: &MappedFile, range: Range<usize>, like: &Array) -> Result<Option<Array>> {
        error::init();
        let Some(bytes) = file.bytes().get(range.clone()) else { return Ok(None) };
        // SAFETY: `like` is live.
        let (dtype, size) =
            unsafe { (sys::mlx_array_dtype(like.raw()), sys::mlx_array_itemsize(like.raw())) };
        // MLX reads the word before the data.
        let sound = bytes.len() == like.nbytes() && !bytes.is_empty() && range.start >= size_of::<usize>();
        let data = bytes.as_ptr().cast_mut();
        // Bytes may be looked at as words later.
        let align = if size == 1 { size_of::<u32>() } else { size };
        if !sound || data.align_offset(align) != 0 || !can_map() {
            return Ok(None);
        }
        let (shape, file) = (like.shape(), file.clone());
        let owner = Box::into_raw(Box::new(Owner { file, range }));
        // SAFETY: the mapping is writable, holds `nbytes` at `data` and a word before, and lives until
        // `release` is called.
        Array::make(|out| unsafe {
            let shape_len = shape.len();
            shim_map_array(out, data.cast(), shape.as_ptr(), shape_len, dtype, owner.cast(), release::<Owner>)
        })
        .map(Some)
    }
}

#[cfg(target_os = "macos")]
mod imp {
    use super::*;

    pub(super) fn can_map() -> bool {
        false
    }

    pub(super) fn replace(_: LargePages, array: &Array) -> Result<()> {
        Err(Error::Internal(format!("{array:?} keeps its data")))
    }

    /// Metal's buffers are not plain memory.
    pub(super) fn array(_: &MappedFile, _: Range<usize>, _: &Array) -> Result<Option<Array>> {
        Ok(None)
    }
}
