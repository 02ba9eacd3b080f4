//! The engine's promises, on the embedded model: streams, stops, limits, cancellation, reuse, speculation.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use lacuna_inference::{
    Backend, CacheMiss, Closers, Constraint, Device, Engine, EngineError, EngineOptions, Event, Lexicon,
    Model, ModelSource, Output, Priority, Request, Sampling, StopReason, fim::FimParts, kv_cache::BLOCK_SIZE,
    speculative::Speculation, weights::random::Random,
};

const SOURCE: &str = include_str!("../src/scheduler.rs");

fn engine(options: EngineOptions) -> Engine {
    Engine::start(Model::open(&ModelSource::Embedded).unwrap(), EngineOptions { threads: 1, ..options })
        .unwrap()
}

/// A hole in this crate's own source, `at` lines from the top.
fn prompt(engine: &Engine, at: usize, lines: usize) -> Vec<u32> {
    let text = |range: std::ops::Range<usize>| {
        SOURCE.lines().skip(range.start).take(range.len()).map(|line| format!("{line}\n")).collect::<String>()
    };
    let tokenizer = engine.model().tokenizer();
    let prefix = tokenizer.encode(text(at.saturating_sub(lines)..at).trim_end());
    let suffix = tokenizer.encode(&text(at + 1..at + 9));
    let parts =
        FimParts { prefix: &prefix, suffix: &suffix, path: Some("scheduler.rs"), ..FimParts::default() };
    engine.model().fim().unwrap().assemble(tokenizer, &parts).tokens
}

fn request(prompt: Vec<u32>, max_tokens: usize) -> Request {
    Request::greedy(prompt, max_tokens)
}

fn run(engine: &Engine, request: Request) -> Output {
    engine.submit(request).unwrap().collect_blocking().unwrap()
}

