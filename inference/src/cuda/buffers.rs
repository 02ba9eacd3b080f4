//! Device memory, and getting weights into it.

use cudarc::driver::{CudaEvent, CudaSlice, DevicePtr, PinnedHostSlice, sys::CUdeviceptr};

use super::{Gpu, GpuError, tiles};
use crate::weights::Matrix;

/// Bytes on the device. Freed when dropped, in the stream's order.
pub struct Buffer {
    slice: CudaSlice<u8>,
    address: CUdeviceptr,
}

impl Buffer {
    /// Zeroed bytes; `what` names them in an error.
    pub fn new(gpu: &Gpu, what: &'static str, bytes: usize) -> Result<Self, GpuError> {
        let slice = gpu.stream.alloc_zeros::<u8>(bytes.max(16)).map_err(|error| {
            let free = gpu.memory().map_or(0, |(free, _)| free);
            match error.0 {
                cudarc::driver::sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                    GpuError::OutOfMemory { what, needed_mib: bytes >> 20, free_mib: free >> 20 }
                }
                _ => GpuError::during("reserving memory")(error),
            }
        })?;
        let address = slice.device_ptr(&gpu.stream).0;
        Ok(Self { slice, address })
    }

    pub fn of<T: bytemuck::Pod>(gpu: &Gpu, what: &'static str, values: &[T]) -> Result<Self, GpuError> {
        let mut buffer = Self::new(gpu, what, size_of_val(values))?;
        buffer.write(gpu, values)?;
        // The values may be gone before the copy runs.
        gpu.synchronize()?;
        Ok(buffer)
    }

    pub fn address(&self) -> CUdeviceptr {
        self.address
    }

    pub fn len(&self) -> usize {
        self.slice.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slice.len() == 0
    }

    /// Queues a copy to the buffer's beginning.
    pub fn write<T: bytemuck::Pod>(&mut self, gpu: &Gpu, values: &[T]) -> Result<(), GpuError> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        gpu.stream.memcpy_htod(bytes, &mut self.slice).map_err(GpuError::during("copying to it"))
    }

    /// Reads values from the buffer's beginning, after everything queued before.
    pub fn read<T: bytemuck::Pod>(&self, gpu: &Gpu, values: &mut [T]) -> Result<(), GpuError> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
        let view = self.slice.slice(..bytes.len());
        gpu.stream.memcpy_dtoh(&view, bytes).map_err(GpuError::during("copying from it"))?;
        gpu.synchronize()
    }

    /// Makes the buffer at least `bytes` long; what it held is lost when it grows.
    pub fn reserve(&mut self, gpu: &Gpu, what: &'static str, bytes: usize) -> Result<(), GpuError> {
        if self.len() < bytes {
            *self = Self::new(gpu, what, bytes + bytes / 4)?;
        }
        Ok(())
    }
}

/// A weight matrix in tiles on the device.
pub struct DeviceMatrix {
    pub format: tiles::Format,
    pub rows: usize,
    pub columns: usize,
    pub tiles: Buffer,
}

/// Page-locked memory for each piece of an upload.
const PIECE_BYTES: usize = 32 << 20;

/// Lays out weights and copies them in pieces: while one piece travels the next is laid out, on all cores.
pub struct Uploader {
    pieces: [PinnedHostSlice<u8>; 2],
    /// When the copy out of a piece was done.
    copied: [CudaEvent; 2],
    next: usize,
    threads: usize,
}

impl Uploader {
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        // SAFETY: pieces are written before they are read.
        let piece = || unsafe { gpu.context.alloc_pinned_with_flags::<u8>(PIECE_BYTES, 0) };
        let failed = GpuError::during("reserving page-locked memory");
        let pieces = [piece().map_err(&failed)?, piece().map_err(&failed)?];
        let event = || gpu.context.new_event(None).map_err(&failed);
        let copied = [event()?, event()?];
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { pieces, copied, next: 0, threads })
    }

    pub fn upload(&mut self, gpu: &Gpu, matrix: &Matrix) -> Result<DeviceMatrix, GpuError> {
        let format = tiles::Format::of(matrix.dtype());
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let row_bytes = tiles::tile_row_bytes(format, columns);
        let total = rows.div_ceil(tiles::TILE_FEATURES);
        let mut tiles = Buffer::new(gpu, "the model's weights", total * row_bytes)?;
        let at_once = (PIECE_BYTES / row_bytes).max(1);
        if row_bytes > PIECE_BYTES {
            return Err(GpuError::Unsupported(format!("the model has {columns} columns in a matrix")));
        }
        for first in (0..total).step_by(at_once) {
            let count = at_once.min(total - first);
            self.copied[self.next].synchronize().map_err(GpuError::during("copying to it"))?;
            let bytes = self.pieces[self.next].as_mut_slice().map_err(GpuError::during("copying to it"))?;
            let share = count.div_ceil(self.threads);
            std::thread::scope(|scope| {
                for (index, part) in bytes[..count * row_bytes].chunks_mut(share * row_bytes).enumerate() {
                    scope.spawn(move || {
                        for (row, out) in part.chunks_exact_mut(row_bytes).enumerate() {
                            tiles::write_tile_row(matrix, first + index * share + row, out);
                        }
                    });
                }
            });
            let mut target = tiles.slice.slice_mut(first * row_bytes..);
            gpu.stream
                .memcpy_htod(&bytes[..count * row_bytes], &mut target)
                .and_then(|()| self.copied[self.next].record(&gpu.stream))
                .map_err(GpuError::during("copying to it"))?;
            self.next = 1 - self.next;
        }
        Ok(DeviceMatrix { format, rows, columns, tiles })
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        // The pieces must outlive the copies out of them.
        for copied in &self.copied {
            let _ = copied.synchronize();
        }
    }
}
