//! Weights as the kernels read them: tiles of 16 features, in the order of the tensor cores' fragments.
//!
//! A matrix is `[tile of features][tile of columns]`; both are padded with zeros, columns to a multiple of 256. Inside a
//! tile, feature `r` and column `k` belong to lane `4 * (r % 8) + k % 16 / 4` of a warp, so that a lane reads its operands
//! with 16-byte loads that lie next to its neighbours'. Within a lane an operand is a word of four columns `k % 4`, a byte
//! each, numbered `operand = k % 32 / 16 * 2 + r / 8` in a group `k / 32`; two groups are a pair. In bytes:
//!
//! - Q4_K: 2048 of low nibbles: word `pair * 128 + lane * 4 + group % 2 * 2 + k % 32 / 16` has the byte's low nibble for
//!   `r < 8`, the high one for `r + 8`; then 16 rows of 8 scales and 8 minimums, 16 rows of the two f16 factors.
//! - Q5_K: low nibbles as Q4_K, 512 of fifth bits (word `pair * 32 + lane`, bit `group % 2 * 4 + operand` of each byte),
//!   scales and factors as Q4_K.
//! - Q6_K: low nibbles as Q4_K, 1024 of high bit pairs (word `pair * 64 + lane * 2 + group % 2`, bits `2 * operand` of each
//!   byte; of q - 32 in two's complement), 16 rows of 16 scales, 16 rows of the f16 factor.
//! - Q8_0: 4096 of bytes (word `group * 128 + lane * 4 + operand`), 16 rows of 8 f16 scales.
//! - BF16: tiles of 64 columns, 2048 bytes. An operand is two columns, the odd one in the upper half, numbered
//!   `s = r / 8 + 2 * (k % 4 / 2)`. Types without a layout of their own are converted to it.
//!
//! `inference/kernels/tiles.cuh` reads them.

use candle_core::quantized::GgmlDType;
use half::{bf16, f16};

use crate::weights::Matrix;

pub const TILE_FEATURES: usize = 16;
/// Columns are padded to a multiple of this: the block of the k-quants.
pub const COLUMN_UNIT: usize = 256;
/// Columns that share a scale, and whose activations are stored together.
pub const GROUP: usize = 32;

/// A tile layout; the numbers are those of `tiles.cuh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Format {
    Bf16 = 0,
    Q8_0 = 1,
    Q4K = 2,
    Q5K = 3,
    Q6K = 4,
}

impl Format {
    pub const ALL: [Self; 5] = [Self::Bf16, Self::Q8_0, Self::Q4K, Self::Q5K, Self::Q6K];

    /// How weights of a file's type are held on the device.
    pub fn of(dtype: GgmlDType) -> Self {
        match dtype {
            GgmlDType::Q8_0 => Self::Q8_0,
            GgmlDType::Q4K => Self::Q4K,
            GgmlDType::Q5K => Self::Q5K,
            GgmlDType::Q6K => Self::Q6K,
            _ => Self::Bf16,
        }
    }

    pub fn tile_bytes(self) -> usize {
        match self {
            Self::Bf16 => 2048,
            Self::Q8_0 => 4352,
            Self::Q4K => 2368,
            Self::Q5K => 2880,
            Self::Q6K => 3360,
        }
    }

    pub fn tile_columns(self) -> usize {
        if self == Self::Bf16 { 64 } else { COLUMN_UNIT }
    }
}

pub fn padded_columns(columns: usize) -> usize {
    columns.next_multiple_of(COLUMN_UNIT)
}

/// Bytes of 16 features in tiles.
pub fn tile_row_bytes(format: Format, columns: usize) -> usize {
    padded_columns(columns) / format.tile_columns() * format.tile_bytes()
}

/// Bytes of a whole matrix in tiles.
pub fn byte_length(format: Format, rows: usize, columns: usize) -> usize {
    rows.div_ceil(TILE_FEATURES) * tile_row_bytes(format, columns)
}

/// Writes the tiles of features `16 * tile_row ..`; `out` has [`tile_row_bytes`].
pub fn write_tile_row(matrix: &Matrix, tile_row: usize, out: &mut [u8]) {
    let format = Format::of(matrix.dtype());
    out.fill(0);
    let first = tile_row * TILE_FEATURES;
    let features = TILE_FEATURES.min(matrix.rows() - first);
    if format == Format::Bf16 {
        let mut floats = vec![0f32; matrix.columns()];
        for feature in 0..features {
            matrix.row_to_floats(first + feature, &mut floats);
            for (column, value) in floats.iter().enumerate() {
                let tile = &mut out[column / 64 * 2048..][..2048];
                let at = Place::new(feature, column % 64).bf16();
                tile[at..at + 2].copy_from_slice(&bf16::from_f32(*value).to_le_bytes());
            }
        }
        return;
    }
    let (block_columns, block_bytes) = (matrix.dtype().block_size(), matrix.dtype().type_size());
    let row_bytes = matrix.columns() / block_columns * block_bytes;
    for feature in 0..features {
        let row = &matrix.as_bytes()[(first + feature) * row_bytes..][..row_bytes];
        for (index, block) in row.chunks_exact(block_bytes).enumerate() {
            let column = index * block_columns;
            let tile = &mut out[column / COLUMN_UNIT * format.tile_bytes()..][..format.tile_bytes()];
            match format {
                Format::Q4K => write_q4_k(block, feature, tile),
                Format::Q5K => write_q5_k(block, feature, tile),
                Format::Q6K => write_q6_k(block, feature, tile),
                _ => write_q8_0(block, feature, column % COLUMN_UNIT / GROUP, tile),
            }
        }
    }
}

