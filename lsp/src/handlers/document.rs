//! Opened, edited, saved and closed documents; files changed on disk. All synchronous: an edit is applied before the
//! next message is looked at.

use std::{path::PathBuf, sync::Arc};

use tower_lsp::ls_types::*;

use crate::{
    documents::Change,
    handlers::warm_up,
    position::Place,
    session::{Session, path_of},
};

pub fn did_open(session: &Arc<Session>, params: &DidOpenTextDocumentParams) {
    let document = &params.text_document;
    let uri = document.uri.as_str();
    // Documents without a file (`untitled:`) are known by the last part of their URI.
    let path = path_of(&document.uri)
        .unwrap_or_else(|| PathBuf::from(uri.rsplit(['/', ':']).next().unwrap_or_default()));
    session.documents.open(uri, path, &document.language_id, document.version, &document.text);
    if let (Some(path), Some(indexing)) = (path_of(&document.uri), session.indexing()) {
        indexing.buffer_opened(uri, &path);
    }
    if let Some(opened) = session.snapshot(&document.uri) {
        warm_up(session, opened, 0);
    }
}

pub fn did_change(session: &Arc<Session>, params: DidChangeTextDocumentParams) {
    let changes = params
        .content_changes
        .into_iter()
        .map(|change| Change { range: change.range.map(places), text: change.text })
        .collect();
    let document = params.text_document;
    if session.documents.change(document.uri.as_str(), document.version, changes, session.encoding()) {
        index_buffer(session, &document.uri);
        if let (Some(completer), Some(changed)) = (session.engine.ready(), session.snapshot(&document.uri)) {
            completer.edited(&changed.path, &changed.rope);
        }
    } else {
        tracing::warn!(uri = document.uri.as_str(), "the client changed a document that is not open");
    }
}

pub fn did_save(session: &Arc<Session>, params: &DidSaveTextDocumentParams) {
    index_buffer(session, &params.text_document.uri);
}

pub fn did_close(session: &Arc<Session>, params: &DidCloseTextDocumentParams) {
    let uri = params.text_document.uri.as_str();
    session.in_flight.forget(uri);
    let Some(path) = session.documents.close(uri) else { return };
    if let Some(completer) = session.engine.ready() {
        completer.closed(&path);
    }
    if let Some(indexing) = session.indexing().filter(|_| path.is_absolute()) {
        indexing.disk_changed(&path);
    }
}

pub fn did_change_watched_files(session: &Arc<Session>, params: &DidChangeWatchedFilesParams) {
    let Some(indexing) = session.indexing() else { return };
    for path in params.changes.iter().filter_map(|event| path_of(&event.uri)) {
        // What the editor holds counts, not what is on disk.
        if !session.documents.is_open(&path) {
            indexing.disk_changed(&path);
        }
    }
}

fn index_buffer(session: &Session, uri: &Uri) {
    if let (Some(path), Some(indexing)) = (path_of(uri), session.indexing()) {
        indexing.buffer_changed(uri.as_str(), &path);
    }
}

fn places(range: Range) -> std::ops::Range<Place> {
    place(range.start)..place(range.end)
}

/// A protocol position as a place.
pub fn place(position: Position) -> Place {
    Place::new(position.line, position.character)
}
