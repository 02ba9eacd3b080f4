//! Where a model runs: the choice of a device, and the two runners behind one set of calls.

use std::{fmt, str::FromStr};

use crate::{
    EngineError, EngineOptions, Model, ModelError,
    cpu::{kv_storage::KvPrecision, threads::default_threads},
    cuda::{CudaRunner, Gpu, GpuError, pages::CacheWish, runner as gpu_runner},
    models::decoder::{CpuRunner, WeightPrecision},
    sampler::Choice,
    scheduler::Batch,
};

/// Tokens computed in one step on the CPU: bounds how long a long prompt delays other streams.
const CPU_STEP_TOKENS: usize = 192;

/// Where a model is asked to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// A GPU that the kernels were verified on, if there is one and the model fits; otherwise the CPU.
    #[default]
    Auto,
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    fn from_str(text: &str) -> Result<Self, String> {
        let index = |text: &str| text.parse().map(Self::Cuda).ok();
        match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(index),
        }
        .ok_or_else(|| format!("`{text}` is no device; use auto, cpu, cuda or cuda:N"))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// A resident model on its device.
pub enum Runner {
    Cpu(Box<CpuRunner>),
    Cuda(Box<CudaRunner>),
}

impl Runner {
    /// Loads the weights. The cache gets `blocks` blocks; on a GPU as many as fit, but at least `least_blocks`.
    pub fn new(
        model: &Model,
        options: &EngineOptions,
        blocks: usize,
        least_blocks: usize,
    ) -> Result<Self, EngineError> {
        let cache = CacheWish { blocks, least_blocks, format: options.page_format };
        match options.device {
            Device::Cuda(index) => {
                let runner = CudaRunner::new(Gpu::open(index)?, model.gguf(), model.config(), cache)?;
                Ok(Self::Cuda(Box::new(runner)))
            }
            Device::Auto => {
                if let Some(gpu) = usable_gpu(options) {
                    match CudaRunner::new(gpu, model.gguf(), model.config(), cache) {
                        Ok(runner) => return Ok(Self::Cuda(Box::new(runner))),
                        Err(error) => tracing::warn!(%error, "the model runs on the CPU"),
                    }
                }
                Ok(Self::Cpu(Box::new(cpu_runner(model, options, blocks)?)))
            }
            Device::Cpu => Ok(Self::Cpu(Box::new(cpu_runner(model, options, blocks)?))),
        }
    }

    pub fn device(&self) -> Device {
        match self {
            Self::Cpu(_) => Device::Cpu,
            Self::Cuda(runner) => Device::Cuda(runner.gpu().index),
        }
    }

    /// Threads that compute; on a GPU the one that feeds it.
    pub fn threads(&self) -> usize {
        match self {
            Self::Cpu(runner) => runner.threads(),
            Self::Cuda(_) => 1,
        }
    }

    /// Tokens that one step should compute at most.
    pub fn step_tokens(&self) -> usize {
        match self {
            Self::Cpu(_) => CPU_STEP_TOKENS,
            Self::Cuda(_) => gpu_runner::STEP_TOKENS,
        }
    }

    /// The same of a step whose end decoding sequences wait for.
    pub fn shared_step_tokens(&self) -> usize {
        match self {
            Self::Cpu(_) => CPU_STEP_TOKENS,
            Self::Cuda(_) => gpu_runner::SHARED_STEP_TOKENS,
        }
    }

    /// Blocks of the cache.
    pub fn blocks(&self) -> usize {
        match self {
            Self::Cpu(runner) => runner.blocks(),
            Self::Cuda(runner) => runner.blocks(),
        }
    }

    pub fn kv_bytes(&self) -> usize {
        match self {
            Self::Cpu(runner) => runner.kv_bytes(),
            Self::Cuda(runner) => runner.kv_bytes(),
        }
    }

    /// Bytes of weights in memory; the CPU reads them in the model's file.
    pub fn weights_bytes(&self, model: &Model) -> usize {
        match self {
            Self::Cpu(_) => model.gguf().byte_length(),
            Self::Cuda(runner) => runner.weights_bytes(),
        }
    }

    /// Copies blocks as the batch asks, then computes it. Returns what is known of the wanted rows, in the batch's order;
    /// `None` when `abandoned` said between two layers that nobody wants the result any more.
    pub fn forward(
        &mut self,
        batch: &Batch,
        wanted: Wanted,
        abandoned: &dyn Fn() -> bool,
    ) -> Result<Option<StepResult<'_>>, GpuError> {
        match self {
            Self::Cpu(runner) => {
                runner.copy_blocks(&batch.copies);
                Ok(runner.forward(batch, abandoned).map(StepResult::Logits))
            }
            Self::Cuda(runner) => {
                runner.copy_blocks(&batch.copies)?;
                Ok(match wanted {
                    Wanted::Logits => runner.forward(batch, abandoned)?.map(StepResult::Logits),
                    Wanted::Likeliest => runner.choose(batch, abandoned)?.map(StepResult::Likeliest),
                })
            }
        }
    }
}

/// What the engine must know of the rows of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Logits,
    /// The likeliest token is enough: every request is greedy.
    Likeliest,
}

/// What a step gives of its wanted rows.
pub enum StepResult<'a> {
    /// `[wanted rows, vocabulary]`; the CPU always gives these.
    Logits(&'a [f32]),
    /// One choice a row.
    Likeliest(&'a [Choice]),
}

/// The GPU that `auto` takes: none for reference runs in F32, which are the CPU's.
fn usable_gpu(options: &EngineOptions) -> Option<Gpu> {
    if options.kv_precision != KvPrecision::F16 || options.weight_precision != WeightPrecision::Stored {
        return None;
    }
    // Of several, the one with the most free memory; the lowest number among equals.
    let mut best: Option<(usize, Gpu)> = None;
    for index in 0.. {
        let gpu = match Gpu::open(index) {
            Ok(gpu) => gpu,
            Err(GpuError::NoDevice { .. }) => break,
            Err(GpuError::NoDriver) => return None,
            Err(error) => {
                tracing::debug!(%error, index, "no GPU to use");
                if matches!(error, GpuError::Driver(_)) {
                    break;
                }
                continue;
            }
        };
        if !gpu.is_verified() {
            tracing::info!(gpu = gpu.name, "not verified on this kind of GPU; `cuda` uses it all the same");
            continue;
        }
        let free = gpu.memory().map_or(0, |(free, _)| free);
        if best.as_ref().is_none_or(|(most, _)| free > *most) {
            best = Some((free, gpu));
        }
    }
    best.map(|(_, gpu)| gpu)
}

fn cpu_runner(model: &Model, options: &EngineOptions, blocks: usize) -> Result<CpuRunner, ModelError> {
    let threads = if options.threads == 0 { default_threads() } else { options.threads };
    CpuRunner::new(
        model.gguf(),
        model.config(),
        blocks,
        threads,
        options.kv_precision,
        options.weight_precision,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for (text, device) in [
            ("auto", Ok(Device::Auto)),
            ("cpu", Ok(Device::Cpu)),
            ("cuda", Ok(Device::Cuda(0))),
            ("cuda:3", Ok(Device::Cuda(3))),
            ("cuda:", Err(())),
            ("cuda:x", Err(())),
            ("gpu", Err(())),
        ] {
            assert_eq!(text.parse::<Device>().map_err(|_| ()), device, "{text}");
            if let Ok(device) = device {
                assert_eq!(device.to_string().parse(), Ok(device));
            }
        }
    }
}
