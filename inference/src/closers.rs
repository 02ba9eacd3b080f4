//! Brackets and quotes that an answer must not close, because neither it nor what stands before it opened them.
//!
//! A closer that stands after the answer ends it: the rest would only be cut away. Any other that nothing wants is not
//! chosen, and the answer goes on with the likeliest token that may come. A machine walks over the answer's bytes and
//! knows what hides brackets: strings and comments, as a [`Lexicon`] says. Where it does not know what comes, it
//! allows everything from there on.

use crate::token_bytes::TokenBytes;

/// How a family of languages writes what hides brackets.
#[derive(Debug, PartialEq, Eq)]
pub struct Lexicon {
    /// What a comment to the end of its line begins with; empty where there are none.
    pub line_comment: &'static str,
    /// What other comments begin and end with, two bytes each.
    pub block_comment: Option<[[u8; 2]; 2]>,
    /// Quotes of strings that end in their line, with `\` before what is not their end.
    pub quotes: &'static [u8],
    /// Bytes outside strings that may begin what this machine does not know: other strings, patterns, markup.
    pub doubtful: &'static [u8],
    /// The same inside strings.
    pub doubtful_in_strings: &'static [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Code,
    /// In a string that the answer opened; `true` after a backslash.
    String(u8, Escaped),
    /// In the string around the answer, whose end stands after it.
    Within(u8, Escaped),
    LineComment,
    BlockComment,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escaped {
    Yes,
    No,
}

/// What an answer may close; while an engine works on a request, with what it has opened itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closers {
    lexicon: &'static Lexicon,
    /// The closing brackets that are wanted, the next one last.
    open: Vec<u8>,
    /// The closing bracket that stands after the answer.
    after: Option<u8>,
    mode: Mode,
    /// The last byte of code, for what two bytes say together.
    previous: u8,
}

/// What a token's bytes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fits,
    /// The answer ends before this byte.
    Ends(usize),
    Forbidden,
}

impl Closers {
    /// An answer in code. `open` are the brackets open before it that nothing after it closes, by their closing ones, the
    /// innermost last; `after` is the first bracket after it that closes one from before it. `before` is the text
    /// before it, of which the last byte counts.
    pub fn in_code(lexicon: &'static Lexicon, before: &str, open: Vec<u8>, after: Option<u8>) -> Self {
        let previous = before.bytes().next_back().unwrap_or_default();
        Self { lexicon, open, after, mode: Mode::Code, previous }
    }

    /// An answer in a string of one line, whose closing quote stands after it.
    pub fn in_string(lexicon: &'static Lexicon, before: &str, quote: u8) -> Self {
        let slashes = before.bytes().rev().take_while(|byte| *byte == b'\\').count();
        let escaped = if slashes % 2 == 1 { Escaped::Yes } else { Escaped::No };
        Self { lexicon, open: Vec::new(), after: None, mode: Mode::Within(quote, escaped), previous: 0 }
    }

    /// What `bytes` would do next.
    pub(crate) fn verdict(&self, bytes: &[u8]) -> Verdict {
        if self.mode == Mode::Unknown || !bytes.iter().any(is_closer) {
            return Verdict::Fits;
        }
        self.clone().advance(bytes)
    }

    /// Records the bytes of a chosen token. Nothing follows a verdict but [`Verdict::Fits`].
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Verdict {
        for (at, byte) in bytes.iter().enumerate() {
            match self.next(*byte) {
                Verdict::Fits => {}
                Verdict::Ends(_) => return Verdict::Ends(at),
                Verdict::Forbidden => return Verdict::Forbidden,
            }
        }
        Verdict::Fits
    }

