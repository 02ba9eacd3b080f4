//! Decides what the next step computes. Integers only: no tensors, no clock, no text.
//!
//! Continuous batching with chunked prefill (Yu et al. 2022, Agrawal et al. 2023): every step takes one token of each
//! decoding sequence first, then fills what is left of the step's token budget with pieces of prompts. A request of a
//! better [`Priority`] keeps all worse ones out of the step. When blocks run out, the prefix cache gives back what it
//! can; then the worst and latest sequence loses its blocks and is computed again later.
//!
//! A sequence may be forked: the copies share the blocks of what they have in common, and count as one request.

use std::{collections::VecDeque, ops::Range};

use crate::{
    Priority,
    kv_cache::{BLOCK_SIZE, BlockId, BlockPool, PrefixCache},
};

pub type SequenceId = u64;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Blocks of the KV cache.
    pub blocks: usize,
    /// Tokens computed in one step.
    pub step_tokens: usize,
    /// Tokens computed in a step that decodes too: prompts take what is left of so many.
    pub shared_step_tokens: usize,
    /// Sequences that may hold blocks at once; a request counts with all that it may fork into.
    pub running: usize,
    /// Sequences that may wait; more are refused.
    pub waiting: usize,
}

/// Copy the first `tokens` tokens of a block before the step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCopy {
    pub source: BlockId,
    pub destination: BlockId,
    pub tokens: usize,
}

/// One sequence's share of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchEntry {
    pub sequence: SequenceId,
    /// Tokens to compute: known ones, then drafts.
    pub tokens: Vec<u32>,
    /// Position of the first of them.
    pub start: usize,
    /// The sequence's block table, long enough for all of them.
    pub blocks: Vec<BlockId>,
    /// Which of `tokens` need logits: empty for an unfinished prompt, the last known token and the drafts otherwise.
    pub logits: Range<usize>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub copies: Vec<BlockCopy>,
    pub entries: Vec<BatchEntry>,
}

impl Batch {
    pub fn rows(&self) -> usize {
        self.entries.iter().map(|entry| entry.tokens.len()).sum()
    }
}

/// What the prefix cache knew of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Tokens whose keys and values were there.
    pub cached: usize,
    /// Tokens after those that were there once and had to make room.
    pub evicted: usize,
}

#[derive(Debug, Clone)]
struct Sequence {
    id: SequenceId,
    priority: Priority,
    /// The request's first sequence: all that were forked from it are admitted as one.
    request: SequenceId,
    /// Sequences that the request may be at once.
    width: usize,
    /// Prompt and generated tokens.
    tokens: Vec<u32>,
    /// How many of `tokens` have their keys and values in `blocks`.
    computed: usize,
    /// What the cache had of the prompt when first admitted.
    found: Option<Found>,
    blocks: Vec<BlockId>,
    drafts: Vec<u32>,
}

impl Sequence {
    fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    fn is_decoding(&self) -> bool {
        self.pending() == 1
    }
}

#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    pool: BlockPool,
    cache: PrefixCache,
    /// In order of admission.
    running: Vec<Sequence>,
    waiting: VecDeque<Sequence>,
    /// Copies that the next batch makes. Their sources are held.
    copies: Vec<BlockCopy>,
    /// Those of the batch in flight, whose sources are held until the next call of `schedule`.
    copies_in_flight: Vec<BlockCopy>,
}

