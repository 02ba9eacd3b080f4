//! `lacuna complete`: one completion, printed.

use std::{
    fs,
    io::{IsTerminal, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use lacuna_indexer::{Language, Options, Progress, Workspace};
use lacuna_inference::Priority;
use ropey::Rope;
use serde_json::json;

use super::{chosen_model, start_engine};
use crate::{
    complete::{Ask, Completed, Completer, LARGEST_DOCUMENT_BYTES, Trigger},
    config::{Config, MultiLine, PromptStyleSetting},
    documents::Snapshot,
    indexing, position,
};

/// How long the workspace is read before a completion.
const SCAN_LIMIT: Duration = Duration::from_secs(10);
/// How often that is shown.
const SCAN_PROGRESS: Duration = Duration::from_millis(500);

/// Complete at a place in a file and print the text that belongs there
///
/// Prints the completion alone, nothing when there is none worth showing; the reason goes to standard error.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lacuna complete src/app.py:12:5
  lacuna complete src/app.py:12:5 --json
  git show HEAD:src/app.py | lacuna complete src/app.py:12:5 --stdin")]
pub struct Arguments {
    /// The place: line and column count from 1, the column in characters; column 1 is before the first one
    #[arg(value_name = "FILE:LINE:COL")]
    place: String,

    /// `embedded`, or the path of a GGUF file
    #[arg(long, value_name = "PATH|embedded")]
    model: Option<String>,

    /// The most tokens to generate
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=2048))]
    max_tokens: Option<u64>,

    /// The most milliseconds to generate for
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=600_000))]
    deadline_ms: Option<u64>,

    /// How the model is asked
    #[arg(long, value_enum, default_value_t = Style::Auto)]
    prompt_style: Style,

    /// Whether several lines are allowed; `auto` decides by the syntax at the place
    #[arg(long, value_enum, default_value_t = Lines::Auto)]
    multi_line: Lines,

    /// How many different completions to print, best first
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=8))]
    alternatives: u64,

    /// The directory whose other files give context [default: the one with .git above the file, else the file's own]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Take the file's text from standard input; FILE then only names it
    #[arg(long)]
    stdin: bool,

    /// Print JSON: the items with their ranges, and what they cost and were made of
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Style {
    Auto,
    Fim,
    Chat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Lines {
    Auto,
    Never,
    Always,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (file, line, column) = parse_place(&arguments.place)?;
    let text = read_text(arguments, &file)?;
    let rope = Rope::from_str(&text);
    let offset = position::from_human(&rope, line, column).map_err(|problem| {
        anyhow::anyhow!("{}: {problem}; give FILE:LINE:COL inside the file", file.display())
    })?;
    let path =
        std::path::absolute(&file).with_context(|| format!("{}: not a usable path", file.display()))?;
    let config = Arc::new(Config {
        model: chosen_model(arguments.model.as_deref()),
        max_tokens: arguments.max_tokens.map_or(Config::default().max_tokens, |tokens| tokens as usize),
        // In the terminal somebody waits for the answer, not for the next key press.
        deadline_ms: arguments.deadline_ms.unwrap_or(60_000),
        alternatives: arguments.alternatives as usize,
        prompt_style: match arguments.prompt_style {
            Style::Auto => PromptStyleSetting::Auto,
            Style::Fim => PromptStyleSetting::Fim,
            Style::Chat => PromptStyleSetting::Chat,
        },
        multi_line: match arguments.multi_line {
            Lines::Auto => MultiLine::Auto,
            Lines::Never => MultiLine::Never,
            Lines::Always => MultiLine::Always,
        },
        ..Config::default()
    });

    let root = workspace_root(arguments.root.as_deref(), &path)?;
    let options = Options { cache_directory: indexing::cache_directory(), ..Options::default() };
    let workspace = Workspace::new(vec![root], options);
    // Known before the scan, it makes the scan begin around it.
    workspace.update(&path, Some(&text));
    let scan = {
        let workspace = workspace.clone();
        std::thread::Builder::new()
            .name("index".into())
            .spawn(move || read_workspace(&workspace))
            .context("the index thread could not be started")?
    };
    let backend = start_engine(&config).map_err(anyhow::Error::msg)?;
    if scan.join().is_err() {
        eprintln!("lacuna: reading the workspace failed; completing without context from other files");
    }

    let language = Language::from_path(&path);
    let ask = Ask {
        document: Snapshot {
            uri: String::new(),
            path,
            language,
            language_id: language.map_or_else(String::new, |language| language.name().to_string()),
            version: 0,
            revision: 0,
            rope: rope.clone(),
            stale_tree: None,
        },
        offset,
        selected: None,
        trigger: Trigger::Invoked,
        priority: Priority::Interactive,
        recent: Vec::new(),
        config,
    };
    let completer = Arc::new(Completer::new(backend, workspace));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("the program's threads could not be started")?;
    let completed = runtime.block_on(completer.complete(ask));
    print(arguments, &rope, offset, &completed)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the files around the completed one, for a bounded time; says so where somebody watches.
fn read_workspace(workspace: &Workspace) {
    let began = Instant::now();
    let cancel = AtomicBool::new(false);
    let (done, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (finished, waiting) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let waiting = waiting;
            let is_watched = std::io::stderr().is_terminal();
            while waiting.recv_timeout(SCAN_PROGRESS) == Err(mpsc::RecvTimeoutError::Timeout) {
                if is_watched {
                    let (done, total) = (done.load(Ordering::Relaxed), total.load(Ordering::Relaxed));
                    eprint!("\rlacuna: reading the workspace, {done} of {total} files ");
                }
                if began.elapsed() >= SCAN_LIMIT {
                    cancel.store(true, Ordering::Relaxed);
                }
            }
            if is_watched && began.elapsed() >= SCAN_PROGRESS {
                eprintln!();
            }
        });
        let mut on_progress = |progress: Progress| {
            done.store(progress.files_done, Ordering::Relaxed);
            total.store(progress.files_total, Ordering::Relaxed);
        };
        workspace.scan(&mut on_progress, &cancel);
        drop(finished);
    });
    if cancel.load(Ordering::Relaxed) {
        eprintln!(
            "lacuna: the workspace was read for {} s and only in part; give --root a smaller directory for context \
             from all of it",
            SCAN_LIMIT.as_secs()
        );
    }
}

