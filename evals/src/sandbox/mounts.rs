//! The file system that a sandbox sees: read-only binds of the toolchain, a few devices, a scratch tmpfs.

use std::{
    ffi::CString,
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, symlink},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, pivot_root},
};

use super::{Limits, Profile, SCRATCH, Specification, confine::INNER_USER};

/// System directories a dynamically linked toolchain needs. Links among them are rebuilt as links.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32"];
/// The parts of /etc that compilers and Java read; no account, no host name, no secret.
const SYSTEM_ETC: [&str; 7] = [
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/java-11-openjdk",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/java-25-openjdk",
    "/etc/crypto-policies",
];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
const NO_DATA: Option<&str> = None;

/// A step that failed, in words.
#[derive(Debug)]
pub(super) struct MountError(pub(super) String);

fn at<E: std::fmt::Display>(step: impl Into<String>) -> impl FnOnce(E) -> MountError {
    move |error| MountError(format!("{}: {error}", step.into()))
}

/// Replaces this mount namespace's root by the sandbox's. Everything that was mounted before is gone afterwards.
pub(super) fn enter(specification: &Specification) -> Result<(), MountError> {
    mount(NO_DATA, "/", NO_DATA, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NO_DATA)
        .map_err(at("private mounts"))?;
    // A tmpfs that holds the old and the new root, so that what the tmpfs covers (/tmp) can still be bound.
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("size=1m"))
        .map_err(at("tmpfs for the new root"))?;
    make_directory(Path::new("/tmp/old"))?;
    make_directory(Path::new("/tmp/new"))?;
    pivot_root("/tmp", "/tmp/old").map_err(at("pivot_root to the staging root"))?;
    chdir("/").map_err(at("chdir"))?;
    mount(
        Some("tmpfs"),
        "/new",
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("size=1m,mode=755"),
    )
    .map_err(at("tmpfs of the new root"))?;

    let etc: &[&str] =
        if specification.profile == Profile::Toolchain { &SYSTEM_ETC } else { &SYSTEM_ETC[..1] };
    for path in SYSTEM.iter().chain(etc) {
        show(Path::new(path))?;
    }
    for path in &specification.visible {
        show(path)?;
    }
    for device in DEVICES {
        bind(&Path::new("/old/dev").join(device), &Path::new("/new/dev").join(device))?;
    }
    if specification.profile == Profile::Toolchain {
        mount_proc();
    }
    mount_scratch("/new", &specification.limits)?;
    if fs::symlink_metadata("/new/tmp").is_err() {
        symlink(SCRATCH, "/new/tmp").map_err(at("link /tmp"))?;
    }

    chdir("/new").map_err(at("chdir"))?;
    pivot_root(".", ".").map_err(at("pivot_root to the sandbox"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(at("detach the old root"))?;
    chdir("/").map_err(at("chdir"))?;
    mount(
        NO_DATA,
        "/",
        NO_DATA,
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        NO_DATA,
    )
    .map_err(at("read-only root"))
}

/// Makes the scratch directory as new. Cheap when the last program left nothing behind.
pub(super) fn reset_scratch(limits: &Limits) -> Result<(), MountError> {
    let untouched = fs::read_dir(SCRATCH).is_ok_and(|mut entries| entries.next().is_none())
        && fs::metadata(SCRATCH).is_ok_and(|metadata| metadata.mode() & 0o7777 == 0o700);
    if untouched {
        return Ok(());
    }
    umount2(SCRATCH, MntFlags::MNT_DETACH).map_err(at("unmount scratch"))?;
    mount_scratch("", limits)
}

/// Puts a file into the scratch directory, owned by the programs' user.
pub(super) fn write_scratch(name: &str, text: &str) -> Result<(), MountError> {
    let mut components = Path::new(name).components();
    if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
        return Err(MountError(format!("{name:?} is not a plain file name")));
    }
    let path = Path::new(SCRATCH).join(name);
    let mut file = fs::File::create(&path).map_err(at(format!("create {name}")))?;
    file.write_all(text.as_bytes()).map_err(at(format!("write {name}")))
}

fn mount_scratch(root: &str, limits: &Limits) -> Result<(), MountError> {
    let path = PathBuf::from(format!("{root}{SCRATCH}"));
    if !path.exists() {
        make_directory(&path)?;
    }
    let options = format!(
        "size={},nr_inodes={},mode=700,uid={INNER_USER},gid={INNER_USER}",
        limits.scratch_bytes, limits.scratch_files
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), &path, Some("tmpfs"), flags, Some(options.as_str())).map_err(at("mount scratch"))
}

/// Fresh /proc of the sandbox's own pid namespace. Some containers forbid it; toolchains then do without.
fn mount_proc() {
    if make_directory(Path::new("/new/proc")).is_ok() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let _ = mount(Some("proc"), "/new/proc", Some("proc"), flags, NO_DATA);
    }
}

/// Shows a path of the host inside, at the same place, read-only. Links are rebuilt and followed.
fn show(path: &Path) -> Result<(), MountError> {
    let source = Path::new("/old").join(path.strip_prefix("/").unwrap_or(path));
    let target = Path::new("/new").join(path.strip_prefix("/").unwrap_or(path));
    let Ok(metadata) = fs::symlink_metadata(&source) else { return Ok(()) };
    if metadata.is_symlink() {
        let link = fs::read_link(&source).map_err(at(format!("read link {}", path.display())))?;
        if fs::symlink_metadata(&target).is_err() {
            if let Some(parent) = target.parent() {
                make_directory(parent)?;
            }
            symlink(&link, &target).map_err(at(format!("link {}", path.display())))?;
        }
        // The path it stands for, unless that is inside something shown already.
        let aim = path.parent().unwrap_or(Path::new("/")).join(link);
        if !Path::new("/new").join(aim.strip_prefix("/").unwrap_or(&aim)).exists() {
            return show(&aim);
        }
        return Ok(());
    }
    if target.exists() {
        return Ok(());
    }
    bind(&source, &target)?;
    make_read_only(&target)
}

fn bind(source: &Path, target: &Path) -> Result<(), MountError> {
    let metadata = fs::metadata(source).map_err(at(format!("{}", source.display())))?;
    if metadata.is_dir() {
        make_directory(target)?;
    } else {
        if let Some(parent) = target.parent() {
            make_directory(parent)?;
        }
        fs::File::create(target).map_err(at(format!("create {}", target.display())))?;
    }
    mount(Some(source), target, NO_DATA, MsFlags::MS_BIND | MsFlags::MS_REC, NO_DATA)
        .map_err(at(format!("bind {}", source.display())))
}

/// Read-only with all mounts below, which a bind remount would leave writable.
fn make_read_only(target: &Path) -> Result<(), MountError> {
    let path = CString::new(target.as_os_str().as_encoded_bytes()).map_err(at("path"))?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: `path` is NUL-terminated and `attributes` is a `mount_attr` of the size given; both outlive the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &attributes as *const libc::mount_attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if outcome == 0 {
        return Ok(());
    }
    Err(MountError(format!(
        "make {} read-only (Linux 5.12 or newer is needed): {}",
        target.display(),
        Errno::last()
    )))
}

fn make_directory(path: &Path) -> Result<(), MountError> {
    match fs::DirBuilder::new().recursive(true).mode(0o755).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(MountError(format!("mkdir {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}