/// Where a weight of a tile belongs.
struct Place {
    lane: usize,
    group: usize,
    product: usize,
    /// Which half of the tile's features.
    half: usize,
    /// Column within a word of four.
    byte: usize,
}

impl Place {
    fn new(feature: usize, column: usize) -> Self {
        Self {
            lane: feature % 8 * 4 + column % 16 / 4,
            group: column / 32,
            product: column % 32 / 16,
            half: feature / 8,
            byte: column % 4,
        }
    }

    /// Number of the operand in its group.
    fn operand(&self) -> usize {
        self.product * 2 + self.half
    }

    /// First byte of the word of nibbles.
    fn nibbles(&self) -> usize {
        self.group / 2 * 512 + self.lane * 16 + self.group % 2 * 8 + self.product * 4
    }

    /// First byte of the word of fifth bits of Q5_K.
    fn fifth_bits(&self) -> usize {
        2048 + self.group / 2 * 128 + self.lane * 4
    }

    /// First byte of the word of high bit pairs of Q6_K.
    fn high_pairs(&self) -> usize {
        2048 + self.group / 2 * 256 + self.lane * 8 + self.group % 2 * 4
    }

    /// First byte of a bf16.
    fn bf16(&self) -> usize {
        let operand = self.half + 2 * (self.byte / 2);
        (self.group * 2 + self.product) * 512 + self.lane * 16 + operand * 4 + self.byte % 2 * 2
    }
}

fn or_word(tile: &mut [u8], at: usize, bits: u32) {
    let word: &mut [u8; 4] = (&mut tile[at..at + 4]).try_into().expect("four bytes");
    *word = (u32::from_le_bytes(*word) | bits).to_le_bytes();
}

