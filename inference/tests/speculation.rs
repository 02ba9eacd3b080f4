//! Speculation on small random models: the distribution stays the model's, and a draft model changes nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use lacuna_inference::{
    Backend, Device, Engine, EngineError, EngineOptions, Generation, Model, ModelSource, Output, Request,
    Sampling,
    speculative::Speculation,
    weights::{Gguf, Storage},
};

/// Logits are multiplied by this: random weights alone make all tokens about as likely.
const SHARPER: f32 = 40.0;

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/recorded").join(name)
}

fn random(name: &str) -> Model {
    Model::open(&ModelSource::Path(recorded(name))).unwrap()
}

/// A random model that is sure of its choices: its last norm is scaled. `times` as large as it is, so that guesses of
/// a smaller one are worth their while.
fn sure(name: &str, times: usize) -> Model {
    let storage = Storage::map(&recorded(name)).unwrap();
    let file = storage.as_slice();
    let gguf = Gguf::parse(name, storage.clone()).unwrap();
    let (_, norm) = gguf.require_tensor("output_norm.weight").unwrap();
    let start = norm.as_slice().as_ptr() as usize - file.as_ptr() as usize;
    let mut words = vec![0u64; (times * file.len()).div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..file.len()].copy_from_slice(file);
    let floats: &mut [f32] = bytemuck::cast_slice_mut(&mut words);
    for weight in &mut floats[start / 4..][..norm.as_slice().len() / 4] {
        *weight *= SHARPER;
    }
    let bytes: &'static [u64] = words.leak();
    Model::from_storage(name, Storage::Static(bytemuck::cast_slice(bytes))).unwrap()
}

fn engine(target: Model, speculation: Speculation, draft_model: Option<Model>) -> Engine {
    let options = EngineOptions {
        device: Device::Cpu,
        threads: 1,
        speculation,
        draft_model,
        ..EngineOptions::default()
    };
    Engine::start(target, options).unwrap()
}

fn submit(engine: &Engine, prompt: &[u32], max_tokens: usize, sampling: Sampling) -> Generation {
    let request = Request { sampling, ..Request::greedy(prompt.to_vec(), max_tokens) };
    engine.submit(request).unwrap()
}

fn run(engine: &Engine, prompt: &[u32], max_tokens: usize, sampling: Sampling) -> Output {
    submit(engine, prompt, max_tokens, sampling).collect_blocking().unwrap()
}

/// A chi-squared test of whole answers, three tokens of three candidates each, against the product of the model's
/// probabilities. What earlier answers were is drafted, and wrong in two of three cases.
#[test]
fn sampling_with_drafts_follows_the_distribution() {
    const ROUNDS: u64 = 4000;
    let engine = engine(random("qwen2-tied.gguf"), Speculation::Suffix, None);
    let prompt: Vec<u32> = (40..72).collect();
    let mut counts: BTreeMap<Vec<u32>, f64> = BTreeMap::new();
    // Of each beginning, the probabilities of the tokens that were seen to follow it.
    let mut follow: BTreeMap<Vec<u32>, BTreeMap<u32, f64>> = BTreeMap::new();
    let (mut accepted, mut drafted) = (0, 0);
    for seed in 0..ROUNDS {
        let sampling = Sampling { temperature: 1.0, top_k: 3, seed, ..Sampling::GREEDY };
        let output = run(&engine, &prompt, 3, sampling);
        for (at, token) in output.tokens.iter().enumerate() {
            let probability = f64::from(output.log_probabilities[at]).exp();
            follow.entry(output.tokens[..at].to_vec()).or_default().insert(*token, probability);
        }
        *counts.entry(output.tokens).or_default() += 1.0;
        accepted += output.stats.accepted_tokens;
        drafted += output.stats.drafted_tokens;
    }
    assert!(0 < accepted && accepted < drafted, "{accepted} of {drafted} drafts accepted");
    assert!(follow.values().all(|candidates| candidates.len() <= 3));
    let (mut statistic, mut rest, mut cells) = (0.0, [0.0, 0.0], 0);
    let mut add = |seen: f64, expected: f64| statistic += (seen - expected) * (seen - expected) / expected;
    for (answer, seen) in counts {
        let chance = (0..answer.len()).map(|at| {
            let candidates = &follow[&answer[..at]];
            candidates[&answer[at]] / candidates.values().sum::<f64>()
        });
        let expected = chance.product::<f64>() * ROUNDS as f64;
        if expected >= 5.0 {
            add(seen, expected);
            cells += 1;
        } else {
            rest = [rest[0] + seen, rest[1] + expected];
        }
    }
    if rest[1] >= 5.0 {
        add(rest[0], rest[1]);
    }
    assert!((10..=27).contains(&cells), "{cells} kinds of answers");
    // 0.1 % critical value for 27 degrees of freedom; fewer have a smaller one, so a wrong distribution of three
    // thousand answers passes neither.
    assert!(statistic < 55.5, "chi-squared {statistic} over {cells} cells");
}

