//! Traits of Rust's own library, and the few others that everybody derives, with all that they give a type.

/// What a value or a type may be asked for that no declaration says: what is derived, and what is there for all types.
pub(super) const UNIVERSAL: [&str; 28] = [
    "clone",
    "clone_from",
    "eq",
    "ne",
    "partial_cmp",
    "lt",
    "le",
    "gt",
    "ge",
    "cmp",
    "max",
    "min",
    "clamp",
    "hash",
    "hash_slice",
    "fmt",
    "into",
    "try_into",
    "borrow",
    "borrow_mut",
    "to_owned",
    "to_string",
    "type_id",
    "as_ref",
    "as_mut",
    "serialize",
    "deserialize",
    // Of what can be made a future.
    "await",
];

/// What a type may be asked for by its path besides.
pub(super) const OF_TYPES: [&str; 7] =
    ["default", "from", "try_from", "from_str", "from_iter", "deserialize", "serialize"];

/// The members that a trait of this name has, where it is none of the workspace's; `None` for those that are not known here, and for
/// those to which others add members.
pub(super) fn members(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "Clone"
        | "Copy"
        | "Debug"
        | "Display"
        | "PartialEq"
        | "Eq"
        | "PartialOrd"
        | "Ord"
        | "Hash"
        | "Into"
        | "TryInto"
        | "AsRef"
        | "AsMut"
        | "Borrow"
        | "BorrowMut"
        | "ToOwned"
        | "ToString"
        | "Serialize"
        | "Deserialize"
        | "Send"
        | "Sync"
        | "Unpin"
        | "Sized"
        | "UnwindSafe"
        | "RefUnwindSafe"
        | "Any"
        | "Drop"
        | "LowerHex"
        | "UpperHex"
        | "Octal"
        | "Binary"
        | "LowerExp"
        | "UpperExp"
        | "Pointer"
        | "StructuralPartialEq" => &[],
        "Default" => &["default"],
        "From" => &["from"],
        "TryFrom" => &["try_from", "Error"],
        "FromStr" => &["from_str", "Err"],
        "FromIterator" => &["from_iter"],
        "IntoIterator" => &["into_iter", "Item", "IntoIter"],
        "Extend" => &["extend"],
        "Sum" => &["sum"],
        "Product" => &["product"],
        "Error" => &["source", "description", "cause", "is", "downcast_ref", "downcast_mut"],
        "Add" => &["add", "Output"],
        "Sub" => &["sub", "Output"],
        "Mul" => &["mul", "Output"],
        "Div" => &["div", "Output"],
        "Rem" => &["rem", "Output"],
        "Neg" => &["neg", "Output"],
        "Not" => &["not", "Output"],
        "BitAnd" => &["bitand", "Output"],
        "BitOr" => &["bitor", "Output"],
        "BitXor" => &["bitxor", "Output"],
        "Shl" => &["shl", "Output"],
        "Shr" => &["shr", "Output"],
        "AddAssign" => &["add_assign"],
        "SubAssign" => &["sub_assign"],
        "MulAssign" => &["mul_assign"],
        "DivAssign" => &["div_assign"],
        "RemAssign" => &["rem_assign"],
        "BitAndAssign" => &["bitand_assign"],
        "BitOrAssign" => &["bitor_assign"],
        "BitXorAssign" => &["bitxor_assign"],
        "ShlAssign" => &["shl_assign"],
        "ShrAssign" => &["shr_assign"],
        "Index" => &["index", "Output"],
        "IndexMut" => &["index_mut"],
        "RangeBounds" => &["start_bound", "end_bound", "contains"],
        "Hasher" => &[
            "finish",
            "write",
            "write_u8",
            "write_u16",
            "write_u32",
            "write_u64",
            "write_u128",
            "write_usize",
            "write_i8",
            "write_i16",
            "write_i32",
            "write_i64",
            "write_i128",
            "write_isize",
        ],
        "BuildHasher" => &["build_hasher", "hash_one", "Hasher"],
        "GlobalAlloc" => &["alloc", "dealloc", "alloc_zeroed", "realloc"],
        "Termination" => &["report"],
        "Step" => &[],
        _ => return None,
    })
}
