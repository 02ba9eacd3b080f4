//! The GPU runner against the CPU's, on the device. Needs a GPU: runs where LACUNA_GPU_TESTS=1 says that there is one.

use lacuna_inference::{
    Backend, Closers, Device, Engine, EngineOptions, Lexicon, Model, ModelSource, Request, Sampling,
    cpu::kv_storage::KvPrecision,
    cuda::{CudaRunner, Gpu, PageFormat, check, pages::CacheWish},
    kv_cache::{BLOCK_SIZE, BlockId},
    models::decoder::{CpuRunner, WeightPrecision},
    scheduler::{Batch, BatchEntry},
    speculative::Speculation,
};

/// Normalized squared error of logits: on the GPU activations are rounded to 8 bits in groups of 256, keys and values to
/// bf16; the reference is in F32.
const LOGITS_BOUND: f64 = 2e-3;
/// The same with keys and values in fp8, whose steps are sixteen times as wide.
const FP8_LOGITS_BOUND: f64 = 2e-2;
const FORMATS: [(PageFormat, f64); 2] =
    [(PageFormat::Bf16, LOGITS_BOUND), (PageFormat::Fp8, FP8_LOGITS_BOUND)];
const TOKENS: usize = 150;

fn has_gpu() -> bool {
    std::env::var("LACUNA_GPU_TESTS").is_ok_and(|value| value == "1")
}

fn models() -> Vec<Model> {
    let recorded = |name: &str| {
        let path = format!("{}/tests/reference/recorded/{name}.gguf", env!("CARGO_MANIFEST_DIR"));
        ModelSource::Path(path.into())
    };
    let mut sources = ["qwen2-tied", "qwen2-untied", "qwen2-f32", "llama-rope-scaled"].map(recorded).to_vec();
    sources.push(ModelSource::Embedded);
    sources.iter().map(|source| Model::open(source).expect("the fixture opens")).collect()
}

fn tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    (0..count).map(|index| ((index * 7919 + 13) % vocabulary) as u32).collect()
}

/// Logits after every token, computed in pieces over a block table that runs backwards.
fn in_pieces(runner: &mut CudaRunner, sequence: &[u32], piece: usize) -> Vec<f32> {
    let blocks: Vec<BlockId> = (0..sequence.len().div_ceil(BLOCK_SIZE) as BlockId).rev().collect();
    let mut all = Vec::new();
    for (index, part) in sequence.chunks(piece).enumerate() {
        let entry = BatchEntry {
            sequence: 0,
            tokens: part.to_vec(),
            start: index * piece,
            blocks: blocks.clone(),
            logits: 0..part.len(),
        };
        let batch = Batch { copies: Vec::new(), entries: vec![entry] };
        all.extend_from_slice(runner.forward(&batch, &|| false).expect("the GPU works").expect("wanted"));
    }
    all
}

#[test]
fn kernels_match_the_cpu() {
    if !has_gpu() {
        return;
    }
    let gpu = Gpu::open(0).expect("a GPU");
    for check in check::all(&gpu) {
        let check = check.expect("the GPU works");
        assert!(check.is_passed(), "{}: error {:.2e}, bound {:.0e}", check.name, check.error, check.bound);
    }
}

#[test]
fn logits_match_the_cpu_and_do_not_depend_on_the_pieces() {
    if !has_gpu() {
        return;
    }
    for model in models() {
        let sequence = tokens(TOKENS, model.config().vocabulary);
        let (gguf, config, blocks) = (model.gguf(), model.config(), TOKENS.div_ceil(BLOCK_SIZE));
        let mut cpu = CpuRunner::new(gguf, config, blocks, 2, KvPrecision::F32, WeightPrecision::Dequantized)
            .expect("the model loads");
        let entry = BatchEntry {
            sequence: 0,
            tokens: sequence.clone(),
            start: 0,
            blocks: (0..blocks as BlockId).collect(),
            logits: 0..TOKENS,
        };
        let batch = Batch { copies: Vec::new(), entries: vec![entry] };
        let expected = cpu.forward(&batch, &|| false).expect("nobody abandons it");
        for (format, bound) in FORMATS {
            let cache = CacheWish { blocks, least_blocks: blocks, format };
            let mut gpu =
                CudaRunner::new(Gpu::open(0).expect("a GPU"), gguf, config, cache).expect("the model loads");
            let whole = in_pieces(&mut gpu, &sequence, TOKENS);
            let error = check::normalized_error(&whole, expected);
            assert!(error <= bound, "{}, {format}: error {error:.2e}", model.name());
            for piece in [1, 6, 13, 40] {
                let pieces = in_pieces(&mut gpu, &sequence, piece);
                assert!(pieces == whole, "{}, {format}: pieces of {piece} give other bits", model.name());
            }
        }
    }
}

