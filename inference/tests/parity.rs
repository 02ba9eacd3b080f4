//! The engine against Hugging Face transformers: recorded greedy tokens, logits and tokenizations.
//!
//! The records and the script that makes them are in `reference/`; `reference/make.py` describes the format. Weights
//! and cache are F32 here, as they were there. What the stored, quantized weights cost is bounded by a test of its own.

use std::path::{Path, PathBuf};

use lacuna_inference::{
    Backend, Engine, EngineOptions, Model, ModelSource, Request, StopReason,
    cpu::kv_storage::KvPrecision,
    fim::FimParts,
    kv_cache::{BLOCK_SIZE, BlockId},
    models::decoder::{CpuRunner, WeightPrecision},
    sampler::argmax,
    scheduler::{Batch, BatchEntry},
};
use serde::Deserialize;

/// Largest difference of a logit, relative to the row's largest.
const TOLERANCE: f32 = 1e-3;

const RANDOM_MODELS: &[&str] = &["qwen2-tied", "qwen2-untied", "qwen2-f32", "llama-rope-scaled"];
const EMBEDDED: &str = "embedded";

#[derive(Deserialize)]
struct Record {
    model: PathBuf,
    vocabulary: usize,
    logits: PathBuf,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    rows: Vec<Row>,
    fim: Option<Fim>,
}

/// Where a recorded row of logits belongs.
#[derive(Deserialize)]
struct Row {
    /// Index into prompt and tokens end to end; the row predicts what follows it.
    position: usize,
    row: usize,
}

#[derive(Deserialize)]
struct Fim {
    path: String,
    prefix: String,
    suffix: String,
}

#[derive(Deserialize)]
struct TokenizerRecord {
    model: PathBuf,
    cases: Vec<TokenizerCase>,
}

#[derive(Deserialize)]
struct TokenizerCase {
    text: String,
    ids: Vec<u32>,
    ids_with_special: Vec<u32>,
}

impl Case {
    /// Prompt and generated tokens.
    fn sequence(&self) -> Vec<u32> {
        [self.prompt.as_slice(), &self.tokens].concat()
    }
}

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/recorded")
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let path = recorded().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A record's model: a fixture beside it, or a file of the crate.
fn open(model: &Path) -> Model {
    let beside = recorded().join(model);
    let path = if beside.exists() { beside } else { Path::new(env!("CARGO_MANIFEST_DIR")).join(model) };
    Model::open(&ModelSource::Path(path)).expect("the fixture opens")
}

/// The recorded logits, `vocabulary` values a row.
fn rows(record: &Record) -> Vec<Vec<f32>> {
    let bytes = std::fs::read(recorded().join(&record.logits)).expect("recorded logits");
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    values.chunks_exact(record.vocabulary).map(<[f32]>::to_vec).collect()
}

fn runner(model: &Model, tokens: usize, kv: KvPrecision, weights: WeightPrecision) -> CpuRunner {
    CpuRunner::new(model.gguf(), model.config(), tokens.div_ceil(BLOCK_SIZE), 2, kv, weights)
        .expect("the model loads")
}

/// Logits after every token of `sequence`, computed in pieces of `step` tokens over a block table that runs backwards.
fn logits(runner: &mut CpuRunner, vocabulary: usize, sequence: &[u32], step: usize) -> Vec<Vec<f32>> {
    let blocks: Vec<BlockId> = (0..sequence.len().div_ceil(BLOCK_SIZE) as BlockId).rev().collect();
    let mut all = Vec::new();
    for (index, tokens) in sequence.chunks(step).enumerate() {
        let entry = BatchEntry {
            sequence: 0,
            tokens: tokens.to_vec(),
            start: index * step,
            blocks: blocks.clone(),
            logits: 0..tokens.len(),
        };
        let batch = Batch { copies: Vec::new(), entries: vec![entry] };
        let rows = runner.forward(&batch, &|| false).expect("nobody abandons it");
        all.extend(rows.chunks_exact(vocabulary).map(<[f32]>::to_vec));
    }
    all
}

fn greedy(engine: &Engine, case: &Case) -> Vec<u32> {
    let request = Request::greedy(case.prompt.clone(), case.tokens.len());
    let output = engine.submit(request).expect("accepted").collect_blocking().expect("finished");
    assert_eq!(output.reason, StopReason::MaxTokens, "{}", case.name);
    output.tokens
}

fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    found.iter().zip(expected).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) / largest
}

/// Squared error relative to the squared deviation of the expected row: a shift of all logits counts for nothing.
fn normalized_error(found: &[f32], expected: &[f32]) -> f64 {
    let mean = |row: &[f32]| row.iter().map(|x| f64::from(*x)).sum::<f64>() / row.len() as f64;
    let (found_mean, expected_mean) = (mean(found), mean(expected));
    let (mut error, mut spread) = (0.0, 0.0);
    for (a, b) in found.iter().zip(expected) {
        let (a, b) = (f64::from(*a) - found_mean, f64::from(*b) - expected_mean);
        error += (a - b) * (a - b);
        spread += b * b;
    }
    error / spread
}

