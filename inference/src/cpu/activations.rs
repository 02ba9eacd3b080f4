//! Activations as 8-bit integers, in the layouts that the kernels of `k_quants` and `q8_0` read: row by row for few rows, and
//! in tiles of eight or sixteen rows, interleaved so that each vector lane holds a row of its own.

use super::ops::dispatched;

/// Elements of a block of k-quantized weights, and of the activations that are multiplied with it.
pub const WIDE: usize = 256;
/// Elements of a block of Q8_0 weights, and of the activations that are multiplied with it.
pub const NARROW: usize = 32;
/// Rows of a tile.
pub const TILE_ROWS: usize = 8;
/// Rows of a tile for AVX-512.
pub const LONG_TILE_ROWS: usize = 16;
const LANES: usize = 8;

/// 256 activations of a row: `float = scale * value`, the largest magnitude is 127.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub struct WideBlock {
    pub values: [i8; WIDE],
    /// Sum of each 16 values: what a weight's constant offset multiplies with.
    pub sums: [i16; 16],
    pub scale: f32,
}

/// 256 activations of some rows.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct WideTile<const ROWS: usize> {
    /// `[four elements][row][element]`.
    pub values: [[[i8; 4]; ROWS]; WIDE / 4],
    /// Sums of 16 values, two neighbours of a row together: `[pair][row][which]`.
    pub sums_of_16: [[[i16; 2]; ROWS]; 8],
    /// Sums of 32 values, likewise.
    pub sums_of_32: [[[i16; 2]; ROWS]; 4],
    pub scales: [f32; ROWS],
}

/// 32 activations of a row: `float = scale * value`.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub struct NarrowBlock {
    pub values: [i8; NARROW],
    pub scale: f32,
    /// What 128 added to each weight adds to a sum, negated.
    pub excess: i32,
}

/// 32 activations of eight rows, as 16-bit integers.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub struct NarrowTile {
    /// `[pair of elements][row][element]`.
    pub values: [[[i16; 2]; TILE_ROWS]; NARROW / 2],
    pub scales: [f32; TILE_ROWS],
}

/// 32 activations of sixteen rows.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct ByteTile {
    /// `[four elements][row][element]`.
    pub values: [[[i8; 4]; LONG_TILE_ROWS]; NARROW / 4],
    /// As [`NarrowBlock::excess`].
    pub excess: [i32; LONG_TILE_ROWS],
    pub scales: [f32; LONG_TILE_ROWS],
}

/// A layout of activations.
pub trait Activations: Copy + Send + Sync {
    /// Elements a block.
    const ELEMENTS: usize;
    const ZERO: Self;
    type Tile: Tile<Self>;
    /// For AVX-512.
    type LongTile: Tile<Self>;
    /// Quantizes one block of `ELEMENTS` floats.
    fn quantize(floats: &[f32]) -> Self;
}

/// Blocks at one place of several rows.
pub trait Tile<A>: Copy + Send + Sync {
    const ROWS: usize;
    const ZERO: Self;
    /// Interleaves the blocks of up to `ROWS` rows; missing rows become zero.
    fn pack(&mut self, rows: &[A]);
}

impl Activations for WideBlock {
    const ELEMENTS: usize = WIDE;
    const ZERO: Self = Self { values: [0; WIDE], sums: [0; 16], scale: 0.0 };
    type Tile = WideTile<TILE_ROWS>;
    type LongTile = WideTile<LONG_TILE_ROWS>;

    fn quantize(floats: &[f32]) -> Self {
        let mut block = Self::ZERO;
        block.scale = to_integers(floats, &mut block.values);
        for (sum, group) in block.sums.iter_mut().zip(block.values.as_chunks::<16>().0) {
            *sum = group.iter().map(|value| i16::from(*value)).sum();
        }
        block
    }
}

impl<const ROWS: usize> Tile<WideBlock> for WideTile<ROWS> {
    const ROWS: usize = ROWS;
    const ZERO: Self = Self {
        values: [[[0; 4]; ROWS]; WIDE / 4],
        sums_of_16: [[[0; 2]; ROWS]; 8],
        sums_of_32: [[[0; 2]; ROWS]; 4],
        scales: [0.0; ROWS],
    };

    fn pack(&mut self, rows: &[WideBlock]) {
        for row in 0..ROWS {
            let block = rows.get(row).unwrap_or(&WideBlock::ZERO);
            for (to, from) in self.values.iter_mut().zip(block.values.as_chunks::<4>().0) {
                to[row] = *from;
            }
            for (to, from) in self.sums_of_16.iter_mut().zip(block.sums.as_chunks::<2>().0) {
                to[row] = *from;
            }
            for (to, from) in self.sums_of_32.iter_mut().zip(block.sums.as_chunks::<4>().0) {
                to[row] = [from[0] + from[1], from[2] + from[3]];
            }
            self.scales[row] = block.scale;
        }
    }
}

