//! The words around a problem for chat models, and what of their answers is code.

/// The text of the first fenced block, or of the last for models that think aloud first. An answer that began inside
/// a fence ends at the first closing one.
pub fn code_of_answer(answer: &str, began_inside: Fence) -> String {
    let answer = answer.rsplit("</think>").next().unwrap_or(answer);
    if began_inside == Fence::Open {
        return answer.split("\n```").next().unwrap_or(answer).to_owned();
    }
    let Some(start) = answer.find("```") else { return answer.to_owned() };
    let block = &answer[start + 3..];
    let block = block.split_once('\n').map_or("", |(_, rest)| rest);
    block.split("\n```").next().unwrap_or(block).to_owned()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    Open,
    None,
}

pub fn human_eval_question(prompt: &str) -> String {
    format!(
        "Complete this Python function. Answer with the whole function in one code block.\n\n```python\n{prompt}```"
    )
}

pub fn hole_question(prefix: &str, suffix: &str) -> String {
    format!(
        "Replace <HOLE> in this code. Answer with the missing text alone, in one code block.\n\n```\n{prefix}<HOLE>{suffix}\n```"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_blocks() {
        for (answer, began, expected) in [
            ("Sure:\n```python\nx = 1\n```\nDone", Fence::None, "x = 1"),
            ("<think>\n```\nno\n```\n</think>\n```\nyes\n```", Fence::None, "yes"),
            ("x = 1\n```\nmore", Fence::Open, "x = 1"),
            ("plain", Fence::None, "plain"),
            ("```python", Fence::None, ""),
        ] {
            assert_eq!(code_of_answer(answer, began), expected, "{answer:?}");
        }
    }
}
