//! How much of a text around the cursor fits a budget of tokens: whole lines, as far as there are any.

use super::{line_tokens::LineTokens, lines};

/// The prefix starts at a line whose number is a multiple of the first of these that leaves enough to show.
const STEPS: [usize; 3] = [16, 4, 1];
/// That is, this part of the tokens of all lines that fit: numerator and denominator.
const ENOUGH: (usize, usize) = (2, 3);
/// Within a line that is longer than the whole budget, cuts fall at multiples of this.
const LONG_LINE_STEP_BYTES: usize = 256;
/// No token of any known vocabulary of code is longer on average; bounds what is looked at in huge files.
const BYTES_PER_TOKEN: usize = 10;

/// Where the shown prefix starts: the tail of `before` that fits, cut at the start of a line of a round number.
pub fn prefix_start(tokens: &LineTokens, before: &str, budget: usize) -> usize {
    let least = char_boundary(before, before.len().saturating_sub(budget * BYTES_PER_TOKEN));
    let floor = match least {
        0 => 0,
        least => before[least..].find('\n').map_or(before.len(), |at| least + at + 1),
    };
    let line_starts =
        before[floor..].rmatch_indices('\n').map(|(at, _)| floor + at + 1).chain((least == 0).then_some(0));
    // Line starts that fit, from the cursor upwards, with their line numbers.
    let mut fitting = Vec::new();
    let mut number = before.bytes().filter(|&byte| byte == b'\n').count();
    let (mut end, mut used) = (before.len(), 0);
    for start in line_starts {
        used += tokens.count(&before[start..end]);
        if used > budget {
            break;
        }
        fitting.push((number, start, used));
        end = start;
        number = number.saturating_sub(1);
    }
    let most = fitting.last().map_or(0, |&(.., used)| used);
    for step in STEPS {
        let round = fitting.iter().rev().find(|(number, ..)| number % step == 0);
        if let Some(&(_, line_start, _)) = round.filter(|(.., used)| used * ENOUGH.1 >= most * ENOUGH.0) {
            return line_start;
        }
    }
    inside_long_line(tokens, before, budget)
}

/// Not even the cursor's line fits: cut inside it.
fn inside_long_line(tokens: &LineTokens, before: &str, budget: usize) -> usize {
    let line_start = before.len() - lines::line_before(before).len();
    let mut length = (budget * BYTES_PER_TOKEN).min(before.len() - line_start);
    while length > 0 {
        let from_line_start = (before.len() - length - line_start).next_multiple_of(LONG_LINE_STEP_BYTES);
        let start = char_boundary(before, (line_start + from_line_start).min(before.len()));
        if tokens.count(&before[start..]) <= budget {
            return start;
        }
        length = length * 3 / 4;
    }
    before.len()
}

/// How much of `after` is shown: whole lines from the cursor on while they fit.
pub fn suffix_length(tokens: &LineTokens, after: &str, budget: usize) -> usize {
    let (mut end, mut used) = (0, 0);
    let most = char_boundary(after, (budget * BYTES_PER_TOKEN).min(after.len()));
    for line in after[..most].split_inclusive('\n') {
        used += tokens.count(line);
        if used > budget {
            break;
        }
        end += line.len();
    }
    if end == 0 && budget > 0 && !after.is_empty() {
        // The rest of the cursor's line is longer than the budget: its head is what matters.
        let mut length = char_boundary(after, (budget * 2).min(after.len()));
        while length > 0 && tokens.count(&after[..length]) > budget {
            length = char_boundary(after, length / 2);
        }
        return length;
    }
    end
}

/// The nearest character boundary at or before `at`.
pub fn char_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
