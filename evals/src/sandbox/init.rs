//! Process 1 of a sandbox: makes the namespaces, starts what runs inside, serves the harness until it hangs up.
//!
//! Started by [`super::host`] as a subcommand of the harness's own binary: standard input is the harness's socket,
//! standard output the socket that the fork server inherits.

use std::{
    fs,
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, Uid, fork, getpid, pipe},
};

use super::{
    Isolation, Profile, SCRATCH, Specification,
    confine::{self, INNER_USER},
    mounts, seccomp,
    wire::{self, FromInit, Ran, Ready, ToInit},
};

/// The user that programs are outside when the harness runs as root: nobody.
const OUTER_USER_OF_ROOT: u32 = 65534;

const WORKER: &str = include_str!("worker.py");

/// A start that failed, and whether it was the kernel's refusal to isolate.
struct Refusal {
    reason: String,
    isolation: bool,
}

/// Runs the hidden subcommand. Never returns while the harness is connected.
pub fn run() -> ExitCode {
    // SAFETY: the harness starts this process with a socket as each of its first two files, and nothing else in
    // this process uses them.
    let (harness, inner) = unsafe { (OwnedFd::from_raw_fd(0), OwnedFd::from_raw_fd(1)) };
    let mut harness = UnixStream::from(harness);
    let specification: Specification = match wire::receive(&mut harness) {
        Ok(specification) => specification,
        Err(error) => {
            eprintln!("{} is started by the harness itself, not by hand ({error})", super::INIT_COMMAND);
            return ExitCode::FAILURE;
        }
    };
    match start(&mut harness, inner, &specification) {
        Ok(code) => code,
        Err(Refusal { reason, isolation }) => {
            let _ = wire::send(&mut harness, &FromInit::Refused { reason, isolation });
            ExitCode::FAILURE
        }
    }
}

fn start(
    harness: &mut UnixStream,
    inner: OwnedFd,
    specification: &Specification,
) -> Result<ExitCode, Refusal> {
    let start_error = |reason: String| Refusal { reason, isolation: false };
    if specification.isolation == Isolation::UnsafeNone {
        return serve(harness, inner, specification, Ready::default()).map_err(start_error);
    }
    let refused = |reason: String| Refusal { reason, isolation: true };
    enter_namespaces().map_err(refused)?;
    // SAFETY: this process has one thread, so the child may do anything its parent could.
    match unsafe { fork() }.map_err(|error| refused(format!("fork into the pid namespace: {error}")))? {
        ForkResult::Parent { child } => {
            drop(inner);
            Ok(match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, 0)) => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            })
        }
        ForkResult::Child => {
            let code = match serve_isolated(harness, inner, specification) {
                Ok(code) => code,
                Err(refusal) => {
                    let message = FromInit::Refused { reason: refusal.reason, isolation: refusal.isolation };
                    let _ = wire::send(harness, &message);
                    ExitCode::FAILURE
                }
            };
            std::process::exit(if code == ExitCode::SUCCESS { 0 } else { 1 })
        }
    }
}

fn serve_isolated(
    harness: &mut UnixStream,
    inner: OwnedFd,
    specification: &Specification,
) -> Result<ExitCode, Refusal> {
    let refused = |reason: String| Refusal { reason, isolation: true };
    // When the waiting process is killed, this one goes too, and with it the namespace and all that is in it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| refused(format!("prctl: {error}")))?;
    let _ = nix::unistd::sethostname("sandbox");
    mounts::enter(specification).map_err(|error| refused(error.0))?;
    prctl::set_no_new_privs().map_err(|error| refused(format!("no_new_privs: {error}")))?;
    let ready = Ready { namespaces: true, landlock: confine::landlock_support(), seccomp: true };
    serve(harness, inner, specification, ready).map_err(|reason| Refusal { reason, isolation: false })
}

/// New namespaces with the user mapped: to nobody for root, to themselves for anyone else.
fn enter_namespaces() -> Result<(), String> {
    let (user, group) = (Uid::current(), nix::unistd::Gid::current());
    let flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if user.is_root() && map_from_outside(flags)? {
        return Ok(());
    }
    if !user.is_root() {
        unshare(flags).map_err(|error| format!("unshare: {error}"))?;
    }
    write_map("setgroups", "deny")?;
    write_map("uid_map", &format!("{INNER_USER} {user} 1"))?;
    write_map("gid_map", &format!("{INNER_USER} {group} 1"))
}

fn write_map(name: &str, text: &str) -> Result<(), String> {
    fs::write(format!("/proc/self/{name}"), text).map_err(|error| format!("write {name}: {error}"))
}

