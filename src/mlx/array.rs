//! The array type: a handle to a lazily computed tensor that frees itself.

use super::error::{check, init};
use super::{ops, sys};
use crate::error::{Error, Result};

/// Element types that models use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Dtype {
    Bool,
    U8,
    U32,
    I32,
    F16,
    BF16,
    F32,
    /// Anything else that MLX knows.
    Other,
}

impl Dtype {
    fn from_raw(raw: sys::mlx_dtype) -> Self {
        match raw {
            sys::mlx_dtype__MLX_BOOL => Dtype::Bool,
            sys::mlx_dtype__MLX_UINT8 => Dtype::U8,
            sys::mlx_dtype__MLX_UINT32 => Dtype::U32,
            sys::mlx_dtype__MLX_INT32 => Dtype::I32,
            sys::mlx_dtype__MLX_FLOAT16 => Dtype::F16,
            sys::mlx_dtype__MLX_BFLOAT16 => Dtype::BF16,
            sys::mlx_dtype__MLX_FLOAT32 => Dtype::F32,
            _ => Dtype::Other,
        }
    }

    pub(super) fn raw(self) -> Result<sys::mlx_dtype> {
        Ok(match self {
            Dtype::Bool => sys::mlx_dtype__MLX_BOOL,
            Dtype::U8 => sys::mlx_dtype__MLX_UINT8,
            Dtype::U32 => sys::mlx_dtype__MLX_UINT32,
            Dtype::I32 => sys::mlx_dtype__MLX_INT32,
            Dtype::F16 => sys::mlx_dtype__MLX_FLOAT16,
            Dtype::BF16 => sys::mlx_dtype__MLX_BFLOAT16,
            Dtype::F32 => sys::mlx_dtype__MLX_FLOAT32,
            Dtype::Other => return Err(Error::Internal("no such dtype to make".into())),
        })
    }

    /// float16, bfloat16 or float32.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::BF16 | Dtype::F32)
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Dtype::Bool => "bool",
            Dtype::U8 => "uint8",
            Dtype::U32 => "uint32",
            Dtype::I32 => "int32",
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            Dtype::F32 => "float32",
            Dtype::Other => "another type",
        })
    }
}

/// A tensor. Cloning is cheap: both handles share the data.
pub struct Array(sys::mlx_array);

impl Array {
    /// Runs an mlx-c call that fills a result array.
    pub(super) fn make(f: impl FnOnce(*mut sys::mlx_array) -> i32) -> Result<Self> {
        init();
        // SAFETY: an empty array, owned by the wrapper from here on.
        let mut array = Array(unsafe { sys::mlx_array_new() });
        check(f(&mut array.0))?;
        Ok(array)
    }

    /// The same for a call that fills several.
    pub(super) fn make_many<const N: usize>(
        f: impl FnOnce(&mut [sys::mlx_array; N]) -> i32,
    ) -> Result<[Self; N]> {
        init();
        // SAFETY: empty arrays, owned by the wrappers from here on.
        let mut raw = [(); N].map(|()| unsafe { sys::mlx_array_new() });
        let code = f(&mut raw);
        let arrays = raw.map(Array);
        check(code).map(|()| arrays)
    }

    pub(super) fn raw(&self) -> sys::mlx_array {
        self.0
    }

    /// # Safety
    /// The handle is live and nobody else's.
    pub(super) unsafe fn from_raw(raw: sys::mlx_array) -> Self {
        Array(raw)
    }

    /// The handle, which is to be freed.
    pub(super) fn into_raw(self) -> sys::mlx_array {
        std::mem::ManuallyDrop::new(self).0
    }

    fn from_data(data: *const std::ffi::c_void, len: usize, shape: &[i32], dtype: Dtype) -> Result<Self> {
        let wanted = shape.iter().try_fold(1usize, |n, &d| Some(n * usize::try_from(d).ok()?));
        if wanted != Some(len) {
            return Err(Error::Internal(format!("{len} values do not fill the shape {shape:?}")));
        }
        init();
        // SAFETY: `data` holds the values that `shape` asks for; mlx-c copies them.
        let array =
            Array(unsafe { sys::mlx_array_new_data(data, shape.as_ptr(), shape.len() as i32, dtype.raw()?) });
        if array.0.ctx.is_null() {
            check(1)?;
        }
        Ok(array)
    }

