//! Fill-in-the-middle templates: one table, each family a row with its tokens and its stop tokens.

use std::ops::Range;

use serde::Serialize;

use crate::{tokenizer::Tokenizer, weights::Gguf};

/// The order in which a family was trained to see prefix and suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FimOrder {
    /// Prefix, suffix, middle.
    Psm,
    /// Suffix, prefix, middle: `<prefix><suffix>SUFFIX<middle>PREFIX`. The middle continues the prefix,
    /// so the cached keys and values survive typing.
    Spm,
    /// Codestral's: `[SUFFIX]SUFFIX[PREFIX]PREFIX`, no middle token.
    SuffixPrefix,
}

/// One family: spellings in the vocabulary.
struct Family {
    name: &'static str,
    prefix: &'static str,
    suffix: &'static str,
    /// Empty where the family has none.
    middle: &'static str,
    order: FimOrder,
    /// (repository name, file separator): cross-file chunks as files of their own.
    repository: Option<(&'static str, &'static str)>,
    /// Tokens that end a middle, beside the file's own end-of-text token. Those the vocabulary lacks are ignored.
    stops: &'static [&'static str],
}

/// Sources: the families' published tokenizer files and FIM instructions.
const FAMILIES: &[Family] = &[
    Family {
        name: "qwen",
        prefix: "<|fim_prefix|>",
        suffix: "<|fim_suffix|>",
        middle: "<|fim_middle|>",
        order: FimOrder::Psm,
        repository: Some(("<|repo_name|>", "<|file_sep|>")),
        stops: &[
            "<|endoftext|>",
            "<|im_end|>",
            "<|end▁of▁sentence|>",
            "<｜end▁of▁sentence｜>",
            "<|fim_pad|>",
        ],
    },
    Family {
        name: "deepseek",
        prefix: "<｜fim▁begin｜>",
        suffix: "<｜fim▁hole｜>",
        middle: "<｜fim▁end｜>",
        order: FimOrder::Psm,
        repository: None,
        stops: &["<｜end▁of▁sentence｜>", "<|EOT|>"],
    },
    Family {
        name: "starcoder",
        prefix: "<fim_prefix>",
        suffix: "<fim_suffix>",
        middle: "<fim_middle>",
        order: FimOrder::Psm,
        repository: Some(("<repo_name>", "<file_sep>")),
        stops: &["<|endoftext|>", "<fim_pad>"],
    },
    Family {
        name: "codellama",
        prefix: "▁<PRE>",
        suffix: "▁<SUF>",
        middle: "▁<MID>",
        order: FimOrder::Psm,
        repository: None,
        stops: &["▁<EOT>"],
    },
    Family {
        name: "codestral",
        prefix: "[PREFIX]",
        suffix: "[SUFFIX]",
        middle: "",
        order: FimOrder::SuffixPrefix,
        repository: None,
        stops: &["</s>"],
    },
];

/// The pieces of a prompt. Prefix and suffix are already encoded, each on its own.
#[derive(Debug, Clone, Default)]
pub struct FimParts<'a> {
    pub repository: Option<&'a str>,
    /// Cross-file chunks: path and text, most stable first.
    pub chunks: &'a [FimChunk],
    /// Path of the file being completed, relative to its workspace.
    pub path: Option<&'a str>,
    pub prefix: &'a [u32],
    pub suffix: &'a [u32],
    /// The end of the prefix, after the middle token (EFIM, arXiv 2505.21889): prefix and suffix stay as they are while
    /// it grows. In the other orders the prefix comes last anyway, and this follows it.
    pub typed: &'a [u32],
}

#[derive(Debug, Clone)]
pub struct FimChunk {
    pub path: String,
    pub text: String,
}

/// A family's template bound to one vocabulary.
#[derive(Debug, Clone)]
pub struct FimTemplate {
    family: &'static str,
    order: FimOrder,
    prefix: u32,
    suffix: u32,
    middle: Option<u32>,
    repository: Option<(u32, u32)>,
    stops: Vec<u32>,
    bos: Option<u32>,
}

/// An assembled prompt with the token count of each section, for explain.
#[derive(Debug, Clone, Serialize)]
pub struct FimPrompt {
    pub tokens: Vec<u32>,
    pub sections: FimSections,
    /// Where suffix and prefix lie in `tokens`.
    pub suffix: Range<usize>,
    pub prefix: Range<usize>,
}

/// Tokens a section.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FimSections {
    pub context: usize,
    pub header: usize,
    pub suffix: usize,
    pub prefix: usize,
    pub typed: usize,
    pub special: usize,
}

