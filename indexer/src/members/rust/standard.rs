//! What the types of Rust's own library give back, as far as they hold types of the workspace.

use super::written::head;

/// Types that hold others, each by its name alone: what a path to it says is not asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Option,
    Result,
    /// A vector, a slice, an array or a queue.
    List,
    Map,
    Set,
    Iterator,
    Future,
    /// `RefCell`.
    Cell,
    /// `Mutex`, `RwLock`.
    Lock,
}

/// Whether a path names what values are put into without notice.
pub(super) fn is_box(path: &str) -> bool {
    matches!(path.rsplit("::").next(), Some("Box" | "Rc" | "Arc"))
}

/// Whether what is behind a type is asked through it, as if it were not there.
pub(super) fn is_seen_through(path: &str) -> bool {
    let guards = ["Ref", "RefMut", "MutexGuard", "RwLockReadGuard", "RwLockWriteGuard"];
    is_box(path) || path.rsplit("::").next().is_some_and(|name| guards.contains(&name))
}

/// Which one a type is, and the types that it holds.
fn container(written: &str) -> Option<(Container, Vec<&str>)> {
    let (path, mut arguments) = head(written)?;
    let name = path.rsplit("::").next()?;
    if is_seen_through(path) || matches!(name, "Cow" | "Pin") {
        return container(arguments.last()?);
    }
    let container = match name {
        "Option" => Container::Option,
        "Result" => Container::Result,
        "[]" | "Vec" | "VecDeque" | "SmallVec" | "ArrayVec" => Container::List,
        "HashMap" | "BTreeMap" | "IndexMap" | "FxHashMap" | "AHashMap" => Container::Map,
        "HashSet" | "BTreeSet" | "IndexSet" | "FxHashSet" | "AHashSet" | "BinaryHeap" => Container::Set,
        "Iterator" | "DoubleEndedIterator" | "ExactSizeIterator" | "IntoIterator" => Container::Iterator,
        "Future" => Container::Future,
        "RefCell" => Container::Cell,
        "Mutex" | "RwLock" => Container::Lock,
        _ => return None,
    };
    for argument in &mut arguments {
        for name in ["Item", "Output"] {
            let given = argument.strip_prefix(name).and_then(|rest| rest.trim_start().strip_prefix('='));
            *argument = given.map_or(*argument, str::trim);
        }
    }
    Some((container, arguments))
}

/// What `?` makes of a value.
pub(super) fn tried(written: &str) -> Option<&str> {
    let (container, arguments) = container(written)?;
    arguments.first().copied().filter(|_| matches!(container, Container::Option | Container::Result))
}

/// What `Some(name)`, `Ok(name)` and `Err(name)` take out of a value.
pub(super) fn inside<'a>(written: &'a str, pattern: &str) -> Option<&'a str> {
    let (container, arguments) = container(written)?;
    match (container, pattern) {
        (Container::Option, "Some") | (Container::Result, "Ok") => arguments.first().copied(),
        (Container::Result, "Err") => arguments.get(1).copied(),
        _ => None,
    }
}

pub(super) fn awaited(written: &str) -> Option<&str> {
    let (container, arguments) = container(written)?;
    arguments.first().copied().filter(|_| container == Container::Future)
}

pub(super) fn indexed(written: &str) -> Option<&str> {
    let (container, arguments) = container(written)?;
    match container {
        Container::List => arguments.first().copied(),
        Container::Map => arguments.get(1).copied(),
        _ => None,
    }
}

/// What a loop over a value has at a time.
pub(super) fn element(written: &str) -> Option<String> {
    let (container, arguments) = container(written)?;
    let first = arguments.first()?;
    match container {
        Container::List | Container::Set | Container::Iterator | Container::Option => {
            Some((*first).to_owned())
        }
        Container::Map => Some(format!("({first}, {})", arguments.get(1)?)),
        _ => None,
    }
}

