//! Ends an answer at a given text, which may arrive in pieces.

/// Watches a stream of text for any of some stop texts.
#[derive(Debug, Clone)]
pub(crate) struct StopText {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop text.
    held: String,
}

impl StopText {
    pub(crate) fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        Self { stops, held: String::new() }
    }

    /// Adds text. Returns what can be shown, and whether a stop text was reached (and cut off).
    pub(crate) fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let begins_stop = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let keep_from =
            self.held.char_indices().map(|(at, _)| at).find(begins_stop).unwrap_or(self.held.len());
        let held = self.held.split_off(keep_from);
        (std::mem::replace(&mut self.held, held), false)
    }

    /// The text still held back, when the answer ends without a stop text.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up() {
        let cases: &[(&[&str], &[&str], &str, bool)] = &[
            (&["```"], &["a", "`", "b"], "a`b", false),
            (&["```"], &["a\n`", "``", "rest"], "a\n", true),
            (&["```"], &["a``"], "a``", false),
            (&["\n\n", "end"], &["x\n", "y\n", "\nz"], "x\ny", true),
            (&["end"], &["e", "n", "e", "n", "d"], "en", true),
            (&["é!"], &["caf", "é", "?"], "café?", false),
            (&[""], &["abc"], "abc", false),
            (&[], &["abc"], "abc", false),
        ];
        for (stops, pieces, expected, stopped) in cases {
            let mut watch = StopText::new(stops.iter().map(|s| (*s).to_string()).collect());
            let mut text = String::new();
            let mut ended = false;
            for piece in *pieces {
                let (shown, end) = watch.push(piece);
                text.push_str(&shown);
                if end {
                    ended = true;
                    break;
                }
            }
            if !ended {
                text.push_str(&watch.finish());
            }
            assert_eq!((text.as_str(), ended), (*expected, *stopped), "{stops:?} {pieces:?}");
        }
    }
}
