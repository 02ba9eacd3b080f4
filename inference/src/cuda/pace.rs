//! Keeps the host close to the device in long steps, so that a step that nobody wants any more ends soon.
//!
//! The host queues a whole step in about a millisecond, and what is queued runs to its end. In a step that takes many times
//! that it waits instead, with one part of a layer queued behind the one that runs.

use cudarc::driver::CudaEvent;

use super::{Gpu, GpuError};

/// A layer with so many rows times bytes of weights takes about a third of a millisecond on an H200. Below it a whole step
/// is short, and waiting between its parts would leave the device idle.
const LONG_LAYER: usize = 50_000_000_000;

/// Where the host is in a step.
pub(super) struct Pace<'a> {
    gpu: &'a Gpu,
    is_long: bool,
    /// The end of the last part that was queued.
    last: Option<CudaEvent>,
}

impl<'a> Pace<'a> {
    pub fn new(gpu: &'a Gpu, rows: usize, layer_bytes: usize) -> Self {
        Self { gpu, is_long: rows.saturating_mul(layer_bytes) >= LONG_LAYER, last: None }
    }

    /// To be called when a part was queued: returns when the one before it is done.
    pub fn part_queued(&mut self) -> Result<(), GpuError> {
        if !self.is_long {
            return Ok(());
        }
        let failed = GpuError::during("computing");
        let end = self.gpu.context.new_event(None).map_err(&failed)?;
        end.record(&self.gpu.stream).map_err(&failed)?;
        self.last.replace(end).map_or(Ok(()), |before| before.synchronize().map_err(&failed))
    }
}
