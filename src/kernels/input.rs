//! A product's input, and what it is rounded to: once for all the matrices that take it so.

#[cfg(target_arch = "x86_64")]
use super::bfloat::Split;
use super::integer::{Form, Rounded};
use super::lines::Words;
#[cfg(target_arch = "x86_64")]
use std::cell::OnceCell;
use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;

/// Rows of floats.
pub(super) struct X<'a> {
    values: Values<'a>,
    rounded: RefCell<Vec<(Order, Arc<Rounded>)>>,
    #[cfg(target_arch = "x86_64")]
    split: OnceCell<Arc<Split>>,
}

/// What rounded rows are like: their form, and two numbers of the kernel's.
pub(super) type Order = (Form, [usize; 2]);

enum Values<'a> {
    Given(&'a [f32]),
    Made(Words),
}

impl X<'_> {
    /// The rows as a kernel wants them: `round` makes them so, unless another matrix's product had it do so.
    pub fn rounded(&self, order: Order, round: impl FnOnce(&[f32]) -> Rounded) -> Arc<Rounded> {
        let mut known = self.rounded.borrow_mut();
        if let Some((_, rounded)) = known.iter().find(|(other, _)| *other == order) {
            return rounded.clone();
        }
        let rounded = Arc::new(round(self));
        known.push((order, rounded.clone()));
        rounded
    }

    /// The same in two parts.
    #[cfg(target_arch = "x86_64")]
    pub fn split(&self, split: impl FnOnce(&[f32]) -> Split) -> Arc<Split> {
        self.split.get_or_init(|| Arc::new(split(self))).clone()
    }
}

impl<'a> X<'a> {
    fn new(values: Values<'a>) -> Self {
        X {
            values,
            rounded: RefCell::default(),
            #[cfg(target_arch = "x86_64")]
            split: OnceCell::new(),
        }
    }
}

impl<'a> From<&'a [f32]> for X<'a> {
    fn from(values: &'a [f32]) -> Self {
        X::new(Values::Given(values))
    }
}

impl From<Words> for X<'_> {
    fn from(values: Words) -> Self {
        X::new(Values::Made(values))
    }
}

impl Deref for X<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &self.values {
            Values::Given(x) => x,
            Values::Made(x) => x.floats(),
        }
    }
}
