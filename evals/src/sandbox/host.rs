//! The harness's end of a sandbox: starts it, passes jobs in, ends them on time, replaces it when it breaks.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, IoSlice, Read, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::{
    INIT_COMMAND, Profile, SandboxError, Specification,
    wire::{self, Command, FromInit, Ran, Ready, ToInit},
};

/// How long a sandbox may take to start; interpreters on slow disks need seconds.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a killed fork may take to be gone.
const REAP_LIMIT: Duration = Duration::from_secs(10);
/// How long the harness waits for init beyond a command's own time limit.
const GRACE: Duration = Duration::from_secs(30);

/// A running sandbox. Dropping it ends every process inside.
pub struct Sandbox {
    outer: Child,
    control: UnixStream,
    /// The fork server's socket.
    worker: UnixStream,
    ready: Ready,
    job_runs: bool,
}

/// The binary that holds the init subcommand: this program.
pub fn own_executable() -> Result<PathBuf, SandboxError> {
    std::env::current_exe()
        .map_err(|error| SandboxError::Start(format!("cannot find this program's file: {error}")))
}

impl Sandbox {
    /// Starts a sandbox through `executable`, a binary with the init subcommand.
    pub fn start(specification: &Specification, executable: &std::path::Path) -> Result<Self, SandboxError> {
        let (control, init_end) = UnixStream::pair()?;
        let (worker, worker_end) = UnixStream::pair()?;
        let outer = std::process::Command::new(executable)
            .arg(INIT_COMMAND)
            .stdin(OwnedFd::from(init_end))
            .stdout(OwnedFd::from(worker_end))
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| SandboxError::Start(format!("{}: {error}", executable.display())))?;
        let mut sandbox = Self { outer, control, worker, ready: Ready::default(), job_runs: false };
        sandbox.control.set_read_timeout(Some(START_LIMIT))?;
        sandbox.worker.set_read_timeout(Some(START_LIMIT))?;
        wire::send(&mut sandbox.control, specification)?;
        match wire::receive(&mut sandbox.control) {
            Ok(FromInit::Ready(ready)) => sandbox.ready = ready,
            Ok(FromInit::Refused { reason, isolation: true }) => {
                return Err(SandboxError::CannotIsolate(reason));
            }
            Ok(FromInit::Refused { reason, .. }) => return Err(SandboxError::Start(reason)),
            Ok(other) => return Err(SandboxError::Start(format!("an unexpected answer: {other:?}"))),
            Err(error) => return Err(SandboxError::Start(format!("its first process ended ({error})"))),
        }
        if specification.profile == Profile::Python {
            let mut byte = [0];
            sandbox.worker.read_exact(&mut byte).map_err(|error| {
                SandboxError::Start(format!("the interpreter inside ended before it was ready ({error})"))
            })?;
        }
        Ok(sandbox)
    }

    /// What the kernel gave to isolate with.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Empties the scratch directory.
    pub fn reset(&mut self) -> Result<(), SandboxError> {
        self.ask(&ToInit::Reset, GRACE)
    }

    /// Puts files into the scratch directory.
    pub fn write(&mut self, files: BTreeMap<String, String>) -> Result<(), SandboxError> {
        self.ask(&ToInit::Write { files }, GRACE)
    }

    fn ask(&mut self, message: &ToInit, limit: Duration) -> Result<(), SandboxError> {
        match self.exchange(message, limit)? {
            FromInit::Done => Ok(()),
            FromInit::Failed(reason) => Err(SandboxError::Gone(reason)),
            other => Err(SandboxError::Gone(format!("an unexpected answer: {other:?}"))),
        }
    }

    /// Runs a command to its end or its limit.
    pub fn run(&mut self, command: Command) -> Result<Ran, SandboxError> {
        let limit = Duration::from_millis(command.timeout_ms) + GRACE;
        match self.exchange(&ToInit::Run(command), limit)? {
            FromInit::Ran(ran) => Ok(ran),
            FromInit::Failed(reason) => Err(SandboxError::Start(reason)),
            other => Err(SandboxError::Gone(format!("an unexpected answer: {other:?}"))),
        }
    }

    fn exchange(&mut self, message: &ToInit, limit: Duration) -> Result<FromInit, SandboxError> {
        self.control.set_read_timeout(Some(limit))?;
        wire::send(&mut self.control, message).map_err(|error| SandboxError::Gone(error.to_string()))?;
        wire::receive(&mut self.control).map_err(|error| SandboxError::Gone(error.to_string()))
    }

    /// Forks a program that reads its job from the first of `connections`.
    pub fn start_job(&mut self, connections: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        let descriptors: Vec<i32> = connections.iter().map(|connection| connection.as_raw_fd()).collect();
        sendmsg::<()>(
            self.worker.as_raw_fd(),
            &[IoSlice::new(b"J")],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map_err(|error| SandboxError::Gone(error.to_string()))?;
        self.job_runs = true;
        Ok(())
    }

    /// Ends the running job if it still runs, and waits until it is gone.
    pub fn end_job(&mut self) -> Result<(), SandboxError> {
        if !self.job_runs {
            return Ok(());
        }
        self.job_runs = false;
        self.worker.write_all(b"K").map_err(|error| SandboxError::Gone(error.to_string()))?;
        self.worker.set_read_timeout(Some(REAP_LIMIT))?;
        let mut report = [0; 5];
        self.worker.read_exact(&mut report).map_err(|error| SandboxError::Gone(error.to_string()))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

/// Why no message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoMessage {
    Late,
    /// The other side ended or sent something that is no message.
    Ended,
}

/// Reads one length-prefixed message of at most `limit` bytes before `deadline`.
pub fn receive_by(stream: &mut UnixStream, deadline: Instant, limit: usize) -> Result<Vec<u8>, NoMessage> {
    let mut length = [0; 4];
    read_by(stream, deadline, &mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > limit {
        return Err(NoMessage::Ended);
    }
    let mut body = vec![0; length];
    read_by(stream, deadline, &mut body)?;
    Ok(body)
}

fn read_by(stream: &mut UnixStream, deadline: Instant, mut buffer: &mut [u8]) -> Result<(), NoMessage> {
    while !buffer.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NoMessage::Late);
        }
        stream.set_read_timeout(Some(left)).map_err(|_| NoMessage::Ended)?;
        match stream.read(buffer) {
            Ok(0) => return Err(NoMessage::Ended),
            Ok(count) => buffer = &mut buffer[count..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(NoMessage::Late);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(NoMessage::Ended),
        }
    }
    Ok(())
}