fn check_logits(name: &str) {
    let record: Record = read(&format!("{name}.json"));
    let (model, expected) = (open(&record.model), rows(&record));
    assert_eq!(model.config().vocabulary, record.vocabulary);
    let mut runner = runner(&model, 512, KvPrecision::F32, WeightPrecision::Dequantized);
    for case in &record.cases {
        let sequence = case.sequence();
        // In one piece, in pieces that cut blocks, and token by token: prefill, chunked prefill and decode.
        for step in [sequence.len(), 37, 1] {
            let found = logits(&mut runner, record.vocabulary, &sequence, step);
            for row in &case.rows {
                let error = relative_error(&found[row.position], &expected[row.row]);
                let at = row.position;
                assert!(
                    error <= TOLERANCE,
                    "{name}/{} step {step}: logits after {at} are off by {error}",
                    case.name
                );
            }
            let from = case.prompt.len() - 1;
            let chosen: Vec<u32> =
                found[from..from + case.tokens.len()].iter().map(|row| argmax(row)).collect();
            assert_eq!(chosen, case.tokens, "{name}/{} step {step}", case.name);
        }
    }
}

fn check_greedy(name: &str) {
    let record: Record = read(&format!("{name}.json"));
    let options = EngineOptions {
        threads: 2,
        kv_precision: KvPrecision::F32,
        weight_precision: WeightPrecision::Dequantized,
        ..EngineOptions::default()
    };
    let engine = Engine::start(open(&record.model), options).expect("the engine starts");
    for case in &record.cases {
        assert!(case.tokens.len() >= 64);
        // The second time the prompt comes from the prefix cache.
        for pass in ["cold", "cached"] {
            assert_eq!(greedy(&engine, case), case.tokens, "{name}/{} {pass}", case.name);
        }
    }
}

#[test]
fn random_models_give_the_reference_logits() {
    RANDOM_MODELS.iter().for_each(|name| check_logits(name));
}

#[test]
fn random_models_give_the_reference_tokens() {
    RANDOM_MODELS.iter().for_each(|name| check_greedy(name));
}

#[test]
fn embedded_model_gives_the_reference_logits() {
    check_logits(EMBEDDED);
}

#[test]
fn embedded_model_gives_the_reference_tokens() {
    check_greedy(EMBEDDED);
}

/// Quantized activations and an F16 cache change logits a little; this bounds how much, on trained weights, along the
/// reference's own sequence so that every position counts.
#[test]
fn stored_weights_stay_close_to_the_reference() {
    let record: Record = read("embedded.json");
    let (model, expected) = (open(&record.model), rows(&record));
    let mut runner = runner(&model, 512, KvPrecision::F16, WeightPrecision::Stored);
    let (mut agreed, mut total, mut worst) = (0, 0, 0.0f64);
    for case in &record.cases {
        let sequence = case.sequence();
        let found = logits(&mut runner, record.vocabulary, &sequence, sequence.len());
        for row in &case.rows {
            worst = worst.max(normalized_error(&found[row.position], &expected[row.row]));
        }
        let from = case.prompt.len() - 1;
        agreed +=
            found[from..].iter().zip(&case.tokens).filter(|(row, token)| argmax(row) == **token).count();
        total += case.tokens.len();
    }
    println!(
        "stored weights: greedy choice agrees at {agreed} of {total} positions, worst normalized error {worst:.2e}"
    );
    assert!(worst < 5e-3, "normalized squared error of the logits {worst:.2e}");
    assert!(agreed * 100 >= total * 97, "greedy choice agrees at {agreed} of {total} positions");
}

#[test]
fn fim_prompts_are_the_recorded_ones() {
    let record: Record = read("embedded.json");
    let model = open(&record.model);
    let (tokenizer, template) = (model.tokenizer(), model.fim().expect("a FIM template"));
    for case in &record.cases {
        let fim = case.fim.as_ref().expect("texts of the embedded model's prompts");
        let (prefix, suffix) = (tokenizer.encode(&fim.prefix), tokenizer.encode(&fim.suffix));
        let parts =
            FimParts { path: Some(&fim.path), prefix: &prefix, suffix: &suffix, ..FimParts::default() };
        assert_eq!(template.assemble(tokenizer, &parts).tokens, case.prompt, "{}", case.name);
    }
}

#[test]
fn tokenizers_give_the_recorded_ids() {
    for name in ["tokenizer-embedded.json", "tokenizer-llama.json"] {
        let record: TokenizerRecord = read(name);
        let model = open(&record.model);
        let tokenizer = model.tokenizer();
        for case in &record.cases {
            assert_eq!(tokenizer.encode(&case.text), case.ids, "{name} {:?}", case.text);
            assert_eq!(
                tokenizer.encode_with_special(&case.text),
                case.ids_with_special,
                "{name} {:?}",
                case.text
            );
            assert_eq!(tokenizer.decode(&case.ids), case.text, "{name}");
        }
    }
}