/// A map with two users can only be written from outside the new namespace, so a helper stays behind for it.
/// False when the namespaces are made but the map was not allowed (this root is itself inside a namespace).
fn map_from_outside(flags: CloneFlags) -> Result<bool, String> {
    let (ready_read, ready_write) = pipe().map_err(|error| format!("pipe: {error}"))?;
    let parent = getpid();
    // SAFETY: this process has one thread, so the child may do anything its parent could.
    match unsafe { fork() }.map_err(|error| format!("fork: {error}"))? {
        ForkResult::Child => {
            drop(ready_write);
            let unshared = fs::File::from(ready_read).read(&mut [0]).is_ok_and(|count| count == 1);
            let map = format!("0 0 1\n{INNER_USER} {OUTER_USER_OF_ROOT} 1\n");
            let written = unshared
                && fs::write(format!("/proc/{parent}/uid_map"), &map).is_ok()
                && fs::write(format!("/proc/{parent}/gid_map"), &map).is_ok();
            std::process::exit(if written { 0 } else { 1 })
        }
        ForkResult::Parent { child } => {
            drop(ready_read);
            let unshared = unshare(flags).map_err(|error| format!("unshare: {error}"));
            if unshared.is_ok() {
                let _ = nix::unistd::write(&ready_write, b"1");
            }
            drop(ready_write);
            let status = waitpid(child, None).map_err(|error| format!("wait: {error}"))?;
            unshared?;
            Ok(matches!(status, WaitStatus::Exited(_, 0)))
        }
    }
}

