//! The context for a cursor: what of other files the model should see.
//!
//! Candidates come from the imports and from the enclosing definition, never from the exact cursor, so that the choice
//! and its order stay the same from key to key. Definitions have scores by why they are candidates (`reason.rs`),
//! pieces of code as they stand (`excerpts.rs`) compete with them by theirs; the order of the text is least-changing
//! first.

use std::{ops::Range, path::Path, sync::Arc};

mod candidates;
mod excerpts;
mod reason;
mod receiver;
mod usage;

use candidates::{Candidate, Names, candidates, names_in_scope};
use excerpts::Excerpt;
use reason::Reason;
use usage::Usage;

use crate::{
    Language,
    imports::Importer,
    index::SymbolId,
    read,
    render::{self, Members},
    scope,
    snapshot::Snapshot,
    snippet::RecentEdit,
    symbols::name_hash,
};

/// A cursor in a text that may differ from the disk.
pub struct Query<'a> {
    pub path: &'a Path,
    pub text: &'a str,
    /// Cursor, a byte offset into `text` on a character boundary.
    pub offset: usize,
    /// Byte range of `text` that the prompt shows anyway; nothing inside it is repeated.
    pub visible: Range<usize>,
    /// Budget in the unit that `measure` returns (tokens, for the language server).
    pub budget: usize,
    pub measure: &'a dyn Fn(&str) -> usize,
    /// What was edited lately anywhere in the workspace, the latest first.
    pub recent: &'a [RecentEdit],
}

/// One piece of another file worth showing to the model.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ContextItem {
    /// Relative to its root.
    pub path: String,
    pub text: String,
    /// What it is there for, in words: "definition of `Stock` imported at line 3".
    pub reason: String,
    pub score: f32,
    /// In the unit of [`Query::measure`].
    pub cost: usize,
}

/// Candidates that are rendered: a bound on the work.
const MAX_CANDIDATES: usize = 96;
/// Members of one type, at most; and of one whose members the cursor's line asks for.
const MAX_MEMBERS: usize = 40;
const MAX_MEMBERS_OF_RECEIVER: usize = 100;
/// No single definition takes more of the budget than this part of it, while others wait.
const MAX_SHARE: f32 = 0.5;
/// What heads leave to the members of receivers, where the cursor's line names one and where it does not.
const RECEIVERS_SHARE: f32 = 0.4;
const DISTANT_RECEIVERS_SHARE: f32 = 0.2;
/// What is imported but not used here takes no more than this part, and a single one of it no more than that.
const MAX_BACKGROUND_SHARE: f32 = 0.5;
/// What a module offers that the cursor's line asks for takes no more than this part.
const MAX_ASKED_MODULE_SHARE: f32 = 0.6;
/// Nor do the types in signatures of what is used.
const MAX_TYPES_SHARE: f32 = 0.25;
const MAX_BACKGROUND_ITEM_SHARE: f32 = 0.12;
/// No excerpt takes more of the budget than this part of it, nor all of them together more than that.
const MAX_EXCERPT_SHARE: f32 = 0.25;
const MAX_EXCERPTS_SHARE: f32 = 0.5;
/// A text larger than this that is not in the index is not parsed for its imports.
const MAX_UNINDEXED_BYTES: usize = 512 << 10;

impl Snapshot {
    /// Context for a cursor, in a deterministic order that is stable from key to key, within the budget.
    /// The file's own symbols are those of its last [`crate::Workspace::update`].
    pub fn context(&self, query: &Query<'_>) -> Vec<ContextItem> {
        let offset = floor_boundary(query.text, query.offset);
        let path = crate::index::normalize(query.path);
        let indexed = self.file_by_path(&path).and_then(|id| self.file(id));
        let (language, symbols) = match indexed.and_then(|file| Some((file.language, file.symbols.clone()?)))
        {
            Some(known) => known,
            None => match Language::from_path(&path) {
                Some(language) if query.text.len() <= MAX_UNINDEXED_BYTES => {
                    (language, Arc::new(read::parse(language, query.text).0))
                }
                _ => return Vec::new(),
            },
        };
        if query.budget == 0 {
            return Vec::new();
        }
        let importer = Importer { path: &path, language, symbols: &symbols };
        let scope = scope::enclosing(query.text, offset, language);
        let names = names_in_scope(query.text, offset, &scope, &symbols);
        let usage = Usage::new(query.text, offset, &scope);
        let candidates = candidates(self, importer, query, &scope, &names, &usage);
        let excerpts = self.excerpts(&path, query, &scope, importer.symbols);
        self.pack(query, &path, candidates, excerpts, &names, &usage)
    }

