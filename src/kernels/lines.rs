//! Memory that begins with a cache line, so that vectors and tiles that lie in it one behind the other touch no
//! more lines than they fill.

use std::ops::{Deref, DerefMut};

/// A line: as many words as a vector of AVX-512.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Words, or floats: zeros at first.
#[derive(Default)]
pub(super) struct Words {
    lines: Vec<Line>,
    length: usize,
}

impl Words {
    /// So many.
    pub fn new(length: usize) -> Self {
        Words { lines: vec![Line([0; 16]); length.div_ceil(16)], length }
    }

    /// Has at least so many from now on; the old ones stay.
    pub fn grow(&mut self, length: usize) {
        if length > self.length {
            self.lines.resize(length.div_ceil(16), Line([0; 16]));
            self.length = length;
        }
    }

    /// The words as floats.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        // SAFETY: the lines hold so many words, and any bits are a float.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

impl Deref for Words {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        // SAFETY: the lines hold so many words.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}
