//! `lacuna bench`: how fast a model runs on this machine.
//!
//! Prompts are windows of real source files, each used once: a repeated prompt would be answered from the cache, and
//! text that repeats would flatter speculation.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use lacuna_indexer::Language;
use lacuna_inference::{
    Backend, DEFAULT_CONTEXT, Device, Engine, EngineOptions, Event, Generation, Model, Output, PageFormat,
    Request, milliseconds, speculative::Speculation,
};
use serde_json::{Value, json};

use super::{chosen_model, source};
use crate::status::process_bytes;

/// Files of the corpus that are read at most.
const MOST_FILES: usize = 2000;
/// Source bytes that are tokenized at a time.
const PIECE_BYTES: usize = 1 << 20;
/// The first request pages the weights in and is not counted.
const WARM_UP_TOKENS: usize = 32;

/// Measure how fast a model runs here
#[derive(Debug, Args)]
#[command(after_help = "\
Prompts are windows of source files below --corpus, none used twice. Figures are medians over --rounds.

Examples:
  lacuna bench
  lacuna bench --model r1-7b-q4_k_m.gguf --prompt 512,2048 --gen 64 --batch 1,4,16 --json")]
pub struct Arguments {
    /// `embedded`, or the path of a GGUF file
    #[arg(long, value_name = "PATH|embedded")]
    model: Option<String>,

    /// What to compute on: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Auto)]
    device: Device,

    /// How a GPU keeps keys and values: bf16 or fp8
    #[arg(long, value_name = "FORMAT", default_value_t = PageFormat::default())]
    gpu_cache: PageFormat,

    /// Threads for computation; 0 takes the number of physical cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,

    /// Lengths of the prompts whose prefill is measured, in tokens
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "512")]
    prompt: Vec<usize>,

    /// Tokens to generate after each prompt
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=8192))]
    r#gen: u64,

    /// Numbers of requests that run at the same time
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1")]
    batch: Vec<usize>,

    /// Tokens before the generated ones when decoding is measured [default: the first --prompt]
    #[arg(long, value_name = "N")]
    context_depth: Option<usize>,

    /// Speculative decoding
    #[arg(long, value_enum, default_value_t = Switch::On)]
    spec: Switch,

    /// A GGUF file with a smaller model of the same vocabulary, which guesses where nothing repeats
    #[arg(long, value_name = "PATH")]
    draft_model: Option<String>,

    /// Directory of source files for prompts
    #[arg(long, value_name = "DIR", default_value = ".")]
    corpus: PathBuf,

    /// Run the prompts of this file instead, one after the other, each with an empty cache: {"prompts": [[ID, ...], ...]}
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,

    /// How often each figure is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl Arguments {
    /// Tokens before the generated ones where decoding is measured.
    fn depth(&self) -> usize {
        self.context_depth.or(self.prompt.first().copied()).unwrap_or(512)
    }

    /// Tokens of the longest request, its answer included.
    fn longest(&self, given: Option<&[Vec<u32>]>) -> usize {
        let generate = self.r#gen as usize;
        match given {
            Some(prompts) => prompts.iter().map(|prompt| prompt.len() + generate).max().unwrap_or(0),
            // A prompt is asked again with the token that came after it, for one more.
            None => self.prompt.iter().map(|length| length + 2).fold(self.depth() + generate, usize::max),
        }
    }
}

fn read_prompts(file: &Path) -> anyhow::Result<Vec<Vec<u32>>> {
    #[derive(serde::Deserialize)]
    struct Prompts {
        prompts: Vec<Vec<u32>>,
    }
    let text = fs::read(file).with_context(|| format!("{}: cannot be read", file.display()))?;
    let given: Prompts = serde_json::from_slice(&text)
        .with_context(|| format!("{}: not {{\"prompts\": [[ID, ...], ...]}}", file.display()))?;
    Ok(given.prompts)
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let given = arguments.prompts.as_deref().map(read_prompts).transpose()?;
    let bench = Bench::new(arguments, arguments.longest(given.as_deref()))?;
    let measured = match given {
        Some(prompts) => bench.given_prompts(prompts)?,
        None => bench.own_prompts(arguments)?,
    };
    let mut answer = json!({
        "engine": "lacuna",
        "version": env!("CARGO_PKG_VERSION"),
        "model": bench.model.name(),
        "device": bench.device,
        "threads": bench.threads,
        "speculation": arguments.spec == Switch::On,
        "load_ms": bench.load_ms,
        "weights_bytes": bench.model.gguf().byte_length(),
        "resident_bytes": process_bytes(),
        "draft_model": bench.engine.status().draft_model,
    });
    if let (Value::Object(answer), Value::Object(measured)) = (&mut answer, measured) {
        answer.extend(measured);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        print_table(&answer);
    }
    Ok(ExitCode::SUCCESS)
}

