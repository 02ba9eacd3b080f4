//! Steps recorded as graphs: the device starts the kernels of a small step by itself, without the host between them.
//!
//! A recorded step holds addresses and sizes, not the batch's integers, which it reads from the step's array. So it fits
//! every step of the same [`Shape`] while the buffers stay where they are.

use cudarc::driver::{CudaGraph, sys};
use rustc_hash::FxHashMap;

use super::{Gpu, GpuError, step::Step};

/// Steps with more rows take so long that starting their kernels costs nothing.
pub(super) const MOST_ROWS: usize = 64;
/// Recorded or counted shapes of steps; when there are more they are all forgotten.
const MOST_SHAPES: usize = 256;
/// Recording costs a few steps' time, so a shape must come again before it is recorded.
const USES_BEFORE_RECORDING: u32 = 2;

/// Rows, wanted rows, tiles, tiles of whole rows, the most rows of a sequence, chunks.
type Shape = [usize; 6];

fn shape(step: &Step) -> Shape {
    [step.rows, step.wanted_rows, step.tile_count, step.row_tile_count, step.most_rows, step.chunks]
}

/// A recorded step.
pub(super) struct Graph(CudaGraph);

// SAFETY: a graph must not be used by two threads at once; it has one owner, the runner, which is used through `&mut`.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `queue` asks of the device; nothing runs yet.
    pub fn capture(gpu: &Gpu, queue: impl FnOnce() -> Result<bool, GpuError>) -> Result<Self, GpuError> {
        use sys::{CUgraphInstantiate_flags as Flags, CUstreamCaptureMode as Mode};
        let failed = GpuError::during("recording a step");
        gpu.stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).map_err(&failed)?;
        let queued = queue();
        let graph = gpu.stream.end_capture(Flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
        queued?;
        let graph = graph.map_err(&failed)?;
        graph.map(Self).ok_or(GpuError::Failed { what: "recording a step", error: "it is empty".into() })
    }

    pub fn launch(&self) -> Result<(), GpuError> {
        self.0.launch().map_err(GpuError::during("starting a step"))
    }
}

#[derive(Default)]
pub(super) struct Graphs {
    recorded: FxHashMap<Shape, Graph>,
    uses: FxHashMap<Shape, u32>,
    /// The driver refused to record; steps are queued kernel by kernel.
    is_refused: bool,
}

pub(super) enum Found<'a> {
    Ready(&'a Graph),
    /// Used often enough to be recorded.
    Worthwhile,
    Rare,
}

impl Graphs {
    pub fn find(&mut self, step: &Step) -> Found<'_> {
        let shape = shape(step);
        if step.rows > MOST_ROWS || self.is_refused {
            return Found::Rare;
        }
        if self.uses.len() > MOST_SHAPES {
            *self = Self::default();
        }
        let uses = self.uses.entry(shape).or_default();
        *uses = uses.saturating_add(1);
        match self.recorded.get(&shape) {
            Some(graph) => Found::Ready(graph),
            None if *uses > USES_BEFORE_RECORDING => Found::Worthwhile,
            None => Found::Rare,
        }
    }

    pub fn refuse(&mut self) {
        self.is_refused = true;
    }

    pub fn len(&self) -> usize {
        self.recorded.len()
    }

    pub fn keep(&mut self, step: &Step, graph: Graph) {
        self.recorded.insert(shape(step), graph);
    }
}
