//! What the context of a cursor shows because of what the rest of the file uses.

use crate::support::{Fixture, written};
use lacuna_indexer::ContextItem;

fn context(fixture: &str, budget: usize) -> String {
    let items: Vec<ContextItem> = Fixture::new(fixture).context(budget);
    written(&items)
}

/// The members that a type has in `budget` bytes, of which the file uses the last one elsewhere.
#[test]
fn members_that_the_file_uses_come_first() {
    let members: String = (0..80).map(|n| format!("    def member_{n}(self, count): pass\n")).collect();
    let fixture = format!(
        "//- store.py\nclass Store:\n{members}//- app.py\nfrom store import Store\n\ndef other(store: Store):\n    store.member_79(1)\n\ndef open(store: Store):\n    store.$0\n"
    );
    let shown = context(&fixture, 800);
    assert!(shown.contains("member_79") && !shown.contains("member_60"), "{shown}");
}

#[test]
fn names_of_included_files_that_the_file_uses_come_first() {
    let macros: String = (0..200).map(|n| format!("#define CHECK_{n}(p) ((p) == {n})\n")).collect();
    let fixture = format!(
        "//- inner.h\n{macros}//- outer.h\n#include \"inner.h\"\n//- main.c\n#include \"outer.h\"\n\nint one(int p) {{\n    return CHECK_177(p);\n}}\n\nint two(int p) {{\n    return $0\n}}\n"
    );
    let shown = context(&fixture, 600);
    assert!(shown.contains("CHECK_177") && !shown.contains("CHECK_176"), "{shown}");
}

#[test]
fn a_value_without_a_type_is_what_has_its_members() {
    let shown = context(
        "//- info.ts\nexport interface RequestInfo {\n    isBatchCall: boolean;\n    connectionParams: string;\n    accept: string;\n}\n//- other.ts\nexport interface Other {\n    accept: string;\n}\n//- app.ts\nimport { load } from './load';\n\nfunction one(info) {\n    return info.isBatchCall || info.accept;\n}\n\nfunction two(info) {\n    return info.$0\n}\n",
        2000,
    );
    assert!(shown.contains("interface RequestInfo") && shown.contains("connectionParams"), "{shown}");
    assert!(!shown.contains("interface Other"), "{shown}");
}

#[test]
fn a_type_parameter_offers_what_its_bound_has() {
    let shown = context(
        "//- src/automaton.rs\npub trait Automaton {\n    fn next_state(&self, current: u32) -> u32;\n}\n//- src/lib.rs\nmod automaton;\nmod search;\n//- src/search.rs\nuse crate::automaton::Automaton;\n\nfn find<A: Automaton + ?Sized>(dfa: &A) {\n    dfa.$0\n}\n",
        2000,
    );
    assert!(shown.contains("trait `Automaton`, whose members are used here"), "{shown}");
    assert!(shown.contains("fn next_state"), "{shown}");
}

#[test]
fn a_chain_is_followed_through_fields_calls_and_indices() {
    let shown = context(
        "//- src/tree.rs\npub struct Tree {\n    pub root: Node,\n}\npub struct Node {\n    pub leaves: Vec<Leaf>,\n}\npub struct Leaf {\n    pub weight: u32,\n}\n//- src/lib.rs\nmod tree;\nmod walk;\n//- src/walk.rs\nuse crate::tree::Tree;\n\nfn heaviest(tree: &Tree) -> u32 {\n    tree.root.leaves[0].$0\n}\n",
        2000,
    );
    assert!(shown.contains("pub weight: u32"), "{shown}");
}

#[test]
fn an_imported_table_shows_its_entries() {
    let shown = context(
        "//- errors.js\nconst codes = {\n    NOT_FOUND: 1,\n    TOO_LARGE: 2,\n}\nmodule.exports = codes\n//- app.js\nconst errors = require('./errors')\n\nfunction fail() {\n    return errors.$0\n}\n",
        2000,
    );
    assert!(shown.contains("NOT_FOUND"), "{shown}");
}
