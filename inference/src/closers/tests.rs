//! What an answer may close: cases, and properties over random text.

use proptest::prelude::*;

use super::*;
use crate::token_bytes::TokenKind;

static PLAIN: Lexicon = Lexicon {
    line_comment: "//",
    block_comment: Some([*b"/*", *b"*/"]),
    quotes: b"\"'",
    doubtful: b"`",
    doubtful_in_strings: b"$",
};
static HASH: Lexicon = Lexicon {
    line_comment: "#",
    block_comment: None,
    quotes: b"\"",
    doubtful: b"'",
    doubtful_in_strings: b"",
};

/// The answer's text, and where it ends (`Ok`) or first closes what is not open (`Err`).
fn judge(mut closers: Closers, tokens: &[&[u8]]) -> Option<Result<usize, usize>> {
    let mut before = 0;
    for token in tokens {
        let verdict = closers.verdict(token);
        let advanced = closers.advance(token);
        assert_eq!(verdict, advanced);
        match verdict {
            Verdict::Fits => before += token.len(),
            Verdict::Ends(at) => return Some(Ok(before + at)),
            Verdict::Forbidden => return Some(Err(before)),
        }
    }
    None
}

#[test]
fn what_ends_an_answer_and_what_may_not_come() {
    let code = |before, open: &str, after| Closers::in_code(&PLAIN, before, open.into(), after);
    for (closers, text, expected) in [
        (code("f(", "", Some(b')')), "a, b);\n", Some(Ok(4))),
        (code("f(", "", Some(b')')), "g(a), b);\n", Some(Ok(7))),
        (code("f(", "", Some(b')')), "[a)", Some(Err(2))),
        (code("f(", ")", None), "a);\n}", Some(Err(4))),
        (code("f(", ")", Some(b'}')), "a);\n}", Some(Ok(4))),
        (code("", "", None), "\")\"; // )\n/* ) */ ')'", None),
        (code("", "", None), "\"\\\")\" )", Some(Err(6))),
        (code("", "", None), "r\")\" )", None),
        (code("", "", None), "\"\"\")", None),
        (code("", "", None), "`)", None),
        (code("", "", None), "\"$)\" )", None),
        (code("", "", None), "\"a\n)", None),
        (code("x = \"\"", "", None), "\")", None),
        (Closers::in_string(&PLAIN, "f(\"", b'"'), "a) \\\" b\")", Some(Ok(7))),
        (Closers::in_string(&PLAIN, "f(\"\\", b'"'), "\" b\")", Some(Ok(3))),
        (Closers::in_string(&PLAIN, "f(\"\\\\", b'"'), "\" b\")", Some(Ok(0))),
        (Closers::in_string(&PLAIN, "f(\"", b'"'), "it's $\"", None),
    ] {
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(judge(closers, &bytes), expected, "{text:?}");
    }
}

/// The definition, with the whole text in view.
fn expected(
    lexicon: &Lexicon,
    mut open: Vec<u8>,
    after: Option<u8>,
    text: &[u8],
) -> Option<Result<usize, usize>> {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let find =
            |what: &[u8], from: usize| (from..rest.len()).find(|start| rest[*start..].starts_with(what));
        if rest.starts_with(lexicon.line_comment.as_bytes()) {
            at += find(b"\n", 0)?;
        } else if let Some([start, end]) = lexicon.block_comment.filter(|[start, _]| rest.starts_with(start))
        {
            at += find(&end, start.len())? + end.len();
        } else if lexicon.doubtful.contains(&rest[0]) {
            return None;
        } else if lexicon.quotes.contains(&rest[0]) {
            let before = at.checked_sub(1).map(|before| text[before]);
            if before.is_some_and(|before| {
                before == rest[0]
                    || before.is_ascii_alphanumeric()
                    || b"_#@$".contains(&before)
                    || !before.is_ascii()
            }) {
                return None;
            }
            let mut end = 1;
            loop {
                match rest.get(end)? {
                    b'\n' => return None,
                    byte if lexicon.doubtful_in_strings.contains(byte) => return None,
                    b'\\' => end += 2,
                    byte if *byte == rest[0] => break,
                    _ => end += 1,
                }
            }
            at += end + 1;
        } else {
            match rest[0] {
                b'(' => open.push(b')'),
                b'[' => open.push(b']'),
                closer @ (b')' | b']') if open.last() == Some(&closer) => drop(open.pop()),
                closer @ (b')' | b']') if open.is_empty() && after == Some(closer) => return Some(Ok(at)),
                b')' | b']' => return Some(Err(at)),
                _ => {}
            }
            at += 1;
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// However the text is cut into tokens.
    #[test]
    fn agrees_with_the_definition(
        text in "[()\\[\\]\"'`\\\\/*#$a \\n]{0,24}",
        open in "[)\\]]{0,2}",
        after in prop::option::of(prop::sample::select(vec![b')', b']'])),
        cuts in prop::collection::vec(1usize..5, 24),
        hash in any::<prop::sample::Index>(),
    ) {
        let lexicon = [&PLAIN, &HASH][hash.index(2)];
        let closers = Closers::in_code(lexicon, "", open.clone().into(), after);
        let mut tokens = Vec::new();
        let mut rest = text.as_bytes();
        for length in cuts {
            let (token, others) = rest.split_at(length.min(rest.len()));
            tokens.push(token);
            rest = others;
        }
        let found = judge(closers, &tokens);
        let expected = expected(lexicon, open.into(), after, text.as_bytes());
        match (found, expected) {
            // A forbidden token is told as a whole.
            (Some(Err(found)), Some(Err(at))) => prop_assert!(found <= at && at < found + 5),
            (found, expected) => prop_assert_eq!(found, expected),
        }
    }

    /// The mask takes out what must not come, and nothing else.
    #[test]
    fn masks_what_must_not_come(
        tokens in prop::collection::btree_set("[()\\[\"a]{1,4}", 1..20),
        open in "[)\\]]{0,2}",
        hidden in 0usize..3,
    ) {
        let mut vocabulary = TokenBytes::default();
        for token in &tokens {
            vocabulary.push(token.as_bytes(), TokenKind::Ordinary);
        }
        let closers = Closers::in_code(&PLAIN, "", open.clone().into(), Some(b')'));
        let mut logits = vec![0.0; tokens.len()];
        let any = closers.mask(&vocabulary, hidden, &mut logits);
        prop_assert_eq!(any, logits.contains(&0.0));
        for (token, logit) in tokens.iter().zip(logits) {
            let rest = &token.as_bytes()[hidden.min(token.len())..];
            let wrong = matches!(expected(&PLAIN, open.clone().into(), Some(b')'), rest), Some(Err(_)));
            prop_assert_eq!(logit < 0.0, wrong, "{:?}", token);
        }
    }
}
