//! What the engine promises beside speed, measured on the embedded model: `cargo bench --bench engine -- [TOKENS]`.
//!
//! Prints whether every path gives the tokens of the plain one (over 10,000 generated tokens unless told otherwise),
//! what speculation does on fresh and on repeating code, the memory of the paged cache, who of sixteen waits longest and
//! how soon a thousand cancelled requests are gone. Prompts are this repository's own sources, each piece used once. Ends with the number of failures.

mod prompts;

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use lacuna_inference::{
    Backend, Device, Engine, EngineOptions, Generation, Model, ModelSource, Output, Request, RequestStats,
    kv_cache::BLOCK_SIZE, speculative::Speculation, weights::random::Random,
};
use prompts::REPEATING;

/// Tokens of a prompt: two pieces and a half of what one step computes.
const PROMPT: usize = 640;
/// Tokens generated after each.
const ANSWER: usize = 250;
/// How often speculation is timed on each prompt.
const REPEATS: usize = 15;
/// Longest answers at once.
const TOGETHER: usize = 8;

fn main() -> ExitCode {
    let given = std::env::args().skip(1).find(|argument| argument != "--bench");
    let tokens = given.and_then(|tokens| tokens.parse().ok()).unwrap_or(10_000);
    let model = match Model::open(&ModelSource::Embedded) {
        Ok(model) => model,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut corpus = Corpus::new(&model);
    let failures = same_tokens(&model, &mut corpus, tokens)
        + speculation(&model, &mut corpus)
        + paged_memory(&model, &mut corpus)
        + cancels(&model, &mut corpus);
    println!("failures    {failures}");
    ExitCode::from(failures.min(255) as u8)
}

/// The sources of this package, end to end, in the order of their names.
struct Corpus {
    tokens: std::vec::IntoIter<u32>,
}

impl Corpus {
    fn new(model: &Model) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        let mut directories =
            ["src", "../indexer/src", "../lsp/src", "../evals/src"].map(|part| root.join(part)).to_vec();
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => directories.push(path),
                    path if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
                    _ => {}
                }
            }
        }
        files.sort();
        let text: Vec<String> = files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
        let tokens: Vec<u32> = text.iter().flat_map(|text| model.tokenizer().encode(text)).collect();
        Self { tokens: tokens.into_iter() }
    }

    fn take(&mut self, tokens: usize) -> Vec<u32> {
        self.tokens.by_ref().take(tokens).collect()
    }
}

fn engine(model: &Model, speculation: Speculation, cache_tokens: usize) -> Engine {
    let options =
        EngineOptions { device: Device::Cpu, speculation, cache_tokens, ..EngineOptions::default() };
    Engine::start(model.clone(), options).expect("the embedded model starts")
}

fn submit(engine: &Engine, prompt: &[u32], max_tokens: usize) -> Generation {
    let request = Request::greedy(prompt.to_vec(), max_tokens);
    engine.submit(request).expect("the engine takes it")
}

fn run(engine: &Engine, prompt: &[u32], max_tokens: usize) -> Output {
    submit(engine, prompt, max_tokens).collect_blocking().expect("the engine finishes it")
}