struct Bench {
    model: Model,
    engine: Engine,
    generate: usize,
    device: String,
    threads: usize,
    load_ms: f64,
}

impl Bench {
    /// `longest`: tokens of the longest request.
    fn new(arguments: &Arguments, longest: usize) -> anyhow::Result<Self> {
        let began = Instant::now();
        let model = Model::open(&source(&chosen_model(arguments.model.as_deref())))?;
        let draft_model = match &arguments.draft_model {
            Some(name) => Some(Model::open(&source(name))?),
            None => None,
        };
        let speculation = match arguments.spec {
            Switch::On => Speculation::default(),
            Switch::Off => Speculation::Off,
        };
        let streams = arguments.batch.iter().copied().max().unwrap_or(1);
        let generate = arguments.r#gen as usize;
        let options = EngineOptions {
            device: arguments.device,
            page_format: arguments.gpu_cache,
            threads: arguments.threads,
            speculation,
            draft_model,
            // Prompts longer than the engine takes by itself are measured up to the model's own limit.
            context: longest.max(DEFAULT_CONTEXT),
            // Room for all streams at their full length; the engine itself sees to one of the longest.
            cache_tokens: (arguments.depth() + generate + 64) * streams,
            ..EngineOptions::default()
        };
        let engine = Engine::start(model.clone(), options)?;
        let status = engine.status();
        Ok(Self {
            model,
            engine,
            generate,
            device: status.device,
            threads: status.threads,
            load_ms: milliseconds(began.elapsed()),
        })
    }

    /// Exactly `tokens` greedy tokens, whatever they are.
    fn submit(&self, prompt: Vec<u32>, tokens: usize) -> anyhow::Result<Generation> {
        let length = prompt.len();
        let request = Request::greedy(prompt, tokens);
        self.engine.submit(request).with_context(|| {
            format!("{length} tokens and {tokens} more do not fit; the model's context is {} tokens", {
                self.model.config().context_length
            })
        })
    }

    fn complete(&self, prompt: Vec<u32>, tokens: usize) -> anyhow::Result<Output> {
        let length = prompt.len();
        let output = self.submit(prompt, tokens)?.collect_blocking()?;
        ensure!(
            output.tokens.len() == tokens,
            "after {length} tokens only {} of {tokens} fitted; ask for fewer: the model's context is {} tokens",
            output.tokens.len(),
            self.model.config().context_length
        );
        Ok(output)
    }

    fn given_prompts(&self, prompts: Vec<Vec<u32>>) -> anyhow::Result<Value> {
        let mut runs = Vec::new();
        for prompt in prompts {
            self.engine.clear_cache()?;
            let output = self.complete(prompt, self.generate)?;
            runs.push(run_json(&output));
        }
        Ok(json!({ "runs": runs }))
    }

