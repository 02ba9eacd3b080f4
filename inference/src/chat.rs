//! Chat templates: the Jinja source that model files carry, rendered with the answer already begun.

use std::sync::Arc;

use minijinja::{Environment, Error, ErrorKind, context, syntax::SyntaxConfig};

use crate::{tokenizer::Tokenizer, weights::ModelError};

const NAME: &str = "chat";

/// A compiled template. Cheap to clone.
#[derive(Clone)]
pub struct ChatTemplate {
    inner: Arc<Inner>,
}

struct Inner {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
    /// The model was trained to think before it answers, so its thinking has to be closed for it.
    thinks: bool,
}

impl ChatTemplate {
    /// Compiles a template; `model` is what error messages call the file.
    pub fn new(model: &str, source: &str, tokenizer: &Tokenizer) -> Result<Self, ModelError> {
        let mut environment = Environment::new();
        // Templates are written for Python's Jinja: methods of str and dict, `raise_exception`.
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        let failed =
            |error: Error| ModelError::ChatTemplate { name: model.into(), detail: format!("{error:#}") };
        // As Hugging Face renders them.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(failed)?);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        // A date in the prompt would void the prefix cache at midnight and make answers differ from day to day.
        environment.add_function("strftime_now", |_format: String| "2025-01-01");
        // A template is outside input: bound its work.
        environment.set_fuel(Some(1_000_000));
        let source = source.to_string();
        environment.add_template_owned(NAME, source.clone()).map_err(failed)?;
        let spelling =
            |id: Option<u32>| id.and_then(|id| tokenizer.special_spelling(id)).unwrap_or("").to_string();
        let thinks = source.contains("<think>")
            || source.contains("</think>")
            || tokenizer.token_id("</think>").is_some();
        let (bos, eos) = (spelling(tokenizer.bos()), spelling(tokenizer.eos()));
        Ok(Self { inner: Arc::new(Inner { environment, source, bos, eos, thinks }) })
    }

    pub fn source(&self) -> &str {
        &self.inner.source
    }

    pub fn thinks(&self) -> bool {
        self.inner.thinks
    }

    /// Renders one user message with the assistant's turn opened, thinking closed
    /// (`<think>\n\n</think>\n\n` for R1-style templates) and `answer_start` pre-filled.
    /// Encode the result with [`Tokenizer::encode_with_special`]; it carries its own BOS.
    pub fn render_prefilled(&self, user: &str, answer_start: &str) -> Result<String, ModelError> {
        let failed =
            |error: Error| ModelError::ChatTemplate { name: NAME.into(), detail: format!("{error:#}") };
        let template = self.inner.environment.get_template(NAME).map_err(failed)?;
        let mut text = template
            .render(context! {
                messages => vec![context! { role => "user", content => user }],
                add_generation_prompt => true,
                enable_thinking => false,
                bos_token => self.inner.bos.as_str(),
                eos_token => self.inner.eos.as_str(),
            })
            .map_err(failed)?;
        if self.inner.thinks {
            let trimmed = text.trim_end();
            if trimmed.ends_with("<think>") {
                text.truncate(trimmed.len());
                text.push_str("\n\n</think>\n\n");
            } else if !trimmed.ends_with("</think>") {
                text.push_str("<think>\n\n</think>\n\n");
            }
        }
        text.push_str(answer_start);
        Ok(text)
    }
}
