//! Strings, comments and brackets of the languages with braces, without a parser.

use crate::{Language, words::is_word};

/// Templates within templates that are followed.
const MAX_DEPTH: usize = 16;

pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    language: Language,
}

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8], language: Language) -> Self {
        Self { bytes, language }
    }

    fn is_c(&self) -> bool {
        matches!(self.language, Language::C | Language::Cpp)
    }

    fn is_rust(&self) -> bool {
        self.language == Language::Rust
    }

    fn at(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// Where the comment that begins here ends: `None` if none does, `Some(None)` if it does not end.
    pub fn comment_end(&self, at: usize) -> Option<Option<usize>> {
        if self.at(at) != b'/' {
            return None;
        }
        match self.at(at + 1) {
            b'/' => Some(Some(self.line_end(at))),
            b'*' => Some(self.block_comment_end(at)),
            _ => None,
        }
    }

    fn line_end(&self, at: usize) -> usize {
        let length = self.bytes[at..].iter().position(|byte| *byte == b'\n');
        let end = length.map_or(self.bytes.len(), |length| at + length);
        if self.at(end.wrapping_sub(1)) == b'\r' && end > at { end - 1 } else { end }
    }

    fn block_comment_end(&self, start: usize) -> Option<usize> {
        let (mut at, mut depth) = (start + 2, 1);
        while at + 1 < self.bytes.len() {
            match &self.bytes[at..at + 2] {
                b"*/" => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return Some(at);
                    }
                }
                b"/*" if self.is_rust() => {
                    depth += 1;
                    at += 2;
                }
                _ => at += 1,
            }
        }
        None
    }

    /// Behind the last of the comments that follow on lines of their own.
    pub fn comments_end(&self, mut end: usize) -> usize {
        loop {
            let mut next = end;
            while matches!(self.at(next), b' ' | b'\t' | b'\n' | b'\r') {
                next += 1;
            }
            match self.comment_end(next) {
                Some(Some(further)) => end = further,
                _ => return end,
            }
        }
    }

    /// Where the string, character, regular expression or preprocessor line that begins here ends: `None` if none
    /// does, `Some(None)` if it does not end.
    pub fn literal_end(&self, at: usize) -> Option<Option<usize>> {
        match self.at(at) {
            b'"' => Some(self.string_end(at)),
            b'\'' if self.is_rust() => Some(Some(self.character_or_lifetime_end(at))),
            b'\'' if self.is_c() && self.is_digit_separator(at) => Some(Some(at + 1)),
            b'\'' => Some(self.quoted_end(at)),
            b'`' if !self.is_rust() && !self.is_c() => Some(self.template_end(at, 0)),
            b'/' if !self.is_rust() && !self.is_c() && self.begins_regex(at) => self.regex_end(at).map(Some),
            b'#' if self.is_c() && self.begins_line(at) => Some(self.directive_end(at)),
            _ => None,
        }
    }

    fn begins_line(&self, at: usize) -> bool {
        let before = self.bytes[..at].iter().rev().find(|byte| !matches!(byte, b' ' | b'\t'));
        matches!(before, None | Some(b'\n'))
    }

    fn is_digit_separator(&self, at: usize) -> bool {
        at > 0 && self.at(at - 1).is_ascii_hexdigit() && self.at(at + 1).is_ascii_hexdigit() && {
            let word = self.bytes[..at].iter().rposition(|byte| !is_word(*byte) && *byte != b'\'');
            self.at(word.map_or(0, |before| before + 1)).is_ascii_digit()
        }
    }

    fn directive_end(&self, mut at: usize) -> Option<usize> {
        loop {
            match self.at(at) {
                b'\\' => at += 2 + usize::from(self.at(at + 1) == b'\r'),
                b'\n' => return Some(at),
                b'/' if self.at(at + 1) == b'*' => at = self.block_comment_end(at)?,
                _ if at >= self.bytes.len() => return Some(self.bytes.len()),
                _ => at += 1,
            }
        }
    }

    fn quoted_end(&self, start: usize) -> Option<usize> {
        let quote = self.bytes[start];
        let mut at = start + 1;
        loop {
            match *self.bytes.get(at)? {
                b'\\' => at += 2 + usize::from(self.at(at + 1) == b'\r' && self.at(at + 2) == b'\n'),
                b'\n' if !self.is_rust() => return None,
                byte if byte == quote => return Some(at + 1),
                _ => at += 1,
            }
        }
    }

    fn string_end(&self, at: usize) -> Option<usize> {
        let hashes = self.bytes[..at].iter().rev().take_while(|byte| **byte == b'#').count();
        let prefix = &self.bytes[..at - hashes];
        let word = prefix.iter().rev().take_while(|byte| is_word(**byte)).count();
        let prefix = &prefix[prefix.len() - word..];
        let find = |end: &[u8]| {
            let from = at + 1;
            self.bytes[from..]
                .windows(end.len())
                .position(|part| part == end)
                .map(|length| from + length + end.len())
        };
        if self.is_rust() && matches!(prefix, b"r" | b"br" | b"cr") {
            let end: Vec<u8> = [b'"'].into_iter().chain(std::iter::repeat_n(b'#', hashes.min(255))).collect();
            return find(&end);
        }
        if self.is_c() && hashes == 0 && matches!(prefix, b"R" | b"LR" | b"uR" | b"UR" | b"u8R") {
            let open = self.bytes[at..].iter().take(18).position(|byte| *byte == b'(')?;
            let end = [b")", &self.bytes[at + 1..at + open], b"\""].concat();
            return find(&end);
        }
        self.quoted_end(at)
    }

    fn character_or_lifetime_end(&self, at: usize) -> usize {
        if self.at(at + 1) == b'\\' {
            let rest = self.bytes.get(at + 3..).unwrap_or(&[]);
            let length = rest.iter().take(12).position(|byte| *byte == b'\'');
            return length.map_or(at + 1, |length| at + 3 + length + 1);
        }
        let length = match self.at(at + 1) {
            0xf0.. => 4,
            0xe0.. => 3,
            0xc0.. => 2,
            _ => 1,
        };
        if self.at(at + 1 + length) == b'\'' { at + length + 2 } else { at + 1 }
    }

    fn template_end(&self, start: usize, depth: usize) -> Option<usize> {
        let mut at = start + 1;
        loop {
            match *self.bytes.get(at)? {
                b'\\' => at += 2,
                b'`' => return Some(at + 1),
                b'$' if self.at(at + 1) == b'{' => at = self.close_within(at + 1, depth + 1)? + 1,
                _ => at += 1,
            }
        }
    }

    /// A `/` that stands where no operator can.
    fn begins_regex(&self, at: usize) -> bool {
        let before = self.bytes[..at].iter().rposition(|byte| !byte.is_ascii_whitespace());
        let Some(before) = before else { return true };
        match self.bytes[before] {
            b')' | b']' | b'}' | b'"' | b'\'' | b'`' => false,
            byte if is_word(byte) || byte == b'$' => {
                let word = self.bytes[..=before].iter().rposition(|byte| !is_word(*byte));
                let word = &self.bytes[word.map_or(0, |at| at + 1)..=before];
                matches!(
                    word,
                    b"return"
                        | b"typeof"
                        | b"case"
                        | b"in"
                        | b"of"
                        | b"delete"
                        | b"void"
                        | b"throw"
                        | b"new"
                        | b"else"
                        | b"do"
                        | b"instanceof"
                        | b"await"
                        | b"yield"
                )
            }
            _ => true,
        }
    }

    fn regex_end(&self, start: usize) -> Option<usize> {
        let (mut at, mut in_class) = (start + 1, false);
        loop {
            match *self.bytes.get(at)? {
                b'\\' => at += 2,
                b'\n' => return None,
                b'/' if !in_class => return Some(at + 1),
                byte => {
                    in_class = byte == b'[' || (in_class && byte != b']');
                    at += 1;
                }
            }
        }
    }

    /// The bracket that closes the one at `open`; brackets of other kinds are not looked at.
    pub fn close(&self, open: usize) -> Option<usize> {
        self.close_within(open, 0)
    }

    fn close_within(&self, open: usize, templates: usize) -> Option<usize> {
        if templates > MAX_DEPTH {
            return None;
        }
        let opening = self.bytes[open];
        let closing = if opening == b'(' { b')' } else { opening + 2 };
        let (mut at, mut depth) = (open, 0usize);
        loop {
            let byte = *self.bytes.get(at)?;
            if byte == opening {
                depth += 1;
            } else if byte == closing {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            } else if matches!(byte, b'"' | b'\'' | b'/' | b'`' | b'#') {
                let end = if byte == b'`' && !self.is_rust() && !self.is_c() {
                    Some(self.template_end(at, templates))
                } else {
                    self.comment_end(at).or_else(|| self.literal_end(at))
                };
                if let Some(end) = end {
                    at = end?;
                    continue;
                }
            }
            at += 1;
        }
    }
}