    fn own_prompts(&self, arguments: &Arguments) -> anyhow::Result<Value> {
        let mut corpus = Corpus::open(&arguments.corpus, &self.model)?;
        self.complete(corpus.take(WARM_UP_TOKENS)?, 2)?;
        let rounds = arguments.rounds;
        let mut prefill = Vec::new();
        for &length in &arguments.prompt {
            let (mut cold, mut warm) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                self.engine.clear_cache()?;
                let mut prompt = corpus.take(length)?;
                let first = self.complete(prompt.clone(), 1)?;
                cold.push(first.stats.prefill_ms);
                // What the next key press asks: the same with one token more.
                prompt.extend(first.tokens);
                warm.push(self.complete(prompt, 1)?.stats.prefill_ms);
            }
            let cold = median(&mut cold);
            prefill.push(json!({
                "prompt_tokens": length,
                "tokens_per_second": length as f64 / cold * 1e3,
                "first_token_cold_ms": cold,
                "first_token_warm_ms": median(&mut warm),
            }));
        }
        let depth = arguments.depth();
        let mut decode = Vec::new();
        for &batch in &arguments.batch {
            ensure!(batch >= 1, "--batch counts requests; the least is 1");
            let mut measured: Vec<Decode> = Vec::new();
            for _ in 0..rounds {
                measured.push(self.decode(&mut corpus, depth, batch)?);
            }
            let of = |field: fn(&Decode) -> f64| median(&mut measured.iter().map(field).collect::<Vec<_>>());
            decode.push(json!({
                "batch": batch,
                "context_depth": depth,
                "generated_tokens": self.generate,
                "tokens_per_second": of(|decode| decode.tokens_per_second),
                "with_prefill_tokens_per_second": of(|decode| decode.with_prefill),
                "slowest_to_median": of(|decode| decode.slowest_to_median),
                "accepted_of_drafted": of(|decode| decode.acceptance),
            }));
        }
        let mut measured = json!({ "rounds": rounds, "prefill": prefill, "decode": decode });
        // The main memory's bandwidth bounds what the CPU can do; a GPU has a memory of its own.
        let single = decode.first().filter(|first| first["batch"] == 1);
        if let (Some(rate), "cpu") =
            (single.and_then(|first| first["tokens_per_second"].as_f64()), &*self.device)
        {
            let bandwidth = memory_bandwidth(self.threads);
            let floor = bandwidth / self.model.gguf().byte_length() as f64;
            measured["memory_bandwidth_bytes_per_second"] = bandwidth.into();
            measured["percent_of_memory_bandwidth"] = (100.0 * rate / floor).into();
        }
        Ok(measured)
    }

    fn decode(&self, corpus: &mut Corpus, depth: usize, batch: usize) -> anyhow::Result<Decode> {
        self.engine.clear_cache()?;
        let began = Instant::now();
        let mut running = Vec::new();
        for _ in 0..batch {
            running.push(self.submit(corpus.take(depth)?, self.generate)?);
        }
        let streams = std::thread::scope(|scope| {
            let waiting: Vec<_> =
                running.into_iter().map(|generation| scope.spawn(move || watch(generation, began))).collect();
            waiting
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| bail!("a request was lost")))
                .collect::<anyhow::Result<Vec<_>>>()
        })?;
        // While all streams decode: from the last one's first token to the first one's last.
        let start = streams.iter().filter_map(|stream| stream.tokens.first().copied()).fold(0.0, f64::max);
        let end = streams.iter().filter_map(|stream| stream.tokens.last().copied()).fold(f64::MAX, f64::min);
        let steps =
            streams.iter().flat_map(|stream| &stream.tokens).filter(|&&at| at > start && at <= end).count();
        let total: usize = streams.iter().map(|stream| stream.tokens.len()).sum();
        let mut finished: Vec<f64> =
            streams.iter().filter_map(|stream| stream.tokens.last().copied()).collect();
        let slowest = finished.iter().copied().fold(0.0, f64::max);
        let drafted: usize = streams.iter().map(|stream| stream.drafted).sum();
        let accepted: usize = streams.iter().map(|stream| stream.accepted).sum();
        Ok(Decode {
            tokens_per_second: if end > start { steps as f64 / (end - start) * 1e3 } else { 0.0 },
            with_prefill: total as f64 / slowest * 1e3,
            slowest_to_median: slowest / median(&mut finished),
            acceptance: if drafted == 0 { 0.0 } else { accepted as f64 / drafted as f64 },
        })
    }
}

struct Decode {
    tokens_per_second: f64,
    with_prefill: f64,
    slowest_to_median: f64,
    acceptance: f64,
}

/// When the tokens of one request came, in milliseconds, and what speculation did for it.
struct Stream {
    tokens: Vec<f64>,
    drafted: usize,
    accepted: usize,
}

fn watch(mut generation: Generation, began: Instant) -> anyhow::Result<Stream> {
    let mut stream = Stream { tokens: Vec::new(), drafted: 0, accepted: 0 };
    while let Some(event) = generation.next_blocking() {
        match event {
            Event::Token { .. } => stream.tokens.push(milliseconds(began.elapsed())),
            Event::Finished { stats, .. } => {
                (stream.drafted, stream.accepted) = (stats.drafted_tokens, stats.accepted_tokens);
            }
            Event::Failed(error) => return Err(error.into()),
        }
    }
    Ok(stream)
}

fn run_json(output: &Output) -> Value {
    let stats = &output.stats;
    json!({
        "prompt_tokens": stats.prompt_tokens,
        "cached_tokens": stats.cached_tokens,
        "prefill_ms": stats.queue_ms + stats.prefill_ms,
        "generated_tokens": stats.generated_tokens,
        "decode_ms": stats.decode_ms,
        "drafted_tokens": stats.drafted_tokens,
        "accepted_tokens": stats.accepted_tokens,
    })
}

