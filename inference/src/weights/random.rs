//! Random weights of any stored type, for tests and benchmarks of shapes whose real files are large.

use candle_core::quantized::GgmlDType;
use half::{bf16, f16};

use super::{Bytes, Matrix, storage::AlignedBytes};

/// SplitMix64 (Steele, Lea and Flood 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [-1, 1).
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A matrix of random blocks: every bit pattern of the values occurs, factors are such that weights are about 0.02.
pub fn matrix(dtype: GgmlDType, rows: usize, columns: usize, seed: u64) -> Matrix {
    let mut random = Random::new(seed ^ (rows * 31 + columns) as u64);
    let block_bytes = dtype.type_size();
    let mut bytes = vec![0u8; rows * columns / dtype.block_size() * block_bytes];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random.bits().to_le_bytes()[..chunk.len()]);
    }
    for block in bytes.chunks_exact_mut(block_bytes) {
        let vary = 1.0 + 0.25 * random.float();
        let mut factor = |at: usize, value: f32| {
            block[at..at + 2].copy_from_slice(&f16::from_f32(value * vary).to_le_bytes())
        };
        match dtype {
            // Mean scale and minimum are 31.5: the mean weight is zero when the factors' ratio is half the range.
            GgmlDType::Q4K => {
                factor(0, 1e-4);
                factor(2, 7.5e-4);
            }
            GgmlDType::Q5K => {
                factor(0, 5e-5);
                factor(2, 7.75e-4);
            }
            GgmlDType::Q6K => factor(208, 1.5e-5),
            GgmlDType::Q8_0 => factor(0, 2.7e-4),
            GgmlDType::Q4_0 | GgmlDType::Q5_0 => factor(0, 2e-3),
            GgmlDType::F16 => factor(0, 0.02 * random.float()),
            GgmlDType::BF16 => {
                block.copy_from_slice(&bf16::from_f32(0.035 * random.float()).to_le_bytes());
            }
            GgmlDType::F32 => block.copy_from_slice(&(0.035 * random.float()).to_le_bytes()),
            other => panic!("no random weights of type {other:?}"),
        }
    }
    Matrix::new(rows, columns, dtype, Bytes::owned(AlignedBytes::copy_of(&bytes)))
}
