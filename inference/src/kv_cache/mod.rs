//! Bookkeeping of the KV cache: which block holds which tokens. Integers only; the runner holds the tensors.

pub mod block_pool;
pub mod prefix_cache;

pub use block_pool::BlockPool;
pub use prefix_cache::PrefixCache;

/// Index of a block of `BLOCK_SIZE` tokens.
pub type BlockId = u32;

/// Tokens a block. Small enough to share finely, large enough for streaming reads.
pub const BLOCK_SIZE: usize = 16;
