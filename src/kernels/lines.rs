//! Memory that begins with a cache line, so that vectors and tiles that lie in it one behind the other touch no
//! more lines than they fill.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// A line: as many words as a vector of AVX-512.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Words, or floats. Their memory is kept for the next ones of this thread: asking the system for it anew, page by
/// page, takes longer than some of the work that is done in it.
#[derive(Default)]
pub(super) struct Words {
    lines: Vec<Line>,
    length: usize,
}

/// What a thread keeps, at most: a product has an input that it makes and a rounded one.
const SPARE: usize = 2;

thread_local! {
    static SPARES: RefCell<Vec<Vec<Line>>> = const { RefCell::new(vec![]) };
}

impl Words {
    /// So many zeros.
    pub fn zeros(length: usize) -> Self {
        let mut words = Words::room(length);
        words.fill(0);
        words
    }

    /// So many, of any values.
    pub fn room(length: usize) -> Self {
        let spare = SPARES.try_with(|spares| spares.borrow_mut().pop());
        let mut words = Words { lines: spare.ok().flatten().unwrap_or_default(), length: 0 };
        words.grow(length);
        words.length = length;
        words
    }

    /// Has at least so many from now on; the old ones stay.
    pub fn grow(&mut self, length: usize) {
        let lines = length.div_ceil(16);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0; 16]));
        }
        self.length = self.length.max(length);
    }

    /// The words as floats.
    pub fn floats(&self) -> &[f32] {
        // SAFETY: as below.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }

    /// The words as floats.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        // SAFETY: the lines hold so many words, and any bits are a float.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A thread that ends has none any more.
        let _ = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            if !lines.is_empty() && spares.len() < SPARE {
                spares.push(lines);
            }
        });
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
