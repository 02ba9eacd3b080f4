//! Searches of several beams: the same answers as a search that shares nothing, whatever runs beside it.

use std::time::Instant;

use lacuna_inference::{
    Backend, Constraint, Device, Engine, EngineOptions, Model, ModelSource, Output, Request, Runner,
    StopReason,
    fim::FimParts,
    runner::{StepResult, Wanted},
    sampler::top,
    scheduler::{Batch, BatchEntry},
};

const SOURCE: &str = include_str!("../src/scheduler.rs");
const BEAMS: usize = 4;
const MOST_TOKENS: usize = 24;

fn has_gpu() -> bool {
    std::env::var("LACUNA_GPU_TESTS").is_ok_and(|value| value == "1")
}

/// The CPU, or the GPU where LACUNA_GPU_TESTS=1 says that there is one.
fn options() -> EngineOptions {
    let device = if has_gpu() { Device::Auto } else { Device::Cpu };
    EngineOptions { device, threads: 1, ..EngineOptions::default() }
}

fn engine(options: EngineOptions) -> Engine {
    Engine::start(Model::open(&ModelSource::Embedded).unwrap(), options).unwrap()
}

/// The rest of a line of this crate's source is asked for, up to its break.
fn request(model: &Model, line: usize, beams: usize) -> Request {
    let lines: Vec<&str> = SOURCE.lines().collect();
    let (head, _) = lines[line].split_at(lines[line].len() / 2);
    let tokenizer = model.tokenizer();
    let prefix = tokenizer.encode(&format!("{}\n{head}", lines[line - 20..line].join("\n")));
    let prefix = tokenizer.heal(&prefix);
    let suffix = tokenizer.encode(&format!("\n{}", lines[line + 1..line + 6].join("\n")));
    let fim = model.fim().unwrap();
    let parts = FimParts { prefix: prefix.kept, suffix: &suffix, ..FimParts::default() };
    let constraint = (!prefix.literal.is_empty()).then(|| Constraint::literal(&prefix.literal));
    Request {
        stop_tokens: fim.stop_tokens().to_vec(),
        stop_texts: vec!["\n".into()],
        constraint,
        beams,
        ..Request::greedy(fim.assemble(tokenizer, &parts).tokens, MOST_TOKENS)
    }
}

fn run(engine: &Engine, request: Request) -> Output {
    engine.submit(request).unwrap().collect_blocking().unwrap()
}

/// Lines of code with something to say in their second half.
const LINES: [usize; 6] = [118, 152, 200, 250, 310, 392];

/// Log-probabilities of the best answers, by text: every answer's tokens are computed anew from the first one.
fn search_that_shares_nothing(runner: &mut Runner, model: &Model, request: &Request) -> Vec<(String, f64)> {
    let tokenizer = model.tokenizer();
    let vocabulary = model.config().vocabulary;
    let mut live: Vec<(Vec<u32>, f64, bool)> = vec![(Vec::new(), 0.0, true)];
    let mut ended: Vec<(String, f64)> = Vec::new();
    loop {
        let mut candidates = Vec::new();
        for (answer, score, is_likeliest) in &live {
            let tokens = [&request.prompt[..], answer].concat();
            let last = tokens.len() - 1..tokens.len();
            let blocks = (0..tokens.len().div_ceil(16) as u32).collect();
            let entry = BatchEntry { sequence: 0, tokens, start: 0, blocks, logits: last };
            let batch = Batch { copies: Vec::new(), entries: vec![entry] };
            let Ok(Some(StepResult::Logits(logits))) = runner.forward(&batch, Wanted::Logits, &|| false)
            else {
                panic!("logits were asked for");
            };
            for (rank, next) in top(&logits[..vocabulary], 4 * BEAMS).into_iter().enumerate() {
                let score = score + f64::from(next.log_probability);
                candidates.push((answer.clone(), next.token, score, *is_likeliest && rank == 0));
            }
        }
        candidates.sort_by(|a, b| b.2.total_cmp(&a.2));
        candidates.truncate(4 * BEAMS);
        live.clear();
        for (mut answer, token, score, is_likeliest) in candidates {
            let is_end = request.stop_tokens.contains(&token);
            if !is_end {
                answer.push(token);
            }
            let text = tokenizer.decode(&answer);
            let line = text.split('\n').next().unwrap_or_default().to_string();
            if is_end || text.contains('\n') || answer.len() == MOST_TOKENS {
                if line.trim().is_empty() && !is_likeliest {
                    continue;
                }
                match ended.iter_mut().find(|(other, _)| *other == line) {
                    Some((_, sum)) => *sum = (sum.exp() + score.exp()).ln(),
                    None => ended.push((line, score)),
                }
            } else if live.len() < BEAMS {
                live.push((answer, score, is_likeliest));
            }
        }
        ended.sort_by(|a, b| b.1.total_cmp(&a.1));
        let best = live.iter().map(|(_, score, _)| *score).fold(f64::NEG_INFINITY, f64::max);
        if ended.first().is_some_and(|(_, score)| *score >= best) {
            return ended;
        }
    }
}

