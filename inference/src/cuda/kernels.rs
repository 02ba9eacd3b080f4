//! The compiled kernels: machine code for Hopper, PTX for every other device from Ampere on.

use std::sync::Arc;

use cudarc::{
    driver::{CudaContext, CudaFunction, CudaModule, DriverError, sys::CUfunction_attribute},
    nvrtc::Ptx,
};

use super::{
    GpuError,
    pages::{PAGE_FORMATS, PageFormat},
};

/// One source file's artefacts.
struct Module {
    hopper: &'static [u8],
    portable: &'static str,
}

macro_rules! module {
    ($name:literal) => {
        Module {
            hopper: include_bytes!(concat!("../../kernels/built/", $name, ".sm_90a.cubin")),
            portable: include_str!(concat!("../../kernels/built/", $name, ".compute_80.ptx")),
        }
    };
}

/// Uses instructions that only Hopper has.
const MULTIPLY_HOPPER: &[u8] = include_bytes!("../../kernels/built/multiply_hopper.sm_90a.cubin");
const ATTENTION_HOPPER: &[u8] = include_bytes!("../../kernels/built/attention_hopper.sm_90a.cubin");
const MULTIPLY: Module = module!("multiply");
const ROWS: Module = module!("rows");
const ATTENTION: Module = module!("attention");

/// Which of a module's artefacts a device runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Hopper,
    /// Compiled by the driver. Its kernels do not wait for the one before, so they must not start early.
    Portable,
}

impl Code {
    /// `LACUNA_GPU_CODE=portable` has a Hopper device run what others do, so that it can be tested there.
    pub fn of(capability: (i32, i32)) -> Self {
        let is_forced = std::env::var("LACUNA_GPU_CODE").is_ok_and(|code| code == "portable");
        if capability == (9, 0) && !is_forced { Self::Hopper } else { Self::Portable }
    }
}

/// Head dimensions that attention is compiled for.
pub(super) const HEAD_DIMENSIONS: [usize; 3] = [32, 64, 128];

/// The most dynamic shared memory of a block of [`AttendFew`]'s kernels.
pub(super) const ATTEND_FEW_SHARED_BYTES: usize = 208 << 10;

/// Attention of few rows, by [`HEAD_DIMENSIONS`].
pub(super) struct AttendFew {
    /// A sequence's chunks over the blocks of a cluster: two of them a block at once, or four.
    pub cluster: [CudaFunction; 3],
    pub wide_cluster: [CudaFunction; 3],
    /// A span a block, for [`Kernels::attend_merge`].
    pub span: [CudaFunction; 3],
}

/// Attention over pages of one format, by [`HEAD_DIMENSIONS`].
pub(super) struct AttentionKernels {
    pub rotate: [CudaFunction; 3],
    /// Threads that `rotate` takes for a head.
    pub rotate_threads: [usize; 3],
    pub chunks: [CudaFunction; 3],
    /// The two above in one.
    pub rotate_chunks: [CudaFunction; 3],
    /// For few rows, on Hopper: from the products to the result.
    pub few_rows: Option<AttendFew>,
    pub prompt: [CudaFunction; 3],
}

/// Every kernel, ready to launch.
pub(super) struct Kernels {
    /// As `multiply.rs` lists the variants.
    pub multiply: [CudaFunction; 6],
    /// For up to eight rows, which each block gates itself.
    pub multiply_gated: CudaFunction,
    /// For many rows, on Hopper.
    pub multiply_wide: Option<CudaFunction>,
    pub embed: CudaFunction,
    pub normalize: CudaFunction,
    pub normalize_many: CudaFunction,
    /// For few rows, on Hopper: a row over several blocks.
    pub normalize_cluster: Option<CudaFunction>,
    pub gate: CudaFunction,
    pub pack: CudaFunction,
    pub gather: CudaFunction,
    pub choose: CudaFunction,
    pub turns: CudaFunction,
    attention: [AttentionKernels; 2],
    pub attend_merge: CudaFunction,
    pub copy_pages: CudaFunction,
}