impl FimTemplate {
    /// The row whose tokens the vocabulary has; `None` when the model knows no FIM.
    ///
    /// The order is the family's, unless the file says otherwise in `lacuna.fim_order` (`psm` or `spm`). Files named
    /// `tinyfim*` are this project's first models, trained in SPM order before that key existed.
    pub fn detect(tokenizer: &Tokenizer, gguf: &Gguf) -> Option<Self> {
        let id = |spelling: &str| tokenizer.token_id(spelling);
        let (family, prefix, suffix) =
            FAMILIES.iter().find_map(|family| Some((family, id(family.prefix)?, id(family.suffix)?)))?;
        let middle = id(family.middle);
        if middle.is_none() && !family.middle.is_empty() {
            return None;
        }
        let order = match gguf.string("lacuna.fim_order") {
            Some("spm") => FimOrder::Spm,
            Some("psm") => FimOrder::Psm,
            _ if gguf.string("general.name").is_some_and(|name| name.starts_with("tinyfim")) => FimOrder::Spm,
            _ => family.order,
        };
        let repository = family.repository.and_then(|(name, file)| Some((id(name)?, id(file)?)));
        let mut stops: Vec<u32> = family.stops.iter().filter_map(|spelling| id(spelling)).collect();
        stops.extend(tokenizer.eos());
        stops.extend([prefix, suffix]);
        stops.extend(middle);
        stops.extend(repository.iter().flat_map(|(name, file)| [*name, *file]));
        stops.sort_unstable();
        stops.dedup();
        Some(Self {
            family: family.name,
            order,
            prefix,
            suffix,
            middle,
            repository,
            stops,
            bos: tokenizer.leading_bos(),
        })
    }

    /// Name of the family's row, such as `qwen` or `deepseek`.
    pub fn family(&self) -> &'static str {
        self.family
    }

    pub fn order(&self) -> FimOrder {
        self.order
    }

    /// The same template in another order, for comparisons.
    pub fn with_order(mut self, order: FimOrder) -> Self {
        self.order = order;
        self
    }

    /// Ids that end a middle for this family: end of text, and every FIM token.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stops
    }

    /// The FIM tokens as (role, id).
    pub fn tokens(&self) -> Vec<(&'static str, u32)> {
        let mut tokens = vec![("prefix", self.prefix), ("suffix", self.suffix)];
        tokens.extend(self.middle.map(|id| ("middle", id)));
        tokens
            .extend(self.repository.iter().flat_map(|(name, file)| [("repository", *name), ("file", *file)]));
        tokens
    }

    /// Whether the family has repo-level tokens, so that cross-file chunks can be given as files of their own.
    pub fn has_repository_tokens(&self) -> bool {
        self.repository.is_some()
    }

    /// Lays the parts out as the family was trained to see them. Families without repo-level tokens get no chunks
    /// here: their callers put context into the prefix as comments.
    pub fn assemble(&self, tokenizer: &Tokenizer, parts: &FimParts<'_>) -> FimPrompt {
        let mut tokens = Vec::new();
        let mut sections = FimSections::default();
        if let Some(bos) = self.bos {
            tokens.push(bos);
            sections.special += 1;
        }
        if let Some((name, file)) = self.repository {
            if let Some(repository) = parts.repository {
                tokens.push(name);
                tokens.extend(tokenizer.encode(&format!("{repository}\n")));
            }
            for chunk in parts.chunks {
                tokens.push(file);
                tokens.extend(tokenizer.encode(&format!("{}\n", chunk.path)));
                tokens.extend(tokenizer.encode(&format!("{}\n", chunk.text.trim_end_matches('\n'))));
            }
            sections.context = tokens.len() - sections.special;
            if let Some(path) = parts.path {
                tokens.push(file);
                tokens.extend(tokenizer.encode(&format!("{path}\n")));
                sections.header = tokens.len() - sections.special - sections.context;
            }
        }
        let before = tokens.len();
        let mut part = |marks: &[u32], part: &[u32]| {
            tokens.extend(marks);
            let start = tokens.len();
            tokens.extend(part);
            start..tokens.len()
        };
        let (suffix, prefix) = match (self.order, self.middle) {
            (FimOrder::Psm, Some(middle)) => {
                let prefix = part(&[self.prefix], parts.prefix);
                let suffix = part(&[self.suffix], parts.suffix);
                part(&[middle], parts.typed);
                (suffix, prefix)
            }
            (FimOrder::Spm, Some(middle)) => {
                let suffix = part(&[self.prefix, self.suffix], parts.suffix);
                let prefix = part(&[middle], parts.prefix);
                part(&[], parts.typed);
                (suffix, prefix)
            }
            (FimOrder::SuffixPrefix, _) | (_, None) => {
                let suffix = part(&[self.suffix], parts.suffix);
                let prefix = part(&[self.prefix], parts.prefix);
                part(&[], parts.typed);
                (suffix, prefix)
            }
        };
        sections.prefix = parts.prefix.len();
        sections.suffix = parts.suffix.len();
        sections.typed = parts.typed.len();
        sections.special += tokens.len() - before - sections.prefix - sections.suffix - sections.typed;
        FimPrompt { tokens, sections, suffix, prefix }
    }
}
