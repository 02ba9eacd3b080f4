//! A model file opened for use: facts, tokenizer, templates. The engine reads the weights through it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use crate::{
    chat::ChatTemplate,
    embedded,
    fim::FimTemplate,
    models::ModelConfig,
    tokenizer::Tokenizer,
    weights::{Gguf, ModelError, Storage},
};

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    /// The default model inside the binary.
    Embedded,
    Path(PathBuf),
}

impl ModelSource {
    /// `embedded`, or the path of a GGUF file.
    pub fn parse(text: &str) -> Self {
        if text == "embedded" { Self::Embedded } else { Self::Path(text.into()) }
    }
}

/// How a model is asked for a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptStyle {
    Fim,
    Chat,
}

/// A model opened from its file. Cloning shares it.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    gguf: Gguf,
    config: ModelConfig,
    tokenizer: Tokenizer,
    fim: Option<FimTemplate>,
    chat: Option<ChatTemplate>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Model").field(&self.name()).finish()
    }
}

impl Model {
    /// Opens, checks and maps the file; weights are read when the engine first touches them.
    pub fn open(source: &ModelSource) -> Result<Self, ModelError> {
        match source {
            ModelSource::Embedded => Self::from_storage("embedded", Storage::Static(embedded::bytes())),
            ModelSource::Path(path) => {
                let storage = Storage::map(path)?;
                Self::from_storage(&display_name(path), storage)
            }
        }
    }

    pub fn from_storage(name: &str, storage: Storage) -> Result<Self, ModelError> {
        let gguf = Gguf::parse(name, storage)?;
        let config = ModelConfig::read(&gguf)?;
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        if tokenizer.vocabulary_size() > config.vocabulary {
            return Err(ModelError::Damaged {
                name: name.into(),
                detail: format!(
                    "the tokenizer has {} tokens, the embedding only {}",
                    tokenizer.vocabulary_size(),
                    config.vocabulary
                ),
            });
        }
        let fim = FimTemplate::detect(&tokenizer, &gguf);
        let chat = match gguf.string("tokenizer.chat_template") {
            Some(source) => Some(ChatTemplate::new(name, source, &tokenizer)?),
            None => None,
        };
        Ok(Self { inner: Arc::new(Inner { name: name.into(), gguf, config, tokenizer, fim, chat }) })
    }

    /// Display name: `embedded` or the file's stem.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub fn gguf(&self) -> &Gguf {
        &self.inner.gguf
    }

    pub fn config(&self) -> &ModelConfig {
        &self.inner.config
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// `None` when the vocabulary has no FIM tokens.
    pub fn fim(&self) -> Option<&FimTemplate> {
        self.inner.fim.as_ref()
    }

    /// `None` when the file carries no chat template.
    pub fn chat(&self) -> Option<&ChatTemplate> {
        self.inner.chat.as_ref()
    }

    pub fn context_length(&self) -> usize {
        self.inner.config.context_length
    }

    /// What the prompt style `auto` means for this model:
    ///
    /// 1. without FIM tokens: chat;
    /// 2. without a chat template: FIM;
    /// 3. tuned to think (its template or vocabulary has `</think>`), or named `r1`, `distill`, `instruct` or
    ///    `chat`: chat, because such tuning unlearns FIM; but `coder` models other than those of rule 3a keep FIM;
    ///    3a. a thinking model is asked by chat whatever its name;
    /// 4. otherwise FIM.
    pub fn default_prompt_style(&self) -> PromptStyle {
        let (Some(_), Some(chat)) = (self.fim(), self.chat()) else {
            return if self.fim().is_some() { PromptStyle::Fim } else { PromptStyle::Chat };
        };
        let gguf = self.gguf();
        let names = [gguf.string("general.name"), gguf.string("general.basename"), Some(self.name())];
        let named = |word: &str| names.iter().flatten().any(|name| name.to_lowercase().contains(word));
        let tuned = ["r1", "distill", "instruct", "chat"].iter().any(|word| named(word));
        match () {
            () if chat.thinks() => PromptStyle::Chat,
            () if named("coder") => PromptStyle::Fim,
            () if tuned => PromptStyle::Chat,
            () => PromptStyle::Fim,
        }
    }

    pub fn end_of_text(&self) -> Option<u32> {
        self.inner.tokenizer.eos()
    }
}

fn display_name(path: &Path) -> String {
    path.file_stem().map_or_else(|| path.display().to_string(), |stem| stem.to_string_lossy().into_owned())
}