impl Kernels {
    /// `shared_bytes` is the most that a block may ask for.
    pub fn load(context: &Arc<CudaContext>, code: Code, shared_bytes: usize) -> Result<Self, GpuError> {
        let failed = |error: DriverError| GpuError::Driver(format!("it refuses the kernels ({error:?})"));
        let load = |module: &Module| {
            let image = match code {
                Code::Hopper => Ptx::from_binary(module.hopper.to_vec()),
                Code::Portable => Ptx::from_src(module.portable),
            };
            context.load_module(image).map_err(failed)
        };
        let (multiply, rows, attention) = (load(&MULTIPLY)?, load(&ROWS)?, load(&ATTENTION)?);
        let get = |module: &Arc<CudaModule>, name: &str| module.load_function(name).map_err(failed);
        let multiplications = [
            get(&multiply, "multiply_8_small")?,
            get(&multiply, "multiply_8")?,
            get(&multiply, "multiply_16")?,
            get(&multiply, "multiply_32")?,
            get(&multiply, "multiply_128")?,
            get(&multiply, "multiply_128_walk")?,
        ];
        let multiply_gated = get(&multiply, "multiply_8_gated")?;
        let normalize_cluster = match code {
            Code::Hopper => Some(get(&rows, "normalize_cluster")?),
            Code::Portable => None,
        };
        let multiply_wide = match code {
            Code::Hopper => {
                let module =
                    context.load_module(Ptx::from_binary(MULTIPLY_HOPPER.to_vec())).map_err(failed)?;
                Some(get(&module, "multiply_wide")?)
            }
            Code::Portable => None,
        };
        let hopper_attention = match code {
            Code::Hopper => {
                Some(context.load_module(Ptx::from_binary(ATTENTION_HOPPER.to_vec())).map_err(failed)?)
            }
            Code::Portable => None,
        };
        let [bf16, fp8] = PAGE_FORMATS.map(|format| {
            AttentionKernels::load(&attention, hopper_attention.as_ref(), format, shared_bytes)
                .map_err(failed)
        });
        for function in multiplications.iter().chain([&multiply_gated]).chain(&multiply_wide) {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, shared_bytes as i32).map_err(failed)?;
        }
        Ok(Self {
            multiply: multiplications,
            multiply_gated,
            multiply_wide,
            embed: get(&rows, "embed")?,
            normalize: get(&rows, "normalize")?,
            normalize_many: get(&rows, "normalize_many")?,
            normalize_cluster,
            gate: get(&rows, "gate")?,
            pack: get(&rows, "pack")?,
            gather: get(&rows, "gather")?,
            choose: get(&rows, "choose")?,
            turns: get(&attention, "turns")?,
            attention: [bf16?, fp8?],
            attend_merge: get(&attention, "attend_merge")?,
            copy_pages: get(&attention, "copy_pages")?,
        })
    }

    pub fn attention(&self, format: PageFormat) -> &AttentionKernels {
        match format {
            PageFormat::Bf16 => &self.attention[0],
            PageFormat::Fp8 => &self.attention[1],
        }
    }
}

impl AttentionKernels {
    fn load(
        module: &Arc<CudaModule>,
        hopper: Option<&Arc<CudaModule>>,
        format: PageFormat,
        shared_bytes: usize,
    ) -> Result<Self, DriverError> {
        let by_dimension = |module: &Arc<CudaModule>, name: &str| {
            let [a, b, c] = HEAD_DIMENSIONS.map(|dimension| {
                module.load_function(&match format {
                    PageFormat::Bf16 => format!("{name}_{dimension}"),
                    PageFormat::Fp8 => format!("{name}_fp8_{dimension}"),
                })
            });
            Ok::<_, DriverError>([a?, b?, c?])
        };
        let allow = |function: &CudaFunction, bytes: usize| {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, bytes as i32)
        };
        let prompt = by_dimension(module, "attend_prompt")?;
        for function in &prompt {
            allow(function, shared_bytes)?;
        }
        let few_rows = match hopper {
            Some(module) => {
                let kernels = AttendFew {
                    cluster: by_dimension(module, "attend_cluster")?,
                    wide_cluster: by_dimension(module, "attend_wide_cluster")?,
                    span: by_dimension(module, "attend_span")?,
                };
                let clusters = kernels.cluster.iter().chain(&kernels.wide_cluster);
                for function in clusters.clone().chain(&kernels.span) {
                    allow(function, ATTEND_FEW_SHARED_BYTES)?;
                }
                for function in clusters {
                    let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
                    function.set_attribute(attribute, 1)?;
                }
                Some(kernels)
            }
            None => None,
        };
        let (rotate, rotate_threads) = match format {
            PageFormat::Bf16 => {
                let rotate = module.load_function("rotate")?;
                ([rotate.clone(), rotate.clone(), rotate], [64; 3])
            }
            // A thread has eight dimensions.
            PageFormat::Fp8 => {
                (by_dimension(module, "rotate")?, HEAD_DIMENSIONS.map(|dimension| dimension / 8))
            }
        };
        Ok(Self {
            rotate,
            rotate_threads,
            chunks: by_dimension(module, "attend_chunks")?,
            rotate_chunks: by_dimension(module, "rotate_attend")?,
            few_rows,
            prompt,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use super::*;

    /// `build` writes the hashes of what it compiled; a source changed since then needs building again.
    #[test]
    fn artefacts_are_built_from_these_sources() {
        let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let hashes = std::fs::read_to_string(kernels.join("built/sources.sha256")).expect("hashes");
        let named: Vec<&str> = hashes.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        let mut sources: Vec<String> = std::fs::read_dir(&kernels)
            .expect("sources")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name == "build" || name.ends_with(".cu") || name.ends_with(".cuh"))
            .collect();
        sources.sort();
        let mut sorted = named.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, sources, "a source is not among the hashes; run inference/kernels/build");
        let check = Command::new("sha256sum")
            .args(["--check", "--quiet", "built/sources.sha256"])
            .current_dir(&kernels)
            .output()
            .expect("sha256sum runs");
        assert!(
            check.status.success(),
            "run inference/kernels/build: {}",
            String::from_utf8_lossy(&check.stdout)
        );
    }

    #[test]
    fn the_portable_kernels_have_no_unresolved_functions() {
        for module in [MULTIPLY, ROWS, ATTENTION] {
            assert!(!module.portable.contains(".extern .func"));
            assert!(module.portable.contains(".target sm_80"));
            assert_eq!(&module.hopper[..4], b"\x7fELF");
        }
        assert_eq!(&MULTIPLY_HOPPER[..4], b"\x7fELF");
    }
}
