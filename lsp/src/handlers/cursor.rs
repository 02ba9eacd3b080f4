//! `lacuna/cursorMoved`: where the cursor came to rest, from editors that say so.

use std::sync::Arc;

use tower_lsp::ls_types::TextDocumentPositionParams;

use crate::{
    handlers::{document::place, warm_up},
    position,
    session::Session,
};

pub fn moved(session: &Arc<Session>, at: &TextDocumentPositionParams) {
    let Some(document) = session.snapshot(&at.text_document.uri) else { return };
    let offset = position::to_offset(&document.rope, place(at.position), session.encoding());
    warm_up(session, document, offset);
}
