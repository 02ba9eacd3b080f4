//! The CPU runner's operations: threads, matrix products, attention over paged keys and values.

pub mod attention;
#[cfg(target_arch = "x86_64")]
pub mod k_quants;
pub mod matmul;
pub mod ops;
pub mod threads;