/// The words of a block's values, four columns each, with their places.
fn words(values: &[u8], feature: usize) -> impl Iterator<Item = (Place, u32)> {
    values.chunks_exact(4).enumerate().map(move |(index, four)| {
        (Place::new(feature, index * 4), u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
    })
}

/// Puts the low nibbles of a block's 256 values in place.
fn write_nibbles(values: &[u8; 256], feature: usize, tile: &mut [u8]) {
    for (place, word) in words(values, feature) {
        or_word(tile, place.nibbles(), (word & 0x0f0f_0f0f) << (4 * place.half));
    }
}

/// Scales and minimums of Q4_K and Q5_K: 6 bits each, packed as ggml's `get_scale_min_k4` reads them.
fn write_scales(packed: &[u8], factors: &[u8], feature: usize, scales_at: usize, tile: &mut [u8]) {
    for group in 0..8 {
        let (scale, minimum) = if group < 4 {
            (packed[group] & 63, packed[group + 4] & 63)
        } else {
            (
                packed[group + 4] & 0xf | packed[group - 4] >> 6 << 4,
                packed[group + 4] >> 4 | packed[group] >> 6 << 4,
            )
        };
        tile[scales_at + feature * 16 + group] = scale;
        tile[scales_at + feature * 16 + 8 + group] = minimum;
    }
    tile[scales_at + 256 + feature * 4..][..4].copy_from_slice(factors);
}

fn write_q4_k(block: &[u8], feature: usize, tile: &mut [u8]) {
    let mut values = [0u8; 256];
    for (index, byte) in block[16..144].iter().enumerate() {
        let at = index / 32 * 64 + index % 32;
        values[at] = byte & 0xf;
        values[at + 32] = byte >> 4;
    }
    write_nibbles(&values, feature, tile);
    write_scales(&block[4..16], &block[..4], feature, 2048, tile);
}

fn write_q5_k(block: &[u8], feature: usize, tile: &mut [u8]) {
    let high = &block[16..48];
    let mut values = [0u8; 256];
    for (index, byte) in block[48..176].iter().enumerate() {
        let (part, l) = (index / 32, index % 32);
        values[part * 64 + l] = byte & 0xf | (high[l] >> (2 * part) & 1) << 4;
        values[part * 64 + 32 + l] = byte >> 4 | (high[l] >> (2 * part + 1) & 1) << 4;
    }
    write_nibbles(&values, feature, tile);
    for (place, word) in words(&values, feature) {
        let bit = place.group % 2 * 4 + place.operand();
        or_word(tile, place.fifth_bits(), (word >> 4 & 0x0101_0101) << bit);
    }
    write_scales(&block[4..16], &block[..4], feature, 2560, tile);
}

fn write_q6_k(block: &[u8], feature: usize, tile: &mut [u8]) {
    let (low, high, scales, factor) = (&block[..128], &block[128..192], &block[192..208], &block[208..210]);
    let mut values = [0u8; 256];
    for half in 0..2 {
        for l in 0..32 {
            let (first, second, bits) = (low[half * 64 + l], low[half * 64 + 32 + l], high[half * 32 + l]);
            let at = half * 128 + l;
            values[at] = first & 0xf | (bits & 3) << 4;
            values[at + 32] = second & 0xf | (bits >> 2 & 3) << 4;
            values[at + 64] = first >> 4 | (bits >> 4 & 3) << 4;
            values[at + 96] = second >> 4 | (bits >> 6 & 3) << 4;
        }
    }
    write_nibbles(&values, feature, tile);
    for (place, word) in words(&values, feature) {
        or_word(tile, place.high_pairs(), ((word >> 4 & 0x0303_0303) ^ 0x0202_0202) << (2 * place.operand()));
    }
    tile[3072 + feature * 16..][..16].copy_from_slice(scales);
    tile[3328 + feature * 2..][..2].copy_from_slice(factor);
}

fn write_q8_0(block: &[u8], feature: usize, group: usize, tile: &mut [u8]) {
    for (place, word) in words(&block[2..34], feature) {
        or_word(tile, group * 512 + place.lane * 16 + place.operand() * 4, word);
    }
    tile[4096 + feature * 16 + group * 2..][..2].copy_from_slice(&block[..2]);
}

/// Reads one weight back: the inverse of [`write_tile_row`], as `weight_at` of `tiles.cuh` computes it.
pub fn weight(format: Format, tile_row: &[u8], feature: usize, column: usize) -> f32 {
    let tile = &tile_row[column / format.tile_columns() * format.tile_bytes()..][..format.tile_bytes()];
    let p = Place::new(feature, column % format.tile_columns());
    let half = |at: usize| f16::from_le_bytes([tile[at], tile[at + 1]]).to_f32();
    let nibble = || tile[p.nibbles() + p.byte] >> (4 * p.half) & 0xf;
    match format {
        Format::Q4K | Format::Q5K => {
            let scales = if format == Format::Q4K { 2048 } else { 2560 };
            let fifth = match format {
                Format::Q5K => tile[p.fifth_bits() + p.byte] >> (p.group % 2 * 4 + p.operand()) & 1,
                _ => 0,
            };
            let (scale, minimum) =
                (tile[scales + feature * 16 + p.group], tile[scales + feature * 16 + 8 + p.group]);
            let factors = scales + 256 + feature * 4;
            half(factors) * f32::from(scale) * f32::from(nibble() | fifth << 4)
                - half(factors + 2) * f32::from(minimum)
        }
        Format::Q6K => {
            let high = tile[p.high_pairs() + p.byte] >> (2 * p.operand()) & 3;
            let scale = tile[3072 + feature * 16 + p.group * 2 + p.product].cast_signed();
            half(3328 + feature * 2) * f32::from(scale) * (f32::from(nibble() | (high ^ 2) << 4) - 32.0)
        }
        Format::Q8_0 => {
            let value = tile[p.group * 512 + p.lane * 16 + p.operand() * 4 + p.byte].cast_signed();
            half(4096 + feature * 16 + p.group * 2) * f32::from(value)
        }
        Format::Bf16 => bf16::from_le_bytes([tile[p.bf16()], tile[p.bf16() + 1]]).to_f32(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::random;

    #[test]
    fn tiles_hold_the_weights_of_every_type() {
        for (dtype, rows, columns) in [
            (GgmlDType::Q4K, 16, 256),
            (GgmlDType::Q4K, 37, 512),
            (GgmlDType::Q5K, 19, 512),
            (GgmlDType::Q6K, 33, 768),
            (GgmlDType::Q8_0, 17, 96),
            (GgmlDType::Q8_0, 16, 288),
            (GgmlDType::F16, 5, 40),
            (GgmlDType::BF16, 18, 320),
            (GgmlDType::F32, 3, 64),
            (GgmlDType::Q5_0, 20, 64),
        ] {
            let matrix = random::matrix(dtype, rows, columns, 7);
            let format = Format::of(dtype);
            let mut expected = vec![0f32; columns];
            let mut tiles = vec![0xffu8; tile_row_bytes(format, columns)];
            for row in 0..rows {
                if row % TILE_FEATURES == 0 {
                    write_tile_row(&matrix, row / TILE_FEATURES, &mut tiles);
                }
                matrix.row_to_floats(row, &mut expected);
                for (column, exact) in expected.iter().enumerate() {
                    let found = weight(format, &tiles, row % TILE_FEATURES, column);
                    let bound = if format == Format::Bf16 { exact.abs() / 256.0 } else { exact.abs() * 1e-6 };
                    assert!(
                        (found - exact).abs() <= bound + 1e-7,
                        "{dtype:?} {rows}x{columns} [{row}, {column}]: {found}, not {exact}"
                    );
                }
            }
            for column in columns..padded_columns(columns) {
                assert_eq!(weight(format, &tiles, 0, column), 0.0, "{dtype:?}: padding");
            }
        }
    }
}
