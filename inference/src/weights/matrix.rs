//! A weight matrix over mapped bytes: rows of quantized blocks or floats, in the file's own layout, never copied
//! unless the file's alignment forbids reading it in place.

use candle_core::quantized::{GgmlDType, GgmlType, k_quants};
use half::{bf16, f16};

use super::{Bytes, Gguf, ModelError, TensorInfo, storage::AlignedBytes};

/// `[rows, columns]`; each row is contiguous, so a row is one output feature of a linear layer.
#[derive(Clone)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    dtype: GgmlDType,
    bytes: Bytes,
}

/// Calls `$body` with `$blocks` bound to the matrix's blocks as a typed slice.
macro_rules! with_blocks {
    ($matrix:expr, $blocks:ident => $body:expr) => {{
        use candle_core::quantized::{GgmlDType as D, k_quants as k};
        match $matrix.dtype() {
            D::F32 => {
                let $blocks = $matrix.blocks::<f32>();
                $body
            }
            D::F16 => {
                let $blocks = $matrix.blocks::<half::f16>();
                $body
            }
            D::BF16 => {
                let $blocks = $matrix.blocks::<half::bf16>();
                $body
            }
            D::Q4_0 => {
                let $blocks = $matrix.blocks::<k::BlockQ4_0>();
                $body
            }
            D::Q4_1 => {
                let $blocks = $matrix.blocks::<k::BlockQ4_1>();
                $body
            }
            D::Q5_0 => {
                let $blocks = $matrix.blocks::<k::BlockQ5_0>();
                $body
            }
            D::Q5_1 => {
                let $blocks = $matrix.blocks::<k::BlockQ5_1>();
                $body
            }
            D::Q8_0 => {
                let $blocks = $matrix.blocks::<k::BlockQ8_0>();
                $body
            }
            D::Q8_1 => {
                let $blocks = $matrix.blocks::<k::BlockQ8_1>();
                $body
            }
            D::Q2K => {
                let $blocks = $matrix.blocks::<k::BlockQ2K>();
                $body
            }
            D::Q3K => {
                let $blocks = $matrix.blocks::<k::BlockQ3K>();
                $body
            }
            D::Q4K => {
                let $blocks = $matrix.blocks::<k::BlockQ4K>();
                $body
            }
            D::Q5K => {
                let $blocks = $matrix.blocks::<k::BlockQ5K>();
                $body
            }
            D::Q6K => {
                let $blocks = $matrix.blocks::<k::BlockQ6K>();
                $body
            }
            D::Q8K => {
                let $blocks = $matrix.blocks::<k::BlockQ8K>();
                $body
            }
        }
    }};
}
pub(crate) use with_blocks;

impl Matrix {
    /// The named tensor of a file, checked against the expected shape.
    pub fn load(gguf: &Gguf, tensor: &str, rows: usize, columns: usize) -> Result<Self, ModelError> {
        let (info, bytes) = gguf.require_tensor(tensor)?;
        let expected = vec![rows, columns];
        if info.shape != expected {
            return Err(ModelError::Shape {
                name: gguf.name().into(),
                tensor: tensor.into(),
                found: info.shape.clone(),
                expected,
            });
        }
        let dtype = dtype_of(gguf, tensor, info)?;
        Ok(Self::new(rows, columns, dtype, bytes))
    }

    /// `bytes` must hold exactly the blocks of `rows` x `columns`; the GGUF reader checks that for files.
    pub(super) fn new(rows: usize, columns: usize, dtype: GgmlDType, bytes: Bytes) -> Self {
        debug_assert_eq!(bytes.as_slice().len(), rows * columns / dtype.block_size() * dtype.type_size());
        let mut matrix = Self { rows, columns, dtype, bytes };
        if !matrix.is_aligned() {
            matrix.bytes = Bytes::owned(AlignedBytes::copy_of(matrix.bytes.as_slice()));
        }
        matrix
    }

    /// The same weights as F32, for reference runs whose only rounding is that of the weights.
    pub fn dequantized(&self) -> Self {
        let mut values = vec![0f32; self.rows * self.columns];
        for (row, out) in values.chunks_exact_mut(self.columns).enumerate() {
            self.row_to_floats(row, out);
        }
        let bytes = Bytes::owned(AlignedBytes::from_floats(&values));
        Self::new(self.rows, self.columns, GgmlDType::F32, bytes)
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn dtype(&self) -> GgmlDType {
        self.dtype
    }

    pub fn byte_length(&self) -> usize {
        self.bytes.as_slice().len()
    }

    /// Raw blocks of the file's layout.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    fn is_aligned(&self) -> bool {
        // The largest alignment of any block type is that of f32.
        (self.bytes.as_slice().as_ptr() as usize).is_multiple_of(align_of::<f32>())
    }

    pub(crate) fn blocks<T: GgmlType>(&self) -> &[T] {
        assert_eq!(T::DTYPE, self.dtype);
        assert!((self.bytes.as_slice().as_ptr() as usize).is_multiple_of(align_of::<T>()));
        let count = self.bytes.as_slice().len() / size_of::<T>();
        // SAFETY: the pointer is aligned (asserted), `count` blocks fit in the bytes, and every block type is
        // plain old data for which all bit patterns are valid. The slice borrows `self`, which holds the bytes.
        unsafe { std::slice::from_raw_parts(self.bytes.as_slice().as_ptr().cast::<T>(), count) }
    }

    /// Writes row `row` as floats; `out` has `columns` elements. Used for embeddings.
    pub fn row_to_floats(&self, row: usize, out: &mut [f32]) {
        fn convert<T: GgmlType>(blocks: &[T], row: usize, out: &mut [f32]) {
            let blocks_per_row = out.len() / T::BLCK_SIZE;
            T::to_float(&blocks[row * blocks_per_row..(row + 1) * blocks_per_row], out);
        }
        assert_eq!(out.len(), self.columns);
        with_blocks!(self, blocks => convert(blocks, row, out));
    }
}

/// A vector of floats (norm weights, biases, rope factors): F32 in real files, F16 and BF16 accepted.
pub fn load_vector(gguf: &Gguf, tensor: &str, length: usize) -> Result<Vec<f32>, ModelError> {
    let (info, bytes) = gguf.require_tensor(tensor)?;
    if info.shape != [length] {
        return Err(ModelError::Shape {
            name: gguf.name().into(),
            tensor: tensor.into(),
            found: info.shape.clone(),
            expected: vec![length],
        });
    }
    let bytes = bytes.as_slice();
    Ok(match dtype_of(gguf, tensor, info)? {
        GgmlDType::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        GgmlDType::F16 => bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        GgmlDType::BF16 => {
            bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
        }
        _ => {
            return Err(ModelError::TensorType {
                name: gguf.name().into(),
                tensor: tensor.into(),
                kind: info.kind.name(),
            });
        }
    })
}

fn dtype_of(gguf: &Gguf, tensor: &str, info: &TensorInfo) -> Result<GgmlDType, ModelError> {
    info.kind.dtype().ok_or_else(|| ModelError::TensorType {
        name: gguf.name().into(),
        tensor: tensor.into(),
        kind: info.kind.name(),
    })
}

const _: () = {
    // The layouts that `blocks` relies on: candle's block structs are the file's bytes.
    assert!(size_of::<k_quants::BlockQ4K>() == 144);
    assert!(size_of::<k_quants::BlockQ5K>() == 176);
    assert!(size_of::<k_quants::BlockQ6K>() == 210);
    assert!(size_of::<k_quants::BlockQ8_0>() == 34);
};
