//! Decides whether a program passes its tests, without believing anything the program can say.
//!
//! Python: a sample is judged twice, and passes only if both agree.
//! 1. *Checked*: the sample is loaded alone in one sandbox, the test runs alone in another, and the test's calls of the
//!    sample's functions travel between them as plain data (numbers, text, containers). An object that claims to equal
//!    everything arrives as an opaque stand-in that equals nothing; there is no frame to walk to, no builtin of the
//!    checker's to replace, no alarm of the checker's to cancel, no test to read; ending the process, printing, or
//!    writing to the connection ends in a protocol error. Only the checker's sandbox, in which no model-written code
//!    ever runs, says "passed".
//! 2. *Whole*: afterwards, program and test in one namespace, exactly as the published reference runs them. A failure
//!    here is a failure, in the reference's words; a pass here proves nothing, since the sample shares the process
//!    with the test.
//!
//! What this cannot see: a sample that knows the test's answers by heart; a test that checks too little; a hole in the
//! interpreter's JSON reader or in the kernel. A function whose arguments are themselves functions cannot be checked
//! and fails with a message that says so.
//!
//! Other languages run as one program with its test, as published, so a sample written against this harness could
//! forge a pass there; exiting early, printing markers and crashing do not (see [`toolchain`]).

#[cfg(target_os = "linux")]
pub mod pool;
#[cfg(target_os = "linux")]
pub mod python;
#[cfg(target_os = "linux")]
pub mod toolchain;

use serde::Serialize;

/// What became of one sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub passed: bool,
    /// `passed`, `timed out`, `failed: ...`, in the reference's words where it has some.
    pub result: String,
}

impl Verdict {
    pub fn passed() -> Self {
        Self { passed: true, result: "passed".into() }
    }

    pub fn timed_out() -> Self {
        Self { passed: false, result: "timed out".into() }
    }

    pub fn failed(reason: impl std::fmt::Display) -> Self {
        Self { passed: false, result: format!("failed: {reason}") }
    }

    /// A checker's own words.
    fn from_words(words: String) -> Self {
        Self { passed: words == "passed", result: words }
    }
}
