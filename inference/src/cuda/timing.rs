//! Times of single kernels, for benchmarks. Launches are recorded as a graph, so the host does not count.

use std::time::Instant;

use candle_core::quantized::GgmlDType;

use super::{
    Gpu, GpuError,
    buffers::{Buffer, Uploader},
    graphs::Graph,
    multiply::Products,
    rows::{ActivationBuffer, Precision},
};
use crate::weights::random;

/// Weights that are gone through before any is read again: more than a device's cache holds.
const WEIGHT_BYTES: usize = 160 << 20;
const LAUNCHES: usize = 24;

/// One product with copies of its weights.
pub struct TimedProducts {
    copies: Vec<Products>,
    pub byte_length: usize,
}

impl TimedProducts {
    pub fn new(gpu: &Gpu, parts: &[(GgmlDType, usize)], columns: usize) -> Result<Self, GpuError> {
        let matrices: Vec<_> =
            parts.iter().map(|(dtype, rows)| random::matrix(*dtype, *rows, columns, 1)).collect();
        let mut uploader = Uploader::new(gpu)?;
        let mut upload = || -> Result<Products, GpuError> {
            let matrices: Result<Vec<_>, _> = matrices.iter().map(|m| uploader.upload(gpu, m)).collect();
            Ok(Products::new(gpu, matrices?))
        };
        let first = upload()?;
        let byte_length = first.byte_length();
        let mut copies = vec![first];
        while copies.len() < (WEIGHT_BYTES / byte_length).clamp(1, LAUNCHES) {
            copies.push(upload()?);
        }
        Ok(Self { copies, byte_length })
    }

    pub fn splits(&self) -> usize {
        self.copies[0].splits()
    }

    pub fn with_splits(self, splits: usize) -> Self {
        let copies = self.copies.into_iter().map(|products| products.with_splits(splits)).collect();
        Self { copies, byte_length: self.byte_length }
    }

    /// Median microseconds of one launch for `rows` rows.
    pub fn microseconds(&self, gpu: &Gpu, rows: usize) -> Result<f64, GpuError> {
        let columns = self.copies[0].matrix(0).columns;
        let mut buffer = ActivationBuffer::new(gpu, Precision::Bytes)?;
        buffer.reserve(gpu, rows, columns)?;
        let x = buffer.shaped(rows, columns, self.copies[0].layout(gpu, rows));
        let out = Buffer::new(gpu, "a timing", self.copies[0].output_length(gpu, rows)? * 4)?;
        let launches = if rows > 64 { 4 } else { LAUNCHES };
        let graph = Graph::capture(gpu, || {
            for index in 0..launches {
                // SAFETY: `x` holds the rows, `out` has the length that the products state.
                unsafe { self.copies[index % self.copies.len()].launch(gpu, x, rows, out.address())? };
            }
            Ok(true)
        })?;
        let mut times = Vec::new();
        for _ in 0..6 {
            gpu.synchronize()?;
            let start = Instant::now();
            graph.launch()?;
            gpu.synchronize()?;
            times.push(start.elapsed().as_secs_f64() * 1e6 / launches as f64);
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }
}
