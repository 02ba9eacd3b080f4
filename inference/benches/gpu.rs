//! The GPU, checked and timed in one go: `cargo bench --bench gpu -- [--model PATH]...`.
//!
//! Prints every kernel's error against the CPU, each model's logits against the CPU runner, and times: a step by rows and
//! depth, prompts, and requests through the engine. Goes on after a failure and ends with the number of failures.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use lacuna_inference::{
    Backend, Device, Engine, EngineOptions, Model, ModelSource, Output, Request,
    cpu::kv_storage::KvPrecision,
    cuda::{CudaRunner, Gpu, PageFormat, check, pages::CacheWish, timing},
    kv_cache::{BLOCK_SIZE, BlockId},
    models::decoder::{CpuRunner, WeightPrecision},
    scheduler::{Batch, BatchEntry},
    speculative::Speculation,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Tokens of a model's cache in the timings.
const CONTEXT: usize = 8192 + 2048;
/// Logits of the GPU, whose activations are rounded to 8 bits in groups of 256 and keys and values to bf16, against the
/// CPU's in F32. Random weights carry an error further than trained ones.
const LOGITS_BOUND: f64 = 1e-2;
/// For models too large to be converted to F32: the CPU then rounds activations itself.
const LARGE_LOGITS_BOUND: f64 = 3e-2;
/// Added to either with keys and values in fp8.
const FP8_LOGITS_BOUND: f64 = 5e-2;

/// How often each request is computed again. A variant of the kernels gave one of eighty prompts of a 7B other bits.
const REPEATS: usize = 40;

/// The same for prompts alone, of these lengths. A variant of some kernels gave one of four hundred other bits, of lengths that
/// end within a block of rows only.
const REPEATED_PROMPTS: usize = 400;
const REPEATED_LENGTHS: [usize; 4] = [512, 513, 514, 515];

