//! The only place that makes the protocol's answers from the pipeline's.

use ropey::Rope;
use tower_lsp::ls_types::*;

use crate::{
    complete::Selected,
    position::{self, Encoding},
};

/// Longest label of a menu item, in characters.
const LABEL_CHARACTERS: usize = 60;

pub fn encoding(encoding: Encoding) -> PositionEncodingKind {
    match encoding {
        Encoding::Utf8 => PositionEncodingKind::UTF8,
        Encoding::Utf16 => PositionEncodingKind::UTF16,
        Encoding::Utf32 => PositionEncodingKind::UTF32,
    }
}

pub fn position(rope: &Rope, offset: usize, encoding: Encoding) -> Position {
    let place = position::to_place(rope, offset, encoding);
    Position::new(place.line, place.column)
}

/// Ghost text items, or `null` when there is none. Each replaces the word before the cursor by that word and the
/// completion: an editor that has moved on by then still knows which typed text the item begins with.
pub fn inline_completion(
    rope: &Rope,
    offset: usize,
    selected: Option<&Selected>,
    texts: &[String],
    encoding: Encoding,
) -> Option<InlineCompletionResponse> {
    if texts.is_empty() {
        return None;
    }
    let (start, end, begin) = match selected {
        Some(selected) => (selected.range.start, selected.range.end, selected.text.clone()),
        None => {
            let start = word_start(rope, offset);
            (start, offset, rope.byte_slice(start..offset).to_string())
        }
    };
    let range = Range::new(position(rope, start, encoding), position(rope, end, encoding));
    let items = texts
        .iter()
        .map(|text| InlineCompletionItem {
            insert_text: format!("{begin}{text}"),
            filter_text: None,
            range: Some(range),
            command: None,
            insert_text_format: Some(InsertTextFormat::PLAIN_TEXT),
        })
        .collect();
    Some(InlineCompletionResponse::List(InlineCompletionList { items }))
}

/// A menu item that the editor's own filter lets through, since it begins with the word before the cursor.
pub fn completion(
    rope: &Rope,
    offset: usize,
    texts: &[String],
    encoding: Encoding,
) -> Option<CompletionResponse> {
    let text = texts.first()?;
    let start = word_start(rope, offset);
    let word = rope.byte_slice(start..offset).to_string();
    let whole = format!("{word}{text}");
    let first_line = whole.trim().lines().next().unwrap_or_default();
    let label = if first_line.chars().count() > LABEL_CHARACTERS || whole.trim().lines().count() > 1 {
        let cut: String = first_line.chars().take(LABEL_CHARACTERS).collect();
        format!("{cut} …")
    } else {
        first_line.to_string()
    };
    let range = Range::new(position(rope, start, encoding), position(rope, offset, encoding));
    let item = CompletionItem {
        label,
        kind: Some(CompletionItemKind::TEXT),
        detail: Some("Lacuna".into()),
        documentation: Some(Documentation::String(whole.clone())),
        filter_text: Some(whole.clone()),
        sort_text: Some("\u{1}".into()),
        insert_text_format: Some(InsertTextFormat::PLAIN_TEXT),
        insert_text_mode: Some(InsertTextMode::AS_IS),
        text_edit: Some(CompletionTextEdit::Edit(TextEdit { range, new_text: whole })),
        ..CompletionItem::default()
    };
    Some(CompletionResponse::List(CompletionList { is_incomplete: true, items: vec![item] }))
}

/// Where the word that ends at the cursor begins.
fn word_start(rope: &Rope, offset: usize) -> usize {
    let mut start = rope.byte_to_char(offset.min(rope.len_bytes()));
    while start > 0 {
        let before = rope.char(start - 1);
        if !before.is_alphanumeric() && before != '_' {
            break;
        }
        start -= 1;
    }
    rope.char_to_byte(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_begin_with_the_word_before_the_cursor() {
        // text before the cursor, completion, encoding, start column, inserted
        let cases = [
            ("x = va", "lue", Encoding::Utf16, 4, "value"),
            ("x = ", "value", Encoding::Utf16, 4, "value"),
            ("😀 = va", "lue", Encoding::Utf16, 5, "value"),
            ("😀 = va", "lue", Encoding::Utf8, 7, "value"),
            ("😀 = va", "lue", Encoding::Utf32, 4, "value"),
            ("値", "段()", Encoding::Utf16, 0, "値段()"),
        ];
        for (before, text, encoding, column, inserted) in cases {
            let rope = Rope::from_str(before);
            let texts = vec![text.to_string()];
            let Some(InlineCompletionResponse::List(list)) =
                inline_completion(&rope, rope.len_bytes(), None, &texts, encoding)
            else {
                panic!("a list")
            };
            let range = list.items[0].range.expect("a range");
            assert_eq!((range.start.character, list.items[0].insert_text.as_str()), (column, inserted));
            assert_eq!(range.end, position(&rope, rope.len_bytes(), encoding));

            let Some(CompletionResponse::List(menu)) = completion(&rope, rope.len_bytes(), &texts, encoding)
            else {
                panic!("a list")
            };
            assert!(menu.is_incomplete);
            assert_eq!(menu.items[0].filter_text.as_deref(), Some(inserted));
        }
    }

    #[test]
    fn a_selected_menu_item_is_extended() {
        let rope = Rope::from_str("console.");
        let selected = Selected { range: 7..8, text: ".log".into() };
        let Some(InlineCompletionResponse::List(list)) =
            inline_completion(&rope, 8, Some(&selected), &["()".to_string()], Encoding::Utf16)
        else {
            panic!("a list")
        };
        assert_eq!(list.items[0].insert_text, ".log()");
        assert_eq!(list.items[0].range, Some(Range::new(Position::new(0, 7), Position::new(0, 8))));
    }

    #[test]
    fn nothing_is_null() {
        let rope = Rope::from_str("x");
        assert!(inline_completion(&rope, 1, None, &[], Encoding::Utf16).is_none());
        assert!(completion(&rope, 1, &[], Encoding::Utf16).is_none());
    }
}
