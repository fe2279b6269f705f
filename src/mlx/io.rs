//! Reading safetensors files. MLX reads each tensor when it is first evaluated, once.

use super::error::check;
use super::stream::with_cpu_stream;
use super::{Array, sys};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::path::Path;

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
    let path = file.to_str().and_then(|p| CString::new(p).ok());
    let path = path.ok_or_else(|| {
        Error::BadArgument(format!("{}: the path is not UTF-8 or holds a NUL", file.display()))
    })?;
    super::error::init();
    // SAFETY: empty maps, owned by the wrappers.
    let mut arrays = ArrayMap(unsafe { sys::mlx_map_string_to_array_new() });
    // SAFETY: as above.
    let mut metadata = StringMap(unsafe { sys::mlx_map_string_to_string_new() });
    // SAFETY: all handles are live. Files are read on the CPU whatever the device.
    let code = with_cpu_stream(|stream| unsafe {
        sys::mlx_load_safetensors(&mut arrays.0, &mut metadata.0, path.as_ptr(), stream)
    })?;
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
