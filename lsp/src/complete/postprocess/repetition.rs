//! Text that repeats itself, or the lines above the cursor.

use super::{Around, Change};
use crate::complete::lines;

/// A piece repeated this often in a row at the end of a line is a loop.
const PIECE_REPEATS: usize = 4;
/// Longest repeated piece looked for within a line, in characters.
const LONGEST_PIECE: usize = 40;
/// The shortest loop worth cutting: `====` and `    ` are not loops.
const SHORTEST_LOOP: usize = 16;
/// Lines shorter than this (`}`, `else:`) may stand again and again.
const SHORT_LINE: usize = 8;
/// A run of lines that is an exact repetition of the run before it is a loop from this length on.
const LONGEST_RUN: usize = 8;

pub fn repeats_itself(text: &str, _: &Around<'_>) -> Change {
    if let Some(end) = looping_lines(text) {
        return Some((text[..end].trim_end().to_string(), "the lines repeat themselves"));
    }
    let (start, line) = last_line(text);
    let end = looping_piece(line)?;
    Some((text[..start + end].to_string(), "the line repeats itself"))
}

/// As a stream: whether it is not worth waiting for the rest.
pub fn is_looping(text: &str) -> bool {
    looping_lines(text).is_some() || looping_piece(last_line(text).1).is_some()
}

/// Lines at the start of the completion that are the lines just above the cursor.
pub fn echo(text: &str, around: &Around<'_>) -> Change {
    let before = lines::line_before(around.prefix());
    if !lines::is_blank(before) {
        return None;
    }
    let first = text.trim_start().lines().next()?.trim();
    let above = lines::previous_line(around.prefix())?.trim();
    let only_line = text.trim().lines().count() == 1;
    let is_echo = first == above && first.chars().count() >= SHORT_LINE;
    (is_echo && only_line).then(|| (String::new(), "it repeats the line above"))
}

fn last_line(text: &str) -> (usize, &str) {
    let start = text.rfind('\n').map_or(0, |at| at + 1);
    (start, &text[start..])
}

/// Where a run of lines begins that repeats the run just before it, when that is more than chance: one line three
/// times, or several lines twice.
fn looping_lines(text: &str) -> Option<usize> {
    let spans: Vec<(usize, &str)> = text
        .split_inclusive('\n')
        .scan(0, |at, line| {
            let start = *at;
            *at += line.len();
            Some((start, line.trim()))
        })
        .filter(|(_, line)| !line.is_empty())
        .collect();
    let says_something =
        |run: &[(usize, &str)]| run.iter().any(|(_, line)| line.chars().count() >= SHORT_LINE);
    let same = |left: &[(usize, &str)], right: &[(usize, &str)]| {
        left.iter().zip(right).all(|(left, right)| left.1 == right.1)
    };
    for start in 0..spans.len() {
        for length in 1..=LONGEST_RUN {
            let repeats = if length == 1 { 3 } else { 2 };
            let Some(run) = spans.get(start..start + length) else { break };
            let is_loop = says_something(run)
                && (1..repeats).all(|repeat| {
                    spans
                        .get(start + repeat * length..start + (repeat + 1) * length)
                        .is_some_and(|next| same(run, next))
                });
            if is_loop {
                return spans.get(start + length).map(|&(at, _)| at);
            }
        }
    }
    None
}

/// Where the first occurrence of a piece ends with whose repetitions the line ends.
fn looping_piece(line: &str) -> Option<usize> {
    let characters: Vec<(usize, char)> = line.char_indices().collect();
    let count = characters.len();
    for length in 2..=LONGEST_PIECE.min(count / PIECE_REPEATS) {
        let piece = &characters[count - length..];
        let says_something = piece.iter().any(|(_, character)| character.is_alphanumeric());
        let mut repeats = 1;
        while count >= (repeats + 1) * length
            && characters[count - (repeats + 1) * length..count - repeats * length]
                .iter()
                .zip(piece)
                .all(|(left, right)| left.1 == right.1)
        {
            repeats += 1;
        }
        if says_something && repeats >= PIECE_REPEATS && repeats * length >= SHORTEST_LOOP {
            let first_end = count - (repeats - 1) * length;
            return characters.get(first_end).map(|&(at, _)| at);
        }
    }
    None
}
