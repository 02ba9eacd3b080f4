//! `workspace/executeCommand`: explain, status, restart.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tower_lsp::{
    jsonrpc::{Error, Result},
    ls_types::ExecuteCommandParams,
};

use crate::session::Session;

const EXPLAIN: &str = "lacuna.explain";
const STATUS: &str = "lacuna.status";
const RESTART_ENGINE: &str = "lacuna.restartEngine";

/// All commands the server knows.
pub const NAMES: [&str; 3] = [EXPLAIN, STATUS, RESTART_ENGINE];

pub fn execute(session: &Arc<Session>, params: &ExecuteCommandParams) -> Result<Option<Value>> {
    match params.command.as_str() {
        EXPLAIN => to_json(&session.engine.ready().and_then(|completer| completer.explained().latest())),
        STATUS => to_json(&session.status()),
        RESTART_ENGINE => {
            session.load_model();
            to_json(&session.status())
        }
        unknown => Err(Error::invalid_params(format!(
            "unknown command {unknown}; the server knows {}",
            NAMES.join(", ")
        ))),
    }
}

fn to_json(value: &impl Serialize) -> Result<Option<Value>> {
    match serde_json::to_value(value) {
        Ok(json) => Ok(Some(json)),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            Err(Error::internal_error())
        }
    }
}
