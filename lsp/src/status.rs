//! The server's state in figures, for `lacuna.status` and the editors' status bars.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use lacuna_inference::EngineStatus;
use serde::Serialize;

/// What the server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    Loading,
    Ready,
    Busy,
    Error,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub state: Activity,
    /// In words for people: the error and what to do, or what is being loaded.
    pub message: Option<String>,
    pub version: &'static str,
    pub model: String,
    pub device: Option<String>,
    pub last_latency_ms: Option<f64>,
    pub index: IndexStatus,
    pub requests: RequestStatus,
    pub documents: usize,
    pub memory: MemoryStatus,
    pub engine: Option<EngineStatus>,
}

#[derive(Debug, Clone, Serialize)]
pub struct IndexStatus {
    pub files: usize,
    pub symbols: usize,
    pub roots: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestStatus {
    pub running: usize,
    pub answered: u64,
    pub shown: u64,
    pub superseded: u64,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStatus {
    /// Resident memory of the process; `None` where the system does not say.
    pub process_bytes: Option<u64>,
    pub weights_bytes: Option<u64>,
    pub kv_bytes: Option<u64>,
    pub documents_bytes: usize,
}

/// Counts of requests since the start.
#[derive(Debug, Default)]
pub struct Counters {
    running: AtomicUsize,
    answered: AtomicU64,
    shown: AtomicU64,
    superseded: AtomicU64,
    last_latency_microseconds: AtomicU64,
}

/// Counts a request as running until it is dropped.
pub struct Running<'a>(&'a Counters);

impl Counters {
    pub fn start(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(self)
    }

    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    pub fn answered(&self, texts: usize, latency_ms: f64) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if texts > 0 {
            self.shown.fetch_add(1, Ordering::Relaxed);
            self.last_latency_microseconds.store((latency_ms * 1e3) as u64 + 1, Ordering::Relaxed);
        }
    }

    pub fn superseded(&self) {
        self.superseded.fetch_add(1, Ordering::Relaxed);
    }

    /// Milliseconds of the last completion that was shown.
    pub fn last_latency_ms(&self) -> Option<f64> {
        match self.last_latency_microseconds.load(Ordering::Relaxed) {
            0 => None,
            microseconds => Some(microseconds as f64 / 1e3),
        }
    }

    pub fn requests(&self) -> RequestStatus {
        RequestStatus {
            running: self.running(),
            answered: self.answered.load(Ordering::Relaxed),
            shown: self.shown.load(Ordering::Relaxed),
            superseded: self.superseded.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Resident memory of this process in bytes, where `/proc` tells it.
pub fn process_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
