//! The system calls a sandboxed program may make, as lists; whatever is not listed is refused with EPERM.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Who a filter is for; each is a superset of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// A sample's interpreter: no process, no exec, no socket, no signal.
    Program,
    /// The fork server: may fork, wait for and kill its children.
    ForkServer,
    /// Compilers and what they build: may also exec.
    Toolchain,
}

/// Harmless for a program that owns nothing: its memory, its open files, files it can name, time, its threads.
#[rustfmt::skip]
const COMMON: &[i64] = &[
    // Memory.
    libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect, libc::SYS_mremap, libc::SYS_madvise,
    libc::SYS_mlock, libc::SYS_munlock, libc::SYS_msync, libc::SYS_mincore, libc::SYS_membarrier,
    libc::SYS_get_mempolicy, libc::SYS_mbind, libc::SYS_set_mempolicy,
    // Files. Which ones can be reached is the mount namespace's and Landlock's business.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64,
    libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2, libc::SYS_pwritev2, libc::SYS_lseek, libc::SYS_openat,
    libc::SYS_openat2, libc::SYS_close, libc::SYS_close_range, libc::SYS_fstat, libc::SYS_newfstatat,
    libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_faccessat, libc::SYS_faccessat2,
    libc::SYS_readlinkat, libc::SYS_getdents64, libc::SYS_getcwd, libc::SYS_chdir, libc::SYS_fchdir,
    libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_linkat,
    libc::SYS_symlinkat, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat,
    libc::SYS_utimensat, libc::SYS_truncate, libc::SYS_ftruncate, libc::SYS_fallocate, libc::SYS_fsync,
    libc::SYS_fdatasync, libc::SYS_flock, libc::SYS_fadvise64, libc::SYS_copy_file_range,
    libc::SYS_sendfile, libc::SYS_splice, libc::SYS_tee, libc::SYS_dup, libc::SYS_dup3,
    libc::SYS_umask, libc::SYS_memfd_create, libc::SYS_getxattr, libc::SYS_lgetxattr, libc::SYS_fgetxattr,
    libc::SYS_listxattr, libc::SYS_llistxattr, libc::SYS_flistxattr,
    // Pipes, socket pairs (event loops wake themselves through them) and waiting. No `socket`, so no address.
    libc::SYS_pipe2, libc::SYS_socketpair, libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg,
    libc::SYS_recvmsg, libc::SYS_shutdown, libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_getsockname,
    libc::SYS_getpeername, libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_eventfd2, libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime, libc::SYS_inotify_init1, libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // Time and its own signals' handling.
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_nanosleep,
    libc::SYS_gettimeofday, libc::SYS_times, libc::SYS_setitimer, libc::SYS_getitimer, libc::SYS_timer_create,
    libc::SYS_timer_settime, libc::SYS_timer_gettime, libc::SYS_timer_getoverrun, libc::SYS_timer_delete,
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigpending, libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend, libc::SYS_rt_sigtimedwait, libc::SYS_sigaltstack, libc::SYS_restart_syscall,
    // Threads and facts about itself.
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_set_tid_address,
    libc::SYS_rseq, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_getpgid, libc::SYS_getsid,
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getgroups,
    libc::SYS_getresuid, libc::SYS_getresgid, libc::SYS_getrusage, libc::SYS_getrlimit, libc::SYS_setrlimit,
    libc::SYS_prctl, libc::SYS_capget, libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getcpu,
    libc::SYS_getrandom, libc::SYS_getpriority, libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity, libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler, libc::SYS_sched_get_priority_min, libc::SYS_sched_get_priority_max,
    libc::SYS_exit, libc::SYS_exit_group,
    // Let through here so that the second filter can answer ENOSYS, on which libc falls back to `clone`.
    libc::SYS_clone3,
];

