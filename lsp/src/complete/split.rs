//! Where the text around the cursor is cut for the prompt, and where it stays cut while the user types.
//!
//! The engine keeps the keys and values of what prompts have in common at their beginning, so what a prompt shows first
//! must stay as it is from key to key. The window's start, the frozen prefix and the suffix are kept for each document,
//! each as long as it still says what the document says; between two renewals typing only appends tokens.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use super::{
    line_tokens::LineTokens,
    lines,
    prompt::Budgets,
    window::{char_boundary, prefix_start, suffix_length},
};

/// Documents whose last split is kept.
const KEPT_DOCUMENTS: usize = 64;
/// A window that moves shows this part of the prefix's budget, so that it does not move again soon.
const AFTER_MOVE: (usize, usize) = (3, 4);
/// A kept window that shows less than this part of the budget, although there is more to show, moves.
const LEAST: (usize, usize) = (1, 3);
/// Text that may follow the frozen prefix before it is frozen anew.
const TYPED_BYTES: usize = 2048;
/// Of the window's start, so much is compared to recognise it. Bytes.
const COMPARED_BYTES: usize = 256;

/// Byte offsets into a text: `start <= frozen <= cursor <= resumed <= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// The shown text begins here.
    pub start: usize,
    /// What stands before is frozen. Where the prefix is not the end of the prompt, the rest up to the cursor is.
    pub frozen: usize,
    pub cursor: usize,
    /// The shown suffix begins here, behind the brackets and quotes that the editor has closed by itself: they come and
    /// go with single key presses. Post-processing takes them from an answer that closes them too.
    pub resumed: usize,
    /// The shown text ends here.
    pub end: usize,
}

/// The last split of each document, the most recently used first.
#[derive(Debug, Default)]
pub struct Splits {
    kept: Mutex<VecDeque<(String, Kept)>>,
}

/// A split with what it showed, to be recognised in a later text.
#[derive(Debug, Clone)]
struct Kept {
    split: Split,
    budgets: Budgets,
    /// The text from `split.start`, as far as it is compared.
    head: Box<str>,
    frozen: Box<str>,
    suffix: Box<str>,
    /// Bytes behind the shown suffix.
    hidden: usize,
}

impl Split {
    /// All of the file that the prompt shows.
    pub fn visible(&self) -> Range<usize> {
        self.start..self.end
    }
}

impl Splits {
    /// Whether the document at `path` was split before.
    pub fn knows(&self, path: &str) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().any(|(other, _)| other == path)
    }

    /// The split for a cursor: as much of the document's last one as still holds, the rest new.
    pub fn split(
        &self,
        path: &str,
        text: &str,
        cursor: usize,
        budgets: &Budgets,
        tokens: &LineTokens,
    ) -> Split {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.iter().position(|(other, _)| other == path).and_then(|at| kept.remove(at));
        let before = before.map(|(_, before)| before).filter(|before| before.budgets == *budgets);
        let split = renew(before.as_ref(), text, cursor, budgets, tokens);
        kept.push_front((path.to_string(), Kept::new(split, text, budgets)));
        kept.truncate(KEPT_DOCUMENTS);
        split
    }
}

/// A split from nothing but the text.
pub fn fresh(text: &str, cursor: usize, budgets: &Budgets, tokens: &LineTokens) -> Split {
    renew(None, text, cursor, budgets, tokens)
}

fn renew(before: Option<&Kept>, text: &str, cursor: usize, budgets: &Budgets, tokens: &LineTokens) -> Split {
    let (prefix, rest) = text.split_at(cursor);
    let start = before.and_then(|kept| kept.start(prefix, tokens)).unwrap_or_else(|| {
        let whole = prefix_start(tokens, prefix, budgets.prefix);
        if whole == 0 { 0 } else { prefix_start(tokens, prefix, part(budgets.prefix, AFTER_MOVE)) }
    });
    let (resumed, end) = before.and_then(|kept| kept.suffix(text, cursor)).unwrap_or_else(|| {
        let resumed = cursor + closed_to_line_end(rest);
        (resumed, resumed + suffix_length(tokens, &text[resumed..], budgets.suffix))
    });
    let frozen = before.and_then(|kept| kept.frozen(prefix, start)).unwrap_or_else(|| {
        // A whole line, so that deleting in it does not reach what is frozen.
        let line_start = cursor - lines::line_before(prefix).len();
        line_start.max(start)
    });
    Split { start, frozen, cursor, resumed, end }
}

