//! Messages between the harness and a sandbox's init: length-prefixed JSON over a socket.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// No message may be longer: a broken peer must not make the other side allocate.
pub const MAX_MESSAGE_BYTES: usize = 256 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToInit {
    /// Make the scratch directory empty again.
    Reset,
    /// Put files into the scratch directory (names without directories in front).
    Write { files: BTreeMap<String, String> },
    /// Run a command in the scratch directory and end everything it started.
    Run(Command),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Command {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub timeout_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromInit {
    Ready(Ready),
    /// The sandbox could not be built; `isolation` tells whether the kernel refused to isolate.
    Refused {
        reason: String,
        isolation: bool,
    },
    Done,
    Ran(Ran),
    Failed(String),
}

/// What the kernel gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub namespaces: bool,
    pub landlock: String,
    pub seccomp: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ran {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    pub timed_out: bool,
    pub stdout: String,
    pub stderr: String,
    pub milliseconds: f64,
}

pub fn send(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    send_bytes(stream, &body)
}

/// One length-prefixed message whose body is already encoded.
pub fn send_bytes(stream: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(|_| io::Error::other("message over 4 GiB"))?;
    let mut framed = Vec::with_capacity(body.len() + 4);
    framed.extend_from_slice(&length.to_le_bytes());
    framed.extend_from_slice(body);
    stream.write_all(&framed)
}

pub fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(io::Error::other(format!(
            "a message of {length} bytes, over the limit of {MAX_MESSAGE_BYTES}"
        )));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}
