//! A result that several threads write.

use std::marker::PhantomData;

/// Floats of which every thread writes elements of its own.
#[derive(Clone, Copy)]
pub(super) struct Output<'a> {
    data: *mut f32,
    length: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a slice that is borrowed alone; `write` makes its callers keep apart.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// Borrows the slice for as long as it is shared.
    pub fn new(y: &'a mut [f32]) -> Self {
        Output { data: y.as_mut_ptr(), length: y.len(), borrowed: PhantomData }
    }

    /// Writes `values` from `index` on.
    ///
    /// # Safety
    /// No other thread writes these elements while the output is shared.
    #[inline(always)]
    pub unsafe fn write(&self, index: usize, values: &[f32]) {
        assert!(index <= self.length && values.len() <= self.length - index);
        // SAFETY: within the slice, which nobody reads meanwhile, and the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.data.add(index), values.len()) };
    }
}
