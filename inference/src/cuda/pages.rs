//! Keys and values in pages of 16 tokens on the device.

use std::{fmt, str::FromStr};

use cudarc::driver::sys::CUdeviceptr;

use super::{Gpu, GpuError, buffers::Buffer, kernels::HEAD_DIMENSIONS, params::CopyPagesParams};
use crate::{kv_cache::BLOCK_SIZE, scheduler::BlockCopy};

/// How a GPU keeps keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PageFormat {
    #[default]
    Bf16,
    /// e4m3 times a power of two for each token's head: half as large, three bits of mantissa instead of seven.
    Fp8,
}

/// Rounds a token's head to what [`PageFormat::Fp8`] keeps of it, as `pages.cuh` does.
pub(super) fn round_fp8(head: &mut [f32]) {
    let largest = head.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    // The least power of two that brings it to 448 or below.
    let exponent = ((largest * (1.0 / 448.0)).to_bits() + 0x7f_ffff) >> 23;
    let scale = f32::from_bits(exponent.clamp(27, 134) << 23);
    for value in head {
        let magnitude = (value.abs() / scale).min(448.0);
        // Of numbers below 2^-6 all have its spacing.
        let exponent = (magnitude.to_bits() >> 23).max(127 - 6);
        let spacing = f32::from_bits((exponent - 3) << 23);
        *value = (magnitude / spacing).round_ties_even() * spacing * scale * value.signum();
    }
}

/// What the cache of keys and values should be.
#[derive(Debug, Clone, Copy)]
pub struct CacheWish {
    pub blocks: usize,
    /// With fewer the model is not loaded.
    pub least_blocks: usize,
    pub format: PageFormat,
}

/// All formats, in the order of the kernels' tables.
pub(super) const PAGE_FORMATS: [PageFormat; 2] = [PageFormat::Bf16, PageFormat::Fp8];

impl PageFormat {
    /// Bytes of one head's page of keys, or of values.
    pub(super) fn page_bytes(self, dimension: usize) -> usize {
        match self {
            Self::Bf16 => BLOCK_SIZE * dimension * 2,
            // Each token's factor lies behind the elements.
            Self::Fp8 => BLOCK_SIZE * (dimension + 2),
        }
    }
}

impl FromStr for PageFormat {
    type Err = String;

    /// `bf16` or `fp8`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "bf16" => Ok(Self::Bf16),
            "fp8" => Ok(Self::Fp8),
            _ => Err(format!("`{text}` is no format of the GPU's cache; use bf16 or fp8")),
        }
    }
}

impl fmt::Display for PageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
        })
    }
}

/// Sizes of attention, the same in all layers.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub dimension: usize,
    pub format: PageFormat,
}

impl AttentionShape {
    /// Whether the kernels are compiled for it.
    pub fn is_supported(&self) -> bool {
        HEAD_DIMENSIONS.contains(&self.dimension)
    }

    /// Bytes of one block's keys, or values, in one layer.
    fn page_bytes(&self) -> usize {
        self.kv_heads * self.format.page_bytes(self.dimension)
    }

    /// Bytes that one block takes in all layers.
    pub fn block_bytes(&self) -> usize {
        self.page_bytes() * 2 * self.layers
    }

    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// The paged cache: for each layer a plane of keys, then one of values.
pub struct KvPages {
    pub shape: AttentionShape,
    blocks: usize,
    pages: Buffer,
    copies: Buffer,
}

impl KvPages {
    /// Zeroed: positions that are masked still take part in products, so they must be finite.
    pub fn new(gpu: &Gpu, shape: AttentionShape, blocks: usize) -> Result<Self, GpuError> {
        let pages = Buffer::new(gpu, "the cache of keys and values", shape.block_bytes() * blocks)?;
        Ok(Self { shape, blocks, pages, copies: Buffer::new(gpu, "a list of copies", 0)? })
    }

    pub fn byte_length(&self) -> usize {
        self.pages.len()
    }

    pub(super) fn plane(&self, layer: usize, of_values: usize) -> CUdeviceptr {
        let plane_bytes = self.shape.page_bytes() * self.blocks;
        self.pages.address() + ((2 * layer + of_values) * plane_bytes) as CUdeviceptr
    }

    /// Copies blocks in all layers. Whole blocks: what follows the copied tokens is written before it is read.
    pub fn copy_blocks(&mut self, gpu: &Gpu, copies: &[BlockCopy]) -> Result<(), GpuError> {
        if copies.is_empty() {
            return Ok(());
        }
        let pairs: Vec<u32> = copies.iter().flat_map(|copy| [copy.source, copy.destination]).collect();
        assert!(pairs.iter().all(|block| (*block as usize) < self.blocks));
        self.copies.reserve(gpu, "a list of copies", pairs.len() * 4)?;
        self.copies.write(gpu, &pairs)?;
        let params = CopyPagesParams {
            cache: self.pages.address(),
            copies: self.copies.address(),
            plane_bytes: (self.shape.page_bytes() * self.blocks) as u64,
            page_bytes: self.shape.page_bytes() as u32,
        };
        let grid = [copies.len(), 2 * self.shape.layers, 1];
        // SAFETY: blocks were checked against the cache's; planes are `2 * layers`.
        unsafe { gpu.launch(&gpu.kernels.copy_pages, grid, 128, 0, &params)? };
        // The list is read from ordinary memory, which the caller may free.
        gpu.synchronize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &[f32], expected: &[f32]) {
        let mut found = head.to_vec();
        round_fp8(&mut found);
        assert_eq!(found, expected, "{head:?}");
    }

    #[test]
    fn numbers_keep_three_bits_of_mantissa() {
        // 448 is the largest number; the scale is 1.
        check(&[448.0, 9.4, 9.6, 0.0, -17.0, -19.0], &[448.0, 9.0, 10.0, 0.0, -16.0, -20.0]);
        // Twice as large values are as exact.
        check(&[896.0, 18.8, -38.0], &[896.0, 18.0, -40.0]);
        // Just above: the scale doubles.
        check(&[449.0, 1.0], &[448.0, 1.0]);
        // Below 2^-6 of the scale the spacing is 2^-9.
        check(&[448.0, 0.0029, 0.0031], &[448.0, 0.001953125, 0.00390625]);
        // Larger than any factor allows, and smaller than it needs to be.
        check(&[1e9, 1.0], &[57344.0, 1.0]);
        check(&[0.0, 1e-38], &[0.0, 0.0]);
    }

    #[test]
    fn formats_are_read_as_they_are_written() {
        for format in PAGE_FORMATS {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("int4".parse::<PageFormat>().is_err());
    }
}
