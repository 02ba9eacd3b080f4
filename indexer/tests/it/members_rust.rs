//! Members in Rust: of which receivers the type is known, and what they may be asked for.

use lacuna_indexer::{Language, syntax};

use crate::support::Fixture;

const FILES: &str = "\
//- Cargo.toml
[package]
name = \"shop\"
//- src/lib.rs
pub mod stock;
pub mod shelf;
pub mod made;
mod main_of;
pub use stock::Stock;
pub type Result<T> = std::result::Result<T, Failure>;
pub struct Failure(pub Stock, String);
//- src/stock.rs
use std::{collections::HashMap, sync::{Arc, Mutex}};
use crate::shelf::{Shelf, Place};
#[derive(Clone, Debug)]
pub struct Stock {
    pub count: u32,
    secret: u8,
    pub shelf: Arc<Shelf>,
    pub parts: Vec<Stock>,
    pub named: HashMap<String, Shelf>,
    pub locked: Mutex<Shelf>,
    pub next: Option<Box<Stock>>,
    pub foreign: other::Thing,
}
impl Stock {
    pub const EMPTY: Stock = todo!();
    pub fn new() -> Self { todo!() }
    pub fn open(path: &str) -> crate::Result<Self> { todo!() }
    pub fn first(&self) -> &Shelf { todo!() }
    pub async fn load(&self) -> Option<Shelf> { todo!() }
    pub fn all(&self) -> impl Iterator<Item = &Shelf> + '_ { todo!() }
    pub fn any<T>(&self) -> T { todo!() }
    fn hidden(&self) {}
}
impl Place for Stock { fn height(&self) -> u32 { 1 } }
impl std::fmt::Display for Stock { fn fmt(&self) {} }
pub enum Kind { New, Old(Shelf, u8), Kept { place: Shelf } }
impl Kind { pub fn is_new(&self) -> bool { true } }
pub struct Foreign { pub own: u8 }
impl other::Widget for Foreign { fn draw(&self) {} }
pub struct Seen(pub Stock);
impl std::ops::Deref for Seen { type Target = Stock; }
pub struct Boxed<T> { pub value: T }
pub static KEPT: Stock = todo!();
std::thread_local! { pub static OWN: Stock = todo!(); }
#[derive(Clone, other::Parser)]
pub struct Parsed { pub name: u8 }
//- src/shelf.rs
pub struct Shelf { pub width: u32 }
impl Shelf { pub fn stock(&self) -> super::Stock { todo!() } }
pub trait Place: Base { fn height(&self) -> u32; fn whole(&self) -> Shelf { todo!() } }
pub trait Base { fn base(&self); }
pub trait Ext { fn extended(&self); }
impl<T> Ext for T {}
//- src/made.rs
macro_rules! make { ($name:ident) => { impl $name { pub fn made(&self) {} } } }
pub struct Made { pub number: u8 }
make!(Made);
";

/// What is typed in a function of another module, and some of the names; nothing where it is not sure.
fn check(marked: &str, expected: &[&str], lacking: &[&str]) {
    let main = match marked.contains("fn ") {
        true => marked.to_owned(),
        false => format!(
            "use crate::{{stock::{{Kind, Stock, Foreign, Seen, Boxed}}, shelf::{{Shelf, Place}}, made::Made}};\n\
             async fn f(a: &Stock, b: Kind) {{\n    {marked}\n}}\n"
        ),
    };
    let fixture = Fixture::new(&format!("{FILES}//- src/main_of.rs\n{main}"));
    let (path, offset) = fixture.cursor.as_ref().unwrap();
    let text = main.replace("$0", "x");
    let tree = syntax::parse_str(Language::Rust, &text).unwrap();
    let found = fixture.workspace.snapshot().members_at(path, &text, &tree, *offset);
    assert_eq!(found.is_some(), !expected.is_empty(), "{marked:?}: {found:?}");
    let found = found.unwrap_or_default();
    for name in expected {
        assert!(found.iter().any(|other| other == name), "{marked:?}: {name} is not in {found:?}");
    }
    for name in lacking {
        assert!(!found.iter().any(|other| other == name), "{marked:?}: {name} is in {found:?}");
    }
}

const STOCK: &[&str] =
    &["count", "shelf", "new", "open", "height", "whole", "base", "extended", "clone", "to_string"];
const SHELF: &[&str] = &["width", "stock", "extended"];