    /// A copy of `data` in the given shape.
    pub fn from_i32(data: &[i32], shape: &[i32]) -> Result<Self> {
        Self::from_data(data.as_ptr().cast(), data.len(), shape, Dtype::I32)
    }

    /// A copy of `data` in the given shape.
    pub fn from_f32(data: &[f32], shape: &[i32]) -> Result<Self> {
        Self::from_data(data.as_ptr().cast(), data.len(), shape, Dtype::F32)
    }

    /// A scalar.
    pub fn scalar(value: f32) -> Result<Self> {
        Self::from_f32(&[value], &[])
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> &[i32] {
        // SAFETY: `self.0` is live; the shape lives as long as it does.
        unsafe {
            let n = sys::mlx_array_ndim(self.0);
            let data = sys::mlx_array_shape(self.0);
            if n == 0 || data.is_null() { &[] } else { std::slice::from_raw_parts(data, n) }
        }
    }

    /// The size of one axis, negative counting from the end.
    pub fn dim(&self, axis: i32) -> i32 {
        let shape = self.shape();
        let index = if axis < 0 { axis + shape.len() as i32 } else { axis };
        shape[index as usize]
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        // SAFETY: `self.0` is live.
        Dtype::from_raw(unsafe { sys::mlx_array_dtype(self.0) })
    }

    /// Bytes of all elements.
    pub fn nbytes(&self) -> usize {
        // SAFETY: `self.0` is live.
        unsafe { sys::mlx_array_nbytes(self.0) }
    }

    /// Number of elements.
    pub fn size(&self) -> usize {
        // SAFETY: `self.0` is live.
        unsafe { sys::mlx_array_size(self.0) }
    }

    /// Computes the array now.
    pub fn eval(&self) -> Result<()> {
        // SAFETY: `self.0` is live.
        check(unsafe { sys::mlx_array_eval(self.0) })
    }

    /// Evaluates and shows the elements' bytes, row by row, as they lie in memory.
    pub fn with_bytes<T>(&self, show: impl FnOnce(&[u8]) -> T) -> Result<T> {
        if let Some(data) = self.data_in_rows() {
            // SAFETY: the data holds `nbytes` bytes; only a kernel's target is written to, and nobody else holds that.
            return Ok(show(unsafe { std::slice::from_raw_parts(data, self.nbytes()) }));
        }
        let flat = ops::view(&ops::reshape(&ops::contiguous(self)?, &[-1])?, Dtype::U8)?;
        flat.eval()?;
        // SAFETY: evaluated, and bytes.
        let data = unsafe { sys::mlx_array_data_uint8(flat.0) };
        if data.is_null() {
            return if flat.nbytes() == 0 { Ok(show(&[])) } else { check(1).map(|()| show(&[])) };
        }
        // SAFETY: contiguous, so the data holds `nbytes` bytes, for as long as `flat` lives.
        Ok(show(unsafe { std::slice::from_raw_parts(data, flat.nbytes()) }))
    }

    /// The bytes of an evaluated array that lies row by row, where they lie.
    ///
    /// # Safety
    /// Nothing else uses the data, of which other arrays may have a share, while they are borrowed.
    #[allow(clippy::mut_from_ref)] // an array is a share of data
    pub unsafe fn bytes_mut(&self) -> Result<&mut [u8]> {
        match self.data_in_rows() {
            // SAFETY: the data holds `nbytes` bytes; the caller's promise.
            Some(data) => Ok(unsafe { std::slice::from_raw_parts_mut(data, self.nbytes()) }),
            None => Err(Error::Internal(format!("{self:?} has no data that lie row by row"))),
        }
    }

    /// The same of float32.
    ///
    /// # Safety
    /// As of [`Array::bytes_mut`].
    #[allow(clippy::mut_from_ref)] // as above
    pub unsafe fn floats_mut(&self) -> Result<&mut [f32]> {
        // SAFETY: the caller's promise; any bits are floats.
        match unsafe { self.bytes_mut()?.align_to_mut() } {
            ([], floats, []) if self.dtype() == Dtype::F32 => Ok(floats),
            _ => Err(Error::Internal(format!("{self:?} has no floats that lie row by row"))),
        }
    }

    /// The bytes of an evaluated array, if they lie row by row.
    fn data_in_rows(&self) -> Option<*mut u8> {
        // SAFETY: it has data then, and any element is bytes.
        let data = self.is_in_rows().then(|| unsafe { sys::mlx_array_data_uint8(self.0) }.cast_mut());
        data.filter(|data| !data.is_null())
    }

    /// Whether it is evaluated and lies row by row. (The data of a GPU's stay where they are.)
    pub fn is_in_rows(&self) -> bool {
        let (mut in_rows, mut available) = (false, false);
        // SAFETY: `self.0` is live.
        unsafe {
            sys::_mlx_array_is_available(&mut available, self.0) == 0
                && sys::_mlx_array_is_row_contiguous(&mut in_rows, self.0) == 0
                && available
                && in_rows
        }
    }

    /// Evaluates and copies all elements out as float32, row by row.
    pub fn to_vec_f32(&self) -> Result<Vec<f32>> {
        let floats = ops::astype(self, Dtype::F32)?;
        floats.with_bytes(|bytes| {
            let (words, _) = bytes.as_chunks::<4>();
            words.iter().map(|word| f32::from_ne_bytes(*word)).collect()
        })
    }
}

impl Clone for Array {
    fn clone(&self) -> Self {
        // SAFETY: both handles are live. mlx_array_set shares the data and can only fail to allocate
        // a few bytes, which Rust's own clones treat as fatal to the call as well.
        let mut copy = Array(unsafe { sys::mlx_array_new() });
        let code = unsafe { sys::mlx_array_set(&mut copy.0, self.0) };
        assert!(code == 0, "mlx_array_set failed");
        copy
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { sys::mlx_array_free(self.0) };
    }
}

impl std::fmt::Debug for Array {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Array({:?}, {})", self.shape(), self.dtype())
    }
}

