//! Asking for memory before it is read.

use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

/// For what is read next, in the order of reading, as far ahead as the first-level cache has room.
#[inline(always)]
pub fn near(start: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(64) {
        // SAFETY: x86-64 has SSE; a prefetch may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(line).cast()) };
    }
}

/// Into the second-level cache, for pieces that lie apart: the first one has fewer places for what is on its way.
#[inline(always)]
pub fn far(start: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(64) {
        // SAFETY: x86-64 has SSE; a prefetch may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(line).cast()) };
    }
}