/// Waits until the engine has nothing to do; the status is published after each step.
fn wait_until_idle(engine: &Engine) {
    let start = Instant::now();
    while engine.status().running + engine.status().waiting > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the engine never came to rest: {:?}",
            engine.status()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn speculation_changes_no_token() {
    let plain = engine(EngineOptions { speculation: Speculation::Off, ..EngineOptions::default() });
    let speculating = engine(EngineOptions::default());
    let mut drafted = 0;
    for (index, at) in [30, 90, 150, 260, 330].into_iter().enumerate() {
        for temperature in [0.0, 0.8] {
            let sampling = Sampling { temperature, seed: index as u64, ..Sampling::GREEDY };
            let ask = |engine: &Engine| {
                run(engine, Request { sampling: sampling.clone(), ..request(prompt(engine, at, 40), 80) })
            };
            let (expected, found) = (ask(&plain), ask(&speculating));
            assert_eq!(expected.tokens, found.tokens, "line {at}, temperature {temperature}");
            assert_eq!(expected.log_probabilities, found.log_probabilities);
            assert_eq!(expected.stats.drafted_tokens, 0);
            assert!(found.stats.accepted_tokens <= found.stats.drafted_tokens);
            drafted += found.stats.accepted_tokens;
        }
    }
    assert!(drafted > 0, "nothing was ever drafted right, so this shows nothing");
}

/// What an earlier request was answered is drafted when it is asked for again, a little further on, and when nothing
/// in the prompt repeats.
#[test]
fn earlier_answers_are_drafted_and_change_no_token() {
    let plain = engine(EngineOptions { speculation: Speculation::Off, ..EngineOptions::default() });
    let speculating = engine(EngineOptions::default());
    for at in [60, 200] {
        let mut prompt = prompt(&plain, at, 20);
        for round in 0..3 {
            let (expected, found) =
                [&plain, &speculating].map(|engine| run(engine, request(prompt.clone(), 60))).into();
            assert_eq!(expected.tokens, found.tokens, "line {at}, round {round}");
            assert_eq!(expected.log_probabilities, found.log_probabilities);
            if round > 0 {
                assert!(found.stats.accepted_tokens >= 40, "round {round}: {:?}", found.stats);
            }
            // As if two tokens of the answer had been typed.
            prompt.extend(&expected.tokens[..2]);
        }
    }
}

/// What stands at the beginning of an answer is what was demanded, whatever else the model would say; speculation
/// changes nothing; the literal is in the tokens and not in the text.
#[test]
fn constraints_hold_with_and_without_speculation() {
    let plain = engine(EngineOptions { speculation: Speculation::Off, ..EngineOptions::default() });
    let speculating = engine(EngineOptions::default());
    let tokenizer = plain.model().tokenizer();
    let stop_tokens = plain.model().fim().unwrap().stop_tokens().to_vec();
    let members = ["running", "waiting", "waiting_limit", "blocks_total", "cache"];
    // Literal, words, and with what the spelled text begins.
    let cases: &[(&str, Constraint, &[&str])] = &[
        ("", Constraint::literal(""), &[""]),
        ("sequ", Constraint::literal("sequ"), &["sequ"]),
        (" zebra crossing é🦀", Constraint::literal(" zebra crossing é🦀"), &[" zebra crossing é🦀"]),
        ("", Constraint::one_of(members), &members),
        (".wai", Constraint::literal(".wai").completing("wai", members), &[".waiting", ".waiting_limit"]),
    ];
    let mut accepted = 0;
    for (seed, at) in [30, 150, 260, 330].into_iter().enumerate() {
        for (literal, constraint, beginnings) in cases {
            for temperature in [0.0, 1.0] {
                let ask = |engine: &Engine| {
                    let sampling = Sampling { temperature, seed: seed as u64, ..Sampling::GREEDY };
                    let constraint = Some(constraint.clone());
                    let stop_tokens = stop_tokens.clone();
                    let prompt = prompt(engine, at, 40);
                    run(engine, Request { sampling, constraint, stop_tokens, ..request(prompt, 48) })
                };
                let (expected, found) = (ask(&plain), ask(&speculating));
                assert_eq!(expected.tokens, found.tokens, "line {at}, {constraint:?}");
                assert_eq!(expected.log_probabilities, found.log_probabilities);
                assert_eq!((expected.text.as_str(), expected.reason), (found.text.as_str(), found.reason));
                accepted += found.stats.accepted_tokens;
                let spelled = tokenizer.decode(&found.tokens);
                assert_eq!(spelled, format!("{literal}{}", found.text));
                let word_ends = |beginning: &&&str| {
                    spelled.strip_prefix(**beginning).is_some_and(|rest| {
                        *literal == **beginning
                            || !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                    })
                };
                assert!(
                    beginnings.iter().any(|beginning| word_ends(&beginning)),
                    "{constraint:?}: {spelled:?}"
                );
                assert!(!found.stats.constraint_dropped);
            }
        }
    }
    assert!(accepted > 0, "nothing was ever drafted right, so this shows nothing");
}

/// What an answer closes was open, it ends before what stands after it, and speculation changes nothing.
#[test]
fn closers_hold_with_and_without_speculation() {
    static BRACKETS: Lexicon = Lexicon {
        line_comment: "",
        block_comment: None,
        quotes: b"",
        doubtful: b"",
        doubtful_in_strings: b"",
    };
    let plain = engine(EngineOptions { speculation: Speculation::Off, ..EngineOptions::default() });
    let speculating = engine(EngineOptions::default());
    let (mut accepted, mut ended, mut other) = (0, 0, 0);
    for (seed, at) in [30, 90, 150, 260, 330].into_iter().enumerate() {
        for (open, after) in [("", Some(b'}')), ("", None), ("})", None)] {
            for temperature in [0.0, 1.0] {
                let ask = |engine: &Engine, closers: Option<Closers>| {
                    let sampling = Sampling { temperature, seed: seed as u64, ..Sampling::GREEDY };
                    run(engine, Request { sampling, closers, ..request(prompt(engine, at, 40), 80) })
                };
                let closers = Some(Closers::in_code(&BRACKETS, "", open.into(), after));
                let (expected, found) = (ask(&plain, closers.clone()), ask(&speculating, closers));
                assert_eq!(expected.tokens, found.tokens, "line {at}, {open:?}, {after:?}");
                assert_eq!(expected.log_probabilities, found.log_probabilities);
                assert_eq!((expected.text.as_str(), expected.reason), (found.text.as_str(), found.reason));
                let mut wanted: Vec<char> = open.chars().collect();
                for character in found.text.chars() {
                    match character {
                        '(' => wanted.push(')'),
                        '[' => wanted.push(']'),
                        '{' => wanted.push('}'),
                        ')' | ']' | '}' => assert_eq!(wanted.pop(), Some(character), "{:?}", found.text),
                        _ => {}
                    }
                }
                if found.reason == StopReason::Closed {
                    assert!(wanted.is_empty() && after.is_some(), "{:?}", found.text);
                    assert!(plain.model().tokenizer().decode(&found.tokens).len() > found.text.len());
                    ended += 1;
                }
                accepted += found.stats.accepted_tokens;
                other += usize::from(!ask(&plain, None).text.starts_with(&found.text));
            }
        }
    }
    assert!(accepted > 0 && ended > 0 && other > 0, "too little happened: {accepted}, {ended}, {other}");
}

#[test]
fn a_constraint_that_nothing_fits_is_dropped_and_said_so() {
    let engine = engine(EngineOptions::default());
    // No hole to fill: the model writes on, so that there is text to stop in.
    let prompt = engine.model().tokenizer().encode(SOURCE)[..400].to_vec();
    let free = run(&engine, request(prompt.clone(), 8));
    // Every token that could spell the literal ends the answer, and may not come before the literal is there.
    let tokenizer = engine.model().tokenizer();
    let stop_tokens: Vec<u32> = (0..tokenizer.vocabulary_size() as u32)
        .filter(|id| tokenizer.token_bytes(*id).starts_with(b"~"))
        .collect();
    let constraint = Some(Constraint::literal("~"));
    let output = run(&engine, Request { constraint, stop_tokens, ..request(prompt, 8) });
    assert!(output.stats.constraint_dropped);
    assert_eq!((output.tokens, output.text), (free.tokens, free.text));
}

#[test]
fn a_healed_prompt_spells_the_typed_text_again() {
    let engine = engine(EngineOptions::default());
    let tokenizer = engine.model().tokenizer();
    let fim = engine.model().fim().unwrap();
    for typed in ["let scheduler = Schedul", "    self.runn", "fn main() {\n    let a_"] {
        let prefix = tokenizer.encode(typed);
        let healed = tokenizer.heal(&prefix);
        assert!(!healed.literal.is_empty());
        let parts = FimParts { prefix: healed.kept, ..FimParts::default() };
        let constraint = Some(Constraint::literal(&healed.literal));
        let prompt = fim.assemble(tokenizer, &parts).tokens;
        let output = run(&engine, Request { constraint, ..request(prompt, 16) });
        let spelled = tokenizer.decode(&[healed.kept, &output.tokens].concat());
        assert_eq!(spelled, format!("{typed}{}", output.text));
    }
}

#[test]
fn batched_and_cached_requests_give_the_same_tokens_as_alone() {
    let engine = engine(EngineOptions::default());
    let prompts: Vec<_> = [40, 80, 120, 160, 200, 240].map(|at| prompt(&engine, at, 30)).to_vec();
    let alone: Vec<_> =
        prompts.iter().map(|prompt| run(&engine, request(prompt.clone(), 24)).tokens).collect();
    let together: Vec<_> =
        prompts.iter().map(|prompt| engine.submit(request(prompt.clone(), 24)).unwrap()).collect();
    for (generation, alone) in together.into_iter().zip(&alone) {
        let output = generation.collect_blocking().unwrap();
        assert_eq!(&output.tokens, alone);
        assert_eq!(output.stats.cached_tokens, output.stats.prompt_tokens - 1);
    }
}

#[test]
fn typing_on_reuses_everything_before_the_new_text() {
    let engine = engine(EngineOptions::default());
    let first = prompt(&engine, 120, 60);
    run(&engine, request(first.clone(), 4));
    let mut typed = first.clone();
    typed.extend(engine.model().tokenizer().encode(" scheduler"));
    let output = run(&engine, request(typed, 4));
    assert!(output.stats.cached_tokens >= first.len(), "{:?}", output.stats);
}

#[test]
fn no_tokens_warm_the_cache() {
    let engine = engine(EngineOptions::default());
    let prompt = prompt(&engine, 120, 60);
    let warm = Request { priority: Priority::Background, ..request(prompt.clone(), 0) };
    let warmed = run(&engine, warm.clone());
    assert_eq!((warmed.reason, warmed.tokens.len(), warmed.text.as_str()), (StopReason::MaxTokens, 0, ""));
    assert_eq!((warmed.stats.cached_tokens, warmed.stats.computed_tokens), (0, prompt.len()));
    assert_eq!(warmed.stats.cache_miss(None), CacheMiss::NeverSeen);
    let again = run(&engine, warm).stats;
    assert_eq!((again.cached_tokens, again.computed_tokens), (prompt.len() - 1, 1));
    let asked = run(&engine, request(prompt.clone(), 4));
    assert_eq!((asked.stats.cached_tokens, asked.stats.computed_tokens), (prompt.len() - 1, 1));
    assert_eq!(asked.stats.cache_miss(Some(prompt.len())), CacheMiss::None);
}

#[test]
fn a_cleared_cache_knows_nothing() {
    let engine = engine(EngineOptions::default());
    let ask = || {
        let output = run(&engine, request(prompt(&engine, 90, 40), 20));
        (output.stats.cached_tokens, output.tokens)
    };
    let first = ask();
    assert_eq!(first.0, 0);
    let warm = ask();
    assert!(warm.0 > 0 && warm.1 == first.1);
    engine.clear_cache().unwrap();
    assert_eq!(engine.status().kv_blocks_used, 0);
    assert_eq!(ask(), first);
}

#[test]
fn an_idle_model_is_unloaded_and_comes_back() {
    let unload_after = Some(Duration::from_millis(50));
    let draft_model = Some(Model::open(&ModelSource::Embedded).unwrap());
    let engine =
        engine(EngineOptions { device: Device::Cpu, unload_after, draft_model, ..EngineOptions::default() });
    let first = run(&engine, request(prompt(&engine, 90, 40), 20));
    let start = Instant::now();
    while engine.status().kv_bytes > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", engine.status());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(engine.status().weights_bytes, 0);
    let second = run(&engine, request(prompt(&engine, 90, 40), 20));
    assert_eq!((second.tokens, second.stats.cached_tokens), (first.tokens, 0));
}

#[test]
fn background_work_gives_way_to_a_key_press() {
    let engine = engine(EngineOptions::default());
    let background = Request { priority: Priority::Background, ..request(vec![300; 1900], 0) };
    let background = engine.submit(background).unwrap();
    while engine.status().running == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let asked = run(&engine, request(prompt(&engine, 60, 4), 2));
    assert_eq!(asked.tokens.len(), 2);
    background.stop();
    let stopped = background.collect_blocking().unwrap();
    assert_eq!(stopped.reason, StopReason::Cancelled, "all of it was computed before the key press");
    assert!(stopped.stats.computed_tokens < 1900);
}

#[test]
fn what_made_room_is_told_from_what_never_was_there() {
    let engine = engine(EngineOptions { context: 512, cache_tokens: 512, ..EngineOptions::default() });
    let prompts = [100, 200, 300].map(|at| {
        let mut prompt = prompt(&engine, at, 40);
        prompt.truncate(300);
        prompt
    });
    for prompt in &prompts {
        assert_eq!(run(&engine, request(prompt.clone(), 2)).stats.evicted_tokens, 0);
    }
    let stats = run(&engine, request(prompts[0].clone(), 2)).stats;
    let lost = stats.cached_tokens + stats.evicted_tokens;
    assert!(stats.evicted_tokens > 0 && lost <= 299 && lost + BLOCK_SIZE > 299, "{stats:?}");
    assert_eq!(stats.cache_miss(Some(300)), CacheMiss::Evicted { tokens: stats.evicted_tokens });
}

#[test]
fn answers_end_where_they_should() {
    let engine = engine(EngineOptions::default());
    // No hole to fill: the model writes on, so that there is text to stop in.
    let prompt = engine.model().tokenizer().encode(SOURCE)[..400].to_vec();
    let free = run(&engine, request(prompt.clone(), 32));
    assert_eq!((free.reason, free.tokens.len()), (StopReason::MaxTokens, 32));

    let third = free.tokens[3];
    let position = free.tokens.iter().position(|token| *token == third).unwrap();
    let stopped = run(&engine, Request { stop_tokens: vec![third], ..request(prompt.clone(), 32) });
    assert_eq!(
        (stopped.reason, stopped.tokens.as_slice()),
        (StopReason::StopToken, &free.tokens[..position])
    );

    let middle: String = free.text.chars().skip(5).take(3).collect();
    let expected = &free.text[..free.text.find(&middle).unwrap()];
    let stopped = run(&engine, Request { stop_texts: vec![middle.clone()], ..request(prompt.clone(), 32) });
    assert_eq!(
        (stopped.reason, stopped.text.as_str()),
        (StopReason::StopText, expected),
        "stop at {middle:?}"
    );

    let late = Request { deadline: Some(Instant::now()), ..request(prompt.clone(), 32) };
    assert_eq!(run(&engine, late).reason, StopReason::Deadline);
}

#[test]
fn the_context_is_a_limit_not_a_crash() {
    let engine = engine(EngineOptions { context: 128, ..EngineOptions::default() });
    let output = run(&engine, request(vec![100; 100], 500));
    assert_eq!((output.reason, output.tokens.len()), (StopReason::ContextFull, 28));
    let refused = |prompt: Vec<u32>| engine.submit(request(prompt, 8)).err().map(|error| error.to_string());
    assert!(matches!(refused(vec![100; 128]), Some(text) if text.contains("128 tokens")));
    assert!(matches!(refused(vec![]), Some(text) if text.contains("empty")));
    assert!(matches!(refused(vec![1 << 30]), Some(text) if text.contains("outside the vocabulary")));
}

#[test]
fn too_many_requests_are_refused_and_none_is_lost() {
    let engine = engine(EngineOptions::default());
    let prompt = prompt(&engine, 150, 10);
    let mut refused = 0;
    let mut accepted = Vec::new();
    for _ in 0..300 {
        match engine.submit(request(prompt.clone(), 3)) {
            Ok(generation) => accepted.push(generation),
            Err(EngineError::Overloaded { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    for generation in accepted {
        match generation.collect_blocking() {
            Ok(output) => assert_eq!(output.tokens.len(), 3),
            Err(EngineError::Overloaded { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0, "300 requests at once were all taken: the queue has no bound");
    wait_until_idle(&engine);
}

#[test]
fn dropping_a_generation_frees_the_engine() {
    let engine = engine(EngineOptions::default());
    for at in [60, 100, 140] {
        let mut generation = engine.submit(request(prompt(&engine, at, 40), 2000)).unwrap();
        assert!(matches!(generation.next_blocking(), Some(Event::Token { .. })));
        drop(generation);
        wait_until_idle(&engine);
    }
}

/// A thousand requests dropped at a random moment, four at a time: none holds a block after the step that was
/// running, and in the end the prefix cache alone holds any.
#[test]
fn cancelled_requests_free_their_blocks_within_a_step() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/recorded/qwen2-tied.gguf");
    let model = Model::open(&ModelSource::Path(file)).unwrap();
    let options = EngineOptions { device: Device::Cpu, threads: 1, ..EngineOptions::default() };
    let engine = Engine::start(model, options).unwrap();
    let mut random = Random::new(11);
    let mut late = Vec::new();
    for round in 0..250 {
        let mut generations = Vec::new();
        for _ in 0..4 {
            let length = 1 + random.bits() % 700;
            let prompt = (0..length).map(|_| (random.bits() % 500) as u32).collect();
            generations.push(engine.submit(request(prompt, 300)).unwrap());
        }
        std::thread::sleep(Duration::from_micros(random.bits() % 6000));
        drop(generations);
        let dropped_at = engine.status().steps;
        // Taken in after the dropped ones, it takes a step of its own.
        run(&engine, request(vec![7], 0));
        wait_until_idle(&engine);
        let status = engine.status();
        assert_eq!(status.kv_blocks_running, 0, "round {round}");
        late.push(status.steps - dropped_at - 1);
    }
    // Of the dropped ones, the step that was running; one more may have begun between the two readings.
    assert!(late.iter().all(|steps| *steps <= 2), "{late:?}");
    assert!(late.iter().filter(|steps| **steps > 1).count() <= 2, "{late:?}");
    let status = engine.status();
    assert_eq!(status.kv_blocks_used, status.kv_blocks_cached);
}

#[test]
fn stopping_a_generation_still_tells_what_it_cost() {
    let engine = engine(EngineOptions::default());
    let mut generation = engine.submit(request(prompt(&engine, 100, 40), 2000)).unwrap();
    assert!(matches!(generation.next_blocking(), Some(Event::Token { .. })));
    generation.stop();
    let output = generation.collect_blocking().unwrap();
    assert_eq!(output.reason, StopReason::Cancelled);
    assert!(output.stats.generated_tokens > 0 && output.stats.generated_tokens < 2000);
}

#[test]
fn shutting_down_ends_every_stream() {
    let engine = engine(EngineOptions::default());
    let generations: Vec<_> =
        (0..4).map(|i| engine.submit(request(prompt(&engine, 100 + i, 40), 2000)).unwrap()).collect();
    drop(engine);
    for generation in generations {
        assert!(generation.collect_blocking().is_err(), "a stream ended as if it were complete");
    }
}