/// An owned list of arrays, as mlx-c takes them.
pub(super) struct VectorArray(sys::mlx_vector_array);

impl VectorArray {
    pub(super) fn new<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<Self> {
        init();
        // SAFETY: an empty list, owned by the wrapper from here on.
        let vector = VectorArray(unsafe { sys::mlx_vector_array_new() });
        for array in arrays {
            // SAFETY: both handles are live; the list takes a share of the data.
            check(unsafe { sys::mlx_vector_array_append_value(vector.0, array.0) })?;
        }
        Ok(vector)
    }

    /// Runs an mlx-c call that fills a result list.
    pub(super) fn make(f: impl FnOnce(*mut sys::mlx_vector_array) -> i32) -> Result<Vec<Array>> {
        let mut vector = VectorArray::new([])?;
        check(f(&mut vector.0))?;
        vector.to_arrays()
    }

    /// The arrays of a list that is somebody else's.
    pub(super) fn borrow(vector: sys::mlx_vector_array) -> Result<Vec<Array>> {
        std::mem::ManuallyDrop::new(VectorArray(vector)).to_arrays()
    }

    pub(super) fn to_arrays(&self) -> Result<Vec<Array>> {
        // SAFETY: the list is live and the index below its size.
        let size = unsafe { sys::mlx_vector_array_size(self.0) };
        (0..size).map(|i| Array::make(|out| unsafe { sys::mlx_vector_array_get(out, self.0, i) })).collect()
    }

    pub(super) fn as_mut(&mut self) -> &mut sys::mlx_vector_array {
        &mut self.0
    }

    pub(super) fn raw(&self) -> sys::mlx_vector_array {
        self.0
    }
}

impl Drop for VectorArray {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { sys::mlx_vector_array_free(self.0) };
    }
}
