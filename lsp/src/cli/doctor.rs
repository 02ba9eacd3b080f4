//! `lacuna doctor`: checks what a completion needs, one line each, and says what to do about what is missing.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use clap::Args;
use lacuna_indexer::{Language, Workspace};
use lacuna_inference::{
    Backend, Device, Engine, EngineOptions, Model, Priority,
    cuda::{GpuError, describe_gpu},
    milliseconds,
};
use ropey::Rope;

use super::{chosen_model, source};
use crate::{
    complete::{Ask, Completer, Trigger},
    config::Config,
    documents::Snapshot,
    syntax,
};

/// Check that completions work on this machine
///
/// Each line begins with ok, warning or FAILURE; the exit code is 1 if anything failed.
#[derive(Debug, Args)]
pub struct Arguments {
    /// `embedded`, or the path of a GGUF file
    #[arg(long, value_name = "PATH|embedded")]
    model: Option<String>,
    /// Where the model runs: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: Device,
}

/// What one check found.
enum Finding {
    Ok(String),
    /// It works, but could work better; what to do.
    Warning(String),
    /// There are no completions until somebody does something; what to do.
    Failure(String),
}

use Finding::{Failure, Ok as Fine, Warning};

/// A first completion that takes longer than this deserves a word about why.
const SLOW_MS: f64 = 3000.0;

pub fn run(arguments: &Arguments) -> ExitCode {
    let name = chosen_model(arguments.model.as_deref());
    let mut failed = false;
    let mut report = |what: &str, finding: Finding| {
        let (word, text) = match finding {
            Fine(text) => ("ok", text),
            Warning(text) => ("warning", text),
            Failure(text) => {
                failed = true;
                ("FAILURE", text)
            }
        };
        println!("{word:<9}{what:<12}{text}");
    };
    report("cpu", cpu());
    report("gpu", gpu());
    report("grammars", grammars());
    let model = Model::open(&source(&name));
    match &model {
        Ok(model) => {
            report("model", Fine(format!("{name}, {} MiB", model.gguf().byte_length() >> 20)));
            report("prompt", prompt_tokens(model));
            match Engine::start(
                model.clone(),
                EngineOptions { device: arguments.device, ..EngineOptions::default() },
            ) {
                Ok(engine) => {
                    let status = engine.status();
                    report("engine", Fine(format!("{} with {} threads", status.device, status.threads)));
                    report("completion", completion(Arc::new(engine)));
                }
                Err(error) => report("engine", Failure(error.to_string())),
            }
        }
        Err(error) => report("model", Failure(format!("{error}; or use --model embedded"))),
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn cpu() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let features = cpu_features();
    let text = format!(
        "{cores} threads, {}",
        if features.is_empty() { "no vector features".into() } else { features.join(" ") }
    );
    let is_fast = cfg!(target_arch = "aarch64") || features.contains(&"avx2");
    if is_fast {
        Fine(text)
    } else {
        Warning(format!("{text}; without AVX2 completions are slow, use a small model"))
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    use lacuna_inference::cpu::instructions::Instructions;

    let all = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
    ];
    // AVX2 is named above.
    let vnni = Instructions::chosen().filter(|chosen| *chosen != Instructions::Avx2).map(Instructions::name);
    all.into_iter().filter(|(_, present)| *present).map(|(name, _)| name).chain(vnni).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> Vec<&'static str> {
    Vec::new()
}

/// Whether there is a GPU to use, and if not, why.
fn gpu() -> Finding {
    match describe_gpu(0) {
        Ok(text) => Fine(text),
        Err(GpuError::NoDriver) => Fine("no NVIDIA driver; computing on the CPU".into()),
        Err(error) => Warning(error.to_string()),
    }
}

fn grammars() -> Finding {
    let mut broken = Vec::new();
    for &language in Language::ALL {
        if syntax::parse_text(language, "x", None).is_none() {
            broken.push(language.name());
        }
    }
    if broken.is_empty() {
        let names: Vec<&str> = Language::ALL.iter().map(|language| language.name()).collect();
        Fine(names.join(" "))
    } else {
        Failure(format!("not loaded: {}; build lacuna again with the locked versions", broken.join(" ")))
    }
}

fn prompt_tokens(model: &Model) -> Finding {
    match (model.fim(), model.chat()) {
        (None, None) => Failure("no fill-in-the-middle tokens and no chat template; use a code model".into()),
        (None, Some(_)) => Warning("no fill-in-the-middle tokens; asked by chat, which is slower".into()),
        (Some(fim), _) => {
            let tokens = fim.tokens();
            let mut ids: Vec<u32> = tokens.iter().map(|&(_, id)| id).collect();
            ids.sort_unstable();
            ids.dedup();
            let vocabulary = model.config().vocabulary;
            if ids.len() < tokens.len() || ids.iter().any(|&id| id as usize >= vocabulary) {
                return Failure("the fill-in-the-middle tokens are not distinct ids of the vocabulary; convert the model again".into());
            }
            let style = format!("{:?}", model.default_prompt_style()).to_lowercase();
            Fine(format!(
                "{} fill-in-the-middle tokens of family {}, asked by {style}",
                tokens.len(),
                fim.family()
            ))
        }
    }
}

fn completion(backend: Arc<dyn Backend>) -> Finding {
    let before = "def add(a, b):\n    return ";
    let text = format!("{before}\n\n\nprint(add(1, 2))\n");
    let ask = Ask {
        document: Snapshot {
            uri: String::new(),
            path: PathBuf::from("add.py"),
            language: Language::from_path(Path::new("add.py")),
            language_id: "python".into(),
            version: 0,
            revision: 0,
            rope: Rope::from_str(&text),
            stale_tree: None,
        },
        offset: before.len(),
        selected: None,
        trigger: Trigger::Automatic,
        priority: Priority::Interactive,
        recent: Vec::new(),
        config: Arc::new(Config { deadline_ms: 60_000, least_confidence: 0, ..Config::default() }),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure(format!("threads could not be started ({error}); free some memory")),
    };
    let workspace = Workspace::new(Vec::new(), lacuna_indexer::Options::default());
    let completer = Arc::new(Completer::new(backend, workspace));
    let started = Instant::now();
    let completed = runtime.block_on(completer.complete(ask));
    let first_ms = milliseconds(started.elapsed());
    match completed.texts.first() {
        Some(text) if first_ms > SLOW_MS => Warning(format!(
            "`{before}` -> `{text}` took {first_ms:.0} ms; use a smaller model",
            before = "return "
        )),
        Some(text) => Fine(format!("`return ` -> `{text}` in {first_ms:.0} ms")),
        None => Failure(format!("{}; try another model", completed.explain.outcome)),
    }
}
