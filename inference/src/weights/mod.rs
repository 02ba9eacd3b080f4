//! Model files: where their bytes live, the GGUF reader, and matrices over the mapped bytes.

pub mod gguf;
pub mod matrix;
pub mod random;
mod storage;

pub use gguf::{Gguf, TensorInfo, Value};
pub use matrix::Matrix;
pub use storage::{Bytes, Storage};

use std::path::PathBuf;

/// Why a model file could not be used. Every message names the file and what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ModelError {
    #[error("cannot open model {path}: {source}", path = path.display())]
    Open { path: PathBuf, source: std::sync::Arc<std::io::Error> },
    #[error("{name} is not a GGUF file (it starts with {found:02x?}); give the path of a .gguf model")]
    NotGguf { name: String, found: Vec<u8> },
    #[error(
        "{name} is GGUF version {version}; versions 2 and 3 are supported, convert it again with a current converter"
    )]
    Version { name: String, version: u32 },
    #[error("{name} is damaged or cut short: {detail}; download it again")]
    Damaged { name: String, detail: String },
    #[error("{name} lacks `{key}`, so it cannot be run; convert it again with a current converter")]
    MissingKey { name: String, key: String },
    #[error("{name}: architecture `{architecture}` is not supported; supported are {supported}")]
    Architecture { name: String, architecture: String, supported: String },
    #[error(
        "{name}: tensor `{tensor}` is {kind}, which is not supported; requantize the model to Q4_K_M, Q6_K or Q8_0"
    )]
    TensorType { name: String, tensor: String, kind: String },
    #[error(
        "{name}: tensor `{tensor}` has shape {found:?}, expected {expected:?}; the file does not fit its own header"
    )]
    Shape { name: String, tensor: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("{name} needs something that is not supported: {detail}")]
    Unsupported { name: String, detail: String },
    #[error("{name}: tokenizer: {detail}")]
    Tokenizer { name: String, detail: String },
    #[error("{name}: chat template: {detail}")]
    ChatTemplate { name: String, detail: String },
}
