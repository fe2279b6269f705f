//! Reading safetensors files, real ones and those that a [`Source`] makes up. MLX reads each tensor
//! when it is first evaluated, once.

use super::error::check;
use super::stream::with_cpu_stream;
use super::{Array, sys};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct ArrayMap(sys::mlx_map_string_to_array);

impl Drop for ArrayMap {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { sys::mlx_map_string_to_array_free(self.0) };
    }
}

struct StringMap(sys::mlx_map_string_to_string);

impl Drop for StringMap {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { sys::mlx_map_string_to_string_free(self.0) };
    }
}

struct Iter(sys::mlx_map_string_to_array_iterator);

impl Drop for Iter {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { sys::mlx_map_string_to_array_iterator_free(self.0) };
    }
}

/// The tensors of a safetensors file by name, not yet read.
pub fn load_safetensors(file: &Path) -> Result<HashMap<String, Array>> {
    let path = c_path(file)?;
    load(file, |(arrays, metadata), stream| {
        // SAFETY: all handles are live.
        unsafe { sys::mlx_load_safetensors(arrays, metadata, path.as_ptr(), stream) }
    })
}

/// The same of bytes that `source` makes on demand. `file` names them in messages. MLX holds the source
/// until its last tensor is evaluated or freed.
pub fn load_safetensors_from(source: Arc<dyn Source>, file: &Path) -> Result<HashMap<String, Array>> {
    let stream = Box::new(SourceStream { source, label: c_path(file)?, position: AtomicUsize::new(0) });
    super::error::init();
    // SAFETY: the table's functions take a SourceStream, which MLX owns from here on and gives back
    // through `free`. They are safe to call from any thread.
    let reader = Reader(unsafe { sys::mlx_io_reader_new(Box::into_raw(stream).cast(), SOURCE_STREAM) });
    load(file, |(arrays, metadata), stream| {
        // SAFETY: all handles are live.
        unsafe { sys::mlx_load_safetensors_reader(arrays, metadata, reader.0, stream) }
    })
}

fn c_path(file: &Path) -> Result<CString> {
    file.to_str().and_then(|path| CString::new(path).ok()).ok_or_else(|| {
        Error::BadArgument(format!("{}: the path is not UTF-8 or holds a NUL", file.display()))
    })
}

type Maps = (*mut sys::mlx_map_string_to_array, *mut sys::mlx_map_string_to_string);

fn load(file: &Path, fill: impl FnOnce(Maps, sys::mlx_stream) -> i32) -> Result<HashMap<String, Array>> {
    super::error::init();
    // SAFETY: empty maps, owned by the wrappers.
    let mut arrays = ArrayMap(unsafe { sys::mlx_map_string_to_array_new() });
    // SAFETY: as above.
    let mut metadata = StringMap(unsafe { sys::mlx_map_string_to_string_new() });
    // Files are read on the CPU whatever the device.
    let code = with_cpu_stream(|stream| fill((&mut arrays.0, &mut metadata.0), stream))?;
    check(code).map_err(|error| Error::bad_file(file, error))?;

    let mut result = HashMap::new();
    // SAFETY: `arrays` outlives the iterator.
    let iter = Iter(unsafe { sys::mlx_map_string_to_array_iterator_new(arrays.0) });
    loop {
        let mut key = std::ptr::null();
        let mut done = false;
        let value = Array::make(|value| {
            // SAFETY: `value` is live; mlx-c sets it to the map's array and `key` to its name. It
            // returns 2 at the end.
            let code = unsafe { sys::mlx_map_string_to_array_iterator_next(&mut key, value, iter.0) };
            done = code == 2;
            if done { 0 } else { code }
        })?;
        if done {
            return Ok(result);
        }
        // SAFETY: a NUL-terminated name that belongs to the map.
        let name = unsafe { CStr::from_ptr(key) }.to_string_lossy().into_owned();
        result.insert(name, value);
    }
}

/// The bytes of a safetensors file that lies nowhere. MLX reads from threads of its own.
pub trait Source: Send + Sync {
    /// How many bytes it has.
    fn size(&self) -> usize;

    /// Writes `length` bytes from `offset` on to `out`. MLX asks for the header in small pieces and for
    /// each tensor as a whole. It knows no failure: the source keeps its errors for the caller.
    fn copy(&self, offset: usize, length: usize, out: &mut dyn Write);
}

struct Reader(sys::mlx_io_reader);

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: owned, freed once; MLX's arrays hold shares of the stream behind it.
        unsafe { sys::mlx_io_reader_free(self.0) };
    }
}

struct SourceStream {
    source: Arc<dyn Source>,
    label: CString,
    position: AtomicUsize,
}

/// MLX's memory, filled from its beginning.
struct Destination {
    data: *mut u8,
    left: usize,
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = bytes.len().min(self.left);
        // SAFETY: `data` has room for `left` bytes and is nobody else's while MLX's call lasts.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.data, length);
            self.data = self.data.add(length);
        }
        self.left -= length;
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const SOURCE_STREAM: sys::mlx_io_vtable = {
    /// # Safety
    /// `stream` is a live SourceStream: so it is in all functions of the table.
    unsafe fn get<'a>(stream: *mut c_void) -> &'a SourceStream {
        // SAFETY: the caller's promise.
        unsafe { &*stream.cast::<SourceStream>() }
    }
    unsafe extern "C" fn yes(_: *mut c_void) -> bool {
        true
    }
    unsafe extern "C" fn tell(stream: *mut c_void) -> usize {
        // SAFETY: the table's promise.
        unsafe { get(stream) }.position.load(Relaxed)
    }
    unsafe extern "C" fn seek(stream: *mut c_void, offset: i64, whence: c_int) {
        // SAFETY: the table's promise.
        let stream = unsafe { get(stream) };
        let base = match whence {
            libc::SEEK_CUR => stream.position.load(Relaxed),
            libc::SEEK_END => stream.source.size(),
            _ => 0,
        };
        stream.position.store(base.saturating_add_signed(offset as isize), Relaxed);
    }
    unsafe extern "C" fn read(stream: *mut c_void, data: *mut c_char, length: usize) {
        // SAFETY: the table's promise.
        let offset = unsafe { get(stream) }.position.fetch_add(length, Relaxed);
        // SAFETY: passed on.
        unsafe { read_at(stream, data, length, offset) };
    }
    unsafe extern "C" fn read_at(stream: *mut c_void, data: *mut c_char, length: usize, offset: usize) {
        // SAFETY: the table's promise.
        let stream = unsafe { get(stream) };
        let mut out = Destination { data: data.cast(), left: length };
        // A panic must not reach C++: what is left of the memory becomes zeros.
        let _ = catch_unwind(AssertUnwindSafe(|| stream.source.copy(offset, length, &mut out)));
        // SAFETY: `left` bytes are still to be filled.
        unsafe { std::ptr::write_bytes(out.data, 0, out.left) };
    }
    unsafe extern "C" fn label(stream: *mut c_void) -> *const c_char {
        // SAFETY: the table's promise; the text lives as long as the stream.
        unsafe { get(stream) }.label.as_ptr()
    }
    unsafe extern "C" fn free(stream: *mut c_void) {
        // SAFETY: made by Box::into_raw, freed once.
        drop(unsafe { Box::from_raw(stream.cast::<SourceStream>()) });
    }
    sys::mlx_io_vtable {
        is_open: Some(yes),
        good: Some(yes),
        tell: Some(tell),
        seek: Some(seek),
        read: Some(read),
        read_at_offset: Some(read_at),
        write: None,
        label: Some(label),
        free: Some(free),
    }
};
