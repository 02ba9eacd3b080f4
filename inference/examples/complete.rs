//! Streams one FIM completion from a model: `complete [MODEL] < FILE`, the cursor marked by `$0` in the text.

use std::{io::Read, time::Instant};

use anyhow::Context;
use lacuna_inference::{Backend, Engine, EngineOptions, Event, Model, ModelSource, Request, fim::FimParts};

fn main() -> anyhow::Result<()> {
    let source = ModelSource::parse(&std::env::args().nth(1).unwrap_or_else(|| "embedded".into()));
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let (prefix, suffix) = text.split_once("$0").context("mark the cursor with $0")?;
    let start = Instant::now();
    let model = Model::open(&source)?;
    eprintln!("opened in {:?}", start.elapsed());
    let threads = std::env::args().nth(2).map_or(Ok(0), |threads| threads.parse())?;
    let engine = Engine::start(model.clone(), EngineOptions { threads, ..EngineOptions::default() })?;
    eprintln!("started in {:?}", start.elapsed());
    let fim = model.fim().context("the model has no FIM tokens")?;
    let tokenizer = model.tokenizer();
    let (prefix, suffix) = (tokenizer.encode(prefix), tokenizer.encode(suffix));
    let parts = FimParts { prefix: &prefix, suffix: &suffix, ..FimParts::default() };
    for _ in 0..2 {
        let request = Request {
            stop_tokens: fim.stop_tokens().to_vec(),
            ..Request::greedy(fim.assemble(tokenizer, &parts).tokens, 64)
        };
        let mut generation = engine.submit(request)?;
        while let Some(event) = generation.next_blocking() {
            match event {
                Event::Token { text, .. } => print!("{text}"),
                Event::Finished { reason, text, stats, .. } => println!("{text}\n[{reason:?} {stats:?}]"),
                Event::Failed(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
