//! What the end-to-end tests share: a language client, a scripted model, and projects on disk.

pub mod chat_model;
pub mod client;
pub mod project;
pub mod random;
pub mod scripted;
pub mod typing;

/// A parser for texts that tests expect to be right.
pub fn parser(language: lacuna_indexer::Language) -> tree_sitter::Parser {
    let mut parser = tree_sitter::Parser::new();
    parser.set_language(&language.grammar()).expect("a grammar");
    parser
}
