//! The beginning of a session: what the server can do, and the work that starts once the client is ready.

use std::sync::Arc;

use serde_json::json;
use tower_lsp::ls_types::*;

use crate::{
    config::CompletionFallback,
    handlers::command,
    indexing::{Indexing, ScanNews},
    session::{Session, Support},
    to_proto,
};

/// Characters after which a completion menu is worth asking for again.
const TRIGGER_CHARACTERS: [&str; 6] = [".", "(", " ", ":", "=", ","];

pub fn initialize(session: &Arc<Session>, params: &InitializeParams) -> InitializeResult {
    session.introduce(params);
    let client = session.client();
    let completes_in_menu = match session.config().completion_fallback {
        CompletionFallback::Always => true,
        CompletionFallback::Never => false,
        CompletionFallback::Auto => client.inline_completion == Support::None,
    };
    InitializeResult {
        capabilities: ServerCapabilities {
            position_encoding: Some(to_proto::encoding(client.encoding)),
            text_document_sync: Some(TextDocumentSyncCapability::Options(TextDocumentSyncOptions {
                open_close: Some(true),
                change: Some(TextDocumentSyncKind::INCREMENTAL),
                save: Some(TextDocumentSyncSaveOptions::Supported(true)),
                ..TextDocumentSyncOptions::default()
            })),
            // A client that registers dynamically would otherwise ask twice.
            inline_completion_provider: (client.inline_completion != Support::Dynamic)
                .then_some(OneOf::Left(true)),
            completion_provider: completes_in_menu.then(|| CompletionOptions {
                trigger_characters: Some(TRIGGER_CHARACTERS.map(String::from).to_vec()),
                resolve_provider: Some(false),
                ..CompletionOptions::default()
            }),
            execute_command_provider: Some(ExecuteCommandOptions {
                commands: command::NAMES.map(String::from).to_vec(),
                ..ExecuteCommandOptions::default()
            }),
            workspace: Some(WorkspaceServerCapabilities {
                workspace_folders: Some(WorkspaceFoldersServerCapabilities {
                    supported: Some(true),
                    change_notifications: Some(OneOf::Left(true)),
                }),
                ..WorkspaceServerCapabilities::default()
            }),
            ..ServerCapabilities::default()
        },
        server_info: Some(ServerInfo {
            name: "lacuna".into(),
            version: Some(env!("CARGO_PKG_VERSION").into()),
        }),
        ..InitializeResult::default()
    }
}

pub fn initialized(session: &Arc<Session>) {
    session.load_model();
    start_indexing(session);
    register(session);
}

fn start_indexing(session: &Arc<Session>) {
    let shows_progress = session.client().progress;
    // The index thread lives in the session; only a weak reference lets the session end.
    let weak = Arc::downgrade(session);
    let progress = std::sync::Mutex::new(None);
    let runtime = tokio::runtime::Handle::current();
    let on_scan = Arc::new(move |news: ScanNews| {
        let Some(session) = weak.upgrade() else { return };
        let _inside = runtime.enter();
        let Ok(mut progress) = progress.lock() else { return };
        match news {
            ScanNews::Started if shows_progress => {
                *progress = Some(session.outbox.progress("Lacuna: indexing", "reading the workspace"));
            }
            ScanNews::Started => {}
            ScanNews::Progress(done) => {
                if let Some(progress) = &*progress {
                    let percentage = 100 * done.files_done / done.files_total.max(1);
                    progress.report(
                        format!("{} of {} files", done.files_done, done.files_total),
                        percentage as u32,
                    );
                }
            }
            ScanNews::Finished(_) => {
                *progress = None;
                session.report_status();
            }
        }
    });
    match Indexing::start(session.workspace.clone(), Arc::clone(&session.documents), on_scan) {
        Ok(indexing) => {
            indexing.scan();
            session.set_indexing(indexing);
        }
        Err(error) => {
            tracing::error!(%error, "the index thread could not be started; no context from other files")
        }
    }
}

fn register(session: &Arc<Session>) {
    let client = session.client();
    let mut registrations = Vec::new();
    let mut add = |method: &str, options: serde_json::Value| {
        registrations.push(Registration {
            id: format!("lacuna/{method}"),
            method: method.to_string(),
            register_options: Some(options),
        });
    };
    if client.inline_completion == Support::Dynamic {
        add(
            "textDocument/inlineCompletion",
            json!({ "documentSelector": [{ "scheme": "file" }, { "scheme": "untitled" }] }),
        );
    }
    if client.watches_files {
        add("workspace/didChangeWatchedFiles", json!({ "watchers": [{ "globPattern": "**/*" }] }));
    }
    if client.registers_configuration {
        add("workspace/didChangeConfiguration", json!({ "section": crate::config::SECTION }));
    }
    session.outbox.register(registrations);
}
