//! `textDocument/inlineCompletion`: ghost text.

use std::sync::Arc;

use tower_lsp::ls_types::*;

use crate::{
    complete::{Ask, Selected, Trigger},
    handlers::{ask, complete, document::place},
    in_flight::Channel,
    position,
    session::Session,
    to_proto,
};

pub async fn inline_completion(
    session: &Arc<Session>,
    params: &InlineCompletionParams,
) -> Option<InlineCompletionResponse> {
    // Up to the first await, this runs in the order of the messages: the snapshot is the text the client asked about.
    let at = &params.text_document_position;
    let document = session.snapshot(&at.text_document.uri)?;
    let encoding = session.encoding();
    let offset = position::to_offset(&document.rope, place(at.position), encoding);
    let selected = params.context.selected_completion_info.as_ref().map(|info| Selected {
        range: position::to_range(&document.rope, place(info.range.start)..place(info.range.end), encoding),
        text: info.text.clone(),
    });
    let trigger = match params.context.trigger_kind {
        InlineCompletionTriggerKind::INVOKED => Trigger::Invoked,
        _ => Trigger::Automatic,
    };
    let ask = Ask { selected: selected.clone(), ..ask(session, document.clone(), offset, trigger) };
    let completed = complete(session, ask, Channel::InlineCompletion).await?;
    to_proto::inline_completion(&document.rope, offset, selected.as_ref(), &completed.texts, encoding)
}
