//! The words around a problem for chat models, and what of their answers is code.

/// How an answer that holds code came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Its code block was begun for the model: code until the fence closes.
    Begun,
    /// The first fenced block counts.
    Whole,
    /// The model thought aloud first: the last fenced block after its thoughts counts.
    Thought,
}

/// The code of an answer; all of an answer without a fence. A model that never stopped thinking has no code.
pub fn code_of_answer(answer: &str, came: Answer) -> String {
    const FENCE: &str = "```";
    let after_thoughts = answer.rsplit_once("</think>").map(|(_, rest)| rest);
    let answer = match (after_thoughts, came) {
        (Some(rest), _) => rest,
        (None, Answer::Thought) if answer.trim_start().starts_with("<think>") => return String::new(),
        (None, _) => answer,
    };
    if came == Answer::Begun {
        return answer.split("\n```").next().unwrap_or(answer).to_owned();
    }
    let mut blocks = Vec::new();
    let mut rest = answer;
    while let Some(start) = rest.find(FENCE) {
        // The fence's line names the language.
        let block = rest[start + FENCE.len()..].split_once('\n').map_or("", |(_, block)| block);
        let end = block.find("\n```").unwrap_or(block.len());
        blocks.push(&block[..end]);
        rest = block[end..].strip_prefix("\n```").unwrap_or_default();
    }
    let block = if came == Answer::Thought { blocks.last() } else { blocks.first() };
    block.map_or(answer, |block| *block).to_owned()
}

/// What of a whole function goes after a prompt that holds its beginning: in Python all of it, defined anew; elsewhere
/// what follows the prompt's last line.
pub fn continuation(prompt: &str, language: &str, code: &str) -> String {
    if language == "python" {
        return format!("    pass\n\n{code}\n");
    }
    let signature = prompt.trim_end().lines().last().unwrap_or_default().trim();
    match code.find(signature).filter(|_| !signature.is_empty()) {
        Some(start) => code[start + signature.len()..].trim_start_matches(['\r', '\n']).to_owned(),
        None => code.to_owned(),
    }
}

pub fn function_question(prompt: &str, language: &str) -> String {
    format!(
        "Complete this {language} function. Answer with the whole function in one code block.\n\n```{language}\n{prompt}\n```"
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
        for (answer, came, expected) in [
            ("Sure:\n```python\nx = 1\n```\nDone", Answer::Whole, "x = 1"),
            ("```\na\n```\nor\n```\nb\n```", Answer::Whole, "a"),
            ("<think>\n```\nno\n```\n</think>\n```\nyes\n```", Answer::Whole, "yes"),
            ("<think>\n</think>\n```\na\n```\nbetter:\n```py\nb\n```\nDone", Answer::Thought, "b"),
            ("<think>\n```\nno\n```\nand so on", Answer::Thought, ""),
            ("```\ncut off", Answer::Thought, "cut off"),
            ("x = 1\n```\nmore", Answer::Begun, "x = 1"),
            ("plain", Answer::Whole, "plain"),
            ("```python", Answer::Whole, ""),
        ] {
            assert_eq!(code_of_answer(answer, came), expected, "{answer:?}");
        }
    }

    #[test]
    fn continuations() {
        for (prompt, language, code, expected) in [
            ("def f():\n", "python", "def f():\n    return 1", "    pass\n\ndef f():\n    return 1\n"),
            (
                "// Why\nlong f(long a) {\n",
                "cpp",
                "#include <x>\nlong f(long a) {\n  return a;\n}",
                "  return a;\n}",
            ),
            ("long f(long a) {\n", "cpp", "  return a;\n}", "  return a;\n}"),
        ] {
            assert_eq!(continuation(prompt, language, code), expected);
        }
    }
}
