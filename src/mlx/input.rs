//! Arrays' elements as kernels see them ([`super::primitive`]).

use super::Dtype;
use crate::error::{Error, Result};
use std::ffi::{c_int, c_void};

/// The most axes that a kernel's input has.
pub(super) const MOST_AXES: usize = 6;

/// primitive.cpp's `mlxrt_view`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawView {
    pub data: *mut c_void,
    pub item: usize,
    pub size: usize,
    pub shape: *const c_int,
    pub strides: *const i64,
    pub axes: usize,
    pub in_rows: bool,
}

/// An input's elements.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    bytes: &'a [u8],
    dtype: Dtype,
    shape: &'a [c_int],
    strides: [i64; MOST_AXES],
}

/// The types that inputs can be read as.
///
/// # Safety
/// Every pattern of bits is a value, and `DTYPE` has the same size.
pub unsafe trait Element: Copy {
    /// MLX's name of it.
    const DTYPE: Dtype;
}

/// MLX's boolean, a byte.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Bool(u8);

impl Bool {
    /// Whether it is true.
    #[inline(always)]
    pub fn is_true(self) -> bool {
        self.0 != 0
    }
}

// SAFETY: plain numbers, of the sizes that their names say.
unsafe impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}
// SAFETY: as above.
unsafe impl Element for u32 {
    const DTYPE: Dtype = Dtype::U32;
}
// SAFETY: as above.
unsafe impl Element for i32 {
    const DTYPE: Dtype = Dtype::I32;
}
// SAFETY: as above.
unsafe impl Element for u8 {
    const DTYPE: Dtype = Dtype::U8;
}
// SAFETY: as above.
unsafe impl Element for Bool {
    const DTYPE: Dtype = Dtype::Bool;
}
// SAFETY: as above; `half` makes it transparent over u16.
unsafe impl Element for half::f16 {
    const DTYPE: Dtype = Dtype::F16;
}
// SAFETY: as above.
unsafe impl Element for half::bf16 {
    const DTYPE: Dtype = Dtype::BF16;
}

impl<'a> Input<'a> {
    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its axes.
    pub fn shape(&self) -> &'a [c_int] {
        self.shape
    }

    /// How many elements lie between neighbours along each axis, all 0 or more, in what [`Input::values`]
    /// gives, which begins with the first element and ends with the last.
    pub fn strides(&self) -> &[i64] {
        &self.strides[..self.shape.len()]
    }

    /// The elements, which must be of this type; where the kernel takes inputs as they lie, with what lies
    /// between them.
    pub fn values<T: Element>(&self) -> Result<&'a [T]> {
        if T::DTYPE != self.dtype {
            return Err(Error::Internal(format!("a kernel got {}, expected {}", self.dtype, T::DTYPE)));
        }
        // SAFETY: any bits are a `T`; what lies at an unaligned border is not in the middle part.
        let (before, values, after) = unsafe { self.bytes.align_to::<T>() };
        if !before.is_empty() || !after.is_empty() {
            return Err(Error::Internal("a kernel got unaligned data".into()));
        }
        Ok(values)
    }
}

/// An array's elements, and a copy of them if they do not lie as the kernel wants them.
pub(super) struct Source<'a> {
    view: RawView,
    shape: &'a [c_int],
    /// Memory from the first element to the last, and where in it each lies.
    bytes: usize,
    strides: [i64; MOST_AXES],
    /// With the alignment of any element.
    copy: Option<Vec<u64>>,
}

impl<'a> Source<'a> {
    /// `as_they_lie`: whether the elements may have strides; otherwise they are to lie row by row.
    ///
    /// # Safety
    /// The view is an array's, which lives for `'a`.
    pub unsafe fn new(view: RawView, as_they_lie: bool) -> Result<Self> {
        // SAFETY: the caller's promise.
        let (shape, own) = unsafe { (slice(view.shape, view.axes), slice(view.strides, view.axes)) };
        if shape.len() > MOST_AXES {
            return Err(Error::Internal(format!("a kernel got {} axes", shape.len())));
        }
        let mut strides = [0; MOST_AXES];
        let mut next = 1;
        for (stride, &length) in strides.iter_mut().zip(shape).rev() {
            *stride = next;
            next *= i64::from(length);
        }
        // A view of bytes as words may lie anywhere.
        let aligned = (view.data as usize).is_multiple_of(view.item);
        let forwards = own.iter().all(|&stride| stride >= 0);
        let mut source = Source { view, shape, bytes: view.size * view.item, strides, copy: None };
        if view.size == 0 || view.in_rows && aligned {
            return Ok(source);
        }
        if as_they_lie && aligned && forwards {
            source.strides[..own.len()].copy_from_slice(own);
            let steps = shape.iter().zip(own).map(|(&length, &stride)| (i64::from(length) - 1) * stride);
            source.bytes = (steps.sum::<i64>() as usize + 1) * view.item;
            return Ok(source);
        }
        let mut copy = vec![0_u64; source.bytes.div_ceil(8)];
        // SAFETY: the array's elements are where its strides say, and the copy has room for all.
        unsafe { gather(&view, copy.as_mut_ptr().cast()) };
        source.copy = Some(copy);
        Ok(source)
    }

    pub fn input(&self, dtype: Dtype) -> Input<'_> {
        let data = self.copy.as_ref().map_or(self.view.data.cast_const(), |copy| copy.as_ptr().cast());
        // SAFETY: the memory from the first element to the last is the array's, or the copy of them.
        let bytes = unsafe { slice(data.cast(), self.bytes) };
        Input { bytes, dtype, shape: self.shape, strides: self.strides }
    }
}

/// Copies an array's elements row by row.
///
/// # Safety
/// They are where the view says, and `to` has room for them.
pub(super) unsafe fn gather(view: &RawView, to: *mut u8) {
    // SAFETY: the caller's promise.
    let (shape, strides) = unsafe { (slice(view.shape, view.axes), slice(view.strides, view.axes)) };
    if view.size == 0 {
        return;
    }
    // Elements that lie behind each other go together.
    let run = match (shape.last(), strides.last()) {
        _ if view.in_rows => view.size,
        (Some(&length), Some(1)) => length as usize,
        _ => 1,
    };
    let axes = if run > 1 { shape.len() - 1 } else { shape.len() };
    let mut place = [0; MOST_AXES];
    let mut from = 0;
    for index in (0..view.size).step_by(run) {
        // SAFETY: `from` is the place of an element, behind which as many as a run lie.
        unsafe {
            let element = view.data.cast::<u8>().offset(from as isize * view.item as isize);
            std::ptr::copy_nonoverlapping(element, to.add(index * view.item), run * view.item);
        }
        for axis in (0..axes).rev() {
            (place[axis], from) = (place[axis] + 1, from + strides[axis]);
            if place[axis] < shape[axis] {
                break;
            }
            (place[axis], from) = (0, from - strides[axis] * i64::from(shape[axis]));
        }
    }
}

/// # Safety
/// `data` is readable for `size` elements, or `size` is 0.
pub(super) unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    // SAFETY: the caller's promise.
    if size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, size) } }
}
