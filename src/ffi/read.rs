//! Reading what callers pass, and writing what they asked for.

use crate::error::{Error, Result};

/// UTF-8 text by pointer and length. The pointer may be NULL when the length is 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxrt_string {
    /// The first byte.
    pub data: *const libc::c_char,
    /// The length in bytes.
    pub len: usize,
}

/// A text of ours as callers see it, never NULL.
pub(super) fn view(text: &str) -> mlxrt_string {
    let data = if text.is_empty() { c"".as_ptr() } else { text.as_ptr().cast() };
    mlxrt_string { data, len: text.len() }
}

/// Texts by pointer and count; errors name the one that is not right.
///
/// # Safety
/// As for [`slice()`], of the array and of each text.
pub(super) unsafe fn texts<'a>(data: *const mlxrt_string, count: usize, name: &str) -> Result<Vec<&'a str>> {
    // SAFETY: the caller's promise, here and below.
    let strings = unsafe { slice(data, count, name) }?;
    let one = |(index, string): (usize, &mlxrt_string)| unsafe {
        text(string.data, string.len, &format!("{name}[{index}]"))
    };
    strings.iter().enumerate().map(one).collect()
}

/// A slice by pointer and count.
///
/// # Safety
/// If `data` is not NULL it points to `len` initialised values that live as long as `'a`.
pub(super) unsafe fn slice<'a, T>(data: *const T, len: usize, name: &str) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Error::BadArgument(format!("{name} is NULL but its length is {len}")));
    }
    if !data.is_aligned() || len > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Error::BadArgument(format!("{name}: no array of {len} values can be there")));
    }
    // SAFETY: not NULL, aligned, and the caller promises the values.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// UTF-8 text by pointer and length.
///
/// # Safety
/// As for [`slice()`].
pub(super) unsafe fn text<'a>(data: *const libc::c_char, len: usize, name: &str) -> Result<&'a str> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice(data.cast::<u8>(), len, name) }?;
    std::str::from_utf8(bytes).map_err(|error| {
        Error::BadArgument(format!("{name} is not UTF-8: bad byte at offset {}", error.valid_up_to()))
    })
}

/// A place for an output.
///
/// # Safety
/// If `out` is not NULL it points to writable memory for a `T` that nothing else uses during `'a`.
pub(super) unsafe fn output<'a, T>(out: *mut T, name: &str) -> Result<&'a mut T> {
    if !out.is_null() && !out.is_aligned() {
        return Err(Error::BadArgument(format!("{name} is not aligned")));
    }
    // SAFETY: the caller's promise.
    unsafe { out.as_mut() }.ok_or_else(|| Error::BadArgument(format!("{name} is NULL")))
}

/// A struct that starts with `struct_size` and only grows. Its first version had `FIRST_SIZE` bytes.
///
/// # Safety
/// `repr(C)`, the first field is `struct_size: usize`, and all-zero bytes are a valid value.
pub(super) unsafe trait Sized: Copy {
    /// The name in the header.
    const NAME: &'static str;
    /// Bytes of the first version.
    const FIRST_SIZE: usize;
}

/// Reads options of any version. NULL gives `None`.
///
/// # Safety
/// If `options` is not NULL it points to `struct_size` readable bytes, `struct_size` being the first
/// field.
pub(super) unsafe fn options<T: Sized>(options: *const T) -> Result<Option<T>> {
    if options.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let size = unsafe { checked_size::<T>(options) }?;
    let extra = size.saturating_sub(size_of::<T>());
    // SAFETY: the caller's promise: `size` bytes are readable.
    let newer = unsafe { std::slice::from_raw_parts(options.cast::<u8>().add(size - extra), extra) };
    if newer.iter().any(|&byte| byte != 0) {
        return Err(Error::BadArgument(format!(
            "{}: struct_size is {size}, this library knows {} bytes, and an option behind them is set",
            T::NAME,
            size_of::<T>()
        )));
    }
    // SAFETY: zero is a valid value by the trait; then as many bytes as both sides know are copied.
    let mut value: T = unsafe { std::mem::zeroed() };
    unsafe {
        std::ptr::copy_nonoverlapping(
            options.cast::<u8>(),
            (&raw mut value).cast::<u8>(),
            size.min(size_of::<T>()),
        );
    }
    Ok(Some(value))
}

