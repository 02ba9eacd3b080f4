//! `textDocument/completion`: the same completion as a menu item, for editors without inline completion.

use std::sync::Arc;

use tower_lsp::ls_types::*;

use crate::{
    complete::Trigger,
    handlers::{ask, complete, document::place},
    in_flight::Channel,
    position,
    session::Session,
    to_proto,
};

pub async fn completion(session: &Arc<Session>, params: &CompletionParams) -> Option<CompletionResponse> {
    let at = &params.text_document_position;
    let document = session.snapshot(&at.text_document.uri)?;
    let encoding = session.encoding();
    let offset = position::to_offset(&document.rope, place(at.position), encoding);
    // Menus filter and sort for themselves: one item, whatever opened the menu.
    let ask = ask(session, document.clone(), offset, Trigger::Automatic);
    let completed = complete(session, ask, Channel::Completion).await?;
    to_proto::completion(&document.rope, offset, &completed.texts, encoding)
}
