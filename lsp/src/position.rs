//! The only place that converts between an editor's positions (UTF-8, UTF-16 or UTF-32 columns) and byte offsets.
//!
//! Conversions never fail: a position outside the text is moved to the nearest place inside it, and one inside a
//! character (half of a surrogate pair, a byte in the middle of a sequence) to that character's start.

use std::ops::Range;

use ropey::{Rope, RopeSlice};

/// The unit in which an editor counts columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub enum Encoding {
    #[serde(rename = "utf-8")]
    Utf8,
    /// The protocol's default.
    #[default]
    #[serde(rename = "utf-16")]
    Utf16,
    #[serde(rename = "utf-32")]
    Utf32,
}

/// A line and a column, both from 0; the column is in the unit of some [`Encoding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

impl Place {
    pub fn new(line: u32, column: u32) -> Self {
        Self { line, column }
    }
}

/// The byte offset of `place`, moved into the text if it lies outside. A column past the end of its line means
/// the end of the line, before its line break.
pub fn to_offset(rope: &Rope, place: Place, encoding: Encoding) -> usize {
    let line = place.line as usize;
    if line >= rope.len_lines() {
        return rope.len_bytes();
    }
    let start = rope.line_to_byte(line);
    let text = without_line_break(rope.line(line));
    let column = place.column as usize;
    let within = match encoding {
        Encoding::Utf8 => text.char_to_byte(text.byte_to_char(column.min(text.len_bytes()))),
        Encoding::Utf16 => text.char_to_byte(text.utf16_cu_to_char(column.min(text.len_utf16_cu()))),
        Encoding::Utf32 => text.char_to_byte(column.min(text.len_chars())),
    };
    start + within
}

/// The place of byte `offset`, moved into the text if it lies outside and to its character's start if inside one.
pub fn to_place(rope: &Rope, offset: usize, encoding: Encoding) -> Place {
    let offset = offset.min(rope.len_bytes());
    let character = rope.byte_to_char(offset);
    let line = rope.char_to_line(character);
    let line_start = rope.line_to_char(line);
    let column = match encoding {
        Encoding::Utf8 => rope.char_to_byte(character) - rope.line_to_byte(line),
        Encoding::Utf16 => rope.char_to_utf16_cu(character) - rope.char_to_utf16_cu(line_start),
        Encoding::Utf32 => character - line_start,
    };
    Place { line: saturate(line), column: saturate(column) }
}

/// The byte range between two places, in order even if they come reversed.
pub fn to_range(rope: &Rope, range: Range<Place>, encoding: Encoding) -> Range<usize> {
    let (start, end) = (to_offset(rope, range.start, encoding), to_offset(rope, range.end, encoding));
    start.min(end)..start.max(end)
}

/// The byte offset of a place counted as people count: line and column from 1, the column in characters.
/// Errors say what exists.
pub fn from_human(rope: &Rope, line: usize, column: usize) -> Result<usize, String> {
    if line == 0 || column == 0 {
        return Err("lines and columns count from 1".into());
    }
    if line > rope.len_lines() {
        return Err(format!("there is no line {line}; the last one is {}", rope.len_lines()));
    }
    let length = without_line_break(rope.line(line - 1)).len_chars();
    if column > length + 1 {
        return Err(format!("line {line} has no column {column}; its last one is {}", length + 1));
    }
    Ok(rope.char_to_byte(rope.line_to_char(line - 1) + column - 1))
}

/// Line and column of `offset` as people count them: from 1, the column in characters.
pub fn to_human(rope: &Rope, offset: usize) -> (usize, usize) {
    let place = to_place(rope, offset, Encoding::Utf32);
    (place.line as usize + 1, place.column as usize + 1)
}

