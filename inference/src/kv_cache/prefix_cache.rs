//! A radix tree over blocks of tokens: finds the longest cached beginning of a prompt, evicts what was unused longest.
//!
//! Each node stands for one block. Inner nodes are full blocks; a leaf may be filled in part. A prompt that leaves a
//! node half way still reuses the tokens before the fork: the scheduler copies them into a block of its own.

use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
};

use rustc_hash::{FxHashSet, FxHasher};

use super::{BLOCK_SIZE, BlockId, BlockPool};

type NodeId = usize;
const ROOT: NodeId = 0;

/// Evicted blocks that are remembered, to tell what was lost from what never was there.
const REMEMBERED_EVICTIONS: usize = 4096;

#[derive(Debug)]
struct Node {
    /// The tokens whose keys and values the block holds, at most [`BLOCK_SIZE`].
    tokens: Vec<u32>,
    block: BlockId,
    /// Of all tokens from the root to the end of this block.
    hash: u64,
    parent: NodeId,
    children: Vec<NodeId>,
    /// Logical time of the last match or insertion.
    used: u64,
}

/// The cached beginning of a prompt.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PrefixMatch {
    /// Full blocks that can be shared as they are.
    pub blocks: Vec<BlockId>,
    /// A block whose first tokens (the number) continue the match; to be copied, not shared.
    pub partial: Option<(BlockId, usize)>,
    /// Tokens after the match that were cached once and had to make room; whole blocks, as far as remembered.
    pub evicted: usize,
}

impl PrefixMatch {
    pub fn tokens(&self) -> usize {
        self.blocks.len() * BLOCK_SIZE + self.partial.map_or(0, |(_, tokens)| tokens)
    }
}

/// Holds one reference on each block it knows.
#[derive(Debug)]
pub struct PrefixCache {
    nodes: Vec<Option<Node>>,
    vacant: Vec<NodeId>,
    clock: u64,
    evicted: FxHashSet<u64>,
    /// The same, oldest first.
    evictions: VecDeque<u64>,
}

fn extend_hash(hash: u64, tokens: &[u32]) -> u64 {
    let mut hasher = FxHasher::default();
    (hash, tokens).hash(&mut hasher);
    hasher.finish()
}

impl Default for PrefixCache {
    fn default() -> Self {
        let root = Node {
            tokens: Vec::new(),
            block: BlockId::MAX,
            hash: 0,
            parent: ROOT,
            children: Vec::new(),
            used: 0,
        };
        Self {
            nodes: vec![Some(root)],
            vacant: Vec::new(),
            clock: 0,
            evicted: FxHashSet::default(),
            evictions: VecDeque::new(),
        }
    }
}

impl PrefixCache {
    /// Number of blocks held.
    pub fn len(&self) -> usize {
        self.nodes.len() - self.vacant.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes[id].as_ref().expect("a linked node exists")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[id].as_mut().expect("a linked node exists")
    }

    /// The child sharing the most tokens with `tokens`, and how many.
    fn best_child(&self, parent: NodeId, tokens: &[u32]) -> Option<(NodeId, usize)> {
        let common = |id: NodeId| self.node(id).tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let children = self.node(parent).children.iter().map(|id| (*id, common(*id)));
        children.filter(|(_, shared)| *shared > 0).max_by_key(|(_, shared)| *shared)
    }

    /// The longest cached beginning of `tokens`. Touches what it matches; takes no references.
    pub fn find(&mut self, tokens: &[u32]) -> PrefixMatch {
        self.clock += 1;
        let clock = self.clock;
        let mut found = PrefixMatch::default();
        let (mut node, mut rest) = (ROOT, tokens);
        while let Some((child, shared)) = self.best_child(node, rest) {
            self.node_mut(child).used = clock;
            if shared < BLOCK_SIZE {
                found.partial = Some((self.node(child).block, shared));
                break;
            }
            found.blocks.push(self.node(child).block);
            (node, rest) = (child, &rest[BLOCK_SIZE..]);
        }
        let mut hash = self.node(node).hash;
        let lost = rest.chunks_exact(BLOCK_SIZE).take_while(|chunk| {
            hash = extend_hash(hash, chunk);
            self.evicted.contains(&hash)
        });
        let shared = found.partial.map_or(0, |(_, tokens)| tokens);
        found.evicted = (lost.count() * BLOCK_SIZE).saturating_sub(shared);
        found
    }