impl Scheduler {
    /// `limits.blocks` must hold at least one sequence of the greatest length the caller lets through.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            pool: BlockPool::new(limits.blocks),
            cache: PrefixCache::default(),
            running: Vec::new(),
            waiting: VecDeque::new(),
            copies: Vec::new(),
            copies_in_flight: Vec::new(),
        }
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    pub fn blocks_total(&self) -> usize {
        self.pool.total()
    }

    /// Blocks that sequences or the prefix cache hold.
    pub fn blocks_used(&self) -> usize {
        self.pool.total() - self.pool.free()
    }

    /// Blocks in the tables of running sequences; shared ones count for each.
    pub fn blocks_running(&self) -> usize {
        self.running.iter().map(|sequence| sequence.blocks.len()).sum()
    }

    /// Blocks that the prefix cache knows, used by running sequences or not.
    pub fn blocks_cached(&self) -> usize {
        self.cache.len()
    }

    /// Queues a sequence that may be forked into `width` at once. `false` when too many wait already.
    #[must_use]
    pub fn add(&mut self, id: SequenceId, prompt: Vec<u32>, priority: Priority, width: usize) -> bool {
        if self.waiting.len() >= self.limits.waiting {
            return false;
        }
        let sequence = Sequence {
            id,
            priority,
            request: id,
            width: width.clamp(1, self.limits.running),
            tokens: prompt,
            computed: 0,
            found: None,
            blocks: Vec::new(),
            drafts: Vec::new(),
        };
        // Among equals first come, first served.
        let at =
            self.waiting.iter().position(|other| other.priority > priority).unwrap_or(self.waiting.len());
        self.waiting.insert(at, sequence);
        true
    }

    /// Makes `id` a copy of `of`, to which other tokens can be appended; they share full blocks. Without a free block for
    /// the part of one the copy waits, as if it had had to give way.
    pub fn fork(&mut self, of: SequenceId, id: SequenceId) {
        let Some(original) = self.running.iter().find(|sequence| sequence.id == of) else {
            if let Some(at) = self.waiting.iter().position(|sequence| sequence.id == of) {
                self.waiting.insert(at + 1, Sequence { id, ..self.waiting[at].clone() });
            }
            return;
        };
        let mut copy = Sequence { id, drafts: Vec::new(), ..original.clone() };
        let (full, tokens) = (copy.computed / BLOCK_SIZE, copy.computed % BLOCK_SIZE);
        let part = copy.blocks.get(full).copied().filter(|_| tokens > 0);
        copy.blocks.truncate(full);
        if let Some(source) = part {
            if self.pool.free() == 0 {
                self.cache.evict(1, &mut self.pool);
            }
            let Some(destination) = self.pool.allocate() else {
                (copy.computed, copy.blocks) = (0, Vec::new());
                self.wait_again(copy);
                return;
            };
            self.pool.retain(source);
            self.copies.push(BlockCopy { source, destination, tokens });
            copy.blocks.push(destination);
        }
        for &block in &copy.blocks[..full] {
            self.pool.retain(block);
        }
        self.running.push(copy);
    }

    /// Adds a token to a sequence all of whose tokens were computed.
    pub fn append(&mut self, id: SequenceId, token: u32) {
        let mut all = self.running.iter_mut().chain(&mut self.waiting);
        if let Some(sequence) = all.find(|sequence| sequence.id == id) {
            sequence.tokens.push(token);
        }
    }

    /// What the cache had of a prompt; `None` before the sequence was first admitted.
    pub fn found(&self, id: SequenceId) -> Option<Found> {
        self.running.iter().chain(&self.waiting).find(|sequence| sequence.id == id)?.found
    }

    /// Tokens of a running sequence, prompt and generated.
    pub fn tokens(&self, id: SequenceId) -> Option<&[u32]> {
        let sequence = self.running.iter().find(|sequence| sequence.id == id)?;
        Some(&sequence.tokens)
    }

    /// Running sequences that take one token a step: those that drafts can help.
    pub fn decoding(&self) -> impl Iterator<Item = SequenceId> {
        self.running.iter().filter(|sequence| sequence.is_decoding()).map(|sequence| sequence.id)
    }

    /// Guesses for the tokens after the last one, verified in the next step. Ignored unless the sequence decodes.
    pub fn set_drafts(&mut self, id: SequenceId, drafts: Vec<u32>) {
        if let Some(sequence) = self.running.iter_mut().find(|sequence| sequence.id == id) {
            sequence.drafts = if sequence.is_decoding() { drafts } else { Vec::new() };
        }
    }

    /// The next step's work; empty when there is none.
    pub fn schedule(&mut self) -> Batch {
        self.release_copied();
        let mut batch = Batch::default();
        let best = self.running.iter().chain(&self.waiting).map(|sequence| sequence.priority).min();
        let Some(best) = best else { return batch };
        let mut budget = self.limits.step_tokens;
        // Decoding first: a long prompt must not hold up other streams.
        for decoding in [true, false] {
            let ids: Vec<SequenceId> = self
                .running
                .iter()
                .filter(|sequence| sequence.priority == best && sequence.is_decoding() == decoding)
                .map(|sequence| sequence.id)
                .collect();
            for id in ids {
                self.take(id, &mut budget, &mut batch);
            }
            if !batch.entries.is_empty() && decoding {
                // A prompt goes on, however many rows the others have.
                let left = self.limits.shared_step_tokens.saturating_sub(batch.rows());
                budget = budget.min(left.max(BLOCK_SIZE));
            }
        }
        while budget > 0 && self.admit(best) {
            if let Some(id) = self.running.last().map(|sequence| sequence.id) {
                self.take(id, &mut budget, &mut batch);
            }
        }
        if !batch.entries.is_empty() {
            batch.copies = std::mem::take(&mut self.copies);
            self.copies_in_flight.clone_from(&batch.copies);
        }
        batch
    }

    /// The last batch was computed: what its copies read may go.
    fn release_copied(&mut self) {
        for copy in self.copies_in_flight.drain(..) {
            self.pool.release(copy.source);
        }
    }

    /// Sequences that the running ones may come to be.
    fn reserved(&self) -> usize {
        let is_first = |index: &usize| {
            let request = self.running[*index].request;
            self.running[..*index].iter().all(|other| other.request != request)
        };
        (0..self.running.len()).filter(is_first).map(|index| self.running[index].width).sum()
    }

    /// Whether there is room for the first waiting sequence, made if need be at the cost of worse ones.
    fn has_room(&mut self, priority: Priority) -> bool {
        loop {
            let Some(next) = self.waiting.front() else { return false };
            let is_counted = self.running.iter().any(|other| other.request == next.request);
            if is_counted || self.reserved() + next.width <= self.limits.running {
                return true;
            }
            if !self.make_room(priority) {
                return false;
            }
        }
    }

    /// Moves the first waiting sequence of this priority to the running ones.
    fn admit(&mut self, priority: Priority) -> bool {
        if self.waiting.front().is_none_or(|sequence| sequence.priority != priority)
            || !self.has_room(priority)
        {
            return false;
        }
        let Some(mut sequence) = self.waiting.pop_front() else { return false };
        // The last token is always computed: its logits are what the request is after.
        let found = self.cache.find(&sequence.tokens[..sequence.tokens.len() - 1]);
        for &block in &found.blocks {
            self.pool.retain(block);
            sequence.blocks.push(block);
        }
        sequence.computed = sequence.blocks.len() * BLOCK_SIZE;
        if let Some((source, tokens)) = found.partial {
            self.pool.retain(source);
            // Running sequences are never preempted for the sake of a copy.
            if self.pool.free() == 0 {
                self.cache.evict(1, &mut self.pool);
            }
            if let Some(destination) = self.pool.allocate() {
                self.copies.push(BlockCopy { source, destination, tokens });
                sequence.blocks.push(destination);
                sequence.computed += tokens;
            } else {
                self.pool.release(source);
            }
        }
        sequence.found.get_or_insert(Found { cached: sequence.computed, evicted: found.evicted });
        self.running.push(sequence);
        true
    }

    /// Sends a running sequence of worse priority back to waiting, if there is one.
    fn make_room(&mut self, priority: Priority) -> bool {
        let worst = (0..self.running.len())
            .filter(|index| self.running[*index].priority > priority)
            .max_by_key(|index| (self.running[*index].priority, *index));
        worst.is_some_and(|index| {
            self.preempt(index);
            true
        })
    }

    /// Adds a sequence's next tokens to the batch, as far as budget and blocks allow.
    fn take(&mut self, id: SequenceId, budget: &mut usize, batch: &mut Batch) {
        let Some(index) = self.running.iter().position(|sequence| sequence.id == id) else { return };
        let sequence = &mut self.running[index];
        let known = sequence.pending().min(*budget);
        if known == 0 {
            return;
        }
        let completes = known == sequence.pending();
        let mut drafts = std::mem::take(&mut sequence.drafts);
        drafts.truncate(if completes { *budget - known } else { 0 });
        let start = sequence.computed;
        if !self.reserve(id, start + known + drafts.len(), batch) {
            drafts.clear();
            if !self.reserve(id, start + known, batch) {
                return;
            }
        }
        let Some(sequence) = self.running.iter().find(|sequence| sequence.id == id) else { return };
        let mut tokens = sequence.tokens[start..start + known].to_vec();
        tokens.extend(&drafts);
        *budget -= tokens.len();
        let logits = if completes { known - 1..tokens.len() } else { 0..0 };
        batch.entries.push(BatchEntry {
            sequence: id,
            tokens,
            start,
            blocks: sequence.blocks.clone(),
            logits,
        });
    }

    /// Gives the sequence blocks for `length` tokens, at the cost of the cache, then of later sequences.
    fn reserve(&mut self, id: SequenceId, length: usize, batch: &Batch) -> bool {
        loop {
            let Some(index) = self.running.iter().position(|sequence| sequence.id == id) else {
                return false;
            };
            let missing = length.div_ceil(BLOCK_SIZE).saturating_sub(self.running[index].blocks.len());
            if missing == 0 {
                return true;
            }
            if self.pool.free() < missing {
                let short = missing - self.pool.free();
                self.cache.evict(short, &mut self.pool);
            }
            while self.running[index].blocks.len() < length.div_ceil(BLOCK_SIZE) {
                let Some(block) = self.pool.allocate() else { break };
                self.running[index].blocks.push(block);
            }
            if self.running[index].blocks.len() >= length.div_ceil(BLOCK_SIZE) {
                return true;
            }
            let in_batch = |id: SequenceId| batch.entries.iter().any(|entry| entry.sequence == id);
            let victim = (0..self.running.len())
                .filter(|other| *other != index && !in_batch(self.running[*other].id))
                .max_by_key(|other| (self.running[*other].priority, *other))
                .filter(|other| {
                    (self.running[*other].priority, *other) > (self.running[index].priority, index)
                });
            match victim {
                Some(victim) => self.preempt(victim),
                None => return false,
            }
        }
    }

    fn preempt(&mut self, index: usize) {
        let mut sequence = self.running.remove(index);
        self.retire(&mut sequence);
        self.wait_again(sequence);
    }

    /// Before those that have not run yet.
    fn wait_again(&mut self, sequence: Sequence) {
        let at = self.waiting.iter().position(|other| other.priority >= sequence.priority);
        self.waiting.insert(at.unwrap_or(self.waiting.len()), sequence);
    }

    /// Hands what a sequence has computed to the cache and gives up its blocks.
    fn retire(&mut self, sequence: &mut Sequence) {
        // What was to be copied into its last block is not there.
        let is_into = |copy: &BlockCopy| sequence.blocks.contains(&copy.destination);
        if let Some(at) = self.copies.iter().position(is_into) {
            self.pool.release(self.copies.swap_remove(at).source);
            sequence.computed = sequence.computed / BLOCK_SIZE * BLOCK_SIZE;
        }
        self.cache.insert(&sequence.tokens[..sequence.computed], &sequence.blocks, &mut self.pool);
        for block in sequence.blocks.drain(..) {
            self.pool.release(block);
        }
        sequence.computed = 0;
        sequence.drafts.clear();
    }

    /// Records a step's outcome for one entry: `accepted` is what the model chose after the entry's last known
    /// token, one token more than the drafts it agreed with; empty for a prompt that is unfinished or only warmed.
    pub fn commit(&mut self, entry: &BatchEntry, accepted: &[u32]) {
        let Some(index) = self.running.iter().position(|sequence| sequence.id == entry.sequence) else {
            return;
        };
        let sequence = &mut self.running[index];
        let is_prompt = entry.logits.start > 0 || accepted.is_empty();
        let known =
            if accepted.is_empty() { entry.tokens.len() } else { entry.logits.start + accepted.len() };
        sequence.computed = entry.start + known;
        sequence.tokens.extend(accepted);
        if is_prompt {
            // Requests that come while this one still runs can share its full blocks.
            let full = sequence.computed / BLOCK_SIZE * BLOCK_SIZE;
            self.cache.insert(&sequence.tokens[..full], &sequence.blocks, &mut self.pool);
        }
    }

    /// Ends a sequence, finished or not: its blocks go to the cache or are freed.
    pub fn finish(&mut self, id: SequenceId) {
        if let Some(index) = self.running.iter().position(|sequence| sequence.id == id) {
            let mut sequence = self.running.remove(index);
            self.retire(&mut sequence);
        }
        self.waiting.retain(|sequence| sequence.id != id);
    }

    /// Drops everything, the cache included: after a failed step nothing it wrote can be trusted.
    pub fn reset(&mut self) {
        *self = Self::new(self.limits);
    }

    /// Other limits, and an empty cache: the model was loaded anew, perhaps on another device. Only between runs; what
    /// waits goes on waiting.
    pub fn resize(&mut self, limits: Limits) {
        assert!(self.running.is_empty(), "blocks in use cannot be taken away");
        let waiting = std::mem::take(&mut self.waiting);
        *self = Self { waiting, ..Self::new(limits) };
    }

    /// Empties the prefix cache; running sequences keep their blocks. Only between steps.
    pub fn clear_cache(&mut self) {
        self.release_copied();
        self.cache.clear(&mut self.pool);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits { blocks: 40, step_tokens: 32, shared_step_tokens: 32, running: 4, waiting: 6 }
    }

    /// A "model" whose next token is a function of the tokens before it, so that any error in bookkeeping shows.
    fn next_token(tokens: &[u32]) -> u32 {
        let mut hash = 7u32;
        for token in tokens {
            hash = hash.wrapping_mul(31).wrapping_add(*token);
        }
        hash % 5
    }

    /// Plays the runner: keeps what each block holds, checks that every entry's past is where its table says.
    struct Runner {
        blocks: Vec<Vec<u32>>,
    }

    impl Runner {
        fn run(&mut self, batch: &Batch) -> Vec<Vec<u32>> {
            for copy in &batch.copies {
                let source = self.blocks[copy.source as usize][..copy.tokens].to_vec();
                self.blocks[copy.destination as usize] = source;
            }
            batch
                .entries
                .iter()
                .map(|entry| {
                    for (i, token) in entry.tokens.iter().enumerate() {
                        let position = entry.start + i;
                        let block = &mut self.blocks[entry.blocks[position / BLOCK_SIZE] as usize];
                        block.truncate(position % BLOCK_SIZE);
                        assert_eq!(block.len(), position % BLOCK_SIZE, "a hole in the cache");
                        block.push(*token);
                    }
                    let length = entry.start + entry.tokens.len();
                    let past: Vec<u32> = entry
                        .blocks
                        .iter()
                        .flat_map(|b| self.blocks[*b as usize].clone())
                        .take(length)
                        .collect();
                    assert_eq!(past.len(), length);
                    entry.logits.clone().map(|i| next_token(&past[..entry.start + i + 1])).collect()
                })
                .collect()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        /// Whatever arrives, is cancelled, forked or drafted: every sequence ends with exactly the tokens that the model
        /// gives it alone, nothing starves, and no block is lost.
        #[test]
        fn serves_everyone_exactly(
            requests in prop::collection::vec((0usize..90, 1usize..20, 0u8..3, 0usize..6, any::<bool>()), 1..14),
            cancel in prop::collection::vec(any::<bool>(), 14),
            wrong_draft in any::<u8>(),
            forks in any::<u32>(),
        ) {
            let mut scheduler = Scheduler::new(limits());
            let mut runner = Runner { blocks: vec![Vec::new(); limits().blocks] };
            let mut open: Vec<(SequenceId, Vec<u32>, usize, usize)> = Vec::new();
            let mut arrivals = requests.into_iter().enumerate();
            let mut steps = 0;
            let mut copies = 1000..1008;
            loop {
                let arrival = if steps % 2 == 0 { arrivals.next() } else { None };
                if let Some((id, (prompt, generate, priority, cancel_after, shared))) = arrival {
                    let priority = [Priority::Interactive, Priority::Background, Priority::Batch][priority as usize];
                    let tokens: Vec<u32> = (0..=prompt).map(|i| if shared { i as u32 } else { (i * id) as u32 }).collect();
                    if scheduler.add(id as u64, tokens.clone(), priority, 3) {
                        let cancel_at = if cancel[id] { steps + cancel_after } else { usize::MAX };
                        open.push((id as u64, tokens, generate, cancel_at));
                    } else {
                        prop_assert!(scheduler.waiting() >= limits().waiting);
                    }
                }
                let cancelled: Vec<_> = open.iter().filter(|o| o.3 <= steps).map(|o| o.0).collect();
                for id in cancelled {
                    scheduler.finish(id);
                    open.retain(|o| o.0 != id);
                }
                if open.is_empty() && arrivals.len() == 0 {
                    break;
                }
                let drafting = forks & (1 << (steps % 32)) == 0;
                for id in scheduler.decoding().filter(|_| drafting).collect::<Vec<_>>() {
                    let mut tokens = scheduler.tokens(id).unwrap().to_vec();
                    let mut drafts = Vec::new();
                    for i in 0..3u8 {
                        let token = next_token(&tokens) + u32::from(wrong_draft & (1 << i) != 0);
                        drafts.push(token);
                        tokens.push(token);
                    }
                    scheduler.set_drafts(id, drafts);
                }
                let batch = scheduler.schedule();
                prop_assert!(batch.rows() <= limits().step_tokens);
                prop_assert!(!batch.entries.is_empty() || open.is_empty(), "work waits but nothing is scheduled");
                let chosen = runner.run(&batch);
                for (entry, chosen) in batch.entries.iter().zip(chosen) {
                    let drafts = &entry.tokens[entry.tokens.len() - chosen.len().saturating_sub(1)..];
                    let agreed = drafts.iter().zip(&chosen).take_while(|(a, b)| a == b).count();
                    let accepted = if chosen.is_empty() { &[][..] } else { &chosen[..agreed + 1] };
                    let index = open.iter().position(|o| o.0 == entry.sequence).unwrap();
                    let (id, _, generate, _) = &open[index];
                    if let ([next], true, false) = (accepted, drafts.is_empty(), drafting) {
                        // The copy goes on with another token, which is as if it had been asked so.
                        scheduler.commit(entry, &[]);
                        let mut prompt = scheduler.tokens(*id).unwrap().to_vec();
                        prompt.push(next + 1);
                        if let Some(copy) = copies.next() {
                            scheduler.fork(*id, copy);
                            scheduler.append(copy, next + 1);
                            let generate = generate / 2;
                            open.push((copy, prompt, generate, usize::MAX));
                        }
                        scheduler.append(entry.sequence, *next);
                    } else {
                        scheduler.commit(entry, accepted);
                    }
                    let (id, prompt, generate, _) = &open[index];
                    let tokens = scheduler.tokens(*id).unwrap().to_vec();
                    let mut expected = prompt.clone();
                    while expected.len() < tokens.len() {
                        let next = next_token(&expected);
                        expected.push(next);
                    }
                    prop_assert_eq!(&tokens, &expected);
                    if tokens.len() >= prompt.len() + generate {
                        scheduler.finish(entry.sequence);
                        open.remove(index);
                    }
                }
                steps += 1;
                prop_assert!(steps < 5_000, "starved: {:?}", open);
            }
            prop_assert!(scheduler.is_idle());
            scheduler.schedule();
            scheduler.clear_cache();
            prop_assert_eq!(scheduler.blocks_used(), 0);
        }
    }

    #[test]
    fn a_repeated_prompt_is_cached_but_for_its_last_token() {
        let mut scheduler = Scheduler::new(limits());
        let mut runner = Runner { blocks: vec![Vec::new(); limits().blocks] };
        let prompt: Vec<u32> = (0..30).collect();
        for (id, expected) in [(1, 0), (2, 29)] {
            assert!(scheduler.add(id, prompt.clone(), Priority::Interactive, 1));
            let batch = scheduler.schedule();
            assert_eq!(scheduler.found(id), Some(Found { cached: expected, evicted: 0 }));
            let chosen = runner.run(&batch);
            scheduler.commit(&batch.entries[0], &chosen[0]);
            scheduler.finish(id);
        }
    }

    #[test]
    fn a_long_prompt_does_not_hold_up_a_running_stream() {
        let mut scheduler = Scheduler::new(limits());
        let mut runner = Runner { blocks: vec![Vec::new(); limits().blocks] };
        assert!(scheduler.add(1, vec![1, 2, 3], Priority::Interactive, 1));
        let batch = scheduler.schedule();
        let chosen = runner.run(&batch);
        scheduler.commit(&batch.entries[0], &chosen[0]);
        assert!(scheduler.add(2, (0..200).collect(), Priority::Interactive, 1));
        for _ in 0..4 {
            let batch = scheduler.schedule();
            assert_eq!(batch.entries[0].sequence, 1);
            assert_eq!(batch.rows(), limits().step_tokens);
            let chosen = runner.run(&batch);
            for (entry, chosen) in batch.entries.iter().zip(chosen) {
                scheduler.commit(entry, &chosen);
            }
        }
    }

    /// A step of one chunk, then somebody at the cursor: the very next step is theirs alone, shares what the chunk
    /// has computed, and the chunk's request goes on where it was.
    #[test]
    fn background_prompts_give_way_within_a_step() {
        let mut scheduler = Scheduler::new(limits());
        let mut runner = Runner { blocks: vec![Vec::new(); limits().blocks] };
        let mut step = |scheduler: &mut Scheduler| {
            let batch = scheduler.schedule();
            let chosen = runner.run(&batch);
            for (entry, chosen) in batch.entries.iter().zip(chosen) {
                scheduler.commit(entry, &chosen);
            }
            batch.entries.iter().map(|entry| (entry.sequence, entry.start)).collect::<Vec<_>>()
        };
        let shared: Vec<u32> = (0..200).collect();
        assert!(scheduler.add(1, shared.clone(), Priority::Background, 1));
        assert_eq!(step(&mut scheduler), [(1, 0)]);
        assert!(scheduler.add(2, shared[..60].to_vec(), Priority::Interactive, 1));
        assert_eq!(step(&mut scheduler), [(2, 32)]);
        assert_eq!(step(&mut scheduler), [(2, 60)]);
        scheduler.finish(2);
        assert_eq!(step(&mut scheduler), [(1, 32)]);
    }

    /// What waited while the model was loaded again runs in what there is room for now.
    #[test]
    fn resizing_keeps_what_waits() {
        let mut scheduler = Scheduler::new(limits());
        assert!(scheduler.add(1, (0..20).collect(), Priority::Interactive, 1));
        assert!(!scheduler.schedule().entries.is_empty());
        scheduler.finish(1);
        assert!(scheduler.add(2, (0..100).collect(), Priority::Interactive, 1));
        scheduler.resize(Limits { blocks: 8, step_tokens: 16, shared_step_tokens: 16, ..limits() });
        assert_eq!((scheduler.blocks_total(), scheduler.blocks_used(), scheduler.waiting()), (8, 0, 1));
        let batch = scheduler.schedule();
        let entries: Vec<_> =
            batch.entries.iter().map(|entry| (entry.sequence, entry.start, entry.tokens.len())).collect();
        assert_eq!(entries, [(2, 0, 16)]);
    }

    /// Beside a stream a prompt takes smaller pieces, and whole ones when the stream has ended.
    #[test]
    fn a_prompt_beside_a_stream_takes_smaller_pieces() {
        let mut scheduler = Scheduler::new(Limits { shared_step_tokens: 20, ..limits() });
        let mut runner = Runner { blocks: vec![Vec::new(); limits().blocks] };
        let mut step = |scheduler: &mut Scheduler| {
            let batch = scheduler.schedule();
            let chosen = runner.run(&batch);
            for (entry, chosen) in batch.entries.iter().zip(chosen) {
                scheduler.commit(entry, &chosen);
            }
            batch.entries.iter().map(|entry| (entry.sequence, entry.tokens.len())).collect::<Vec<_>>()
        };
        assert!(scheduler.add(1, (0..10).collect(), Priority::Interactive, 1));
        assert_eq!(step(&mut scheduler), [(1, 10)]);
        assert!(scheduler.add(2, (100..200).collect(), Priority::Interactive, 1));
        assert_eq!(step(&mut scheduler), [(1, 1), (2, 19)]);
        scheduler.finish(1);
        assert_eq!(step(&mut scheduler), [(2, 32)]);
    }

    /// Sixteen requests of mixed lengths at once: the last to finish takes at most twice as many steps as the
    /// middle one, though prompts are computed in pieces and wait for one another.
    #[test]
    fn none_of_sixteen_is_starved() {
        let limits =
            Limits { blocks: 400, step_tokens: 64, shared_step_tokens: 64, running: 16, waiting: 16 };
        let mut scheduler = Scheduler::new(limits);
        let mut runner = Runner { blocks: vec![Vec::new(); limits.blocks] };
        let prompt = |id: u32| (0..40 + id * 97 % 240).map(|token| token * 31 + id).collect::<Vec<_>>();
        let mut finished = Vec::new();
        for id in 0..16 {
            assert!(scheduler.add(u64::from(id), prompt(id), Priority::Interactive, 1));
        }
        for step in 1.. {
            let batch = scheduler.schedule();
            let chosen = runner.run(&batch);
            for (entry, chosen) in batch.entries.iter().zip(chosen) {
                scheduler.commit(entry, &chosen);
                let length = scheduler.tokens(entry.sequence).map_or(0, <[u32]>::len);
                if length == prompt(entry.sequence as u32).len() + 48 {
                    scheduler.finish(entry.sequence);
                    finished.push(step);
                }
            }
            if scheduler.is_idle() {
                break;
            }
        }
        assert_eq!(finished.len(), 16);
        assert!(finished[15] <= 2 * finished[8], "{finished:?}");
    }
}