    /// Fills the budget by score: first with the head of every definition, so that many names are known, then, with
    /// what is left, with members and documentation. Then writes: definitions by file, least-changing first, then
    /// excerpts.
    fn pack(
        &self,
        query: &Query<'_>,
        path: &Path,
        candidates: Vec<Candidate>,
        excerpts: Vec<Excerpt>,
        names: &Names<'_>,
        usage: &Usage<'_>,
    ) -> Vec<ContextItem> {
        enum Piece {
            Definition(usize),
            Excerpt(usize),
        }
        let rank = |name: &str| match names.hashes.contains(&name_hash(name)) {
            true => u32::MAX,
            false => usage.level(name),
        };
        let definitions = candidates
            .iter()
            .enumerate()
            .map(|(at, c)| ((c.reason.score(), c.weight), Piece::Definition(at)));
        let others =
            excerpts.iter().enumerate().map(|(at, excerpt)| ((excerpt.score, 0), Piece::Excerpt(at)));
        let mut by_score: Vec<((f32, u32), Piece)> = definitions.chain(others).collect();
        by_score
            .sort_by(|((left, light), _), ((right, heavy), _)| right.total_cmp(left).then(heavy.cmp(light)));
        let share = |part: f32| ((query.budget as f32 * part) as usize).max(1);
        // What a receiver offers is worth more than one more head.
        let receivers = candidates.iter().filter(|candidate| candidate.reason == Reason::Receiver);
        let reserved = match receivers.map(|candidate| candidate.weight).max() {
            None => 0,
            Some(0) => share(DISTANT_RECEIVERS_SHARE),
            Some(_) => share(RECEIVERS_SHARE),
        };
        let mut left = query.budget - reserved.min(query.budget);
        let (mut asked, mut typed) = (share(MAX_ASKED_MODULE_SHARE), share(MAX_TYPES_SHARE));
        let (mut background, mut quoted) = (share(MAX_BACKGROUND_SHARE), share(MAX_EXCERPTS_SHARE));
        let mut chosen: Vec<(usize, String, usize)> = Vec::new();
        let mut shown: Vec<(usize, usize)> = Vec::new();
        for (_, piece) in by_score.into_iter().take(MAX_CANDIDATES) {
            match piece {
                Piece::Definition(position) => {
                    let Candidate { id, reason, .. } = candidates[position];
                    if shown.iter().any(|(at, _)| excerpts[*at].shows(self, id)) {
                        continue;
                    }
                    let item = share(MAX_BACKGROUND_ITEM_SHARE);
                    let (form, limit) = match reason {
                        Reason::OfReceiver => (Members::Unexplained, left.min(asked).min(item)),
                        Reason::TypeOfUsed => (Members::Unexplained, left.min(typed).min(item)),
                        _ if reason.is_use() => (Members::None, left.min(share(MAX_SHARE))),
                        _ => (Members::Unexplained, left.min(background).min(item)),
                    };
                    if let Some((text, cost)) = self.fit(query, id, limit, &[form], &rank) {
                        left -= cost;
                        match reason {
                            Reason::OfReceiver => asked -= cost,
                            Reason::TypeOfUsed => typed -= cost,
                            _ if reason.is_use() => {}
                            _ => background -= cost,
                        }
                        chosen.push((position, text, cost));
                    }
                }
                Piece::Excerpt(position) => {
                    let known = |(at, ..): &(usize, String, usize)| {
                        excerpts[position].shows(self, candidates[*at].id)
                    };
                    if chosen.iter().any(known) {
                        continue;
                    }
                    let cost = (query.measure)(&excerpts[position].text);
                    if cost <= left.min(quoted).min(share(MAX_EXCERPT_SHARE)) {
                        left -= cost;
                        quoted -= cost;
                        shown.push((position, cost));
                    }
                }
            }
            if left < 4 {
                break;
            }
        }
        left += reserved.min(query.budget);
        for (position, text, cost) in &mut chosen {
            if left < 4 {
                break;
            }
            let forms = match candidates[*position].reason {
                Reason::Receiver => [MAX_MEMBERS_OF_RECEIVER, 56, 32, 18, 9].map(Members::Public),
                _ => [MAX_MEMBERS, 24, 12, 5, 0].map(Members::Public),
            };
            let limit = (*cost + left).min(share(MAX_SHARE).max(*cost));
            let fuller = self.fit(query, candidates[*position].id, limit, &forms, &rank);
            if let Some((fuller, new)) = fuller.filter(|(_, new)| new > cost) {
                left -= new - *cost;
                (*text, *cost) = (fuller, new);
            }
        }
        chosen.sort_unstable_by_key(|(position, ..)| *position);
        shown.sort_unstable();
        let (mut items, own) = self.group(path, &candidates, chosen);
        let mut excerpts: Vec<Option<Excerpt>> = excerpts.into_iter().map(Some).collect();
        items.extend(shown.into_iter().filter_map(|(position, cost)| {
            let Excerpt { path, text, reason, score, .. } = excerpts[position].take()?;
            Some(ContextItem { path, text, reason, score, cost })
        }));
        // What this file itself says further away stands last, next to the text it belongs to.
        items.extend(own);
        items
    }