fn without_line_break(line: RopeSlice<'_>) -> RopeSlice<'_> {
    let mut end = line.len_chars();
    while end > 0 && matches!(line.char(end - 1), '\n' | '\r') {
        end -= 1;
    }
    line.slice(..end)
}

fn saturate(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENCODINGS: [Encoding; 3] = [Encoding::Utf8, Encoding::Utf16, Encoding::Utf32];

    #[test]
    fn places_become_offsets() {
        use Encoding::*;
        // text, line, column, encoding, offset
        let cases: &[(&str, u32, u32, Encoding, usize)] = &[
            ("", 0, 0, Utf16, 0),
            ("", 3, 9, Utf16, 0),
            ("abc", 0, 2, Utf16, 2),
            ("abc", 0, 9, Utf8, 3),
            ("abc\ndef", 1, 1, Utf16, 5),
            ("abc\n", 1, 0, Utf16, 4),
            ("abc\n", 1, 5, Utf16, 4),
            ("abc\ndef", 0, 99, Utf16, 3),
            ("abc\r\ndef", 0, 99, Utf16, 3),
            ("abc\r\ndef", 1, 3, Utf16, 8),
            ("abc\rdef", 1, 1, Utf16, 5),
            ("é=1", 0, 1, Utf8, 0),
            ("é=1", 0, 2, Utf8, 2),
            ("é=1", 0, 1, Utf16, 2),
            ("漢字x", 0, 2, Utf16, 6),
            ("漢字x", 0, 2, Utf32, 6),
            ("😀x", 0, 1, Utf16, 0),
            ("😀x", 0, 2, Utf16, 4),
            ("😀x", 0, 1, Utf32, 4),
            ("😀x", 0, 4, Utf8, 4),
            ("😀x", 0, 3, Utf8, 0),
            ("a\u{2028}b\nc", 1, 1, Utf16, 7),
            ("a\u{b}b\nc", 1, 0, Utf16, 4),
            ("x", u32::MAX, u32::MAX, Utf16, 1),
        ];
        for &(text, line, column, encoding, expected) in cases {
            let rope = Rope::from_str(text);
            assert_eq!(
                to_offset(&rope, Place::new(line, column), encoding),
                expected,
                "{text:?} {line}:{column} {encoding:?}"
            );
        }
    }

    #[test]
    fn people_count_from_one() {
        let rope = Rope::from_str("ab\n漢d\r\n");
        assert_eq!(from_human(&rope, 1, 1), Ok(0));
        assert_eq!(from_human(&rope, 2, 2), Ok(6));
        assert_eq!(from_human(&rope, 2, 3), Ok(7));
        assert_eq!(from_human(&rope, 3, 1), Ok(9));
        assert_eq!(from_human(&rope, 0, 1), Err("lines and columns count from 1".into()));
        assert_eq!(from_human(&rope, 4, 1), Err("there is no line 4; the last one is 3".into()));
        assert_eq!(from_human(&rope, 2, 4), Err("line 2 has no column 4; its last one is 3".into()));
        assert_eq!(to_human(&rope, 6), (2, 2));
    }

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![
                Just("a"),
                Just("é"),
                Just("漢"),
                Just("😀"),
                Just("\n"),
                Just("\r\n"),
                Just("\r"),
                Just("\u{85}")
            ],
            0..40,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn offset_to_place_and_back(text in text(), pick in 0usize..200) {
            let rope = Rope::from_str(&text);
            let boundaries: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
            let offset = boundaries[pick % boundaries.len()];
            // Between \r and \n there is no place of its own: it reads as the end of the line.
            prop_assume!(!(text[..offset].ends_with('\r') && text[offset..].starts_with('\n')));
            for encoding in ENCODINGS {
                prop_assert_eq!(to_offset(&rope, to_place(&rope, offset, encoding), encoding), offset);
            }
        }

        #[test]
        fn any_place_is_inside_and_on_a_character(text in text(), line in 0u32..60, column in 0u32..60) {
            let rope = Rope::from_str(&text);
            for encoding in ENCODINGS {
                let offset = to_offset(&rope, Place::new(line, column), encoding);
                prop_assert!(offset <= text.len() && text.is_char_boundary(offset));
            }
        }
    }
}