impl Activations for NarrowBlock {
    const ELEMENTS: usize = NARROW;
    const ZERO: Self = Self { values: [0; NARROW], scale: 0.0, excess: 0 };
    type Tile = NarrowTile;
    type LongTile = ByteTile;

    fn quantize(floats: &[f32]) -> Self {
        let mut block = Self::ZERO;
        block.scale = to_integers(floats, &mut block.values);
        block.excess = -128 * block.values.iter().map(|value| i32::from(*value)).sum::<i32>();
        block
    }
}

impl Tile<NarrowBlock> for NarrowTile {
    const ROWS: usize = TILE_ROWS;
    const ZERO: Self = Self { values: [[[0; 2]; TILE_ROWS]; NARROW / 2], scales: [0.0; TILE_ROWS] };

    fn pack(&mut self, rows: &[NarrowBlock]) {
        for row in 0..TILE_ROWS {
            let block = rows.get(row).unwrap_or(&NarrowBlock::ZERO);
            for (to, from) in self.values.iter_mut().zip(block.values.as_chunks::<2>().0) {
                to[row] = from.map(i16::from);
            }
            self.scales[row] = block.scale;
        }
    }
}

impl Tile<NarrowBlock> for ByteTile {
    const ROWS: usize = LONG_TILE_ROWS;
    const ZERO: Self = Self {
        values: [[[0; 4]; LONG_TILE_ROWS]; NARROW / 4],
        excess: [0; LONG_TILE_ROWS],
        scales: [0.0; LONG_TILE_ROWS],
    };

    fn pack(&mut self, rows: &[NarrowBlock]) {
        for row in 0..LONG_TILE_ROWS {
            let block = rows.get(row).unwrap_or(&NarrowBlock::ZERO);
            for (to, from) in self.values.iter_mut().zip(block.values.as_chunks::<4>().0) {
                to[row] = *from;
            }
            self.excess[row] = block.excess;
            self.scales[row] = block.scale;
        }
    }
}

dispatched! {
    /// Quantizes floats to integers of at most 127 and returns the scale.
    fn to_integers(floats: &[f32], values: &mut [i8]) -> f32 {
        let mut maximum = [0f32; LANES];
        for chunk in floats.as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                maximum[lane] = maximum[lane].max(chunk[lane].abs());
            }
        }
        let maximum = maximum.iter().copied().fold(0f32, f32::max);
        let inverse = if maximum > 0.0 { 127.0 / maximum } else { 0.0 };
        for (value, float) in values.iter_mut().zip(floats) {
            // Adding 1.5 * 2^23 rounds to the nearest integer in the low bits of the mantissa.
            *value = ((float * inverse + 12_582_912.0).to_bits() as i32).wrapping_sub(0x4b40_0000) as i8;
        }
        maximum / 127.0
    }
}

/// `[row][block]` as tiles, `[tile][block]`.
#[cfg(test)]
pub fn packed<A: Activations, T: Tile<A>>(activations: &[A], rows: usize) -> Vec<T> {
    let blocks = activations.len() / rows;
    let mut tiles = vec![T::ZERO; rows.div_ceil(T::ROWS) * blocks];
    for (index, tile) in tiles.iter_mut().enumerate() {
        let first = index / blocks * T::ROWS;
        let part: Vec<A> = (first..rows.min(first + T::ROWS))
            .map(|row| activations[row * blocks + index % blocks])
            .collect();
        tile.pack(&part);
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<A: Activations>(values_of: fn(&A) -> (&[i8], f32)) {
        let floats: Vec<f32> = (0..A::ELEMENTS).map(|i| (i as f32 * 0.7).sin() * 9.0).collect();
        let block = A::quantize(&floats);
        let (values, scale) = values_of(&block);
        for (value, float) in values.iter().zip(&floats) {
            assert!((f32::from(*value) * scale - float).abs() <= scale * 0.5 + 1e-6);
        }
        let zero = A::quantize(&vec![0.0; A::ELEMENTS]);
        assert!(values_of(&zero).0.iter().all(|value| *value == 0));
    }

    #[test]
    fn quantized_activations_are_close() {
        check::<WideBlock>(|block| (&block.values, block.scale));
        check::<NarrowBlock>(|block| (&block.values, block.scale));
    }
}