/// Cached, in other pieces, together and with speculation: token for token what the plain path gives.
fn same_tokens(model: &Model, corpus: &mut Corpus, tokens: usize) -> usize {
    let prompts: Vec<Vec<u32>> = (0..tokens.div_ceil(ANSWER)).map(|_| corpus.take(PROMPT)).collect();
    let room = prompts.len() * (PROMPT + ANSWER + BLOCK_SIZE);
    let plain = engine(model, Speculation::Off, room);
    let expected: Vec<Vec<u32>> = prompts.iter().map(|prompt| run(&plain, prompt, ANSWER).tokens).collect();
    let count = |found: &[Vec<u32>]| {
        let wrong = found.iter().zip(&expected).filter(|(found, expected)| found != expected).count();
        let compared: usize = expected.iter().map(Vec::len).sum();
        (wrong, compared)
    };
    let mut failures = 0;
    let mut report = |name: &str, found: &[Vec<u32>]| {
        let (wrong, compared) = count(found);
        println!("tokens      {name}: {compared} compared, {wrong} of {} answers differ", found.len());
        failures += wrong;
    };
    let cached: Vec<_> = prompts.iter().map(|prompt| run(&plain, prompt, ANSWER).tokens).collect();
    report("prefix cached", &cached);
    let pieces = engine(model, Speculation::Off, room);
    let in_pieces: Vec<_> = prompts
        .iter()
        .enumerate()
        .map(|(number, prompt)| {
            for end in [37 + 5 * number, 300 + 3 * number] {
                run(&pieces, &prompt[..end.min(PROMPT)], 0);
            }
            run(&pieces, prompt, ANSWER).tokens
        })
        .collect();
    report("in other pieces", &in_pieces);
    let together = engine(model, Speculation::Off, room);
    let batched: Vec<_> = prompts
        .chunks(TOGETHER)
        .flat_map(|prompts| {
            let running: Vec<_> = prompts.iter().map(|prompt| submit(&together, prompt, ANSWER)).collect();
            running.into_iter().map(|generation| generation.collect_blocking().expect("finished").tokens)
        })
        .collect();
    report("eight at once", &batched);
    let speculating = engine(model, Speculation::Suffix, room);
    let speculative: Vec<_> = prompts.iter().map(|prompt| run(&speculating, prompt, ANSWER).tokens).collect();
    report("speculative", &speculative);
    failures
}

/// The same answers with and without, in turn, so that what else the machine does falls on both.
fn speculation(model: &Model, corpus: &mut Corpus) -> usize {
    let fresh: Vec<Vec<u32>> = (0..24).map(|_| corpus.take(512)).collect();
    compare(model, "fresh code", &fresh, 64);
    let repeating: Vec<Vec<u32>> = REPEATING.iter().map(|text| model.tokenizer().encode(text)).collect();
    compare(model, "repeating code", &repeating, 64);
    0
}

/// Ratios are medians over engines that start anew each time: one that has seen an answer would guess it.
fn compare(model: &Model, name: &str, prompts: &[Vec<u32>], answer: usize) {
    let mut ratios = vec![Vec::new(); prompts.len()];
    let mut shares = vec![(0, 0); prompts.len()];
    let mut total = RequestStats::default();
    let mut steps = 0;
    for _ in 0..REPEATS {
        let plain = engine(model, Speculation::Off, 0);
        let speculating = engine(model, Speculation::Suffix, 0);
        for ((prompt, ratios), share) in prompts.iter().zip(&mut ratios).zip(&mut shares) {
            let without = run(&plain, prompt, answer).stats.decode_ms;
            let before = speculating.status().steps;
            let with = run(&speculating, prompt, answer).stats;
            steps += speculating.status().steps - before - prompt.len().div_ceil(256) as u64;
            ratios.push(without / with.decode_ms);
            *share = (share.0 + with.accepted_tokens, share.1 + with.drafted_tokens);
            total.drafted_tokens += with.drafted_tokens;
            total.accepted_tokens += with.accepted_tokens;
            total.generated_tokens += with.generated_tokens - 1;
        }
    }
    let mut ratios: Vec<(f64, (usize, usize))> = ratios
        .into_iter()
        .zip(shares)
        .map(|(mut ratios, share)| {
            ratios.sort_by(f64::total_cmp);
            (ratios[REPEATS / 2], share)
        })
        .collect();
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    println!(
        "speculation {name}: {:.2} times the plain speed (median of {}, least {:.2}), {:.2} tokens a step, \
         {} of {} guesses accepted",
        ratios[ratios.len() / 2].0,
        ratios.len(),
        ratios[0].0,
        total.generated_tokens as f64 / steps as f64,
        total.accepted_tokens,
        total.drafted_tokens,
    );
    for (ratio, (accepted, drafted)) in ratios.iter().take(4) {
        println!("            {ratio:.3} with {accepted} of {drafted} guesses accepted in {REPEATS} runs");
    }
}