/// Starts what the profile asks for and answers the harness until it hangs up.
fn serve(
    harness: &mut UnixStream,
    inner: OwnedFd,
    specification: &Specification,
    ready: Ready,
) -> Result<ExitCode, String> {
    let isolated = specification.isolation == Isolation::Full;
    let scratch = if isolated { None } else { Some(tempfile::tempdir().map_err(|error| error.to_string())?) };
    let directory =
        scratch.as_ref().map_or_else(|| SCRATCH.to_owned(), |scratch| scratch.path().display().to_string());
    let mut worker = match specification.profile {
        Profile::Python => Some(start_worker(inner, specification, &directory)?),
        Profile::Toolchain => None,
    };
    wire::send(harness, &FromInit::Ready(ready)).map_err(|error| error.to_string())?;
    // A failed read is the harness hanging up: the sandbox is no longer wanted.
    while let Ok(message) = wire::receive::<ToInit>(harness) {
        let answer = match message {
            ToInit::Reset if isolated => answer(mounts::reset_scratch(&specification.limits)),
            ToInit::Reset => clear(&directory),
            ToInit::Write { files } if isolated => {
                answer(files.iter().try_for_each(|(name, text)| mounts::write_scratch(name, text)))
            }
            ToInit::Write { files } => write_plain(&directory, &files),
            ToInit::Run(command) => match run_command(&command, specification, &directory, harness) {
                Ok(ran) => FromInit::Ran(ran),
                Err(error) => FromInit::Failed(format!("{}: {error}", command.program.display())),
            },
        };
        if wire::send(harness, &answer).is_err() {
            break;
        }
    }
    if let Some(worker) = &mut worker {
        let _ = worker.kill();
        let _ = worker.wait();
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(outcome: Result<(), mounts::MountError>) -> FromInit {
    outcome.map_or_else(|error| FromInit::Failed(error.0), |()| FromInit::Done)
}

fn clear(directory: &str) -> FromInit {
    let emptied = fs::read_dir(directory).and_then(|entries| {
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    });
    emptied.map_or_else(|error| FromInit::Failed(error.to_string()), |()| FromInit::Done)
}

fn write_plain(directory: &str, files: &std::collections::BTreeMap<String, String>) -> FromInit {
    for (name, text) in files {
        if let Err(error) = fs::write(format!("{directory}/{name}"), text) {
            return FromInit::Failed(format!("write {name}: {error}"));
        }
    }
    FromInit::Done
}

/// The fork server: its standard input is the harness's second socket.
fn start_worker(inner: OwnedFd, specification: &Specification, directory: &str) -> Result<Child, String> {
    let interpreter = specification.interpreter.as_ref().ok_or("no interpreter was named")?;
    let filters = match specification.isolation {
        Isolation::Full => {
            let programs = seccomp::programs(seccomp::Filter::Program).map_err(|error| error.to_string())?;
            programs.iter().map(seccomp::to_hex).collect::<Vec<_>>().join(",")
        }
        Isolation::UnsafeNone => String::new(),
    };
    let mut command = Command::new(interpreter);
    command.args(["-s", "-B", "-c", WORKER]).env_clear().envs(environment(directory));
    command
        .env("LACUNA_FILTERS", filters)
        .env("LACUNA_MEMORY", specification.limits.memory_bytes.to_string());
    command.current_dir(directory).stdin(inner).stdout(Stdio::null()).stderr(Stdio::null());
    spawn_confined(&mut command, specification).map_err(|error| format!("{}: {error}", interpreter.display()))
}

fn environment(directory: &str) -> [(&'static str, String); 7] {
    [
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("HOME", directory.to_owned()),
        ("TMPDIR", directory.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("PYTHONHASHSEED", "0".to_owned()),
        ("OMP_NUM_THREADS", "1".to_owned()),
        ("OPENBLAS_NUM_THREADS", "1".to_owned()),
    ]
}

/// Spawns a command that confines itself between fork and exec.
fn spawn_confined(command: &mut Command, specification: &Specification) -> io::Result<Child> {
    let Specification { isolation, profile, limits, .. } = specification;
    let (isolation, profile, limits) = (*isolation, *profile, *limits);
    let confine = move || match isolation {
        Isolation::Full => confine::confine(profile, &limits).map_err(io::Error::other),
        Isolation::UnsafeNone => Ok(confine::set_limits(profile, &limits)?),
    };
    // SAFETY: this process has one thread, so the closure may allocate between fork and exec.
    unsafe { command.pre_exec(confine) };
    command.spawn()
}

/// Runs one command to its end or its time limit, keeps the head of its output, ends everything it started.
fn run_command(
    request: &wire::Command,
    specification: &Specification,
    directory: &str,
    harness: &UnixStream,
) -> io::Result<Ran> {
    let started = Instant::now();
    let deadline = started + Duration::from_millis(request.timeout_ms);
    let mut command = Command::new(&request.program);
    command.args(&request.arguments).env_clear().envs(environment(directory)).envs(&request.environment);
    command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0);
    let mut child = spawn_confined(&mut command, specification)?;
    let mut outputs = [
        (child.stdout.take().map(OwnedFd::from), Vec::new()),
        (child.stderr.take().map(OwnedFd::from), Vec::new()),
    ];
    let mut ran = Ran::default();
    let pid = Pid::from_raw(child.id() as i32);
    loop {
        drain(&mut outputs, specification.limits.output_bytes, harness, deadline)?;
        match waitpid(pid, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::StillAlive => {}
            WaitStatus::Exited(_, status) => {
                ran.status = Some(status);
                break;
            }
            _ => break, // A signal ended it.
        }
        if Instant::now() >= deadline {
            ran.timed_out = true;
            break;
        }
    }
    end_all(pid, specification.isolation);
    // What was in the pipes when everything ended.
    let _ = drain(&mut outputs, specification.limits.output_bytes, harness, Instant::now());
    let [(_, stdout), (_, stderr)] = outputs;
    ran.stdout = String::from_utf8_lossy(&stdout).into_owned();
    ran.stderr = String::from_utf8_lossy(&stderr).into_owned();
    ran.milliseconds = started.elapsed().as_secs_f64() * 1e3;
    Ok(ran)
}

/// Reads what is there, for at most 20 ms. Output over the limit is read and dropped, so that nothing blocks.
fn drain(
    outputs: &mut [(Option<OwnedFd>, Vec<u8>); 2],
    limit: usize,
    harness: &UnixStream,
    deadline: Instant,
) -> io::Result<()> {
    const SLICE_MS: u64 = 20;
    let until = deadline.min(Instant::now() + Duration::from_millis(SLICE_MS));
    loop {
        let left = until.saturating_duration_since(Instant::now()).as_millis().min(SLICE_MS as u128) as u16;
        let mut polled = vec![PollFd::new(harness.as_fd(), PollFlags::empty())];
        polled.extend(
            outputs
                .iter()
                .filter_map(|(file, _)| Some(PollFd::new(file.as_ref()?.as_fd(), PollFlags::POLLIN))),
        );
        poll(&mut polled, PollTimeout::from(left))?;
        let hung_up =
            |polled: &PollFd| polled.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
        if polled.first().is_some_and(hung_up) {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the harness hung up"));
        }
        let ready: Vec<i32> = polled
            .iter()
            .skip(1)
            .filter(|polled| polled.any().unwrap_or(false))
            .map(|polled| polled.as_fd().as_raw_fd())
            .collect();
        for (file, kept) in outputs.iter_mut() {
            let Some(open) = file.as_ref().filter(|open| ready.contains(&open.as_raw_fd())) else { continue };
            let mut buffer = [0; 16384];
            let count = nix::unistd::read(open, &mut buffer)?;
            let room = limit.saturating_sub(kept.len()).min(count);
            kept.extend_from_slice(&buffer[..room]);
            if count == 0 {
                *file = None;
            }
        }
        if ready.is_empty() || Instant::now() >= until {
            return Ok(());
        }
    }
}

/// Kills every process but this one (in its own pid namespace, `kill(-1)` reaches exactly those) and reaps them.
fn end_all(pid: Pid, isolation: Isolation) {
    let everything = match isolation {
        Isolation::Full => Pid::from_raw(-1),
        Isolation::UnsafeNone => Pid::from_raw(-pid.as_raw()),
    };
    loop {
        let _ = kill(everything, Signal::SIGKILL);
        match waitpid(None, None) {
            Ok(_) => continue,
            Err(_) => return, // ECHILD: nobody is left.
        }
    }
}