#[test]
fn a_draft_model_changes_no_token() {
    let prompts: Vec<Vec<u32>> =
        (0..4).map(|n| (n * 50..n * 50 + 60).map(|t| t * 7 % 500).collect()).collect();
    // Of the same model all guesses are right, of the other next to none: soon it is asked no more.
    for (draft, fewest, least, most) in [("qwen2-tied.gguf", 20, 0.97, 1.0), ("qwen2-f32.gguf", 1, 0.0, 0.5)]
    {
        let plain = engine(sure("qwen2-tied.gguf", 20), Speculation::Off, None);
        let drafting = engine(sure("qwen2-tied.gguf", 20), Speculation::Suffix, Some(sure(draft, 1)));
        let (mut drafted, mut accepted) = (0, 0);
        for (seed, prompt) in prompts.iter().enumerate() {
            for temperature in [0.0, 0.8] {
                let sampling = Sampling { temperature, seed: seed as u64, ..Sampling::GREEDY };
                let expected = run(&plain, prompt, 60, sampling.clone());
                let found = run(&drafting, prompt, 60, sampling);
                assert_eq!(found.tokens, expected.tokens, "with {draft}, temperature {temperature}");
                assert_eq!(found.log_probabilities, expected.log_probabilities);
                if temperature == 0.0 {
                    drafted += found.stats.drafted_tokens;
                    accepted += found.stats.accepted_tokens;
                }
            }
        }
        let share = accepted as f64 / drafted as f64;
        // A guess or two say nothing of a share.
        assert!(
            drafted >= fewest && (drafted <= 3 || (least..=most).contains(&share)),
            "with {draft}: {accepted} of {drafted}"
        );
    }
}

/// Together they share steps of both models, long prompts come in pieces, some are dropped half way.
#[test]
fn many_requests_share_a_draft_model() {
    let plain = engine(sure("qwen2-tied.gguf", 20), Speculation::Off, None);
    let drafting = engine(sure("qwen2-tied.gguf", 20), Speculation::Suffix, Some(sure("qwen2-tied.gguf", 1)));
    let prompts: Vec<Vec<u32>> =
        (0..12).map(|n| (0..40 + n * 60).map(|t| (t * (7 + n) + n) % 500).collect()).collect();
    let running: Vec<_> =
        prompts.iter().map(|prompt| submit(&drafting, prompt, 30, Sampling::GREEDY)).collect();
    for (n, (generation, prompt)) in running.into_iter().zip(&prompts).enumerate() {
        if n % 3 == 0 {
            drop(generation);
            continue;
        }
        let found = generation.collect_blocking().unwrap();
        assert_eq!(found.tokens, run(&plain, prompt, 30, Sampling::GREEDY).tokens, "request {n}");
    }
}

#[test]
fn a_draft_model_of_another_vocabulary_is_refused() {
    let options = EngineOptions {
        device: Device::Cpu,
        draft_model: Some(random("qwen2-tied.gguf")),
        ..EngineOptions::default()
    };
    let refused = Engine::start(Model::open(&ModelSource::Embedded).unwrap(), options);
    assert!(matches!(refused.err(), Some(EngineError::DraftVocabulary { .. })));
}
