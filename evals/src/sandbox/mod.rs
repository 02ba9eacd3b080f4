//! Runs code that a model wrote, cut off from the machine it runs on.
//!
//! Every worker owns sandboxes of its own; a sandbox is three processes deep:
//!
//! ```text
//! harness ── outer: waits, so that the harness has one process to kill
//!             └─ init: process 1 of new user, pid, network, mount, ipc and uts namespaces (init.rs)
//!                 └─ python: a warmed interpreter under Landlock and seccomp (worker.py)
//!                     └─ one fork for each program, with a stricter seccomp filter and rlimits
//! ```
//!
//! What keeps a program inside, layer by layer (each alone would stop most of it):
//! - namespaces: no network device, no process but the sandbox's own, a root of read-only bind mounts of the
//!   toolchain (no home, no /etc, no /proc), and a scratch tmpfs of bounded size that is thrown away after each run;
//! - Landlock: reads below that root, writes below the scratch directory, no TCP, no signals outwards;
//! - seccomp: a list of allowed system calls; everything else is refused, among it sockets, signals, new
//!   processes, exec, tracing, mounting and namespaces;
//! - rlimits: address space, CPU time, file size, open files, threads; wall time is kept by the harness.
//!
//! Whether a program *passed* is decided elsewhere ([`crate::execute`]): nothing that a sandbox says is believed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[cfg(target_os = "linux")]
pub mod confine;
#[cfg(target_os = "linux")]
pub mod host;
#[cfg(target_os = "linux")]
pub mod init;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
mod seccomp;
pub mod toolchain_paths;
#[cfg(target_os = "linux")]
pub mod wire;

/// The name of the hidden subcommand that becomes a sandbox's first process.
pub const INIT_COMMAND: &str = "sandbox-init";

/// Where programs may write, seen from inside.
pub const SCRATCH: &str = "/scratch/tmp";

/// Whether programs are isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Namespaces, Landlock, seccomp and rlimits; refuses to start where they cannot be had.
    Full,
    /// Rlimits only: `--unsafe-no-sandbox`.
    UnsafeNone,
}

/// What runs inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// A fork server of one warmed Python interpreter; programs may not start processes.
    Python,
    /// Compilers and the programs they make; processes may be started, and all end with the command.
    Toolchain,
}

/// Upper bounds for one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Address space (Python) or data segment (toolchains, whose runtimes reserve far more than they use).
    pub memory_bytes: u64,
    /// Size of the scratch file system and of any one file.
    pub scratch_bytes: u64,
    /// Files and directories in scratch.
    pub scratch_files: u64,
    pub open_files: u64,
    /// Processes and threads together.
    pub processes: u64,
    /// Bytes of standard output and of standard error that are kept; the rest is discarded.
    pub output_bytes: usize,
}

impl Limits {
    pub const PYTHON: Limits = Limits {
        memory_bytes: 4 << 30,
        scratch_bytes: 64 << 20,
        scratch_files: 1024,
        open_files: 128,
        processes: 64,
        output_bytes: 64 << 10,
    };
    pub const TOOLCHAIN: Limits = Limits {
        memory_bytes: 4 << 30,
        scratch_bytes: 512 << 20,
        scratch_files: 16384,
        open_files: 1024,
        processes: 256,
        output_bytes: 64 << 10,
    };
}

/// All that a sandbox needs to know to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specification {
    pub isolation: Isolation,
    pub profile: Profile,
    pub limits: Limits,
    /// The interpreter of [`Profile::Python`].
    pub interpreter: Option<PathBuf>,
    /// Directories and files that are visible inside, read-only, besides the system's own.
    pub visible: Vec<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error(
        "this machine does not let the harness isolate the programs it runs ({0}); allow unprivileged user \
         namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; in \
         a container: --security-opt seccomp=unconfined), or, only for code you trust, pass --unsafe-no-sandbox"
    )]
    CannotIsolate(String),
    #[error("the sandbox did not start: {0}")]
    Start(String),
    #[error("the sandbox went away: {0}")]
    Gone(String),
    #[error("the sandbox's connection failed: {0}")]
    Io(#[from] std::io::Error),
}
