//! All names that may stand at an access, where its receiver's type is known as a whole.

use std::path::Path;

use tree_sitter::Tree;

use super::{
    MAX_BASES, UNIVERSAL, go, has_local_subclass, is_checked, is_closed, java, package_of, receiver, rust,
    type_of,
};
use crate::{
    Snapshot,
    imports::Importer,
    index::{FileId, SymbolId},
    language::Family,
    resolve::{self, Resolver},
    words::words,
};

/// Types below one whose values are listed: for each, all files are asked whether they name it, while somebody waits.
const MOST_SUBTYPES: usize = 8;
/// Longer lists leave so much open that they are not worth their time.
const MOST_NAMES: usize = 2000;

impl Snapshot {
    /// The names that may stand where one stands at `offset` of a text, as the name of a member: those of its receiver's type,
    /// of the types above and below it, or what a package offers; and what the text itself asks of the receiver's name, and
    /// its functions. `None` where the receiver is not known or may have others. The file at `path` may come to have the text,
    /// whose tree is `tree`.
    pub fn members_at(&self, path: &Path, text: &str, tree: &Tree, offset: usize) -> Option<Vec<String>> {
        let path = crate::index::normalize(path);
        let file = self.file_by_path(&path).and_then(|id| self.file(id))?;
        let symbols = file.symbols.as_ref()?;
        let family = file.language.family();
        if !is_checked(file.language) {
            return None;
        }
        let name = tree.root_node().named_descendant_for_byte_range(offset, offset)?;
        let access = receiver::access(name.parent()?).filter(|access| access.name.id() == name.id())?;
        let resolver = Resolver::new(self, Importer { path: &file.path, language: file.language, symbols });
        if let Some(files) = package_of(&resolver, text, &access) {
            return finished(self.exported(&files)?, text, &access);
        }
        if family == Family::Rust {
            let from = self.file_by_path(&path)?;
            let (id, behind) = rust::Typing { snapshot: self, file: from, text }.type_of(access.receiver)?;
            return finished(rust::names(self, id, behind, from)?, text, &access);
        }
        let (written, id) = type_of(&resolver, text, &access)?;
        if has_local_subclass(&resolver, text, written) {
            return None;
        }
        let mut names = Vec::new();
        self.add_members(id, &resolver.importer, &mut names)?;
        for subtype in self.subtypes(id, MOST_SUBTYPES)?.into_iter().skip(1) {
            self.add_members(subtype, &resolver.importer, &mut names)?;
        }
        if names.is_empty() {
            return None;
        }
        let is_own = self.symbol(id).is_some_and(|(other, _, _)| other.directory() == file.directory());
        match family {
            Family::EcmaScript => names.extend(UNIVERSAL.map(str::to_owned)),
            Family::Go if !is_own => names.retain(|name| go::is_exported(name)),
            _ => {}
        }
        finished(names, text, &access)
    }

    /// What a Go package offers to others.
    fn exported(&self, files: &[FileId]) -> Option<Vec<String>> {
        let mut names = Vec::new();
        for id in files {
            let symbols = self.file(*id)?.symbols.as_ref()?;
            let top = symbols.symbols.iter().filter(|symbol| symbols.is_top_level(symbol));
            names.extend(
                top.map(|symbol| symbols.name(symbol))
                    .filter(|name| go::is_exported(name))
                    .map(str::to_owned),
            );
        }
        (!names.is_empty() && go::is_whole(self, files)).then_some(names)
    }

    /// Adds what a type and those above it have; `None` where that is not all.
    fn add_members(&self, id: SymbolId, importer: &Importer<'_>, names: &mut Vec<String>) -> Option<()> {
        let mut pending = vec![id];
        let mut seen: Vec<SymbolId> = Vec::new();
        while let Some(id) = pending.pop() {
            if seen.contains(&id) {
                continue;
            }
            seen.push(id);
            // Of any name that is not special.
            if seen.len() >= MAX_BASES || !is_closed(self, id, "") {
                return None;
            }
            let members = match self.is_java(id) {
                true => {
                    let added = java::added(self, id).into_iter();
                    names.extend(added.filter(|name| !java::UNWRITTEN.contains(name)).map(str::to_owned));
                    java::members(self, id, importer)
                }
                false => resolve::members(self, id),
            };
            names.extend(members.iter().filter_map(|member| {
                self.symbol(*member).map(|(_, symbols, symbol)| symbols.name(symbol).to_owned())
            }));
            let (bases, is_all) = self.bases(id);
            if !is_all {
                return None;
            }
            names.extend(bases.iter().filter_map(|base| self.embedded(*base)).map(str::to_owned));
            pending.extend(bases);
        }
        Some(())
    }
}

/// The names in order, with what the text asks of the same receiver and the functions that it defines: while a line is typed, what
/// the index saw of the code around it may be in pieces. `None` where there are too many.
fn finished(mut names: Vec<String>, text: &str, access: &receiver::Access<'_>) -> Option<Vec<String>> {
    let asked = &text[access.receiver.byte_range()];
    let is_method = |before: &str| {
        before.ends_with(") ") && before.rsplit('\n').next().unwrap_or_default().starts_with("func (")
    };
    let is_said = |start: usize| {
        let before = &text[..start];
        let receiver = before.strip_suffix('.').or_else(|| before.strip_suffix("::"));
        let is_asked = receiver.is_some_and(|end| end.ends_with(asked));
        start != access.name.start_byte()
            && (is_asked || before.ends_with("def ") || before.ends_with("fn ") || is_method(before))
    };
    names.extend(words(text).filter(|word| is_said(word.start)).map(|word| word.text.to_owned()));
    names.sort_unstable();
    names.dedup();
    (names.len() <= MOST_NAMES).then_some(names)
}