#[test]
fn finds_what_a_search_that_shares_nothing_finds() {
    let engine = engine(options());
    let model = engine.model();
    let mut runner = Runner::new(model, &options(), 128, 128).unwrap();
    let mut differs = 0;
    for line in LINES {
        // The reference knows no constraints.
        let request = Request { constraint: None, ..request(model, line, BEAMS) };
        let expected = search_that_shares_nothing(&mut runner, model, &request);
        let greedy = run(&engine, Request { beams: 1, ..request.clone() });
        let found = run(&engine, request);
        assert_eq!(found.text, expected[0].0, "line {line}: {expected:?}");
        let others: Vec<&str> = found.alternatives.iter().map(|other| other.text.as_str()).collect();
        assert_eq!(others, expected[1..].iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>());
        for (other, (_, score)) in found.alternatives.iter().zip(&expected[1..]) {
            assert!((other.log_probability - score).abs() < 1e-4, "{other:?}, {score}");
        }
        differs += usize::from(greedy.text != found.text);
        assert_eq!((found.stats.beams, greedy.stats.beams, greedy.alternatives.len()), (BEAMS, 1, 0));
    }
    assert!(differs > 0, "no search found anything but the greedy answer, so this shows little");
}

/// What may begin an answer says nothing of which answer is likelier: those that may come have the scores that they have
/// among all.
#[test]
fn a_list_of_words_changes_no_answers_score() {
    let engine = engine(options());
    let mut compared = 0;
    for line in LINES {
        let request = Request { constraint: None, ..request(engine.model(), line, BEAMS) };
        let free = run(&engine, request.clone());
        let word = |text: &str| {
            let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
            text[..end].to_owned()
        };
        let texts = free.alternatives.iter().map(|other| other.text.as_str()).chain([free.text.as_str()]);
        let mut words: Vec<String> = texts.map(word).filter(|word| !word.is_empty()).collect();
        if words.is_empty() {
            continue;
        }
        // One that is hardly likely: an answer that goes on with it must not win for having no other choice.
        words.push("zygote".into());
        let listed = run(&engine, Request { constraint: Some(Constraint::one_of(&words)), ..request });
        for other in &listed.alternatives {
            let same = free.alternatives.iter().find(|free| free.text == other.text);
            if let Some(same) = same {
                compared += 1;
                assert!((other.log_probability - same.log_probability).abs() < 0.01, "{other:?}, {same:?}");
            }
        }
        assert!(!listed.text.starts_with("zygote"), "line {line}: {listed:?}");
    }
    assert!(compared > 3, "only {compared} answers were found by both");
}

/// Sixteen requests at once, some of them searches, in a cache that is too small for all of them: each is answered as
/// when it is alone, unless it had to give up beams and says so, and nothing is left behind.
#[test]
fn what_runs_beside_a_search_changes_nothing() {
    // Less than the prompts of all take; the second is too small for the beams of what runs at once, too.
    is_answered_as_when_alone(2048, 0);
    is_answered_as_when_alone(1024, 4);
}

fn is_answered_as_when_alone(cache_tokens: usize, may_give_up: usize) {
    let alone = engine(options());
    let crowded = engine(EngineOptions { context: 512, cache_tokens, ..options() });
    let ask = |index: usize| request(alone.model(), LINES[index % LINES.len()], [1, BEAMS, 2, 8][index % 4]);
    let running: Vec<_> = (0..16).map(|index| crowded.submit(ask(index)).unwrap()).collect();
    let mut gave_up = 0;
    for (index, generation) in running.into_iter().enumerate() {
        let (expected, found) = (run(&alone, ask(index)), generation.collect_blocking().unwrap());
        assert_eq!(expected.stats.beams_given_up, 0);
        if found.stats.beams_given_up > 0 {
            gave_up += 1;
            continue;
        }
        assert_eq!(found.tokens, expected.tokens, "request {index}");
        // Where nothing but greedy requests run, a GPU finds the probability too, and its exponentials are not the CPU's.
        let tolerance = if has_gpu() { 1e-5 } else { 0.0 };
        assert_eq!(found.log_probabilities.len(), expected.log_probabilities.len());
        for (found, expected) in found.log_probabilities.iter().zip(&expected.log_probabilities) {
            assert!((found - expected).abs() <= tolerance, "request {index}: {found}, {expected}");
        }
        assert_eq!(found.alternatives, expected.alternatives);
    }
    assert!(gave_up <= may_give_up, "{gave_up} of 16 requests gave up beams");
    crowded.clear_cache().unwrap();
    let status = crowded.status();
    assert_eq!((status.running, status.waiting, status.kv_blocks_used), (0, 0, 0));
}

#[test]
fn searches_end_when_told_to() {
    let engine = engine(options());
    let late = Request { deadline: Some(Instant::now()), ..request(engine.model(), 118, BEAMS) };
    assert_eq!(run(&engine, late).reason, StopReason::Deadline);
    for _ in 0..20 {
        drop(engine.submit(request(engine.model(), 250, BEAMS)).unwrap());
    }
    let short = Request { max_tokens: 2, ..request(engine.model(), 310, BEAMS) };
    let output = run(&engine, short);
    assert!(output.tokens.len() <= 2, "{output:?}");
    engine.clear_cache().unwrap();
    assert_eq!(engine.status().kv_blocks_used, 0, "what was dropped holds blocks");
}
