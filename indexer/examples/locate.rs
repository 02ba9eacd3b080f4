//! Answers where names lead, for comparison with other tools: `cargo run --release --example locate -- DIR`.
//!
//! Lines on standard input are `FILE<TAB>NAME` (or `QUALIFIER.NAME`), the file relative to DIR: the answer is
//! `PATH:LINE`, or an empty line. Without a file, `<TAB>NAME` is answered by every definition of that name, by spaces.

use std::{
    io::{BufRead, Write},
    path::Path,
    sync::atomic::AtomicBool,
};

use lacuna_indexer::{Located, Options, Workspace};

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("usage: locate DIR < QUESTIONS");
        std::process::exit(2);
    };
    let root = Path::new(&directory).canonicalize()?;
    let workspace = Workspace::new(vec![root.clone()], Options::default());
    workspace.scan(&mut |_| {}, &AtomicBool::new(false));
    let snapshot = workspace.snapshot();
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = match line.split_once('\t') {
            Some(("", name)) => {
                let places = snapshot.definitions(name);
                let places: Vec<String> =
                    places.iter().map(|info| format!("{}:{}", info.path, info.line)).collect();
                places.join(" ")
            }
            Some((file, name)) => match snapshot.locate(&root.join(file), name) {
                Some(Located::Symbol(info)) => format!("{}:{}", info.path, info.line),
                Some(Located::Module(path)) => format!("{path}:1"),
                None => String::new(),
            },
            None => String::new(),
        };
        writeln!(output, "{answer}")?;
    }
    output.flush()
}
