//! What keys and values in fp8 cost beside bf16: `cargo bench --bench gpu_cache -- [--gpu N] [--corpus DIR] [--model PATH]...`.
//!
//! Windows of source files are computed with either cache, every token's probability after those before it is compared, and
//! so are the logits. The probabilities mean something for trained weights only.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use lacuna_inference::{
    Model, ModelSource,
    cuda::{CudaRunner, Gpu, PageFormat, check::normalized_error, pages::CacheWish},
    kv_cache::{BLOCK_SIZE, BlockId},
    sampler::{argmax, log_probability},
    scheduler::{Batch, BatchEntry},
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Tokens of a window, and the most windows.
const WINDOW: usize = 1024;
const MOST_WINDOWS: usize = 64;
/// Languages that the embedded model was trained on.
const EXTENSIONS: [&str; 7] = ["rs", "py", "ts", "js", "go", "java", "cu"];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut models, mut index) = (Vec::new(), 0);
    let mut corpus = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--model", Some(path)) => models.push(ModelSource::parse(&path)),
            ("--gpu", Some(number)) => index = number.parse().unwrap_or(0),
            ("--corpus", Some(path)) => corpus = path.into(),
            _ => {
                eprintln!("usage: gpu_cache [--gpu N] [--corpus DIR] [--model PATH|embedded]...");
                return ExitCode::from(2);
            }
        }
    }
    for source in models {
        if let Err(error) = compare(index, &corpus, &source) {
            println!("FAILED      {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// What one cache made of a window.
struct Scored {
    /// In nats, of each token but the first.
    losses: Vec<f64>,
    choices: Vec<u32>,
    logits: Vec<f32>,
}

fn compare(index: usize, corpus: &Path, source: &ModelSource) -> Outcome<()> {
    let model = Model::open(source)?;
    let windows = windows(corpus, &model)?;
    let blocks = WINDOW / BLOCK_SIZE;
    let open = |format| {
        let cache = CacheWish { blocks, least_blocks: blocks, format };
        CudaRunner::new(Gpu::open(index)?, model.gguf(), model.config(), cache)
            .map_err(Box::<dyn std::error::Error>::from)
    };
    let (mut bf16, mut fp8) = (open(PageFormat::Bf16)?, open(PageFormat::Fp8)?);
    let (mut losses, mut differences, mut agreeing, mut errors) = (0.0, Vec::new(), 0, 0.0);
    for window in &windows {
        let (a, b) = (score(&mut bf16, &model, window)?, score(&mut fp8, &model, window)?);
        losses += a.losses.iter().sum::<f64>();
        differences.extend(b.losses.iter().zip(&a.losses).map(|(b, a)| b - a));
        agreeing += a.choices.iter().zip(&b.choices).filter(|(a, b)| a == b).count();
        errors += normalized_error(&b.logits, &a.logits);
    }
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let variance = differences.iter().map(|d| (d - mean) * (d - mean)).sum::<f64>() / count;
    println!(
        "{}: {} windows of {WINDOW} tokens. Loss with bf16 {:.4} nats, with fp8 {mean:+.5} (standard error {:.5}); the likeliest \
         token is the same at {:.2} % of places; logits' normalized squared error {:.2e}; cache {} and {} KiB for {WINDOW} tokens",
        model.name(),
        windows.len(),
        losses / count,
        (variance / count).sqrt(),
        100.0 * agreeing as f64 / count,
        errors / windows.len() as f64,
        bf16.kv_bytes() >> 10,
        fp8.kv_bytes() >> 10,
    );
    Ok(())
}

fn score(runner: &mut CudaRunner, model: &Model, window: &[u32]) -> Outcome<Scored> {
    let entry = BatchEntry {
        sequence: 0,
        tokens: window.to_vec(),
        start: 0,
        blocks: (0..window.len().div_ceil(BLOCK_SIZE) as BlockId).collect(),
        logits: 0..window.len(),
    };
    let batch = Batch { copies: Vec::new(), entries: vec![entry] };
    let logits = runner.forward(&batch, &|| false)?.unwrap_or_default();
    let rows = || logits.chunks_exact(model.config().vocabulary).zip(&window[1..]);
    Ok(Scored {
        losses: rows().map(|(row, next)| -f64::from(log_probability(row, *next))).collect(),
        choices: rows().map(|(row, _)| argmax(row)).collect(),
        logits: logits.to_vec(),
    })
}

/// Windows from the beginnings of files, in the order of their paths.
fn windows(corpus: &Path, model: &Model) -> Outcome<Vec<Vec<u32>>> {
    let mut files = Vec::new();
    list(corpus, &mut files)?;
    files.sort();
    let mut windows = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let mut tokens = model.tokenizer().encode(&text);
        if tokens.len() >= WINDOW && windows.len() < MOST_WINDOWS {
            tokens.truncate(WINDOW);
            windows.push(tokens);
        }
    }
    if windows.is_empty() {
        return Err(format!("{} has no source file of {WINDOW} tokens", corpus.display()).into());
    }
    Ok(windows)
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Outcome<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let hidden = name.to_string_lossy().starts_with('.') || name == "target" || name == "node_modules";
        if entry.file_type()?.is_dir() && !hidden {
            list(&path, files)?;
        } else if path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| *known == extension))
        {
            files.push(path);
        }
    }
    Ok(())
}
