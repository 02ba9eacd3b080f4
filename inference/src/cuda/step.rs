//! What a step's kernels must know of the batch, as one array of words that is copied to the device at once.

use super::params::ItemTile;
use crate::{kv_cache::BLOCK_SIZE, scheduler::Batch};

/// Items (row, query head) of one attention tile, as in `attention.cu`.
pub const TILE_ITEMS: usize = 16;
/// Positions of one chunk of attention, and chunks of a span.
pub const CHUNK: usize = 64;
pub const SPAN_CHUNKS: usize = 4;

/// Sections of the array, in words from its beginning.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub words: Vec<u32>,
    pub rows: usize,
    /// Rows whose logits are wanted.
    pub wanted_rows: usize,
    pub tile_count: usize,
    /// The most rows of one sequence.
    pub most_rows: usize,
    /// Chunks that the longest sequence has, rounded up so that few launches differ by it.
    pub chunks: usize,
    pub positions: usize,
    pub table_starts: usize,
    pub wanted: usize,
    pub tiles: usize,
    pub tables: usize,
    /// Tiles of whole rows, for steps of few rows of each sequence: a tile's `items` end with its own.
    pub row_tiles: usize,
    pub row_tile_count: usize,
}

/// The most rows of a sequence in a step that has tiles of whole rows, as in `attention_hopper.cu`.
pub const CLUSTER_ROWS: usize = 8;

impl Step {
    /// Spans that the longest sequence has.
    pub fn spans(&self) -> usize {
        self.chunks.div_ceil(SPAN_CHUNKS)
    }

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
        let mut row_tile_list = Vec::new();
        let most_rows = batch.entries.iter().map(|entry| entry.tokens.len()).max().unwrap_or(0);
        let rows_of_tile = if most_rows <= CLUSTER_ROWS { TILE_ITEMS / group } else { 0 };
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
            if rows_of_tile > 0 {
                row_tile_list.extend((0..entry.tokens.len()).step_by(rows_of_tile).map(|first| ItemTile {
                    first_row: row as u32,
                    first_item: (first * group) as u32,
                    items: ((first + rows_of_tile).min(entry.tokens.len()) * group) as u32,
                    start: entry.start as u32,
                    table_start: tables.len() as u32,
                }));
            }
            tables.extend_from_slice(&entry.blocks[..end.div_ceil(BLOCK_SIZE)]);
            row += entry.tokens.len();
        }
        let wanted = words.len();
        words.extend(&wanted_rows);
        let tiles = words.len();
        let row_tiles = tiles + tile_list.len() * 5;
        for tile in tile_list.iter().chain(&row_tile_list) {
            words.extend([tile.first_row, tile.first_item, tile.items, tile.start, tile.table_start]);
        }
        let section = words.len();
        words.extend(&tables);
        Self {
            words,
            rows,
            wanted_rows: wanted_rows.len(),
            tile_count: tile_list.len(),
            most_rows,
            row_tiles,
            row_tile_count: row_tile_list.len(),
            chunks: rounded(last_position / CHUNK + 1),
            positions,
            table_starts,
            wanted,
            tiles,
            tables: section,
        }
    }
}

/// At most four numbers between a power of two and the next.
fn rounded(chunks: usize) -> usize {
    chunks.next_multiple_of((chunks.next_power_of_two() / 8).max(1))
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
        assert_eq!((step.most_rows, step.row_tile_count), (3, 3));
        assert_eq!(section(step.row_tiles, 15), [0, 0, 14, 15, 0, 0, 14, 21, 15, 0, 3, 0, 7, 70, 2]);
        assert_eq!(section(step.tables, 7), [4, 2, 1, 3, 5, 7, 9]);
        assert_eq!(step.words.len(), step.tables + 7);
    }
}