/// Sixteen requests of mixed lengths: the most blocks that they hold at once, against a full context for each, and
/// when the last of them finishes, against the middle one.
fn paged_memory(model: &Model, corpus: &mut Corpus) -> usize {
    let context = model.context_length();
    let prompts: Vec<Vec<u32>> = (0..16).map(|n| corpus.take(64 + n * 971 % 1200)).collect();
    let engine = engine(model, Speculation::Off, 16 * context);
    let began = Instant::now();
    let running: Vec<_> = prompts.iter().map(|prompt| submit(&engine, prompt, 64)).collect();
    let (mut most, mut finished) = (0, Vec::new());
    std::thread::scope(|scope| {
        let waiting: Vec<_> = running
            .into_iter()
            .map(|generation| {
                scope.spawn(move || generation.collect_blocking().map(|_| began.elapsed().as_secs_f64()))
            })
            .collect();
        while !waiting.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            most = most.max(engine.status().kv_blocks_running);
            std::thread::sleep(Duration::from_millis(1));
        }
        finished.extend(waiting.into_iter().filter_map(|thread| thread.join().ok()?.ok()));
    });
    finished.sort_by(f64::total_cmp);
    let contiguous = 16 * context;
    let paged = most * BLOCK_SIZE;
    let less = 100.0 * (1.0 - paged as f64 / contiguous as f64);
    println!(
        "memory      {paged} tokens of cache at most, {contiguous} with a full context each: {less:.0} % less"
    );
    let ratio = finished.last().copied().unwrap_or(f64::INFINITY) / finished[finished.len() / 2];
    println!(
        "fairness    {} finished, the last after {ratio:.2} times the middle one's time",
        finished.len()
    );
    usize::from(less < 60.0) + usize::from(ratio > 2.0) + 16 - finished.len()
}

/// Requests dropped at random moments, some while their prompts are computed: when they hold no block any more.
fn cancels(model: &Model, corpus: &mut Corpus) -> usize {
    const CANCELS: usize = 1000;
    let engine = engine(model, Speculation::Off, 0);
    let step = {
        let stats = run(&engine, &corpus.take(256), 64).stats;
        stats.decode_ms / (stats.generated_tokens - 1) as f64
    };
    let source = corpus.take(2048);
    let mut random = Random::new(7);
    let (mut waited, mut steps) = (Vec::new(), Vec::new());
    for _ in 0..CANCELS {
        let length = 1 + random.bits() as usize % 600;
        let from = random.bits() as usize % (source.len() - length);
        let generation = submit(&engine, &source[from..from + length], 300);
        // What the engine says of its blocks is that of its latest step.
        while engine.status().kv_blocks_running == 0 {
            std::thread::sleep(Duration::from_micros(20));
        }
        std::thread::sleep(Duration::from_micros(random.bits() % 60_000));
        let (before, dropped) = (engine.status().steps, Instant::now());
        drop(generation);
        while engine.status().kv_blocks_running > 0 {
            std::thread::sleep(Duration::from_micros(20));
        }
        waited.push(dropped.elapsed().as_secs_f64() * 1e3);
        steps.push(engine.status().steps - before);
    }
    waited.sort_by(f64::total_cmp);
    steps.sort_unstable();
    engine.clear_cache().expect("the engine runs");
    let left = engine.status().kv_blocks_used;
    println!(
        "cancels     {CANCELS}: blocks free after {:.2} ms (median), {:.2} ms (99 of 100), {:.2} ms at most; a decode step \
         takes {step:.2} ms; {} steps ended meanwhile at most, {} in 99 of 100; {left} blocks left",
        waited[CANCELS / 2],
        waited[CANCELS * 99 / 100],
        waited[CANCELS - 1],
        steps[CANCELS - 1],
        steps[CANCELS * 99 / 100],
    );
    usize::from(steps[CANCELS * 99 / 100] > 1) + usize::from(left > 0)
}