    fn next(&mut self, byte: u8) -> Verdict {
        self.mode = match (self.mode, byte) {
            (Mode::Code, _) => return self.code(byte),
            (Mode::Unknown, _) => return Verdict::Fits,
            (Mode::LineComment, b'\n') => {
                self.previous = byte;
                Mode::Code
            }
            (Mode::BlockComment, _) => match self.lexicon.block_comment {
                Some([_, end]) if [self.previous, byte] == end => {
                    self.previous = 0;
                    return self.switch(Mode::Code);
                }
                _ => {
                    self.previous = byte;
                    Mode::BlockComment
                }
            },
            (Mode::String(quote, Escaped::Yes), _) => Mode::String(quote, Escaped::No),
            (Mode::Within(quote, Escaped::Yes), _) => Mode::Within(quote, Escaped::No),
            (Mode::String(..) | Mode::Within(..), _)
                if byte == b'\n' || self.lexicon.doubtful_in_strings.contains(&byte) =>
            {
                Mode::Unknown
            }
            (Mode::String(quote, _), b'\\') => Mode::String(quote, Escaped::Yes),
            (Mode::Within(quote, _), b'\\') => Mode::Within(quote, Escaped::Yes),
            (Mode::String(quote, _), _) if byte == quote => {
                self.previous = quote;
                Mode::Code
            }
            (Mode::Within(quote, _), _) if byte == quote => return Verdict::Ends(0),
            (mode, _) => mode,
        };
        Verdict::Fits
    }

    fn switch(&mut self, mode: Mode) -> Verdict {
        self.mode = mode;
        Verdict::Fits
    }

    fn code(&mut self, byte: u8) -> Verdict {
        let previous = std::mem::replace(&mut self.previous, byte);
        let two = [previous, byte];
        let lexicon = self.lexicon;
        if lexicon.block_comment.is_some_and(|[start, _]| start == two) {
            self.previous = 0;
            return self.switch(Mode::BlockComment);
        }
        let comment = lexicon.line_comment.as_bytes();
        // A byte later, as comments of two bytes may begin with such a byte.
        if lexicon.doubtful.contains(&previous) && comment != two {
            return self.switch(Mode::Unknown);
        }
        if !comment.is_empty() && two.ends_with(comment) {
            return self.switch(Mode::LineComment);
        }
        if lexicon.quotes.contains(&byte) {
            // Of another kind by the letter before it, or the third quote in a row.
            let is_plain = !previous.is_ascii_alphanumeric()
                && previous.is_ascii()
                && !matches!(previous, b'_' | b'#' | b'@' | b'$')
                && previous != byte;
            return self.switch(if is_plain { Mode::String(byte, Escaped::No) } else { Mode::Unknown });
        }
        match byte {
            b'(' => self.open.push(b')'),
            b'[' => self.open.push(b']'),
            b'{' => self.open.push(b'}'),
            b')' | b']' | b'}' => {
                if self.open.last() == Some(&byte) {
                    self.open.pop();
                } else if self.open.is_empty() && self.after == Some(byte) {
                    return Verdict::Ends(0);
                } else {
                    return Verdict::Forbidden;
                }
            }
            _ => {}
        }
        Verdict::Fits
    }

    /// Takes out of `logits` the tokens that must not come, of which the first `hidden` bytes are no part of the answer.
    /// `false` when no token is left.
    pub(crate) fn mask(&self, vocabulary: &TokenBytes, hidden: usize, logits: &mut [f32]) -> bool {
        for &id in vocabulary.closing() {
            let bytes = vocabulary.get(id);
            let verdict = self.verdict(&bytes[hidden.min(bytes.len())..]);
            if let (Some(logit), Verdict::Forbidden) = (logits.get_mut(id as usize), verdict) {
                *logit = f32::NEG_INFINITY;
            }
        }
        logits.iter().any(|logit| *logit > f32::NEG_INFINITY)
    }
}

/// Bytes that may close something: the only ones that are ever forbidden or end an answer.
pub(crate) fn is_closer(byte: &u8) -> bool {
    matches!(byte, b')' | b']' | b'}' | b'"' | b'\'' | b'`')
}

#[cfg(test)]
mod tests;