    /// A definition in the first of these forms that the limit allows.
    fn fit(
        &self,
        query: &Query<'_>,
        id: SymbolId,
        limit: usize,
        forms: &[Members],
        rank: &dyn Fn(&str) -> u32,
    ) -> Option<(String, usize)> {
        let mut previous = String::new();
        for members in forms {
            let text = render::definition(self, id, *members, rank);
            if text.is_empty() || text == previous {
                continue;
            }
            // A file's heading is the prompt's to write; it costs about this much.
            let cost = (query.measure)(&text);
            if cost <= limit {
                return Some((text, cost));
            }
            previous = text;
        }
        None
    }

    /// By file; the own file's apart.
    fn group(
        &self,
        path: &Path,
        candidates: &[Candidate],
        chosen: Vec<(usize, String, usize)>,
    ) -> (Vec<ContextItem>, Option<ContextItem>) {
        struct Group {
            volatility: u8,
            first: usize,
            item: ContextItem,
            parts: Vec<(u32, String)>,
        }
        let mut groups: Vec<(u32, Group)> = Vec::new();
        for (position, text, cost) in chosen {
            let candidate = &candidates[position];
            let Some((file, symbols, symbol)) = self.symbol(candidate.id) else { continue };
            let words = candidate.reason.words(symbol.kind.noun(), symbols.name(symbol));
            let index = match groups.iter().position(|(file, _)| *file == candidate.id.file) {
                Some(index) => index,
                None => {
                    let item = ContextItem {
                        path: file.relative.to_string(),
                        text: String::new(),
                        reason: String::new(),
                        score: 0.0,
                        cost: 0,
                    };
                    groups.push((
                        candidate.id.file,
                        Group { volatility: 0, first: position, item, parts: Vec::new() },
                    ));
                    groups.len() - 1
                }
            };
            let group = &mut groups[index].1;
            group.volatility = group.volatility.max(candidate.reason.volatility());
            group.item.score = group.item.score.max(candidate.reason.score());
            group.item.cost += cost;
            if !group.item.reason.is_empty() {
                group.item.reason.push_str("; ");
            }
            group.item.reason.push_str(&words);
            group.parts.push((symbol.start, text));
        }
        groups.sort_by_key(|(_, group)| (group.volatility, group.first));
        let own = self.file_by_path(path);
        let finish = |(_, mut group): (u32, Group)| {
            group.parts.sort_by_key(|(start, _)| *start);
            group.parts.dedup();
            let texts: Vec<String> = group.parts.into_iter().map(|(_, text)| text).collect();
            group.item.text = texts.concat();
            group.item
        };
        let own = groups.iter().position(|(file, _)| Some(*file) == own).map(|at| groups.remove(at));
        (groups.into_iter().map(finish).collect(), own.map(finish))
    }
}

fn overlap(left: &Range<usize>, right: &Range<usize>) -> bool {
    left.start < right.end && right.start < left.end
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
