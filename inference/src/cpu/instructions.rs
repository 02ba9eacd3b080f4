//! Which instruction set the kernels use.

use std::sync::{LazyLock, OnceLock};

/// What the kernels for weights and attention can be run with. The CPU has AVX2, FMA and F16C in any case. The results' bits
/// do not depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instructions {
    Avx2,
    /// AVX-VNNI: Intel's client processors since Alder Lake, AMD's since Zen 5.
    AvxVnni,
    /// AVX-512 with BW, VL and VNNI: Intel's servers since Cascade Lake, AMD's since Zen 4.
    Avx512Vnni,
}

impl Instructions {
    /// From the least to the best.
    pub const ALL: [Self; 3] = [Self::Avx2, Self::AvxVnni, Self::Avx512Vnni];

    pub fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512Vnni => "avx512-vnni",
        }
    }

    /// Whether this CPU has them. Kernels ask at every call.
    pub fn is_available(self) -> bool {
        static AVAILABLE: LazyLock<[bool; 3]> = LazyLock::new(|| Instructions::ALL.map(Instructions::detect));
        AVAILABLE[self as usize]
    }

    fn detect(self) -> bool {
        super::ops::has_avx2()
            && match self {
                Self::Avx2 => true,
                Self::AvxVnni => is_x86_feature_detected!("avxvnni"),
                Self::Avx512Vnni => {
                    is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512bw")
                        && is_x86_feature_detected!("avx512vl")
                        && is_x86_feature_detected!("avx512vnni")
                }
            }
    }

    /// The best that this CPU has, or what `LACUNA_INSTRUCTIONS` names where this CPU has it. The same for the life of
    /// the process. `None` without AVX2.
    pub fn chosen() -> Option<Self> {
        static CHOSEN: OnceLock<Option<Instructions>> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let wanted = std::env::var("LACUNA_INSTRUCTIONS").ok();
            let available = || Self::ALL.into_iter().rev().filter(|one| one.is_available());
            let best = available().next();
            let Some(wanted) = wanted else { return best };
            let found = available().find(|one| one.name() == wanted);
            if found.is_none() {
                let names: Vec<_> = available().map(Self::name).collect();
                tracing::warn!("LACUNA_INSTRUCTIONS={wanted} is ignored: this CPU has {}", names.join(", "));
            }
            found.or(best)
        })
    }
}
