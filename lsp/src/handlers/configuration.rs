//! Changed settings and workspace folders.

use std::sync::Arc;

use serde_json::Value;
use tower_lsp::ls_types::*;

use crate::session::{Session, path_of};

pub fn did_change_configuration(session: &Arc<Session>, params: &DidChangeConfigurationParams) {
    if !params.settings.is_null() {
        apply(session, &params.settings);
    } else if session.client().pulls_configuration {
        // Asked in a task of its own: a handler that waits for the client can lock both up.
        let session = Arc::clone(session);
        tokio::spawn(async move {
            if let Some(settings) = session.outbox.settings().await {
                apply(&session, &settings);
            }
        });
    }
}

fn apply(session: &Arc<Session>, settings: &Value) {
    let before = session.configure(settings);
    let now = session.config();
    if before.engine() != now.engine() {
        session.load_model();
    } else {
        session.report_status();
    }
}

pub fn did_change_workspace_folders(session: &Arc<Session>, params: &DidChangeWorkspaceFoldersParams) {
    for path in params.event.removed.iter().filter_map(|folder| path_of(&folder.uri)) {
        session.workspace.remove_root(&path);
    }
    for path in params.event.added.iter().filter_map(|folder| path_of(&folder.uri)) {
        session.workspace.add_root(path);
    }
    if let Some(indexing) = session.indexing() {
        indexing.scan();
    }
}