/// Older spellings that only x86-64 has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const COMMON_OLDER: &[i64] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink, libc::SYS_getdents,
    libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_rename, libc::SYS_link, libc::SYS_symlink,
    libc::SYS_creat, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes,
    libc::SYS_futimesat, libc::SYS_dup2, libc::SYS_pipe, libc::SYS_poll, libc::SYS_select,
    libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_inotify_init, libc::SYS_alarm,
    libc::SYS_pause, libc::SYS_time, libc::SYS_getpgrp, libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const COMMON_OLDER: &[i64] = &[];

/// For processes that have children. Signals reach no further than the pid namespace and the Landlock domain.
#[rustfmt::skip]
const PROCESSES: &[i64] = &[
    libc::SYS_wait4, libc::SYS_waitid, libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal, libc::SYS_rt_sigqueueinfo, libc::SYS_setpgid, libc::SYS_setsid, libc::SYS_seccomp,
];

#[rustfmt::skip]
const EXEC: &[i64] = &[libc::SYS_execve, libc::SYS_execveat];

#[cfg(target_arch = "x86_64")]
const PROCESSES_OLDER: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const PROCESSES_OLDER: &[i64] = &[];

/// Flags of `clone` that would make a namespace.
const NAMESPACE_FLAGS: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32;
const THREAD_FLAG: u32 = libc::CLONE_THREAD as u32;

/// F_SETOWN, F_SETSIG and F_SETOWN_EX.
const SIGNAL_FCNTLS: [u64; 3] = [8, 10, 15];
/// FIOSETOWN, SIOCSPGRP, and TIOCSTI, which types into a terminal.
const SIGNAL_IOCTLS: [u64; 3] = [0x8901, 0x8902, 0x5412];

/// The filters to install, in this order.
pub(super) fn programs(filter: Filter) -> Result<[BpfProgram; 2], BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut allow = |calls: &[i64]| rules.extend(calls.iter().map(|&call| (call, Vec::new())));
    allow(COMMON);
    allow(COMMON_OLDER);
    if filter != Filter::Program {
        allow(PROCESSES);
        allow(PROCESSES_OLDER);
        // The fork server itself is started by an exec under this filter.
        allow(EXEC);
    }
    let namespaces = u64::from(NAMESPACE_FLAGS);
    let thread = u64::from(THREAD_FLAG);
    let clone = match filter {
        Filter::Program => condition(0, SeccompCmpOp::MaskedEq(thread | namespaces), thread)?,
        Filter::ForkServer | Filter::Toolchain => condition(0, SeccompCmpOp::MaskedEq(namespaces), 0)?,
    };
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![clone])?]);
    // Limits and processor sets of itself, not of its parent.
    for call in [libc::SYS_prlimit64, libc::SYS_sched_setaffinity] {
        rules.insert(call, vec![SeccompRule::new(vec![condition(0, SeccompCmpOp::Eq, 0)?])?]);
    }
    // A file's "owner" is sent signals of the program's choice.
    let all_but = |commands: &[u64]| -> Result<Vec<SeccompRule>, BackendError> {
        let conditions = commands.iter().map(|&command| condition(1, SeccompCmpOp::Ne, command));
        Ok(vec![SeccompRule::new(conditions.collect::<Result<_, _>>()?)?])
    };
    rules.insert(libc::SYS_fcntl, all_but(&SIGNAL_FCNTLS)?);
    rules.insert(libc::SYS_ioctl, all_but(&SIGNAL_IOCTLS)?);
    let architecture = std::env::consts::ARCH.try_into()?;
    let allow_listed = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        architecture,
    )?;
    let no_clone3 = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        architecture,
    )?;
    Ok([allow_listed.try_into()?, no_clone3.try_into()?])
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

/// A filter as the kernel's `struct sock_filter` array, in hexadecimal, for the fork server to install.
pub(super) fn to_hex(program: &BpfProgram) -> String {
    let mut hex = String::with_capacity(program.len() * 16);
    for instruction in program {
        for byte in instruction
            .code
            .to_ne_bytes()
            .into_iter()
            .chain([instruction.jt, instruction.jf])
            .chain(instruction.k.to_ne_bytes())
        {
            hex.push_str(&format!("{byte:02x}"));
        }
    }
    hex
}
