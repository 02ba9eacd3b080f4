//! What a step's kernels must know of the batch, as one array of words that is copied to the device at once.

use super::params::ItemTile;
use crate::{kv_cache::BLOCK_SIZE, scheduler::Batch};

/// Items (row, query head) of one attention tile, as in `attention.cu`.
const TILE_ITEMS: usize = 16;
/// Positions of one chunk of attention.
pub const CHUNK: usize = 64;

/// Sections of the array, in words from its beginning.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub words: Vec<u32>,
    pub rows: usize,
    /// Rows whose logits are wanted.
    pub wanted_rows: usize,
    pub tile_count: usize,
    /// Chunks that the longest sequence has, rounded up to a power of two so that few launches differ by it.
    pub chunks: usize,
    pub positions: usize,
    pub table_starts: usize,
    pub wanted: usize,
    pub tiles: usize,
    pub tables: usize,
}

impl Step {
    /// `group` is the number of query heads that share a key-value head.
    pub fn new(batch: &Batch, group: usize) -> Self {
        let rows = batch.rows();
        let mut words = Vec::new();
        words.extend(batch.entries.iter().flat_map(|entry| &entry.tokens));
        let positions = words.len();
        for entry in &batch.entries {
            words.extend((entry.start..entry.start + entry.tokens.len()).map(|position| position as u32));
        }
        let table_starts = words.len();
        let (mut wanted_rows, mut tile_list, mut tables) = (Vec::new(), Vec::new(), Vec::new());
        let (mut row, mut last_position) = (0, 0);
        for entry in &batch.entries {
            let end = entry.start + entry.tokens.len();
            assert!(entry.blocks.len() * BLOCK_SIZE >= end, "the block table is too short");
            last_position = last_position.max(end.saturating_sub(1));
            words.extend(std::iter::repeat_n(tables.len() as u32, entry.tokens.len()));
            wanted_rows.extend(entry.logits.clone().map(|index| (row + index) as u32));
            let items = entry.tokens.len() * group;
            tile_list.extend((0..items).step_by(TILE_ITEMS).map(|first_item| ItemTile {
                first_row: row as u32,
                first_item: first_item as u32,
                items: items as u32,
                start: entry.start as u32,
                table_start: tables.len() as u32,
            }));
            tables.extend_from_slice(&entry.blocks[..end.div_ceil(BLOCK_SIZE)]);
            row += entry.tokens.len();
        }
        let wanted = words.len();
        words.extend(&wanted_rows);
        let tiles = words.len();
        for tile in &tile_list {
            words.extend([tile.first_row, tile.first_item, tile.items, tile.start, tile.table_start]);
        }
        let section = words.len();
        words.extend(&tables);
        Self {
            words,
            rows,
            wanted_rows: wanted_rows.len(),
            tile_count: tile_list.len(),
            chunks: (last_position / CHUNK + 1).next_power_of_two(),
            positions,
            table_starts,
            wanted,
            tiles,
            tables: section,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::BatchEntry;

    #[test]
    fn sections_hold_what_the_kernels_read() {
        let entry = |start: usize, tokens: &[u32], blocks: &[u32], logits| BatchEntry {
            sequence: 0,
            tokens: tokens.to_vec(),
            start,
            blocks: blocks.to_vec(),
            logits,
        };
        let batch = Batch {
            copies: Vec::new(),
            // A table may have a block that the step does not reach yet.
            entries: vec![entry(15, &[7, 8, 9], &[4, 2, 6], 2..3), entry(70, &[5], &[1, 3, 5, 7, 9], 0..1)],
        };
        let step = Step::new(&batch, 7);
        assert_eq!((step.rows, step.wanted_rows, step.tile_count, step.chunks), (4, 2, 3, 2));
        let section = |from: usize, length: usize| step.words[from..from + length].to_vec();
        assert_eq!(section(0, 4), [7, 8, 9, 5]);
        assert_eq!(section(step.positions, 4), [15, 16, 17, 70]);
        assert_eq!(section(step.table_starts, 4), [0, 0, 0, 2]);
        assert_eq!(section(step.wanted, 2), [2, 3]);
        assert_eq!(section(step.tiles, 15), [0, 0, 21, 15, 0, 0, 16, 21, 15, 0, 3, 0, 7, 70, 2]);
        assert_eq!(section(step.tables, 7), [4, 2, 1, 3, 5, 7, 9]);
        assert_eq!(step.words.len(), step.tables + 7);
    }
}