/// What is timed of a model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    All,
    /// Prompts alone, and nothing is compared: for a profiler.
    Prompts,
    /// Steps that choose a token alone: for comparing variants.
    Steps,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut models = Vec::new();
    let mut index = 0;
    let mut skip_checks = false;
    let mut times = Times::All;
    let mut format = PageFormat::default();
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--model", Some(path)) => models.push(PathBuf::from(path)),
            ("--gpu", Some(number)) => index = number.parse().unwrap_or(0),
            ("--checks", Some(word)) => skip_checks = word == "off",
            ("--gpu-cache", Some(word)) if word.parse::<PageFormat>().is_ok() => {
                format = word.parse().unwrap_or_default();
            }
            ("--times", Some(word)) if word == "prompts" => times = Times::Prompts,
            ("--times", Some(word)) if word == "steps" => times = Times::Steps,
            _ => {
                eprintln!(
                    "usage: gpu [--gpu N] [--checks on|off] [--times all|prompts|steps] [--gpu-cache bf16|fp8] [--model PATH]..."
                );
                return ExitCode::from(2);
            }
        }
    }
    let start = Instant::now();
    match Gpu::open(index) {
        Ok(gpu) => {
            println!("device      {}, opened in {:.0} ms", gpu.name, milliseconds(start.elapsed()));
        }
        Err(error) => {
            println!("device      none: {error} ({:.2} ms)", milliseconds(start.elapsed()));
            return ExitCode::FAILURE;
        }
    }
    let mut failures = 0;
    if !skip_checks {
        failures += report("kernels", || kernels(index));
        failures += report("products", || products(index));
    }
    for path in &models {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        failures += report(&name, || model(index, path, times, format));
    }
    println!("failures    {failures}, {:.1} s in all", start.elapsed().as_secs_f64());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(what: &str, part: impl FnOnce() -> Outcome<usize>) -> usize {
    let start = Instant::now();
    let failures = part().unwrap_or_else(|error| {
        println!("FAILED      {what}: {error}");
        1
    });
    println!("{what}: {failures} failures in {:.1} s", start.elapsed().as_secs_f64());
    failures
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn kernels(index: usize) -> Outcome<usize> {
    let gpu = Gpu::open(index)?;
    let mut failures = 0;
    for result in check::all(&gpu) {
        match result {
            Ok(check) => {
                let word = if check.is_passed() { "ok" } else { "FAILED" };
                failures += usize::from(!check.is_passed());
                println!("{word:<12}{:<72} {:.2e} (bound {:.0e})", check.name, check.error, check.bound);
            }
            Err(error) => {
                failures += 1;
                println!("FAILED      {error}");
            }
        }
    }
    Ok(failures)
}

/// The products of a 7B Qwen2 in Q4_K_M, by rows; then by the number of pieces their columns are summed in.
fn products(index: usize) -> Outcome<usize> {
    use candle_core::quantized::GgmlDType::{Q4K, Q6K};
    let gpu = Gpu::open(index)?;
    for (name, parts, columns) in [
        ("query-key-value", &[(Q4K, 3584), (Q4K, 512), (Q6K, 512)][..], 3584),
        ("output", &[(Q4K, 3584)], 3584),
        ("gate-up", &[(Q4K, 18944), (Q4K, 18944)], 3584),
        ("down", &[(Q4K, 3584)], 18944),
        ("down Q6_K", &[(Q6K, 3584)], 18944),
        ("head Q6_K", &[(Q6K, 152_064)], 3584),
    ] {
        let mut timed = timing::TimedProducts::new(&gpu, parts, columns)?;
        let features: usize = parts.iter().map(|(_, rows)| rows).sum();
        for rows in [1, 8, 16, 32, 128, 512, 2048] {
            if rows > 32 && features > 100_000 {
                continue;
            }
            let us = timed.microseconds(&gpu, rows)?;
            println!(
                "product     {name:<16} {rows:>5} rows, {} pieces: {us:8.1} us {:5.0} GB/s {:5.0} TFLOP/s",
                timed.splits(),
                timed.byte_length as f64 / us / 1e3,
                2.0 * (features * columns * rows) as f64 / us / 1e6
            );
        }
        let chosen = timed.splits();
        let mut line = format!("pieces      {name:<16} chosen {chosen};");
        for splits in [1, 2, 3, 4, 6, 7, 9, 12, 18] {
            timed = timed.with_splits(splits);
            if timed.splits() == splits {
                line += &format!(" {splits}: {:.1} us", timed.microseconds(&gpu, 1)?);
            }
        }
        println!("{line}");
    }
    Ok(0)
}

/// One sequence's part of a step over blocks `first_block ..`.
fn entry(tokens: Vec<u32>, start: usize, first_block: usize, logits: std::ops::Range<usize>) -> BatchEntry {
    let blocks = (start + tokens.len()).div_ceil(BLOCK_SIZE);
    let blocks = (0..blocks).map(|block| (first_block + block) as BlockId).collect();
    BatchEntry { sequence: first_block as u64, tokens, start, blocks, logits }
}

fn step(entries: Vec<BatchEntry>) -> Batch {
    Batch { copies: Vec::new(), entries }
}

/// Some tokens of the vocabulary, the same for the same seed.
fn tokens(count: usize, seed: usize, vocabulary: usize) -> Vec<u32> {
    (0..count).map(|index| ((index * 7919 + seed * 104_729 + 13) % vocabulary) as u32).collect()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Median milliseconds of a step, results read back.
fn time(runner: &mut CudaRunner, batch: &Batch, repeats: usize) -> Outcome<f64> {
    runner.forward(batch, &|| false)?;
    let mut times = Vec::new();
    for _ in 0..repeats {
        let start = Instant::now();
        runner.forward(batch, &|| false)?;
        times.push(milliseconds(start.elapsed()));
    }
    Ok(median(times))
}

fn model(index: usize, path: &Path, times: Times, format: PageFormat) -> Outcome<usize> {
    let model = Model::open(&ModelSource::Path(path.to_path_buf()))?;
    let vocabulary = model.config().vocabulary;
    let start = Instant::now();
    let blocks = CONTEXT / BLOCK_SIZE;
    let cache = CacheWish { blocks, least_blocks: 256, format };
    let mut gpu = CudaRunner::new(Gpu::open(index)?, model.gguf(), model.config(), cache)?;
    let gib = gpu.weights_bytes() as f64 / (1u64 << 30) as f64;
    println!("load        {gib:.2} GiB on the device in {:.0} ms", milliseconds(start.elapsed()));
    println!("cache       {format}, {} tokens in {} MiB", gpu.blocks() * BLOCK_SIZE, gpu.kv_bytes() >> 20);
    if times == Times::Prompts {
        prompts(&model, &mut gpu)?;
        return Ok(0);
    }
    if times == Times::Steps {
        choosing_steps(&model, &mut gpu)?;
        return Ok(0);
    }
    let mut failures = parity(&model, &mut gpu, format)? + repeated(&model, &mut gpu)?;
    for depth in [512, 2048, 8192] {
        if depth + 64 > (gpu.blocks() * BLOCK_SIZE).min(model.context_length()) {
            continue;
        }
        for rows in [1, 2, 4, 8, 16, 32] {
            let batch = step(vec![entry(tokens(rows, 1, vocabulary), depth, 0, 0..rows)]);
            let all = time(&mut gpu, &batch, 9)?;
            let batch = step(vec![entry(tokens(rows, 1, vocabulary), depth, 0, rows - 1..rows)]);
            let last = time(&mut gpu, &batch, 9)?;
            println!("step        depth {depth}, {rows} rows: {all:.3} ms, last logits only {last:.3} ms");
        }
    }
    prompts(&model, &mut gpu)?;
    for streams in [4, 16] {
        let depth = 512;
        let entries = (0..streams).map(|s| entry(tokens(1, s, vocabulary), depth, s * 36, 0..1)).collect();
        let ms = time(&mut gpu, &step(entries), 9)?;
        let rate = streams as f64 * 1e3 / ms;
        println!("streams     {streams} at depth {depth}: {ms:.3} ms a step, {rate:.0} tok/s in all");
    }
    println!("graphs      {} shapes of steps recorded", gpu.recorded_steps());
    drop(gpu);
    failures += engine(index, &model, format)?;
    Ok(failures)
}

/// Median times of steps as greedy requests take them: of one sequence by depth and rows, and of several with a row each.
fn choosing_steps(model: &Model, gpu: &mut CudaRunner) -> Outcome<()> {
    let vocabulary = model.config().vocabulary;
    for depth in [512, 1200, 2000, 4000, 8192] {
        let mut line = format!("choose      depth {depth}:");
        for rows in [1, 2, 4, 8, 16] {
            let batch = step(vec![entry(tokens(rows, 1, vocabulary), depth, 0, 0..rows)]);
            line += &format!(" {rows} rows {:.3} ms;", time_choice(gpu, &batch)?);
        }
        println!("{line}");
    }
    let mut line = "choose      depth 512:".to_owned();
    for streams in [2, 4, 8, 16] {
        let entries = (0..streams).map(|s| entry(tokens(1, s, vocabulary), 512, s * 36, 0..1)).collect();
        line += &format!(" {streams} sequences {:.3} ms;", time_choice(gpu, &step(entries))?);
    }
    println!("{line}");
    Ok(())
}

fn time_choice(gpu: &mut CudaRunner, batch: &Batch) -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..41 {
        let start = Instant::now();
        gpu.choose(batch, &|| false)?;
        times.push(milliseconds(start.elapsed()));
    }
    Ok(median(times))
}

fn prompts(model: &Model, gpu: &mut CudaRunner) -> Outcome<()> {
    let vocabulary = model.config().vocabulary;
    for count in [512, 2048] {
        if count <= model.context_length() {
            let batch = step(vec![entry(tokens(count, 2, vocabulary), 0, 0, count - 1..count)]);
            println!("prompt      {count} tokens: {:.2} ms", time(gpu, &batch, 5)?);
        }
    }
    Ok(())
}

/// Logits of the GPU against the CPU runner, of prompts in pieces against the whole, and of rows beside others.
fn parity(model: &Model, gpu: &mut CudaRunner, format: PageFormat) -> Outcome<usize> {
    let vocabulary = model.config().vocabulary;
    let is_large = model.gguf().byte_length() > 1 << 30;
    let count = if is_large { 24 } else { 150 };
    let sequence = tokens(count, 3, vocabulary);
    let mut cpu = CpuRunner::new(
        model.gguf(),
        model.config(),
        count.div_ceil(BLOCK_SIZE),
        std::thread::available_parallelism().map_or(1, usize::from),
        KvPrecision::F32,
        if is_large { WeightPrecision::Stored } else { WeightPrecision::Dequantized },
    )?;
    let whole = step(vec![entry(sequence.clone(), 0, 0, 0..count)]);
    let expected = cpu.forward(&whole, &|| false).unwrap_or_default().to_vec();
    let found = gpu.forward(&whole, &|| false)?.unwrap_or_default().to_vec();
    let bound = if is_large { LARGE_LOGITS_BOUND } else { LOGITS_BOUND };
    let bound = if format == PageFormat::Fp8 { bound + FP8_LOGITS_BOUND } else { bound };
    let mut failures = 0;
    let mut say = |what: &str, error: f64, bound: f64| {
        let passed = error <= bound;
        failures += usize::from(!passed);
        println!("{:<12}{what:<72} {error:.2e} (bound {bound:.0e})", if passed { "ok" } else { "FAILED" });
    };
    say("logits against the CPU's", check::normalized_error(&found, &expected), bound);
    let best = |row: &[f32]| lacuna_inference::sampler::argmax(row);
    let rows = found.chunks_exact(vocabulary).zip(expected.chunks_exact(vocabulary));
    let agree = rows.filter(|(a, b)| best(a) == best(b)).count();
    println!("            greedy choice agrees at {agree} of {count} positions");
    let differing =
        |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count() as f64;
    // Other pieces, other blocks, and beside another sequence.
    for piece in [1, 5, 8, 13, 40] {
        let mut pieces = Vec::new();
        for (index, part) in sequence.chunks(piece).enumerate() {
            let own = entry(part.to_vec(), index * piece, 100, 0..part.len());
            let other = entry(tokens(3, index, vocabulary), 0, 200, 0..0);
            pieces.extend_from_slice(gpu.forward(&step(vec![other, own]), &|| false)?.unwrap_or_default());
        }
        say(&format!("bits of pieces of {piece} beside another sequence"), differing(&pieces, &found), 0.0);
    }
    // Few wanted rows of many, for which alone the end of the last layer is computed.
    for first in [count - 1, count.saturating_sub(7)] {
        let own = entry(sequence.clone(), 0, 100, first..count);
        let other = entry(tokens(70, 4, vocabulary), 0, 200, 0..0);
        let few = gpu.forward(&step(vec![other, own]), &|| false)?.unwrap_or_default();
        let wrong = differing(few, &found[first * vocabulary..])
            + few.len().abs_diff((count - first) * vocabulary) as f64;
        say(&format!("bits of the last {} rows alone", count - first), wrong, 0.0);
    }
    Ok(failures)
}

/// Prompts of some lengths computed again and again with decoding steps of other tokens in between, so that a race between
/// kernels may show.
fn repeated(model: &Model, gpu: &mut CudaRunner) -> Outcome<usize> {
    let vocabulary = model.config().vocabulary;
    let mut differing = 0;
    for count in REPEATED_LENGTHS {
        let batch = step(vec![entry(tokens(count, 2, vocabulary), 0, 0, count - 1..count)]);
        let mut bits = |round: usize| -> Outcome<Vec<u32>> {
            let logits = gpu.forward(&batch, &|| false)?.unwrap_or_default();
            let found = logits.iter().map(|logit| logit.to_bits()).collect();
            for position in [count, count + 1] {
                gpu.forward(&step(vec![entry(tokens(1, round, vocabulary), position, 0, 0..1)]), &|| false)?;
            }
            Ok(found)
        };
        let first = bits(0)?;
        for round in 1..=REPEATED_PROMPTS {
            differing += usize::from(bits(round)? != first);
        }
    }
    let count = REPEATED_LENGTHS.len() * REPEATED_PROMPTS;
    let word = if differing == 0 { "ok" } else { "FAILED" };
    println!("{word:<12}{count} prompts computed again have the same bits, but for {differing}");
    Ok(usize::from(differing > 0))
}

/// Of the log probabilities.
fn bits(output: &Output) -> Vec<u32> {
    output.log_probabilities.iter().map(|value| value.to_bits()).collect()
}

/// Requests through the engine: plain, speculating and together must give the same tokens.
fn engine(index: usize, model: &Model, page_format: PageFormat) -> Outcome<usize> {
    let vocabulary = model.config().vocabulary;
    let start = |speculation| {
        Engine::start(
            model.clone(),
            EngineOptions {
                device: Device::Cuda(index),
                page_format,
                speculation,
                ..EngineOptions::default()
            },
        )
    };
    let context = model.context_length();
    // Repeating prompts, so that there is something to guess.
    let prompt = |seed: usize| {
        let part = tokens(30, seed, vocabulary.min(5000));
        part.iter().copied().cycle().take(context.min(1024) / 2 + seed).collect::<Vec<_>>()
    };
    let request = |prompt: Vec<u32>, max_tokens| Request::greedy(prompt, max_tokens);
    let count = 64;
    let plain_engine = start(Speculation::Off)?;
    let mut plain = Vec::new();
    for seed in 0..4 {
        let output = plain_engine.submit(request(prompt(seed), count))?.collect_blocking()?;
        let stats = &output.stats;
        let rate = (stats.generated_tokens - 1) as f64 * 1e3 / stats.decode_ms;
        println!(
            "request     {} prompt tokens, {} cached: prompt {:.1} ms, {rate:.0} tok/s",
            stats.prompt_tokens, stats.cached_tokens, stats.prefill_ms
        );
        plain.push(output);
    }
    let together: Vec<_> =
        (0..4).map(|seed| plain_engine.submit(request(prompt(seed), count))).collect::<Result<_, _>>()?;
    let mut failures = 0;
    let mut say = |what: &str, passed: bool| {
        failures += usize::from(!passed);
        println!("{:<12}{what}", if passed { "ok" } else { "FAILED" });
    };
    let together: Vec<_> = together.into_iter().map(|g| g.collect_blocking()).collect::<Result<_, _>>()?;
    say("cached requests together give the tokens of each alone", {
        together.iter().zip(&plain).all(|(output, alone)| output.tokens == alone.tokens)
    });
    // Computed anew, so that a race between kernels may show.
    let mut differing = 0;
    for _ in 0..REPEATS {
        for (seed, expected) in plain.iter().enumerate() {
            plain_engine.clear_cache()?;
            let output = plain_engine.submit(request(prompt(seed), count))?.collect_blocking()?;
            differing += usize::from(output.tokens != expected.tokens || bits(&output) != bits(expected));
        }
    }
    say(
        &format!("{} requests computed again have the same bits, but for {differing}", 4 * REPEATS),
        differing == 0,
    );
    drop(plain_engine);
    let speculating = start(Speculation::Suffix)?;
    let (mut same, mut drafted, mut accepted) = (true, 0, 0);
    for (seed, alone) in plain.iter().enumerate() {
        let output = speculating.submit(request(prompt(seed), count))?.collect_blocking()?;
        let stats = &output.stats;
        (drafted, accepted) = (drafted + stats.drafted_tokens, accepted + stats.accepted_tokens);
        let rate = (stats.generated_tokens - 1) as f64 * 1e3 / stats.decode_ms;
        println!("speculating prompt {:.1} ms, {rate:.0} tok/s", stats.prefill_ms);
        same &= output.tokens == alone.tokens;
    }
    println!("            {accepted} of {drafted} drafted tokens accepted");
    say("speculation changes no token", same);
    Ok(failures)
}
