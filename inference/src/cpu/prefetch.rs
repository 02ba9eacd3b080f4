//! Asking for memory before it is read. Elsewhere than on x86-64 nothing is asked for.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

/// For what is read next, in the order of reading, as far ahead as the first-level cache has room.
#[cfg(target_arch = "x86_64")]
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
        far_line(start.wrapping_add(line));
    }
}

#[inline(always)]
fn far_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: x86-64 has SSE; a prefetch may name any address.
    unsafe {
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Four pieces that lie apart and are read after what is computed now, two lines of them asked for at each of its steps: all at
/// once they would fill the places for what is on its way, and the processor would wait.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only the kernels for x86-64 ask"))]
pub struct Ahead {
    pieces: [*const u8; 4],
}

#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only the kernels for x86-64 ask"))]
impl Ahead {
    pub fn new(pieces: [*const u8; 4]) -> Self {
        Self { pieces }
    }

    /// The part of step `step`: lines `step / 2` of two of the pieces.
    #[inline(always)]
    pub fn ask(&self, step: usize) {
        for piece in &self.pieces[2 * (step % 2)..][..2] {
            far_line(piece.wrapping_add(step / 2 * 64));
        }
    }
}
