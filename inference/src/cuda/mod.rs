//! The runner on an NVIDIA GPU: weights, keys and values stay on the device, a step reads back logits only.
//!
//! Nothing here needs CUDA to build: the driver is opened at run time, and the kernels of `inference/kernels/` are linked
//! in as machine code. Without a driver [`device::Gpu::open`] says so in less than a millisecond.

pub mod attention;
pub mod buffers;
pub mod check;
pub mod device;
mod few_rows;
mod graphs;
mod kernels;
pub mod multiply;
mod pace;
pub mod pages;
mod params;
pub mod rows;
pub mod runner;
mod step;
pub mod tiles;
pub mod timing;

pub use device::{Gpu, GpuError, describe_gpu};
pub use pages::PageFormat;
pub use runner::CudaRunner;
