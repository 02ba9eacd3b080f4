//! Messages out of a stream of bytes: the `Content-Length` framing of the protocol's base part (LSP 3.18, "Base
//! Protocol"), read so that nothing a client sends can end the server. What is no message is told as such, and reading
//! goes on at the next header that can be found.

/// The longest message that is read; longer ones are passed over.
pub const MAX_MESSAGE_BYTES: usize = 128 << 20;
/// Header lines longer than this hold no header; what is looked for in them is a header at their end.
const MAX_LINE_BYTES: usize = 4096;
const LENGTH_FIELD: &[u8] = b"content-length:";

/// One unit of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// The bytes of a message, as long as its header says.
    Body(Vec<u8>),
    /// Bytes that belong to no message, and why.
    Unreadable(String),
}

/// Takes bytes in pieces of any size and gives frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// How much of `buffer` has been used up.
    start: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Within a header. `reported`: since the last message it was told that bytes make no sense.
    Header {
        length: Option<usize>,
        reported: bool,
    },
    Body {
        length: usize,
    },
    /// Within a message that is too long; so many bytes of it are still to come.
    Skip {
        left: usize,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Header { length: None, reported: false }
    }
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, or `None` until more bytes come.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            let rest = &self.buffer[self.start..];
            match self.state {
                State::Header { length, reported } => {
                    let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                        self.forget_long_line();
                        return None;
                    };
                    let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
                    let header = read_header(line);
                    self.start += end + 1;
                    if let Some(frame) = self.after_line(header, length, reported) {
                        return Some(frame);
                    }
                }
                State::Body { length } => {
                    let body = rest.get(..length)?.to_vec();
                    self.start += length;
                    self.state = State::default();
                    return Some(Frame::Body(body));
                }
                State::Skip { left } => {
                    let skipped = left.min(rest.len());
                    self.start += skipped;
                    if skipped < left {
                        self.state = State::Skip { left: left - skipped };
                        return None;
                    }
                    self.state = State::default();
                }
            }
        }
    }

    fn after_line(&mut self, header: Header, length: Option<usize>, reported: bool) -> Option<Frame> {
        let problem = match (header, length) {
            (Header::Length(length), _) => {
                self.state = State::Header { length: Some(length), reported };
                return None;
            }
            (Header::Other, _) => return None,
            (Header::End, Some(length)) if length > MAX_MESSAGE_BYTES => {
                self.state = State::Skip { left: length };
                return Some(Frame::Unreadable(format!(
                    "a message of {length} bytes is passed over; the longest that is read has {MAX_MESSAGE_BYTES}"
                )));
            }
            (Header::End, Some(length)) => {
                self.state = State::Body { length };
                return None;
            }
            (Header::End, None) => "a header without Content-Length",
            (Header::BadLength, _) => "a Content-Length that is no number of bytes",
            (Header::Garbage, _) => "bytes where a header was expected",
        };
        self.state = State::Header { length: None, reported: true };
        // A blank line after bytes that made no sense ends them; it is not told twice.
        (!reported).then(|| Frame::Unreadable(problem.into()))
    }

    /// Bounds what is kept of a line that does not end: enough for a header at its end.
    fn forget_long_line(&mut self) {
        let length = self.buffer.len() - self.start;
        if length > MAX_LINE_BYTES {
            self.start = self.buffer.len() - MAX_LINE_BYTES / 2;
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Header {
    Length(usize),
    BadLength,
    Other,
    Garbage,
    End,
}

/// A header may follow the end of a message that was longer than its own header said, so it is looked for within the
/// line.
fn read_header(line: &[u8]) -> Header {
    if line.is_empty() {
        return Header::End;
    }
    let found =
        line.windows(LENGTH_FIELD.len()).rposition(|window| window.eq_ignore_ascii_case(LENGTH_FIELD));
    if let Some(at) = found {
        let value = line[at + LENGTH_FIELD.len()..].trim_ascii();
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
        return match (is_number, number) {
            (true, Some(number)) => Header::Length(number),
            (true, None) => Header::Length(usize::MAX),
            (false, _) => Header::BadLength,
        };
    }
    let is_field = line.iter().position(|&byte| byte == b':').is_some_and(|colon| {
        colon > 0 && line[..colon].iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    });
    if is_field { Header::Other } else { Header::Garbage }
}

/// A message with its header, ready to be written.
pub fn encode(body: &[u8]) -> Vec<u8> {
    let mut frame = format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    frame.extend_from_slice(body);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<String> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame() {
                frames.push(match frame {
                    Frame::Body(body) => String::from_utf8_lossy(&body).into_owned(),
                    Frame::Unreadable(problem) => format!("! {problem}"),
                });
            }
        }
        frames
    }

    #[test]
    fn frames() {
        let check = |input: &str, expected: &[&str]| {
            let whole = decode(&[input.as_bytes()]);
            assert_eq!(whole, expected, "{input:?}");
            let bytes: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
            assert_eq!(decode(&bytes), expected, "byte by byte: {input:?}");
        };
        check("Content-Length: 2\r\n\r\n{}", &["{}"]);
        check("Content-Length: 0\r\n\r\nContent-Length: 2\r\n\r\n[]", &["", "[]"]);
        check("content-length:2\nContent-Type: application/json\n\n{}", &["{}"]);
        check("Content-Type: x; charset=utf-8\r\nContent-Length: 3\r\n\r\n\"é\"", &["\"é"]);
        check("garbage\r\nContent-Length: 2\r\n\r\n{}", &["! bytes where a header was expected", "{}"]);
        check("\r\nContent-Length: 2\r\n\r\n{}", &["! a header without Content-Length", "{}"]);
        check(
            "Content-Length: two\r\n\r\nContent-Length: 2\r\n\r\n{}",
            &["! a Content-Length that is no number of bytes", "{}"],
        );
        // The message was two bytes longer than its header said: only the rest of it is lost.
        check("Content-Length: 2\r\n\r\n{} }Content-Length: 2\r\n\r\n[]", &["{}", "[]"]);
        check(
            "one\ntwo\n\nthree\nContent-Length: 2\r\n\r\n{}",
            &["! bytes where a header was expected", "{}"],
        );
        check(
            "Content-Length: 99999999999999999999999\r\n\r\nabc",
            &[
                "! a message of 18446744073709551615 bytes is passed over; the longest that is read has 134217728",
            ],
        );
    }

    #[test]
    fn a_message_that_is_too_long_is_passed_over() {
        let mut decoder = Decoder::default();
        let length = MAX_MESSAGE_BYTES + 1;
        decoder.push(format!("Content-Length: {length}\r\n\r\n").as_bytes());
        assert!(matches!(decoder.next_frame(), Some(Frame::Unreadable(_))));
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..length / piece.len() {
            decoder.push(&piece);
            assert_eq!(decoder.next_frame(), None);
            assert!(decoder.buffer.len() <= piece.len(), "what is passed over is not kept");
        }
        decoder.push(b"xContent-Length: 2\r\n\r\n{}");
        assert_eq!(decoder.next_frame(), Some(Frame::Body(b"{}".to_vec())));
    }

    proptest! {
        /// Whatever comes between: each message after a line end is found, and memory stays bounded.
        #[test]
        fn messages_survive_garbage(
            parts in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..40), "[a-zé]{0,20}"), 1..8),
            size in 1usize..50,
        ) {
            let mut input = Vec::new();
            let mut bodies = Vec::new();
            for (garbage, body) in &parts {
                // A length in the garbage would rightly be believed.
                input.extend(garbage.iter().filter(|byte| **byte != b':'));
                input.push(b'\n');
                input.extend(encode(body.as_bytes()));
                bodies.push(body.as_bytes().to_vec());
            }
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for piece in input.chunks(size) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame() {
                    if let Frame::Body(body) = frame {
                        found.push(body);
                    }
                }
            }
            prop_assert_eq!(found, bodies);
        }

        #[test]
        fn no_bytes_panic(input in proptest::collection::vec(any::<u8>(), 0..300), size in 1usize..50) {
            let mut decoder = Decoder::default();
            for piece in input.chunks(size) {
                decoder.push(piece);
                while decoder.next_frame().is_some() {}
            }
        }
    }
}
