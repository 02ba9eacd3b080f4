//! What a process does to itself before it runs somebody else's code: user, limits, Landlock, seccomp.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope,
};
use nix::{
    sys::resource::{Resource, setrlimit},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

use super::{Limits, Profile, seccomp};

/// The user that programs run as, inside.
pub(super) const INNER_USER: u32 = 1000;

/// The newest Landlock rules this is written for; older kernels enforce what they know.
const LANDLOCK: ABI = ABI::V6;

/// Gives up everything that the processes below must not have. Runs between fork and exec of a single-threaded
/// process; cannot be undone.
pub(super) fn confine(profile: Profile, limits: &Limits) -> Result<(), String> {
    let of = |what: &'static str| move |error: &dyn std::fmt::Display| format!("{what}: {error}");
    if Uid::current().is_root() {
        setgroups(&[]).map_err(|error| of("setgroups")(&error))?;
        let (user, group) = (Uid::from_raw(INNER_USER), Gid::from_raw(INNER_USER));
        setresgid(group, group, group).map_err(|error| of("setresgid")(&error))?;
        setresuid(user, user, user).map_err(|error| of("setresuid")(&error))?;
    }
    set_limits(profile, limits).map_err(|error| of("setrlimit")(&error))?;
    landlock()?;
    let filter = match profile {
        Profile::Python => seccomp::Filter::ForkServer,
        Profile::Toolchain => seccomp::Filter::Toolchain,
    };
    for program in seccomp::programs(filter).map_err(|error| of("seccomp")(&error))? {
        seccompiler::apply_filter(&program).map_err(|error| of("seccomp")(&error))?;
    }
    Ok(())
}

/// The limits that hold for a whole sandbox; the fork server sets memory and CPU time of each program.
pub(super) fn set_limits(profile: Profile, limits: &Limits) -> nix::Result<()> {
    let set = |resource, value| setrlimit(resource, value, value);
    set(Resource::RLIMIT_CORE, 0)?;
    set(Resource::RLIMIT_FSIZE, limits.scratch_bytes)?;
    set(Resource::RLIMIT_NOFILE, limits.open_files)?;
    set(Resource::RLIMIT_NPROC, limits.processes)?;
    if profile == Profile::Toolchain {
        set(Resource::RLIMIT_DATA, limits.memory_bytes)?;
    }
    Ok(())
}

fn landlock() -> Result<(), String> {
    let scratch = Path::new(super::SCRATCH).parent().unwrap_or(Path::new("/"));
    let (root, scratch) = (open(Path::new("/"))?, open(scratch)?);
    let rules = || -> Result<(), RulesetError> {
        // The second rule hangs on the directory above the scratch mount, so that it outlives the mount.
        let in_scratch =
            AccessFs::from_all(LANDLOCK) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
        let mut ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .add_rule(PathBeneath::new(root, AccessFs::from_read(LANDLOCK)))?
            .add_rule(PathBeneath::new(scratch, in_scratch))?;
        if let Ok(null) = PathFd::new("/dev/null") {
            ruleset = ruleset.add_rule(PathBeneath::new(null, AccessFs::WriteFile | AccessFs::ReadFile))?;
        }
        ruleset.restrict_self().map(|_| ())
    };
    rules().map_err(|error| format!("Landlock: {error}"))
}

fn open(path: &Path) -> Result<PathFd, String> {
    PathFd::new(path).map_err(|error| format!("Landlock rule: {error}"))
}

/// What the running kernel enforces, in words.
pub(super) fn landlock_support() -> String {
    let attempt = || -> Result<String, RulesetError> {
        let _ = Ruleset::default().handle_access(AccessFs::from_all(ABI::V1))?.create()?;
        Ok("available".to_owned())
    };
    attempt().unwrap_or_else(|error| format!("not enforced ({error})"))
}