#[test]
fn values_have_the_members_of_their_declared_types() {
    for code in [
        "a.$0",
        "let b = a.$0",
        "g(a.$0",
        "let b = Stock::new(); b.$0",
        "let b = Stock { count: 1 }; b.$0",
        "let b: Option<Stock> = g(); b.unwrap().$0",
        "let b = Stock::open(\"\")?; b.$0",
        "let Ok(b) = Stock::open(\"\") else { return }; b.$0",
        "let b = Box::new(Stock::new()); b.$0",
        "Stock::EMPTY.$0",
        "crate::stock::KEPT.$0",
        "a.clone().$0",
        "a.parts[0].$0",
        "for b in &a.parts { b.$0 }",
        "for (at, b) in a.parts.iter().enumerate() { b.$0 }",
        "if let Some(b) = &a.next { b.$0 }",
        "if let Some(b) = a.parts.first() && b.$0 {}",
        // While it is typed.
        "let b = a.$0\n    let c = g();",
        "a.$0\n    let c = g();",
        "return a.$0\n    let c = g();",
        "if let Some(b) = a.parts.first() && b.$0",
        "if a.$0\n    let c = g();",
        "while let Some(b) = a.parts.iter().next() { b.$0 }",
        "match a.parts.get(0) { Some(b) => b.$0, None => {} }",
        "a.shelf.stock().$0",
        "let b = (a, 1); let c = |b: &Stock| b.$0",
        "crate::Failure(g(), h()).0.$0",
        "let crate::Failure(b, _) = g(); b.$0",
    ] {
        check(code, STOCK, &["secret", "hidden", "width"]);
    }
    for code in [
        "a.shelf.$0",
        "a.first().$0",
        "a.named[\"b\"].$0",
        "for (_, b) in &a.named { b.$0 }",
        "for b in a.all() { b.$0 }",
        "a.locked.lock().unwrap().$0",
        "a.load().await?.$0",
        "a.whole().$0",
        "match b { Kind::Old(c, _) => c.$0 }",
        "match b { Kind::Kept { place } => place.$0 }",
        "if let Kind::Kept { place: c } = b { c.$0 }",
        "let c: &dyn Place = g(); c.whole().$0",
    ] {
        check(code, SHELF, &["count"]);
    }
    check("let c: &dyn Place = g(); c.$0", &["height", "whole", "base"], &["width"]);
    check("fn f(a: crate::stock::Stock) { a.$0 }", STOCK, &["secret"]);
}

#[test]
fn paths_have_what_stands_in_their_types() {
    check("Stock::$0", &["new", "open", "EMPTY", "height", "default"], &["count", "hidden"]);
    check("let b = Kind::$0", &["New", "Old", "Kept", "is_new"], &[]);
    check("crate::stock::Kind::$0", &["New"], &[]);
    check("use crate::stock::Stock;\nimpl Stock { fn f(&self) { Self::$0 } }", &["new", "EMPTY"], &["count"]);
    check("use crate::stock::Stock;\nimpl Stock { fn f(&self) { self.$0 } }", STOCK, &["width"]);
    // A module, and what is in a box.
    check("crate::stock::$0", &[], &[]);
    check("std::sync::Arc::<Stock>::$0", &[], &[]);
}

#[test]
fn any_doubt_is_no_answer() {
    for code in [
        "c.$0",
        "a.parts.$0",
        "a.next.$0",
        "a.foreign.$0",
        "a.any().$0",
        "a.load().$0",
        "let c = |c| c.$0",
        "let (c, d) = g(); c.$0",
        "if let Kind::Old(.., c) = b { c.$0 }",
        "let c: Boxed<Stock> = g(); c.value.$0",
        // More than the workspace tells: a trait of another library, what it is dereferenced to, what a macro writes.
        "let c: Foreign = g(); c.$0",
        "let c: Seen = g(); c.$0",
        "let c: Made = g(); c.$0",
        "crate::stock::OWN.$0",
        "let c: crate::stock::Parsed = g(); c.$0",
        "use crate::stock::Stock;\nimpl Stock { fn f(self: std::pin::Pin<&mut Self>) { self.$0 } }",
        "println!(\"{}\", a.$0)",
        "let a = g(); a.$0",
        "fn f<Stock>(a: Stock) { a.$0 }",
        "use other::Stock;\nfn f(a: Stock) { a.$0 }",
        "fn f(a: Unknown) { a.$0 }",
    ] {
        check(code, &[], &[]);
    }
}

#[test]
fn names_mean_what_is_nearest() {
    check("let a = a.first(); a.$0", SHELF, &["count"]);
    check("{ let a = a.first(); } a.$0", STOCK, &["width"]);
    check("if let Some(a) = &a.load().await { } else { a.$0 }", STOCK, &["width"]);
    check("let a = a.$0", STOCK, &["width"]);
    check("let c = |a: Shelf| { a.$0 }; ", SHELF, &["count"]);
    check("match a.load().await { Some(a) if a.$0 => {} _ => {} }", SHELF, &["count"]);
}

/// The body of a function with a stock `a`, and the accesses that are known and that are missing.
#[test]
fn accesses_are_missing_only_where_everything_is_known() {
    let check = |body: &str, known: &[&str], missing: &[&str]| {
        let text =
            format!("use crate::stock::{{Foreign, Stock}};\nfn f(a: Stock, b: Foreign) {{ {body} }}\n");
        let fixture = Fixture::new(&format!("{FILES}//- src/main_of.rs\n$0{text}"));
        let (path, _) = fixture.cursor.as_ref().unwrap();
        let tree = syntax::parse_str(Language::Rust, &text).unwrap();
        let check = fixture.workspace.snapshot().check_members(path, &text, &tree, 0..text.len());
        let found: Vec<&str> = check.known.iter().map(|range| &text[range.clone()]).collect();
        assert_eq!(found, known, "{body}");
        let found: Vec<&str> = check.missing.iter().map(|missing| &text[missing.range.clone()]).collect();
        assert_eq!(found, missing, "{body}");
    };
    check("a.first();", &["first"], &[]);
    check("a.store();", &["store"], &["store"]);
    check("a.first().store();", &["first", "store"], &["store"]);
    check("Stock::make();", &["make"], &["make"]);
    check("b.store(); a.clone();", &["clone"], &[]);
    // Said elsewhere too, so it may be defined there.
    check("a.store(); store();", &[], &[]);
}
