//! The protocol's methods, each handed to its handler in one line.

pub mod framing;
mod transport;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_lsp::{LanguageServer, LspService, jsonrpc::Result, ls_types::*};

use crate::{
    engine_slot::Opener,
    handlers::{command, completion, configuration, cursor, document, inline_completion, lifecycle},
    session::{Session, outbox::Outbox},
};

pub struct Server {
    session: Arc<Session>,
}

impl LanguageServer for Server {
    async fn initialize(&self, params: InitializeParams) -> Result<InitializeResult> {
        Ok(lifecycle::initialize(&self.session, &params))
    }
    async fn initialized(&self, _: InitializedParams) {
        lifecycle::initialized(&self.session);
    }
    async fn shutdown(&self) -> Result<()> {
        self.session.request_shutdown();
        Ok(())
    }
    async fn did_open(&self, params: DidOpenTextDocumentParams) {
        document::did_open(&self.session, &params);
    }
    async fn did_change(&self, params: DidChangeTextDocumentParams) {
        document::did_change(&self.session, params);
    }
    async fn did_save(&self, params: DidSaveTextDocumentParams) {
        document::did_save(&self.session, &params);
    }
    async fn did_close(&self, params: DidCloseTextDocumentParams) {
        document::did_close(&self.session, &params);
    }
    async fn did_change_watched_files(&self, params: DidChangeWatchedFilesParams) {
        document::did_change_watched_files(&self.session, &params);
    }
    async fn did_change_workspace_folders(&self, params: DidChangeWorkspaceFoldersParams) {
        configuration::did_change_workspace_folders(&self.session, &params);
    }
    async fn did_change_configuration(&self, params: DidChangeConfigurationParams) {
        configuration::did_change_configuration(&self.session, &params);
    }
    async fn completion(&self, params: CompletionParams) -> Result<Option<CompletionResponse>> {
        Ok(completion::completion(&self.session, &params).await)
    }
    async fn execute_command(&self, params: ExecuteCommandParams) -> Result<Option<Value>> {
        command::execute(&self.session, &params)
    }
}

impl Server {
    async fn inline_completion(
        &self,
        params: InlineCompletionParams,
    ) -> Result<Option<InlineCompletionResponse>> {
        Ok(inline_completion::inline_completion(&self.session, &params).await)
    }

    async fn cursor_moved(&self, at: TextDocumentPositionParams) {
        cursor::moved(&self.session, &at);
    }
}

/// Serves one client until it says `exit` or its end of the pipe closes. The code is 0 after a proper `shutdown`.
/// `cache_directory` is where the index is kept for the next start. The caller must end the process: a thread that reads
/// standard input cannot be stopped.
pub async fn serve<I, O>(input: I, output: O, opener: Opener, cache_directory: Option<PathBuf>) -> ExitCode
where
    I: AsyncRead + Unpin,
    O: AsyncWrite,
{
    let mut session = None;
    let (service, socket) = LspService::build(|client| {
        let created = Session::new(Outbox::new(client), opener, cache_directory);
        session = Some(Arc::clone(&created));
        Server { session: created }
    })
    .custom_method("textDocument/inlineCompletion", Server::inline_completion)
    .custom_method("lacuna/cursorMoved", Server::cursor_moved)
    .finish();

    transport::serve(input, output, service, socket).await;
    match session {
        Some(session) if session.shutdown_requested() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