fn print(arguments: &Arguments, rope: &Rope, offset: usize, completed: &Completed) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    if arguments.json {
        let (line, column) = position::to_human(rope, offset);
        let place = json!({ "line": line, "column": column });
        let items: Vec<_> = completed
            .texts
            .iter()
            .map(|text| json!({ "text": text, "range": { "start": place, "end": place } }))
            .collect();
        let answer = json!({ "items": items, "explain": completed.explain });
        writeln!(output, "{}", serde_json::to_string_pretty(&answer)?)?;
    } else {
        for (number, text) in completed.texts.iter().enumerate() {
            if number > 0 {
                writeln!(output, "---")?;
            }
            writeln!(output, "{text}")?;
        }
        if completed.texts.is_empty() {
            eprintln!("lacuna: {}", completed.explain.outcome);
        }
    }
    output.flush().context("the answer could not be written")
}

/// Splits at the last two colons: paths may have some themselves.
pub(super) fn parse_place(place: &str) -> anyhow::Result<(PathBuf, usize, usize)> {
    let mut parts = place.rsplitn(3, ':');
    let (column, line, file) = (parts.next(), parts.next(), parts.next());
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<usize>().ok());
    match (file, number(line), number(column)) {
        (Some(file), Some(line), Some(column)) if !file.is_empty() => Ok((file.into(), line, column)),
        _ => bail!("`{place}` is not FILE:LINE:COL; write for example src/app.py:12:5"),
    }
}

fn read_text(arguments: &Arguments, file: &Path) -> anyhow::Result<String> {
    let limit = LARGEST_DOCUMENT_BYTES as u64;
    let mut bytes = Vec::new();
    if arguments.stdin {
        std::io::stdin()
            .lock()
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .context("standard input could not be read")?;
    } else {
        let open = fs::File::open(file).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
        open.with_context(|| {
            format!("{}: the file cannot be read; give one that exists, or --stdin", file.display())
        })?;
    }
    if bytes.len() as u64 > limit {
        bail!(
            "{}: larger than {} MiB; such files are not completed",
            file.display(),
            LARGEST_DOCUMENT_BYTES >> 20
        );
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!("{}: byte {at} is not UTF-8; convert the file to UTF-8", file.display())
    })
}

/// The directory whose files give context: the one asked for, which must exist, else the one found.
pub(super) fn workspace_root(asked: Option<&Path>, path: &Path) -> anyhow::Result<PathBuf> {
    let root = asked.map_or_else(|| find_root(path), Path::to_path_buf);
    let root =
        std::path::absolute(&root).with_context(|| format!("{}: not a usable directory", root.display()))?;
    if !root.is_dir() {
        bail!("{}: there is no such directory; give --root an existing one", root.display());
    }
    Ok(root)
}

/// The nearest directory above the file that is a repository, else the file's own.
fn find_root(path: &Path) -> PathBuf {
    let parent = path.parent().unwrap_or(Path::new("."));
    parent.ancestors().find(|directory| directory.join(".git").exists()).unwrap_or(parent).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_parsed_from_the_end() {
        assert_eq!(parse_place("a.py:3:4").ok(), Some(("a.py".into(), 3, 4)));
        assert_eq!(parse_place("C:\\x.py:3:4").ok(), Some(("C:\\x.py".into(), 3, 4)));
        for wrong in ["a.py", "a.py:3", "a.py:x:4", ":3:4", "a.py:3:-1", ""] {
            assert!(parse_place(wrong).is_err(), "{wrong:?}");
        }
    }
}