#[test]
fn speculation_and_batching_change_no_token() {
    if !has_gpu() {
        return;
    }
    for (model, (page_format, _)) in
        models().into_iter().flat_map(|model| FORMATS.map(|f| (model.clone(), f)))
    {
        let vocabulary = model.config().vocabulary;
        let start = |speculation| {
            let device = Device::Cuda(0);
            let options = EngineOptions { device, page_format, speculation, ..EngineOptions::default() };
            Engine::start(model.clone(), options).expect("the engine starts")
        };
        // Repeating prompts, so that there is something to guess.
        let request = |seed: usize| {
            Request::greedy(tokens(24, vocabulary).iter().copied().cycle().take(100 + seed * 7).collect(), 40)
        };
        let run = |engine: &Engine, seed| {
            engine.submit(request(seed)).expect("accepted").collect_blocking().expect("finished").tokens
        };
        let (plain, speculating) = (start(Speculation::Off), start(Speculation::Suffix));
        let alone: Vec<_> = (0..4).map(|seed| run(&plain, seed)).collect();
        let together: Vec<_> = (0..4).map(|seed| plain.submit(request(seed)).expect("accepted")).collect();
        for (seed, generation) in together.into_iter().enumerate() {
            let tokens = generation.collect_blocking().expect("finished").tokens;
            assert_eq!(tokens, alone[seed], "{}: together", model.name());
            assert_eq!(run(&speculating, seed), alone[seed], "{}: speculating", model.name());
        }
    }
}

/// The device chooses by itself until its choice must not come; then the host does, as it does for a request that always
/// needs the logits.
#[test]
fn closers_change_no_other_token() {
    if !has_gpu() {
        return;
    }
    static BRACKETS: Lexicon = Lexicon {
        line_comment: "",
        block_comment: None,
        quotes: b"",
        doubtful: b"",
        doubtful_in_strings: b"",
    };
    let model = Model::open(&ModelSource::Embedded).expect("the embedded model opens");
    let prompt = model.tokenizer().encode(include_str!("../src/closers.rs"));
    let on_host = Sampling { temperature: 1.0, top_k: 1, ..Sampling::GREEDY };
    for speculation in [Speculation::Off, Speculation::Suffix] {
        let options = EngineOptions { device: Device::Cuda(0), speculation, ..EngineOptions::default() };
        let engine = Engine::start(model.clone(), options).expect("the engine starts");
        for end in (100..900).step_by(50) {
            let [device, host] = [Sampling::GREEDY, on_host.clone()].map(|sampling| {
                let closers = Some(Closers::in_code(&BRACKETS, "", Vec::new(), None));
                let request = Request { sampling, closers, ..Request::greedy(prompt[..end].to_vec(), 60) };
                engine.submit(request).expect("accepted").collect_blocking().expect("finished")
            });
            assert_eq!((&device.tokens, &device.text), (&host.tokens, &host.text), "after {end} tokens");
        }
    }
}

#[test]
fn a_model_that_was_unloaded_answers_as_before() {
    if !has_gpu() {
        return;
    }
    let model = Model::open(&ModelSource::Embedded).expect("the embedded model opens");
    let unload_after = Some(std::time::Duration::from_millis(50));
    let options = EngineOptions { device: Device::Auto, unload_after, ..EngineOptions::default() };
    let engine = Engine::start(model.clone(), options).expect("the engine starts");
    assert!(engine.status().device.starts_with("cuda:"), "auto takes the GPU: {}", engine.status().device);
    let run = || {
        let request = Request::greedy(tokens(40, model.config().vocabulary), 20);
        engine.submit(request).expect("accepted").collect_blocking().expect("finished").tokens
    };
    let first = run();
    let is_unloaded = || engine.status().kv_bytes == 0;
    for _ in 0..1000 {
        if is_unloaded() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(is_unloaded(), "the memory is free");
    assert_eq!(run(), first);
}
