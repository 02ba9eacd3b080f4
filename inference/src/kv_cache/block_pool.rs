//! Reference-counted blocks. A block is free when nobody refers to it.

use super::BlockId;

/// A fixed number of blocks, each held by any number of owners (sequences, the prefix cache).
#[derive(Debug)]
pub struct BlockPool {
    references: Vec<u32>,
    free: Vec<BlockId>,
}

impl BlockPool {
    pub fn new(blocks: usize) -> Self {
        // Reversed so that low numbers go first: their pages are the ones already committed.
        Self { references: vec![0; blocks], free: (0..blocks as BlockId).rev().collect() }
    }

    pub fn total(&self) -> usize {
        self.references.len()
    }

    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// A block with one owner, or `None` when all are in use.
    pub fn allocate(&mut self) -> Option<BlockId> {
        let block = self.free.pop()?;
        self.references[block as usize] = 1;
        Some(block)
    }

    /// Adds an owner to a block in use.
    pub fn retain(&mut self, block: BlockId) {
        let count = &mut self.references[block as usize];
        assert!(*count > 0, "block {block} is free and cannot be retained");
        *count += 1;
    }

    /// Removes an owner; the last one frees the block.
    pub fn release(&mut self, block: BlockId) {
        let count = &mut self.references[block as usize];
        assert!(*count > 0, "block {block} was released twice");
        *count -= 1;
        if *count == 0 {
            self.free.push(block);
        }
    }

    pub fn references(&self, block: BlockId) -> u32 {
        self.references[block as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_add_up(blocks in 1usize..40, actions in prop::collection::vec((0u8..3, any::<prop::sample::Index>()), 0..400)) {
            let mut pool = BlockPool::new(blocks);
            let mut held: Vec<BlockId> = Vec::new();
            for (action, index) in actions {
                match action {
                    0 => match pool.allocate() {
                        Some(block) => {
                            prop_assert!(!held.contains(&block), "a block in use was handed out");
                            held.push(block);
                        }
                        None => prop_assert_eq!(held.iter().collect::<std::collections::HashSet<_>>().len(), blocks),
                    },
                    1 if !held.is_empty() => {
                        let block = held[index.index(held.len())];
                        pool.retain(block);
                        held.push(block);
                    }
                    2 if !held.is_empty() => {
                        let block = held.swap_remove(index.index(held.len()));
                        pool.release(block);
                    }
                    _ => {}
                }
                let used = held.iter().collect::<std::collections::HashSet<_>>().len();
                prop_assert_eq!(pool.free(), blocks - used);
                for block in &held {
                    prop_assert_eq!(pool.references(*block) as usize, held.iter().filter(|b| *b == block).count());
                }
            }
        }
    }
}
