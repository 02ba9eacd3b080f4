//! Keys and values of all layers in one piece of memory, block by block.

use std::io;

use half::{f16, slice::HalfFloatSliceExt};
use memmap2::MmapMut;

#[cfg(target_arch = "x86_64")]
use super::attention_x86;
use super::shared_mut::SharedMut;
use crate::kv_cache::{BLOCK_SIZE, BlockId};

/// Elements converted together.
const LANES: usize = 8;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvPrecision {
    F16,
    /// For comparisons with F32 references.
    F32,
}

impl KvPrecision {
    fn bytes(self) -> usize {
        match self {
            Self::F16 => size_of::<f16>(),
            Self::F32 => size_of::<f32>(),
        }
    }
}

/// Sizes of the cache of one model.
#[derive(Debug, Clone, Copy)]
pub struct KvShape {
    pub layers: usize,
    pub blocks: usize,
    pub heads: usize,
    pub head_dimension: usize,
}

#[derive(Clone, Copy)]
enum Half {
    Keys,
    Values,
}

impl KvShape {
    /// Elements of one head's keys, or values, in a block.
    pub fn piece_length(&self) -> usize {
        BLOCK_SIZE * self.head_dimension
    }

    fn block_length(&self) -> usize {
        2 * self.layers * self.heads * self.piece_length()
    }

    /// Where a head's keys or values of a block begin.
    fn offset(&self, layer: usize, half: Half, block: BlockId, head: usize) -> usize {
        block as usize * self.block_length()
            + ((2 * layer + half as usize) * self.heads + head) * self.piece_length()
    }
}

/// `[block][layer][keys, values][head]`, and there keys `[dimension][token]`, so that one vector holds the same element of
/// neighbouring tokens, and values `[token][dimension]`. A block is one piece so that what is used lies in few large pages: a
/// step reads more of them than the processor keeps translations of small ones. The system commits pages when they are
/// first written.
pub struct KvStorage {
    shape: KvShape,
    precision: KvPrecision,
    bytes: MmapMut,
}

/// One head's keys or values in a block.
#[derive(Clone, Copy)]
pub enum Piece<'a> {
    F16(&'a [f16]),
    F32(&'a [f32]),
}

impl KvStorage {
    /// # Errors
    /// The system has no address space for it.
    pub fn new(shape: KvShape, precision: KvPrecision) -> io::Result<Self> {
        let length = shape.blocks * shape.block_length() * precision.bytes();
        let bytes = MmapMut::map_anon(length.max(1))?;
        #[cfg(target_os = "linux")]
        if let Err(error) = bytes.advise(memmap2::Advice::HugePage) {
            // A kernel without large pages: slower, nothing else.
            tracing::debug!(%error, "keys and values lie in small pages");
        }
        Ok(Self { shape, precision, bytes })
    }

    pub fn shape(&self) -> &KvShape {
        &self.shape
    }

    pub fn byte_length(&self) -> usize {
        self.shape.blocks * self.shape.block_length() * self.precision.bytes()
    }

    #[inline]
    pub fn keys(&self, layer: usize, block: BlockId, head: usize) -> Piece<'_> {
        self.piece(self.shape.offset(layer, Half::Keys, block, head))
    }

    #[inline]
    pub fn values(&self, layer: usize, block: BlockId, head: usize) -> Piece<'_> {
        self.piece(self.shape.offset(layer, Half::Values, block, head))
    }

    #[inline]
    fn piece(&self, at: usize) -> Piece<'_> {
        let bytes = self.precision.bytes();
        let piece = &self.bytes[at * bytes..(at + self.shape.piece_length()) * bytes];
        match self.precision {
            KvPrecision::F16 => Piece::F16(bytemuck::cast_slice(piece)),
            KvPrecision::F32 => Piece::F32(bytemuck::cast_slice(piece)),
        }
    }

    /// Where a layer's new keys and values go.
    pub fn writer(&mut self, layer: usize) -> KvWriter<'_> {
        // A mapping is never empty, the storage may be.
        let length = self.byte_length();
        let bytes = &mut self.bytes[..length];
        let elements = match self.precision {
            KvPrecision::F16 => Elements::F16(SharedMut::new(bytemuck::cast_slice_mut(bytes))),
            KvPrecision::F32 => Elements::F32(SharedMut::new(bytemuck::cast_slice_mut(bytes))),
        };
        KvWriter { shape: self.shape, layer, elements }
    }

    /// Stores one token's key and value rows (`heads * head_dimension` each) of a layer.
    pub fn write(&mut self, layer: usize, blocks: &[BlockId], position: usize, key: &[f32], value: &[f32]) {
        // SAFETY: nobody else has the storage.
        unsafe { self.writer(layer).write(blocks, position, key, value) };
    }

    /// Copies a block into another, in all layers.
    pub fn copy_block(&mut self, source: BlockId, destination: BlockId) {
        let length = self.shape.block_length() * self.precision.bytes();
        let from = source as usize * length;
        self.bytes.copy_within(from..from + length, destination as usize * length);
    }
}

