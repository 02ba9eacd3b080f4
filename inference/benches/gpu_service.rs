//! What requests see of the GPU beside bare times: `cargo bench --bench gpu_service -- [--gpu N] [--model PATH]...`.
//!
//! How soon the device is free after a cancelled request; what a long cold prompt does to another stream; what speculation
//! gives on code, for the embedded model; and for models of random weights, whose own guesses mean nothing, what drafts
//! accepted at given rates would give.

mod prompts;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use lacuna_inference::{
    Backend, Device, Engine, EngineOptions, Event, Model, ModelSource, PageFormat, Request,
    cuda::{CudaRunner, Gpu, pages::CacheWish},
    kv_cache::{BLOCK_SIZE, BlockId},
    scheduler::{Batch, BatchEntry},
    speculative::Speculation,
};
use prompts::REPEATING;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const CANCELLED: usize = 400;
const GENERATED: usize = 128;
/// Tokens that a replay of drafts begins behind.
const REPLAY_DEPTH: usize = 512;
const REPLAYED: usize = 512;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut models, mut index) = (vec![ModelSource::Embedded], 0);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--model", Some(path)) => models.push(ModelSource::Path(PathBuf::from(path))),
            ("--gpu", Some(number)) => index = number.parse().unwrap_or(0),
            _ => {
                eprintln!("usage: gpu_service [--gpu N] [--model PATH]...");
                return ExitCode::from(2);
            }
        }
    }
    for source in &models {
        if let Err(error) = model(index, source) {
            println!("FAILED      {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn model(index: usize, source: &ModelSource) -> Outcome<()> {
    let model = Model::open(source)?;
    println!("model       {}", model.name());
    let engine = start(index, &model, Speculation::Off)?;
    // The first requests record the steps' graphs.
    for seed in 0..4 {
        engine.submit(request(tokens(300, seed, &model), 16))?.collect_blocking()?;
    }
    cancelled(&engine, &model)?;
    disturbed(&engine, &model)?;
    drop(engine);
    if matches!(source, ModelSource::Embedded) { code(index, &model) } else { replayed(index, &model) }
}

fn start(index: usize, model: &Model, speculation: Speculation) -> Outcome<Engine> {
    let options = EngineOptions { device: Device::Cuda(index), speculation, ..EngineOptions::default() };
    Ok(Engine::start(model.clone(), options)?)
}

fn request(prompt: Vec<u32>, max_tokens: usize) -> Request {
    Request::greedy(prompt, max_tokens)
}

/// Some tokens of the vocabulary, others for every seed.
fn tokens(count: usize, seed: usize, model: &Model) -> Vec<u32> {
    let vocabulary = model.config().vocabulary;
    (0..count).map(|index| ((index * 7919 + seed * 104_729 + 13) % vocabulary) as u32).collect()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Median, 99th percentile and largest.
fn spread(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)];
    format!("p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms", at(0.5), at(0.99), at(1.0))
}

/// From the end of a request that is dropped, while it decodes or reads its prompt, to the first token of a short one that
/// follows at once: what that takes longer than on an idle engine is the time until the device is free.
fn cancelled(engine: &Engine, model: &Model) -> Outcome<()> {
    let short = |seed: usize| -> Outcome<f64> {
        let start = Instant::now();
        engine.submit(request(tokens(8, seed, model), 1))?.collect_blocking()?;
        Ok(milliseconds(start.elapsed()))
    };
    let idle = (0..CANCELLED).map(|seed| short(20_000 + seed)).collect::<Outcome<Vec<_>>>()?;
    println!("cancelled   nothing, a short request: {}", spread(idle));
    let mut times = Vec::new();
    for seed in 0..CANCELLED {
        let mut generation = engine.submit(request(tokens(100, 100 + seed, model), 1000))?;
        for _ in 0..3 + seed % 5 {
            generation.next_blocking();
        }
        // At any moment of a step.
        std::thread::sleep(Duration::from_micros(137 * (seed as u64 % 16)));
        drop(generation);
        times.push(short(30_000 + seed)?);
    }
    println!("cancelled   while decoding, then the same: {}", spread(times));
    let length = model.context_length().min(2048) - 64;
    let mut times = Vec::new();
    for seed in 0..CANCELLED / 8 {
        let generation = engine.submit(request(tokens(length, 1000 + seed, model), 8))?;
        std::thread::sleep(Duration::from_micros(500 * (1 + seed as u64 % 8)));
        drop(generation);
        times.push(short(40_000 + seed)?);
    }
    println!("cancelled   in a prompt of {length} tokens, then the same: {}", spread(times));
    Ok(())
}

/// How long another stream waits for a token while a long cold prompt is read.
fn disturbed(engine: &Engine, model: &Model) -> Outcome<()> {
    let length = model.context_length().min(8192) - 64;
    let mut stream = engine.submit(request(tokens(100, 7, model), length.min(1500)))?;
    let (mut plain, mut gaps) = (Vec::new(), Vec::new());
    let mut gap = |into: &mut Vec<f64>| {
        let start = Instant::now();
        let event = stream.next_blocking();
        into.push(milliseconds(start.elapsed()));
        matches!(event, Some(Event::Token { .. }))
    };
    for _ in 0..64 {
        gap(&mut plain);
    }
    let start = Instant::now();
    let mut long = engine.submit(request(tokens(length, 9, model), 1))?;
    let done = std::thread::spawn(move || {
        long.next_blocking();
        milliseconds(start.elapsed())
    });
    while !done.is_finished() && gap(&mut gaps) {}
    let long = done.join().unwrap_or(f64::NAN);
    println!("stream      alone: {}", spread(plain));
    println!("stream      beside a cold prompt of {length} tokens ({long:.1} ms): {}", spread(gaps));
    Ok(())
}

/// Speculation on code that repeats and on code that does not, beside plain decoding.
fn code(index: usize, model: &Model) -> Outcome<()> {
    // This file, cut at its functions: text that the model has not seen and that repeats little.
    let fresh: Vec<&str> = include_str!("gpu_service.rs").split("\nfn ").skip(4).take(4).collect();
    for (name, prompts) in [
        ("repeating", REPEATING.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()),
        ("fresh", fresh.iter().map(|text| format!("fn {}", &text[..text.len() * 2 / 3])).collect()),
    ] {
        let mut rates = Vec::new();
        let mut counts = (0, 0);
        for speculation in [Speculation::Off, Speculation::Suffix] {
            let engine = start(index, model, speculation)?;
            let (mut generated, mut ms) = (0, 0.0);
            counts = (0, 0);
            for round in 0..3 {
                for prompt in &prompts {
                    let prompt = request(model.tokenizer().encode(prompt), GENERATED);
                    let stats = engine.submit(prompt)?.collect_blocking()?.stats;
                    engine.clear_cache()?;
                    // The first round records the steps' graphs.
                    if round > 0 {
                        (generated, ms) = (generated + stats.generated_tokens - 1, ms + stats.decode_ms);
                        counts = (counts.0 + stats.accepted_tokens, counts.1 + stats.drafted_tokens);
                    }
                }
            }
            rates.push(generated as f64 * 1e3 / ms);
        }
        println!(
            "speculation {name} code: plain {:.0} tok/s, speculating {:.0} tok/s, {:.2} times; {} of {} guesses accepted",
            rates[0],
            rates[1],
            rates[1] / rates[0],
            counts.0,
            counts.1
        );
    }
    Ok(())
}

/// Steps of one token beside steps that verify drafts, each guess right with a given probability.
fn replayed(index: usize, model: &Model) -> Outcome<()> {
    let blocks = (REPLAY_DEPTH + REPLAYED + 64) / BLOCK_SIZE;
    let mut gpu = CudaRunner::new(
        Gpu::open(index)?,
        model.gguf(),
        model.config(),
        CacheWish { blocks, least_blocks: blocks, format: PageFormat::default() },
    )?;
    let mut run = |drafts: usize, rate: f64| -> Outcome<(f64, f64)> {
        let (mut generated, mut steps, mut state) = (0, 0, 1u64);
        let mut start = Instant::now();
        // The first steps record their graph.
        for step in 0.. {
            if step == 8 {
                (generated, steps, start) = (0, 0, Instant::now());
            }
            if generated >= REPLAYED - 100 {
                break;
            }
            let at = REPLAY_DEPTH + generated;
            let rows = 1 + drafts;
            let entry = BatchEntry {
                sequence: 0,
                tokens: tokens(rows, step, model),
                start: at,
                blocks: (0..(at + rows).div_ceil(BLOCK_SIZE) as BlockId).collect(),
                logits: 0..rows,
            };
            gpu.choose(&Batch { copies: Vec::new(), entries: vec![entry] }, &|| false)?;
            let mut is_right = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 40) as f64) < rate * f64::from(1u32 << 24)
            };
            steps += 1;
            generated += 1 + (0..drafts).take_while(|_| is_right()).count();
        }
        let accepted = (generated - steps) as f64 / (steps * drafts.max(1)) as f64;
        Ok((generated as f64 / start.elapsed().as_secs_f64(), accepted))
    };
    let (plain, _) = run(0, 0.0)?;
    println!("replay      plain: {plain:.0} tok/s");
    for rate in [0.5, 0.6, 0.7, 0.8, 0.9, 0.95] {
        let mut line = format!("replay      {:.0} % of guesses right:", rate * 100.0);
        for drafts in [3, 7, 15] {
            let (speculating, accepted) = run(drafts, rate)?;
            line += &format!(
                " {drafts} drafted, {:.0} % accepted: {speculating:.0} tok/s ({:.2} times);",
                accepted * 100.0,
                speculating / plain
            );
        }
        println!("{line}");
    }
    Ok(())
}
