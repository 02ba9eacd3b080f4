//! Why a definition is a candidate, and what that is worth.

use crate::resolve::Via;

/// Why a definition is a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reason {
    /// The type of something whose members the enclosing definition uses.
    Receiver,
    /// What a value of the enclosing definition may be, by its use.
    Guessed,
    /// One of the definitions of a module that the cursor's line asks for.
    OfReceiver,
    /// The enclosing definition names it.
    Used(Via),
    /// A type in the signature of something used.
    TypeOfUsed,
    /// Imported, and used elsewhere in the file.
    Imported(u32),
    /// Named elsewhere in the file: through a module, or known without being imported by its name.
    UsedInFile,
    /// Imported and not used yet: it was imported to be used next.
    JustImported(u32),
    /// One of a module's definitions, the module being imported and not used yet.
    InModule(u32),
    /// One of the definitions of a module that the enclosing definition names, or of one imported whole.
    OfUsedModule,
    /// A method called on something of unknown type, the only one of its name.
    UniqueMember,
    /// One of the definitions of the file's header, source or tests.
    Sibling,
}

impl Reason {
    pub fn score(self) -> f32 {
        match self {
            Self::Receiver => 1.1,
            Self::Used(Via::Import(_)) => 1.0,
            Self::OfReceiver => 0.95,
            Self::Used(Via::SameFile) => 0.9,
            Self::Used(Via::SamePackage) => 0.85,
            Self::Used(Via::WholeImport(_)) => 0.8,
            Self::JustImported(_) => 0.7,
            Self::TypeOfUsed => 0.6,
            Self::Imported(_) | Self::UsedInFile => 0.5,
            Self::Guessed => 0.45,
            Self::OfUsedModule => 0.33,
            Self::Used(Via::Unimported) => 0.4,
            Self::UniqueMember => 0.35,
            Self::InModule(_) => 0.3,
            Self::Sibling => 0.2,
        }
    }

    /// Whether the code at the cursor asks for it, rather than that it might.
    pub fn is_use(self) -> bool {
        matches!(self, Self::Receiver | Self::Guessed | Self::Used(_) | Self::TypeOfUsed | Self::UniqueMember)
    }

    /// How often it changes while one types: what changes least is written first.
    pub fn volatility(self) -> u8 {
        match self {
            Self::Imported(_) | Self::UsedInFile | Self::Sibling => 0,
            Self::JustImported(_) | Self::InModule(_) => 1,
            Self::Receiver | Self::Guessed | Self::Used(_) | Self::TypeOfUsed | Self::OfUsedModule => 2,
            Self::OfReceiver => 3,
            Self::UniqueMember => 3,
        }
    }

    pub fn words(self, kind: &str, name: &str) -> String {
        match self {
            Self::Used(Via::Import(line)) => {
                format!("{kind} `{name}` used here, imported at line {}", line + 1)
            }
            Self::Used(Via::SameFile) => format!("{kind} `{name}` used here, further away in this file"),
            Self::Used(Via::SamePackage) => format!("{kind} `{name}` used here, of the same package"),
            Self::Used(Via::WholeImport(line)) => {
                format!("{kind} `{name}` used here, through the import at line {}", line + 1)
            }
            Self::Used(Via::Unimported) => format!("{kind} `{name}` used here, the only one of that name"),
            Self::TypeOfUsed => format!("{kind} `{name}` in the signature of what is used here"),
            Self::Imported(line) => format!("{kind} `{name}` imported at line {}", line + 1),
            Self::UsedInFile => format!("{kind} `{name}` used elsewhere in this file"),
            Self::JustImported(line) => {
                format!("{kind} `{name}` imported at line {} and not used yet", line + 1)
            }
            Self::InModule(line) => format!("{kind} `{name}` of the module imported at line {}", line + 1),
            Self::Receiver => format!("{kind} `{name}`, whose members are used here"),
            Self::Guessed => format!("{kind} `{name}`, which has members that are used here"),
            Self::OfReceiver => format!("{kind} `{name}` of the module that the line asks for"),
            Self::OfUsedModule => format!("{kind} `{name}` of a module that is used here"),
            Self::UniqueMember => format!("{kind} `{name}` called here, the only one of that name"),
            Self::Sibling => format!("{kind} `{name}` of a file that belongs to this one"),
        }
    }
}