/// What a method of such a type gives back.
pub(super) fn method(written: &str, name: &str) -> Option<String> {
    use Container::*;
    let (container, arguments) = container(written)?;
    let first = *arguments.first()?;
    let option = |inner: &str| Some(format!("Option<{inner}>"));
    let iterator = |inner: &str| Some(format!("Iterator<{inner}>"));
    let same = || Some(written.to_owned());
    match (container, name) {
        (Option | Result, "unwrap" | "expect" | "unwrap_or" | "unwrap_or_else" | "unwrap_or_default") => {
            Some(first.to_owned())
        }
        (Option, "insert" | "get_or_insert" | "get_or_insert_with" | "unwrap_unchecked") => {
            Some(first.to_owned())
        }
        (Option, "take" | "replace" | "or" | "or_else" | "filter") => same(),
        (
            Option | Result,
            "as_ref" | "as_mut" | "cloned" | "copied" | "as_deref" | "as_deref_mut" | "clone",
        ) => same(),
        (Option, "ok_or" | "ok_or_else" | "context" | "with_context") => Some(format!("Result<{first}>")),
        (Result, "map_err" | "or_else" | "context" | "with_context") => Some(format!("Result<{first}>")),
        (Result, "ok") => option(first),
        (Result, "unwrap_err" | "expect_err") => Some((*arguments.get(1)?).to_owned()),
        (Option, "iter" | "iter_mut" | "into_iter") => iterator(first),
        (
            List,
            "get" | "get_mut" | "first" | "last" | "first_mut" | "last_mut" | "pop" | "front" | "back",
        ) => option(first),
        (List, "pop_front" | "pop_back" | "front_mut" | "back_mut" | "peek") => option(first),
        (List | Set, "iter" | "iter_mut" | "into_iter" | "drain") => iterator(first),
        (Set, "get" | "first" | "last" | "pop_first" | "pop_last" | "pop" | "peek" | "take") => option(first),
        (List, "clone" | "to_vec" | "as_slice" | "as_mut_slice" | "to_owned") => {
            Some(format!("Vec<{first}>"))
        }
        (List, "swap_remove") => Some(first.to_owned()),
        (Map, "get" | "get_mut" | "remove" | "insert") => option(arguments.get(1)?),
        (Map, "values" | "values_mut" | "into_values") => iterator(arguments.get(1)?),
        (Map, "keys" | "into_keys") => iterator(first),
        (Map, "iter" | "iter_mut" | "into_iter" | "drain") => {
            iterator(&format!("({first}, {})", arguments.get(1)?))
        }
        (
            Iterator,
            "next" | "last" | "nth" | "find" | "next_back" | "peek" | "max_by_key" | "min_by_key" | "max_by"
            | "min_by",
        ) => option(first),
        (
            Iterator,
            "rev" | "skip" | "take" | "filter" | "cloned" | "copied" | "peekable" | "step_by" | "by_ref"
            | "fuse",
        ) => same(),
        (Iterator, "skip_while" | "take_while" | "inspect" | "iter" | "into_iter" | "chain" | "cycle") => {
            same()
        }
        (Iterator, "enumerate") => iterator(&format!("(usize, {first})")),
        (Cell, "borrow" | "borrow_mut" | "get_mut" | "into_inner" | "take" | "replace") => {
            Some(first.to_owned())
        }
        // Those of other libraries than Rust's own give the guard itself, which is then not found.
        (Lock, "lock" | "read" | "write" | "into_inner" | "get_mut") => Some(format!("Result<{first}>")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_methods_give_back() {
        for (written, name, expected) in [
            ("Option<&'a Stock>", "unwrap", Some("&'a Stock")),
            ("Arc<Mutex<Vec<Stock>>>", "lock", Some("Result<Vec<Stock>>")),
            ("io::Result<Stock>", "map_err", Some("Result<Stock>")),
            ("&mut [Stock]", "first", Some("Option<Stock>")),
            ("HashMap<String, Stock>", "values", Some("Iterator<Stock>")),
            ("impl Iterator<Item = &Stock> + '_", "next", Some("Option<&Stock>")),
            ("Vec<Stock>", "len", None),
            ("Stock", "unwrap", None),
        ] {
            assert_eq!(method(written, name).as_deref(), expected, "{written}.{name}");
        }
        assert_eq!(element("&HashMap<String, Stock>").as_deref(), Some("(String, Stock)"));
        assert_eq!(tried("Result<Stock, E>"), Some("Stock"));
        assert_eq!(indexed("[Stock; 4]"), Some("Stock"));
    }
}