impl Piece<'_> {
    /// Where it lies, to ask for it.
    pub fn address(&self) -> *const u8 {
        match self {
            Self::F16(halves) => halves.as_ptr().cast(),
            Self::F32(floats) => floats.as_ptr().cast(),
        }
    }

    pub fn byte_length(&self) -> usize {
        match self {
            Self::F16(halves) => size_of_val(*halves),
            Self::F32(floats) => size_of_val(*floats),
        }
    }

    /// Its first elements as floats.
    pub fn read(&self, out: &mut [f32]) {
        match self {
            Self::F16(halves) => {
                let halves = &halves[..out.len()];
                #[cfg(target_arch = "x86_64")]
                if super::ops::has_avx2() {
                    // SAFETY: the CPU has F16C.
                    return unsafe { attention_x86::to_floats(halves, out) };
                }
                halves.convert_to_f32_slice(out);
            }
            Self::F32(floats) => out.copy_from_slice(&floats[..out.len()]),
        }
    }
}

/// Writes one layer's keys and values from several threads.
pub struct KvWriter<'a> {
    shape: KvShape,
    layer: usize,
    elements: Elements<'a>,
}

enum Elements<'a> {
    F16(SharedMut<'a, f16>),
    F32(SharedMut<'a, f32>),
}

impl KvWriter<'_> {
    /// Stores one token's key and value rows (`heads * head_dimension` each).
    ///
    /// # Safety
    /// No other thread writes or reads this position of these blocks meanwhile.
    pub unsafe fn write(&self, blocks: &[BlockId], position: usize, key: &[f32], value: &[f32]) {
        let dimension = self.shape.head_dimension;
        let (block, token) = (blocks[position / BLOCK_SIZE], position % BLOCK_SIZE);
        for head in 0..self.shape.heads {
            let at = |half| self.shape.offset(self.layer, half, block, head);
            let part = head * dimension..(head + 1) * dimension;
            // SAFETY: the caller vouches that nobody else touches the position.
            unsafe {
                self.elements.write(at(Half::Keys) + token, BLOCK_SIZE, &key[part.clone()]);
                self.elements.write(at(Half::Values) + token * dimension, 1, &value[part]);
            }
        }
    }
}

impl Elements<'_> {
    /// Stores `row` at `at` and every `stride` elements on.
    ///
    /// # Safety
    /// No other thread touches these elements meanwhile.
    unsafe fn write(&self, at: usize, stride: usize, row: &[f32]) {
        // SAFETY: as the function's contract; `SharedMut` checks the bounds.
        unsafe {
            match self {
                Self::F16(elements) => {
                    for (part, at) in row.chunks(LANES).zip((at..).step_by(LANES * stride)) {
                        let mut halves = [f16::ZERO; LANES];
                        halves[..part.len()].convert_from_f32_slice(part);
                        for (half, at) in halves[..part.len()].iter().zip((at..).step_by(stride)) {
                            elements.write(at, *half);
                        }
                    }
                }
                Self::F32(elements) => {
                    row.iter().zip((at..).step_by(stride)).for_each(|(value, at)| elements.write(at, *value));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(piece: Piece<'_>) -> Vec<f32> {
        let mut out = vec![0.0; piece.byte_length() / 4];
        piece.read(&mut out);
        out
    }

    #[test]
    fn copied_blocks_hold_the_same_tokens() {
        let shape = KvShape { layers: 2, blocks: 3, heads: 2, head_dimension: 8 };
        let mut kv = KvStorage::new(shape, KvPrecision::F32).unwrap();
        for layer in 0..2 {
            for position in 0..BLOCK_SIZE {
                let row: Vec<f32> = (0..16).map(|i| (layer * 1000 + position * 16 + i + 1) as f32).collect();
                kv.write(layer, &[0], position, &row, &row);
            }
        }
        kv.copy_block(0, 2);
        for (layer, head) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let [first, second, third] = [0, 1, 2]
                .map(|block| [kv.keys(layer, block, head), kv.values(layer, block, head)].map(floats));
            assert_eq!(first, third);
            assert!(first.iter().flatten().all(|value| *value != 0.0));
            assert!(second.iter().flatten().all(|value| *value == 0.0));
            // Token 3's element 2, in both orders.
            let expected = (layer * 1000 + 3 * 16 + head * 8 + 2 + 1) as f32;
            assert_eq!((first[0][2 * BLOCK_SIZE + 3], first[1][3 * 8 + 2]), (expected, expected));
        }
    }
}
