//! A slice that several threads write at the same time, each its own elements.

use std::{marker::PhantomData, ops::Range};

/// A mutable slice shared by the threads of one parallel section.
pub struct SharedMut<'a, T> {
    start: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `write` and `slice`, whose callers vouch that no two threads use the same elements.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    /// # Safety
    /// No other thread uses this element meanwhile.
    #[inline(always)]
    pub unsafe fn write(&self, at: usize, value: T) {
        assert!(at < self.length);
        // SAFETY: inside the slice (asserted), and nobody else uses the element.
        unsafe { *self.start.add(at) = value };
    }

    /// # Safety
    /// No other thread uses these elements while the returned slice is.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "that the parts are disjoint is the caller's promise")]
    pub unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.length);
        // SAFETY: inside the slice (asserted), and nobody else uses the elements.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
