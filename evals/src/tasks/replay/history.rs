//! Sessions from a git history: what commits added, typed into the files they added it to.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use lacuna_indexer::Language;
use tempfile::TempDir;

use super::script::{self, Session};

/// Commits that are looked at, the latest first.
const COMMITS: usize = 500;
/// Additions that nobody types: pasted, generated, moved.
const MOST_LINES: usize = 30;
const FEWEST_CHARACTERS: usize = 20;
/// Additions typed in one file of one commit.
const REGIONS: usize = 3;

/// Sessions, and the repository as it was before the first of them: the server must not read what is still to be typed.
pub struct History {
    pub sessions: Vec<Session>,
    pub root: TempDir,
}

/// At most `limit` sessions from the latest commits of the repository at `data`, typed from the oldest to the latest.
pub fn from_git(data: &Path, limit: usize, seed: u64) -> Result<History> {
    let git = |arguments: &[&str]| git(data, arguments);
    let most = format!("-n{COMMITS}");
    let log = git(&["log", "--no-merges", "--first-parent", &most, "--format=%H %P"])?;
    let root = tempfile::tempdir().context("cannot make a directory for the repository")?;
    let mut state = seed;
    let (mut sessions, mut oldest) = (Vec::new(), String::new());
    for line in log.lines() {
        // A commit without a parent added everything at once.
        let Some((commit, parent)) = line.trim_end().split_once(' ') else { continue };
        // Only files that were there before; renames and copies are nothing that was typed.
        let changes =
            git(&["diff-tree", "-r", "--no-renames", "--diff-filter=M", "--name-only", parent, commit])?;
        for file in changes.lines() {
            if sessions.len() == limit || Language::from_path(Path::new(file)).is_none() {
                continue;
            }
            let Ok(text) = git(&["show", &format!("{commit}:{file}")]) else { continue };
            let patch = git(&["diff-tree", "-p", "--unified=0", "--no-renames", parent, commit, "--", file])?;
            let regions = additions(&text, &patch);
            if regions.is_empty() || text.len() > script::LARGEST_FILE {
                continue;
            }
            let (text, edits) = script::script(&text, &regions, &mut state);
            let name = format!("{}:{file}", commit.get(..8).unwrap_or(commit));
            sessions.push(Session { name, path: root.path().join(file), text, edits });
            parent.clone_into(&mut oldest);
        }
        if sessions.len() == limit {
            break;
        }
    }
    if sessions.is_empty() {
        bail!(
            "the last {COMMITS} commits of {} add nothing that somebody may have typed to a source file",
            data.display()
        );
    }
    check_out(data, &oldest, root.path())?;
    sessions.reverse();
    Ok(History { sessions, root })
}

fn git(directory: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        .output()
        .context("cannot run `git`; is it installed?")?;
    if !output.status.success() {
        bail!("git in {}: {}", directory.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("git answered with something that is not UTF-8")
}

/// The repository's files as of a commit, without its history.
fn check_out(repository: &Path, commit: &str, into: &Path) -> Result<()> {
    let index: PathBuf = into.join(".index-of-the-replay");
    for arguments in [&["read-tree", commit][..], &["checkout-index", "--all"]] {
        let output = Command::new("git")
            .arg("-C")
            .arg(git(repository, &["rev-parse", "--show-toplevel"])?.trim())
            .arg("--work-tree")
            .arg(into)
            .args(arguments)
            .env("GIT_INDEX_FILE", &index)
            .output()?;
        if !output.status.success() {
            bail!("git {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    std::fs::remove_file(index).context("cannot remove the replay's own index of the repository")
}

/// Where the added lines of a patch without context stand in the new text, in order.
fn additions(text: &str, patch: &str) -> Vec<Range<usize>> {
    let mut starts = vec![0];
    starts.extend(text.match_indices('\n').map(|(end, _)| end + 1));
    let mut regions = Vec::new();
    for header in patch.lines().filter_map(|line| line.strip_prefix("@@ ")) {
        let Some(added) = header.split(' ').find_map(|part| part.strip_prefix('+')) else { continue };
        let (first, count) = added.split_once(',').unwrap_or((added, "1"));
        let (Ok(first), Ok(count)) = (first.parse::<usize>(), count.parse::<usize>()) else { continue };
        if first == 0 || count == 0 || count > MOST_LINES {
            continue;
        }
        let (Some(&start), end) = (starts.get(first - 1), starts.get(first - 1 + count)) else { continue };
        let region = start..end.copied().unwrap_or(text.len());
        if text[region.clone()].trim().chars().count() >= FEWEST_CHARACTERS {
            regions.push(region);
        }
    }
    regions.truncate(REGIONS);
    regions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commits_added_is_typed() {
        let directory = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            let author =
                ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"];
            git(directory.path(), &[&author[..], arguments].concat()).unwrap()
        };
        let write = |text: &str| std::fs::write(directory.path().join("a.py"), text).unwrap();
        run(&["init", "-q"]);
        let old = "def first():\n    return 1\n\n\ndef last():\n    return 3\n";
        let added = "def second(number):\n    return number * 2\n\n\n";
        write(old);
        std::fs::write(directory.path().join("data.bin"), "x\n".repeat(90)).unwrap();
        run(&["add", "."]);
        run(&["commit", "-q", "-m", "one"]);
        let new = old.replace("def last", &format!("{added}def last"));
        write(&new);
        std::fs::write(directory.path().join("data.bin"), "y\n".repeat(90)).unwrap();
        run(&["commit", "-q", "-a", "-m", "two"]);

        let history = from_git(directory.path(), 5, 0).unwrap();
        let [session] = &history.sessions[..] else { panic!("{} sessions", history.sessions.len()) };
        assert_eq!(session.text, old);
        assert_eq!(std::fs::read_to_string(&session.path).unwrap(), old, "the server reads the older state");
        let mut typed = session.text.clone();
        for edit in &session.edits {
            edit.apply(&mut typed);
        }
        assert_eq!(typed, new);
        assert!(from_git(tempfile::tempdir().unwrap().path(), 5, 0).is_err());
    }

    #[test]
    fn additions_of_a_patch() {
        let text = "short\n0123456789012345678901234\nthird line that is long enough\nlast";
        for (header, expected) in [
            ("@@ -1,0 +2 @@ def f():", Some((6, 32))),
            ("@@ -1,0 +2,2 @@", Some((6, 63))),
            ("@@ -3 +2,0 @@", None),
            ("@@ -0,0 +1 @@", None),
            ("@@ -0,0 +1,99 @@", None),
            ("@@ -0,0 +90,2 @@", None),
            ("+@@ no header", None),
        ] {
            let found = additions(text, header).first().map(|region| (region.start, region.end));
            assert_eq!(found, expected, "{header}");
        }
    }
}