impl Kept {
    fn new(split: Split, text: &str, budgets: &Budgets) -> Self {
        let head = char_boundary(text, (split.start + COMPARED_BYTES).min(split.cursor));
        Self {
            split,
            budgets: *budgets,
            head: text[split.start..head].into(),
            frozen: text[split.start..split.frozen].into(),
            suffix: text[split.resumed..split.end].into(),
            hidden: text.len() - split.end,
        }
    }

    /// The window's start, if it still shows the same, enough, and not too much.
    fn start(&self, prefix: &str, tokens: &LineTokens) -> Option<usize> {
        let start = self.split.start;
        let shown = prefix.get(start..)?;
        let known = shown.len().min(self.head.len());
        if shown.as_bytes()[..known] != self.head.as_bytes()[..known] {
            return None;
        }
        let used = tokens.count(shown);
        let enough = start == 0 || used >= part(self.budgets.prefix, LEAST);
        (enough && used <= self.budgets.prefix).then_some(start)
    }

    /// The end of the frozen prefix, if it says what the text says.
    fn frozen(&self, prefix: &str, start: usize) -> Option<usize> {
        let end = self.split.frozen;
        let holds = start == self.split.start
            && prefix.get(start..end).is_some_and(|text| text == &*self.frozen)
            && prefix.len() - end <= TYPED_BYTES;
        holds.then_some(end)
    }

    /// The shown suffix, if it still stands after the cursor, behind nothing but what was closed.
    fn suffix(&self, text: &str, cursor: usize) -> Option<(usize, usize)> {
        let end = text.len().checked_sub(self.hidden)?;
        let resumed = end.checked_sub(self.suffix.len())?;
        let closed = text.get(cursor..resumed)?;
        let holds = text.get(resumed..end)? == &*self.suffix && lines::is_closed(closed);
        holds.then_some((resumed, end))
    }
}

/// Length of what editors close by themselves, where nothing else stands in the rest of the line.
fn closed_to_line_end(rest: &str) -> usize {
    let line = lines::line_after(rest);
    if lines::is_closed(line) { line.len() } else { 0 }
}

/// A part of a budget, given as numerator and denominator.
fn part(budget: usize, (numerator, denominator): (usize, usize)) -> usize {
    budget * numerator / denominator
}

#[cfg(test)]
mod tests {
    use lacuna_inference::{Model, ModelSource};
    use proptest::prelude::*;

    use super::*;

    const BUDGETS: Budgets = Budgets { context: 0, prefix: 120, suffix: 40, answer: 16 };

