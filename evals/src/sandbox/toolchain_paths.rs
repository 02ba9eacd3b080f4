//! What of the file system a toolchain needs to see: found by asking the toolchain itself.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// A Python interpreter and the directories it lives in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    pub executable: PathBuf,
    pub visible: Vec<PathBuf>,
    /// Such as `3.11.7`.
    pub version: String,
}

impl Interpreter {
    /// Asks `command` (a name on the PATH or a path) where it lives; shims resolve to what they stand for.
    pub fn find(command: &str) -> Result<Self> {
        const ASK: &str = "import sys, os; print(sys.executable); print(sys.prefix); print(sys.base_prefix); \
             print(os.path.dirname(os.path.realpath(sys.executable))); print(sys.version.split()[0])";
        let output = Command::new(command).args(["-I", "-c", ASK]).output().with_context(|| {
            format!("cannot run `{command}`; install Python 3.9 or newer, or name one with --python")
        })?;
        if !output.status.success() {
            bail!("`{command}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = answer.lines().collect();
        let [executable, places @ .., version] = lines.as_slice() else {
            bail!("`{command}` is not a Python interpreter: it answered {answer:?}");
        };
        let mut visible: Vec<PathBuf> = Vec::new();
        for place in places {
            let place = PathBuf::from(place);
            check_visible(&place)?;
            if !visible.contains(&place) {
                visible.push(place);
            }
        }
        Ok(Self { executable: PathBuf::from(executable), visible, version: (*version).to_owned() })
    }
}

/// Refuses to show a directory that would carry the user's home into the sandbox.
pub fn check_visible(path: &Path) -> Result<()> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| PathBuf::from("/root"));
    if path == Path::new("/") || home.starts_with(path) {
        bail!(
            "{} would have to be shown to untrusted code, but it holds the home directory; use a toolchain that is \
             installed in a directory of its own",
            path.display()
        );
    }
    Ok(())
}

/// The first file called `name` on the PATH, with links resolved.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}