/// Tokens of source files, each given once.
struct Corpus {
    model: Model,
    directory: PathBuf,
    files: VecDeque<PathBuf>,
    tokens: VecDeque<u32>,
}

impl Corpus {
    fn open(directory: &Path, model: &Model) -> anyhow::Result<Self> {
        ensure!(
            directory.is_dir(),
            "{}: there is no such directory; give --corpus one with source files",
            directory.display()
        );
        let mut files: Vec<PathBuf> = ignore::WalkBuilder::new(directory)
            .build()
            .flatten()
            .map(ignore::DirEntry::into_path)
            .filter(|path| Language::from_path(path).is_some() && path.is_file())
            .take(MOST_FILES)
            .collect();
        files.sort();
        Ok(Self {
            model: model.clone(),
            directory: directory.to_path_buf(),
            files: files.into(),
            tokens: VecDeque::new(),
        })
    }

    /// The next tokens of the corpus; an error when it is used up.
    fn take(&mut self, count: usize) -> anyhow::Result<Vec<u32>> {
        ensure!(count >= 1, "a prompt has at least one token");
        while self.tokens.len() < count {
            let Some(path) = self.files.pop_front() else {
                bail!(
                    "{}: has too little source text for prompts that do not repeat; give --corpus a larger directory, \
                     or measure less",
                    self.directory.display()
                );
            };
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let mut end = PIECE_BYTES.min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            self.tokens.extend(self.model.tokenizer().encode(&text[..end]));
        }
        Ok(self.tokens.drain(..count).collect())
    }
}

/// Bytes a second that `threads` threads read from memory: the floor under a decode step, which reads all weights.
fn memory_bandwidth(threads: usize) -> f64 {
    const WORDS: usize = 32 << 20;
    const ROUNDS: usize = 3;
    let words = vec![1u64; WORDS];
    let part = WORDS.div_ceil(threads.max(1));
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for piece in words.chunks(part) {
                scope.spawn(move || {
                    std::hint::black_box(piece.iter().fold(0u64, |sum, word| sum.wrapping_add(*word)))
                });
            }
        });
        best = best.min(began.elapsed().as_secs_f64());
    }
    (WORDS * size_of::<u64>()) as f64 / best
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values {
        [] => 0.0,
        values if values.len() % 2 == 1 => values[values.len() / 2],
        values => (values[values.len() / 2 - 1] + values[values.len() / 2]) / 2.0,
    }
}

fn print_table(answer: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    println!(
        "{} on {} with {} threads, loaded in {:.0} ms",
        answer["model"].as_str().unwrap_or_default(),
        answer["device"].as_str().unwrap_or_default(),
        answer["threads"],
        number(&answer["load_ms"])
    );
    for run in answer["runs"].as_array().into_iter().flatten() {
        println!(
            "run       {:>6} tokens in {:>8.1} ms, then {} in {:.1} ms",
            run["prompt_tokens"],
            number(&run["prefill_ms"]),
            run["generated_tokens"],
            number(&run["decode_ms"])
        );
    }
    for prefill in answer["prefill"].as_array().into_iter().flatten() {
        println!(
            "prefill   {:>6} tokens: {:>8.1} tokens/s, first token after {:.1} ms, {:.1} ms with the prompt cached",
            prefill["prompt_tokens"],
            number(&prefill["tokens_per_second"]),
            number(&prefill["first_token_cold_ms"]),
            number(&prefill["first_token_warm_ms"])
        );
    }
    for decode in answer["decode"].as_array().into_iter().flatten() {
        println!(
            "decode    {:>6} at once: {:>7.1} tokens/s after {} tokens, slowest to median {:.2}, drafts accepted {:.0} %",
            decode["batch"],
            number(&decode["tokens_per_second"]),
            decode["context_depth"],
            number(&decode["slowest_to_median"]),
            100.0 * number(&decode["accepted_of_drafted"])
        );
    }
    if let Some(share) = answer["percent_of_memory_bandwidth"].as_f64() {
        println!(
            "memory    {:.1} GB/s read here; one stream uses {share:.0} % of what that allows",
            number(&answer["memory_bandwidth_bytes_per_second"]) / 1e9
        );
    }
    println!("resident  {:.0} MiB", number(&answer["resident_bytes"]) / f64::from(1 << 20));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let check =
            |values: &[f64], expected: f64| assert_eq!(median(&mut values.to_vec()), expected, "{values:?}");
        check(&[], 0.0);
        check(&[3.0], 3.0);
        check(&[3.0, 1.0], 2.0);
        check(&[9.0, 1.0, 2.0], 2.0);
    }
}
