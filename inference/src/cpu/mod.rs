//! The CPU runner's operations: threads, matrix products, attention over paged keys and values.

pub mod activations;
pub mod attention;
#[cfg(target_arch = "x86_64")]
mod attention_x86;
#[cfg(target_arch = "x86_64")]
pub mod instructions;
#[cfg(target_arch = "x86_64")]
pub mod k_quants;
pub mod kv_storage;
pub mod matmul;
pub mod ops;
mod prefetch;
#[cfg(target_arch = "x86_64")]
pub mod q8_0;
#[cfg(target_arch = "x86_64")]
mod rows_avx512;
pub(crate) mod shared_mut;
pub mod threads;
#[cfg(target_arch = "x86_64")]
pub mod tiles_avx512;
#[cfg(target_arch = "x86_64")]
mod tiles_vnni;
#[cfg(target_arch = "x86_64")]
mod unpack;
#[cfg(target_arch = "x86_64")]
mod unpack_avx512;