/// Writes an output struct of any version, leaving its `struct_size`. What a newer caller expects
/// beyond ours is set to zero.
///
/// # Safety
/// `out` points to `struct_size` writable bytes, `struct_size` being its first field, or is NULL.
pub(super) unsafe fn write_sized<T: Sized>(out: *mut T, value: &T) -> Result<()> {
    if out.is_null() {
        return Err(Error::BadArgument(format!("{} is NULL", T::NAME)));
    }
    // SAFETY: the caller's promise.
    let size = unsafe { checked_size::<T>(out) }?;
    let head = size_of::<usize>();
    let ours = size.min(size_of::<T>());
    // SAFETY: `size` bytes are writable; `value` has `ours` bytes.
    unsafe {
        let out = out.cast::<u8>();
        let value = std::ptr::from_ref(value).cast::<u8>();
        std::ptr::copy_nonoverlapping(value.add(head), out.add(head), ours - head);
        std::ptr::write_bytes(out.add(ours), 0, size - ours);
    }
    Ok(())
}

/// Places for `count` output structs of any one version behind each other: `struct_size` of the first says
/// how far apart they are, and the others' must be the same.
///
/// # Safety
/// `out` is NULL, or points to `count` structs of that size, all writable.
pub(super) unsafe fn outputs<T: Sized>(out: *mut T, count: usize) -> Result<Vec<*mut T>> {
    if out.is_null() || count == 0 {
        return Ok(vec![]);
    }
    // SAFETY: the caller's promise: there is a first one.
    let size = unsafe { checked_size::<T>(out) }?;
    if !size.is_multiple_of(align_of::<T>()) || count > isize::MAX as usize / size {
        return Err(Error::BadArgument(format!(
            "no array of {count} {} of {size} bytes can be there",
            T::NAME
        )));
    }
    let mut places = vec![];
    for index in 0..count {
        // SAFETY: the caller's promise; inside of what was checked above.
        let place = unsafe { out.byte_add(index * size) };
        let found = unsafe { place.cast::<usize>().read() };
        if found != size {
            return Err(Error::BadArgument(format!(
                "{}: struct_size of the first in the array is {size}, of number {index} {found}",
                T::NAME
            )));
        }
        places.push(place);
    }
    Ok(places)
}

/// Fills options with their defaults: zeros and the size.
///
/// # Safety
/// `options` is NULL or points to `size` writable bytes.
pub(super) unsafe fn set_default<T: Sized>(options: *mut T, size: usize) -> Result<()> {
    if options.is_null() || size < T::FIRST_SIZE || !options.is_aligned() {
        return Err(Error::BadArgument(format!(
            "{}: NULL, or smaller ({size} bytes) than its first version ({})",
            T::NAME,
            T::FIRST_SIZE
        )));
    }
    // SAFETY: `size` bytes are writable and hold at least the first field.
    unsafe {
        std::ptr::write_bytes(options.cast::<u8>(), 0, size);
        options.cast::<usize>().write(size);
    }
    Ok(())
}

/// # Safety
/// `value` points to at least its first field.
unsafe fn checked_size<T: Sized>(value: *const T) -> Result<usize> {
    if !value.is_aligned() {
        return Err(Error::BadArgument(format!("{} is not aligned", T::NAME)));
    }
    // SAFETY: the caller's promise; the first field is struct_size.
    let size = unsafe { value.cast::<usize>().read() };
    // No version will ever have a mebibyte of options: a larger number is memory that was not set.
    if size < T::FIRST_SIZE || size > 1 << 20 {
        return Err(Error::BadArgument(format!(
            "{}: struct_size is {size}, expected {} or more (sizeof, set before the call)",
            T::NAME,
            T::FIRST_SIZE
        )));
    }
    Ok(size)
}
