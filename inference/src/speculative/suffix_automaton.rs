//! A suffix automaton (Blumer et al. 1985) over a growing sequence of tokens: after each token it knows the longest
//! ending of the sequence that occurred before, and what followed it there.
//!
//! At most two states and three edges a token, so memory is bounded by the model's context.

use rustc_hash::FxHashMap;

type StateId = u32;
const ROOT: StateId = 0;
const NONE: u32 = u32::MAX;

/// Ancestors whose last occurrence is kept fresh on each token; deeper ones keep an older occurrence.
const FRESH_ANCESTORS: usize = 32;

#[derive(Debug, Clone, Copy)]
struct State {
    length: u32,
    link: StateId,
    first_edge: u32,
    /// Index of the last token of an occurrence of this state's strings, the latest known.
    end: u32,
}

#[derive(Debug, Clone, Copy)]
struct Edge {
    token: u32,
    target: StateId,
    next: u32,
}

#[derive(Debug)]
pub(super) struct SuffixAutomaton {
    tokens: Vec<u32>,
    states: Vec<State>,
    edges: Vec<Edge>,
    /// The root has an edge for every distinct token: too many for a list.
    root_edges: FxHashMap<u32, StateId>,
    last: StateId,
}

impl Default for SuffixAutomaton {
    fn default() -> Self {
        let root = State { length: 0, link: NONE, first_edge: NONE, end: 0 };
        Self {
            tokens: Vec::new(),
            states: vec![root],
            edges: Vec::new(),
            root_edges: FxHashMap::default(),
            last: ROOT,
        }
    }
}

impl SuffixAutomaton {
    fn state(&mut self, id: StateId) -> &mut State {
        &mut self.states[id as usize]
    }

    fn edge(&self, from: StateId, token: u32) -> Option<StateId> {
        if from == ROOT {
            return self.root_edges.get(&token).copied();
        }
        self.edge_index(from, token).map(|index| self.edges[index].target)
    }

    fn edge_index(&self, from: StateId, token: u32) -> Option<usize> {
        let mut at = self.states[from as usize].first_edge;
        while at != NONE {
            let edge = self.edges[at as usize];
            if edge.token == token {
                return Some(at as usize);
            }
            at = edge.next;
        }
        None
    }

    fn set_edge(&mut self, from: StateId, token: u32, target: StateId) {
        if from == ROOT {
            self.root_edges.insert(token, target);
        } else if let Some(index) = self.edge_index(from, token) {
            self.edges[index].target = target;
        } else {
            let next = self.states[from as usize].first_edge;
            self.edges.push(Edge { token, target, next });
            self.state(from).first_edge = self.edges.len() as u32 - 1;
        }
    }

    fn add_state(&mut self, state: State) -> StateId {
        self.states.push(state);
        self.states.len() as StateId - 1
    }

    pub(super) fn push(&mut self, token: u32) {
        self.refresh_ends();
        let end = self.tokens.len() as u32;
        self.tokens.push(token);
        let length = self.states[self.last as usize].length + 1;
        let new = self.add_state(State { length, link: ROOT, first_edge: NONE, end });
        let mut at = self.last;
        while at != NONE && self.edge(at, token).is_none() {
            self.set_edge(at, token, new);
            at = self.states[at as usize].link;
        }
        let repeated = if at == NONE { None } else { self.edge(at, token) };
        if let Some(target) = repeated {
            let link = self.split(at, token, target);
            self.state(new).link = link;
        }
        self.last = new;
    }

    /// The state for exactly the strings that `at` followed by `token` ends with: `target`, or a copy of it.
    fn split(&mut self, at: StateId, token: u32, target: StateId) -> StateId {
        let length = self.states[at as usize].length + 1;
        let original = self.states[target as usize];
        if original.length == length {
            return target;
        }
        let copy = self.add_state(State { length, first_edge: NONE, ..original });
        let mut edge = original.first_edge;
        while edge != NONE {
            let Edge { token, target, next } = self.edges[edge as usize];
            self.set_edge(copy, token, target);
            edge = next;
        }
        self.state(target).link = copy;
        let mut from = at;
        while from != NONE && self.edge(from, token) == Some(target) {
            self.set_edge(from, token, copy);
            from = self.states[from as usize].link;
        }
        copy
    }

    /// Makes the endings of the sequence so far point at its end.
    fn refresh_ends(&mut self) {
        let Some(end) = self.tokens.len().checked_sub(1) else { return };
        let mut at = self.states[self.last as usize].link;
        for _ in 0..FRESH_ANCESTORS {
            if at == NONE || at == ROOT {
                break;
            }
            self.state(at).end = end as u32;
            at = self.states[at as usize].link;
        }
    }

    /// Length of the longest ending that occurred before, and what followed its latest such occurrence, going round
    /// when that runs into the end of the sequence.
    pub(super) fn continuation(&self) -> (usize, impl Iterator<Item = u32>) {
        let state = match self.states[self.last as usize].link {
            NONE => ROOT,
            link => link,
        };
        let State { length, end, .. } = self.states[state as usize];
        let start = end as usize + 1;
        let follows = if length == 0 { &[] } else { &self.tokens[start.min(self.tokens.len())..] };
        (length as usize, follows.iter().copied().cycle())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The longest ending of `tokens` that also ends at an earlier place, by trying all.
    fn longest_repetition(tokens: &[u32]) -> usize {
        (1..tokens.len())
            .filter(|length| {
                let ending = &tokens[tokens.len() - length..];
                tokens[..tokens.len() - 1].windows(*length).any(|window| window == ending)
            })
            .max()
            .unwrap_or(0)
    }

    proptest! {
        #[test]
        fn finds_the_longest_repetition(tokens in prop::collection::vec(0u32..4, 1..120)) {
            let mut automaton = SuffixAutomaton::default();
            for (index, token) in tokens.iter().enumerate() {
                automaton.push(*token);
                let seen = &tokens[..=index];
                let (length, follows) = automaton.continuation();
                prop_assert_eq!(length, longest_repetition(seen));
                if length > 0 {
                    let ending = &seen[seen.len() - length..];
                    let next: Vec<u32> = follows.take(3).collect();
                    let possible = (length..seen.len()).any(|at| {
                        let period = seen.len() - at;
                        seen[at - length..at] == *ending
                            && (0..3).all(|i| next[i] == seen[at + i % period])
                    });
                    prop_assert!(possible, "{:?} does not follow {:?} in {:?}", next, ending, seen);
                }
            }
            prop_assert!(automaton.states.len() <= 2 * tokens.len() + 1);
        }
    }
}