    fn tokens() -> &'static LineTokens {
        static TOKENS: std::sync::OnceLock<LineTokens> = std::sync::OnceLock::new();
        TOKENS.get_or_init(|| {
            let model = Model::open(&ModelSource::Embedded).expect("the embedded model opens");
            LineTokens::new(model.tokenizer().clone())
        })
    }

    /// A file and a cursor, both as a user moves them.
    struct Editor {
        text: String,
        cursor: usize,
    }

    #[derive(Debug, Clone)]
    enum Action {
        Type(char),
        /// Types an opening bracket that the editor closes.
        Open,
        Delete,
        Right,
        Up,
        Jump(prop::sample::Index),
        EditElsewhere(prop::sample::Index),
    }

    impl Editor {
        fn new() -> Self {
            let text: String =
                (0..60).map(|line| format!("value_{line} = compute({line}, \"é\")\n")).collect();
            let cursor = text.len() / 2;
            Self { cursor: char_boundary(&text, cursor), text }
        }

        fn act(&mut self, action: &Action) {
            match action {
                Action::Type(character) => {
                    self.text.insert(self.cursor, *character);
                    self.cursor += character.len_utf8();
                }
                Action::Open => {
                    self.text.insert_str(self.cursor, "()");
                    self.cursor += 1;
                }
                Action::Delete => {
                    if let Some(character) = self.text[..self.cursor].chars().next_back() {
                        self.cursor -= character.len_utf8();
                        self.text.remove(self.cursor);
                    }
                }
                Action::Right => {
                    let next = self.text[self.cursor..].chars().next();
                    self.cursor += next.map_or(0, char::len_utf8);
                }
                Action::Up => self.cursor = self.text[..self.cursor].rfind('\n').unwrap_or(0),
                Action::Jump(to) => self.cursor = char_boundary(&self.text, to.index(self.text.len() + 1)),
                Action::EditElsewhere(at) => {
                    let at = char_boundary(&self.text, at.index(self.text.len() + 1));
                    self.text.insert_str(at, "#\n");
                    self.cursor += if at <= self.cursor { 2 } else { 0 };
                }
            }
        }

        fn split(&self, splits: &Splits) -> Split {
            splits.split("a.py", &self.text, self.cursor, &BUDGETS, tokens())
        }
    }

    fn action() -> impl Strategy<Value = Action> {
        let typed = prop::sample::select(vec!['a', 'b', ' ', '(', '\n', '.', 'é', '漢', '\t']);
        prop_oneof![
            12 => typed.prop_map(Action::Type),
            2 => Just(Action::Open),
            4 => Just(Action::Delete),
            1 => Just(Action::Right),
            1 => Just(Action::Up),
            1 => any::<prop::sample::Index>().prop_map(Action::Jump),
            1 => any::<prop::sample::Index>().prop_map(Action::EditElsewhere),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_split_spells_the_text_and_keeps_the_budgets(
            actions in prop::collection::vec(action(), 1..60),
        ) {
            let (splits, mut editor) = (Splits::default(), Editor::new());
            for action in &actions {
                editor.act(action);
                let Split { start, frozen, cursor, resumed, end } = editor.split(&splits);
                prop_assert!(start <= frozen && frozen <= cursor && cursor <= resumed && resumed <= end);
                prop_assert_eq!(cursor, editor.cursor);
                let shown = editor.text.get(start..cursor).zip(editor.text.get(resumed..end));
                let (prefix, suffix) = shown.expect("cuts lie between characters");
                prop_assert!(editor.text.is_char_boundary(frozen));
                prop_assert!(lines::is_closed(&editor.text[cursor..resumed]));
                prop_assert!(tokens().count(prefix) <= BUDGETS.prefix, "{prefix:?}");
                prop_assert!(tokens().count(suffix) <= BUDGETS.suffix, "{suffix:?}");
                prop_assert!(start == 0 || tokens().count(prefix) >= BUDGETS.prefix / 3, "{prefix:?}");
            }
        }

        #[test]
        fn typing_moves_the_window_seldom_and_nothing_else(
            typed in prop::collection::vec(
                prop::sample::select(vec!['a', 'b', '_', ' ', '.', ',', '=', '\n']), 1..200,
            ),
        ) {
            let (splits, mut editor) = (Splits::default(), Editor::new());
            let mut before = editor.split(&splits);
            let suffix = editor.text[before.resumed..before.end].to_string();
            let mut moved = 0;
            for character in &typed {
                editor.act(&Action::Type(*character));
                let now = editor.split(&splits);
                prop_assert_eq!(&editor.text[now.resumed..now.end], &suffix);
                moved += usize::from(now.start != before.start);
                prop_assert!(now.frozen == before.frozen || now.start != before.start);
                before = now;
            }
            // A move frees a quarter of the budget, and a character is at most a token here.
            let room = BUDGETS.prefix / 4;
            prop_assert!(moved <= typed.len() / room + 1, "moved {moved} times in {} keys", typed.len());
        }

        /// What the engine's cache is good for: the prompt's beginning stays, but for the last word.
        #[test]
        fn typing_only_appends_tokens(
            typed in prop::collection::vec(
                prop::sample::select(vec!['a', 'b', '_', ' ', '.', ',', '=', '\n', '1']), 1..80,
            ),
        ) {
            let (splits, mut editor) = (Splits::default(), Editor::new());
            let mut before: Option<(Split, Vec<u32>, String)> = None;
            for character in &typed {
                editor.act(&Action::Type(*character));
                let now = editor.split(&splits);
                let ids = tokens().encode(&editor.text[now.start..now.cursor]);
                let word = last_word(&editor.text[..now.cursor]).to_string();
                if let Some((split, old, old_word)) = &before && split.start == now.start {
                    let common = old.iter().zip(&ids).take_while(|(left, right)| left == right).count();
                    let respelled = tokens().tokenizer().decode(&old[common..]);
                    prop_assert!(old_word.ends_with(&respelled), "{respelled:?} of {old_word:?}");
                }
                before = Some((now, ids, word));
            }
        }
    }

    /// The end of `text` that a tokenizer may still spell otherwise: a word or a run of anything else, with the white
    /// space before it.
    fn last_word(text: &str) -> &str {
        let is_word = |character: char| character.is_alphanumeric();
        let Some(last) = text.trim_end().chars().next_back() else { return text };
        let word = text
            .trim_end()
            .trim_end_matches(|other| is_word(other) == is_word(last) && !char::is_whitespace(other));
        let start = word.trim_end().len();
        // Punctuation and a letter may be one word.
        &text[char_boundary(text, start.saturating_sub(1))..]
    }

    #[test]
    fn what_the_editor_closed_is_no_part_of_the_suffix() {
        // marked text, the suffix that is shown
        let cases = [
            ("x = $0\ny = 1\n", "\ny = 1\n"),
            ("x = f($0)\ny = 1\n", "\ny = 1\n"),
            ("x = [f(\"$0\")]\ny = 1\n", "\ny = 1\n"),
            ("x = f($0, b)\ny = 1\n", ", b)\ny = 1\n"),
            ("x = f($0) + 1\n", ") + 1\n"),
            ("{$0}", ""),
        ];
        for (marked, suffix) in cases {
            let cursor = marked.find("$0").expect("a cursor");
            let text = marked.replace("$0", "");
            let split = fresh(&text, cursor, &BUDGETS, tokens());
            assert_eq!(&text[split.resumed..split.end], suffix, "{marked:?}");
        }
    }

    #[test]
    fn the_suffix_stays_while_the_editor_closes_brackets() {
        // Each text with its cursor, and whether the suffix shown before stays.
        let steps = [
            ("x = g($0, b)\ny\n", false),
            ("x = g(f($0), b)\ny\n", true),
            ("x = g(f(\"$0\"), b)\ny\n", true),
            ("x = g(f(\"a\"$0), b)\ny\n", true),
            ("x = g(f(\"a\")$0, b)\ny\n", true),
            ("x = g(f(\"a\"),$0, b)\ny\n", true),
            ("x = g(f(\"a\"),, b$0)\ny\n", false),
            ("x = g(f(\"a\"),, b)$0\ny\n", true),
            ("x = g(f(\"a\"),, b)\n$0y\n", false),
            ("x = g(f(\"a\"),, b)\n$0y\nz\n", false),
        ];
        let splits = Splits::default();
        let mut before = String::new();
        for (marked, stays) in steps {
            let cursor = marked.find("$0").expect("a cursor");
            let text = marked.replace("$0", "");
            let split = splits.split("a.py", &text, cursor, &BUDGETS, tokens());
            let suffix = &text[split.resumed..split.end];
            assert_eq!(suffix == before, stays, "{marked:?}: {before:?}, {suffix:?}");
            before = suffix.to_string();
        }
    }

    #[test]
    fn documents_are_kept_apart_and_their_number_is_bounded() {
        let splits = Splits::default();
        for number in 0..KEPT_DOCUMENTS + 10 {
            splits.split(&format!("{number}.py"), "x = \n", 4, &BUDGETS, tokens());
        }
        assert_eq!(splits.kept.lock().expect("not poisoned").len(), KEPT_DOCUMENTS);
    }
}
