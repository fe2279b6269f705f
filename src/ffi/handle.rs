//! Handles. What a caller holds is a number that looks like a pointer and is never dereferenced: it
//! is looked up here. So a freed, foreign or invented handle is an error and not undefined behaviour,
//! and a call that is under way keeps its object alive when another thread frees the handle.

use crate::error::{Error, Result};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Numbers are never used twice, over all tables. They are odd, which no real object's address is, and
/// above the first pages, where Go takes a pointer for a corrupt one.
static NEXT: AtomicUsize = AtomicUsize::new(0x1_0001);

/// The live objects of one kind. `C` is the opaque type of the header.
pub(super) struct Table<C, T> {
    noun: &'static str,
    live: RwLock<HashMap<usize, Arc<T>>>,
    handle: std::marker::PhantomData<fn(C)>,
}

impl<C, T> Table<C, T> {
    pub(super) fn new(noun: &'static str) -> Self {
        Table { noun, live: RwLock::default(), handle: std::marker::PhantomData }
    }

    /// Hands an object to the caller.
    pub(super) fn insert(&self, object: Arc<T>) -> *mut C {
        let number = NEXT.fetch_add(2, Ordering::Relaxed);
        self.live.write().insert(number, object);
        std::ptr::without_provenance_mut(number)
    }

    /// The object behind a handle.
    pub(super) fn get(&self, handle: *const C) -> Result<Arc<T>> {
        let noun = self.noun;
        if handle.is_null() {
            return Err(Error::BadArgument(format!("the {noun} is NULL")));
        }
        let object = self.live.read().get(&handle.addr()).cloned();
        object.ok_or_else(|| {
            Error::BadArgument(format!("the {noun} handle {handle:p} was freed or never existed"))
        })
    }

    /// The object behind a handle that may be NULL.
    pub(super) fn get_optional(&self, handle: *const C) -> Result<Option<Arc<T>>> {
        if handle.is_null() { Ok(None) } else { self.get(handle).map(Some) }
    }

    /// Takes the handle back; NULL and freed handles give nothing.
    pub(super) fn remove(&self, handle: *mut C) -> Option<Arc<T>> {
        self.live.write().remove(&handle.addr())
    }
}