    /// Remembers that `blocks` hold `tokens`. Takes a reference on each block that is new to the cache.
    pub fn insert(&mut self, tokens: &[u32], blocks: &[BlockId], pool: &mut BlockPool) {
        self.clock += 1;
        let clock = self.clock;
        let mut parent = ROOT;
        for (chunk, &block) in tokens.chunks(BLOCK_SIZE).zip(blocks) {
            match self.best_child(parent, chunk) {
                Some((child, shared)) if shared == chunk.len() => {
                    self.node_mut(child).used = clock;
                    parent = child;
                }
                // A leaf that the new block extends: the longer one replaces it.
                Some((child, shared)) if shared == self.node(child).tokens.len() => {
                    pool.retain(block);
                    let hash = extend_hash(self.node(parent).hash, chunk);
                    let node = self.node_mut(child);
                    node.hash = hash;
                    let old = std::mem::replace(&mut node.block, block);
                    node.tokens = chunk.to_vec();
                    node.used = clock;
                    pool.release(old);
                    parent = child;
                }
                _ => {
                    pool.retain(block);
                    parent = self.add(Node {
                        tokens: chunk.to_vec(),
                        block,
                        hash: extend_hash(self.node(parent).hash, chunk),
                        parent,
                        children: Vec::new(),
                        used: clock,
                    });
                }
            }
            if chunk.len() < BLOCK_SIZE {
                break;
            }
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        let parent = node.parent;
        let id = match self.vacant.pop() {
            Some(id) => {
                self.nodes[id] = Some(node);
                id
            }
            None => {
                self.nodes.push(Some(node));
                self.nodes.len() - 1
            }
        };
        self.node_mut(parent).children.push(id);
        id
    }

    /// Gives back up to `wanted` blocks that only the cache holds, least recently used leaves first.
    /// Returns how many became free.
    pub fn evict(&mut self, wanted: usize, pool: &mut BlockPool) -> usize {
        let mut freed = 0;
        while freed < wanted {
            let idle_leaf = |id: &NodeId| {
                self.nodes[*id]
                    .as_ref()
                    .is_some_and(|n| n.children.is_empty() && pool.references(n.block) == 1)
            };
            let oldest = (1..self.nodes.len()).filter(idle_leaf).min_by_key(|id| self.node(*id).used);
            let Some(id) = oldest else { break };
            if self.node(id).tokens.len() == BLOCK_SIZE {
                self.remember_eviction(self.node(id).hash);
            }
            self.remove(id, pool);
            freed += 1;
        }
        freed
    }

    fn remember_eviction(&mut self, hash: u64) {
        if self.evicted.insert(hash) {
            self.evictions.push_back(hash);
        }
        if self.evictions.len() > REMEMBERED_EVICTIONS
            && let Some(oldest) = self.evictions.pop_front()
        {
            self.evicted.remove(&oldest);
        }
    }

    fn remove(&mut self, id: NodeId, pool: &mut BlockPool) {
        let Some(node) = self.nodes[id].take() else { return };
        self.node_mut(node.parent).children.retain(|child| *child != id);
        self.vacant.push(id);
        pool.release(node.block);
    }

    /// Forgets everything that no sequence is using as part of its table.
    pub fn clear(&mut self, pool: &mut BlockPool) {
        for id in (1..self.nodes.len()).rev() {
            if let Some(node) = self.nodes[id].take() {
                self.vacant.push(id);
                pool.release(node.block);
            }
        }
        self.node_mut(ROOT).children.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Prompts over a tiny alphabet, so that they share beginnings.
    fn prompt() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(0u32..2, 0..80)
            .prop_flat_map(|tail| (0usize..70).prop_map(move |zeros| [vec![0; zeros], tail.clone()].concat()))
    }

    proptest! {
        /// Against a list of everything inserted: the match is never longer than the true longest common prefix,
        /// equals it while nothing was evicted, and the block contents are those of the tokens.
        #[test]
        fn finds_the_longest_prefix(prompts in prop::collection::vec(prompt(), 1..12), evictions in prop::collection::vec(0usize..3, 12)) {
            let mut pool = BlockPool::new(600);
            let mut cache = PrefixCache::default();
            let mut contents: Vec<Vec<u32>> = vec![Vec::new(); 600];
            let mut inserted: Vec<Vec<u32>> = Vec::new();
            let mut evicted = false;
            for (prompt, evict) in prompts.iter().zip(evictions) {
                let found = cache.find(prompt);
                let common = |other: &Vec<u32>| other.iter().zip(prompt).take_while(|(a, b)| a == b).count();
                let best = inserted.iter().map(common).max().unwrap_or(0);
                prop_assert!(found.tokens() <= best);
                // What was inserted is either found or known to be lost, but for the last, partial block.
                prop_assert!(found.tokens() + found.evicted <= best);
                prop_assert!(found.tokens() + found.evicted + BLOCK_SIZE > best);
                if !evicted {
                    prop_assert_eq!((found.tokens(), found.evicted), (best, 0));
                }
                let mut seen: Vec<u32> = found.blocks.iter().flat_map(|b| contents[*b as usize].clone()).collect();
                if let Some((block, tokens)) = found.partial {
                    seen.extend(&contents[block as usize][..tokens]);
                }
                prop_assert_eq!(&seen[..], &prompt[..seen.len()]);
                let blocks: Vec<BlockId> = prompt.chunks(BLOCK_SIZE).map(|chunk| {
                    let block = pool.allocate().unwrap();
                    contents[block as usize] = chunk.to_vec();
                    block
                }).collect();
                cache.insert(prompt, &blocks, &mut pool);
                for block in blocks {
                    pool.release(block);
                }
                inserted.push(prompt.clone());
                prop_assert_eq!(pool.total() - pool.free(), cache.len());
                if evict > 0 {
                    let before = pool.free();
                    let freed = cache.evict(evict, &mut pool);
                    prop_assert_eq!(pool.free(), before + freed);
                    evicted |= freed > 0;
                }
            }
            cache.clear(&mut pool);
            prop_assert_eq!(pool.free(), pool.total());
        }
    }
}
