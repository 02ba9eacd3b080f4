//! The arguments of each kernel, as the structures of the same names in `inference/kernels/*.cu` lay them out.
//! Pointers are device addresses.

use cudarc::driver::{DeviceRepr, sys::CUdeviceptr};

/// Marks a kernel's argument.
macro_rules! kernel_arguments {
    ($($name:ident),* $(,)?) => {
        $(
            // SAFETY: plain old data, `repr(C)`, without references.
            unsafe impl DeviceRepr for $name {}
        )*
    };
}

kernel_arguments!(
    MultiplyParams,
    WideParams,
    GatedParams,
    EmbedParams,
    NormalizeParams,
    GateParams,
    PackParams,
    GatherParams,
    ChooseParams,
    TurnsParams,
    RotateParams,
    AttendParams,
    RotateAttendParams,
    AttendFewParams,
    MergeParams,
    CopyPagesParams
);

pub const MAX_PARTS: usize = 3;

#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Part {
    pub weights: CUdeviceptr,
    pub format: u32,
    pub tiles: u32,
    pub first_block: u32,
    pub column: u32,
}

/// The order of activations in memory, as `activations.cuh` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Layout {
    /// For instructions of one warp.
    Fragments = 0,
    /// For those of a warpgroup.
    Blocks = 1,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Activations {
    pub units: CUdeviceptr,
    /// 0 where no reader takes bf16.
    pub halves: CUdeviceptr,
    pub padded_rows: u32,
    pub columns: u32,
    pub layout: Layout,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Partial {
    pub values: CUdeviceptr,
    pub splits: u32,
    pub rows: u32,
    pub stride: u32,
}

#[repr(C)]
pub struct MultiplyParams {
    pub parts: [Part; MAX_PARTS],
    pub x: Activations,
    pub out: CUdeviceptr,
    pub part_count: u32,
    pub rows: u32,
    pub stride: u32,
    pub splits: u32,
}

/// A product whose blocks gate its activations themselves.
#[repr(C)]
pub struct GatedParams {
    pub products: MultiplyParams,
    pub input: GateInput,
}

#[repr(C)]
pub struct WideParams {
    pub products: MultiplyParams,
    pub blocks: u32,
    pub pieces: u32,
}

#[repr(C)]
pub struct EmbedParams {
    pub weights: CUdeviceptr,
    pub tokens: CUdeviceptr,
    pub residual: CUdeviceptr,
    pub format: u32,
    pub columns: u32,
}

#[repr(C)]
pub struct NormalizeParams {
    pub residual: CUdeviceptr,
    pub update: Partial,
    pub weight: CUdeviceptr,
    pub wanted: CUdeviceptr,
    pub out: Activations,
    pub columns: u32,
    pub epsilon: f32,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct GateInput {
    pub products: Partial,
    pub up_column: u32,
    pub columns: u32,
}

#[repr(C)]
pub struct GateParams {
    pub input: GateInput,
    pub out: Activations,
}

#[repr(C)]
pub struct PackParams {
    pub rows: CUdeviceptr,
    pub out: Activations,
    pub columns: u32,
}

#[repr(C)]
pub struct GatherParams {
    pub from: CUdeviceptr,
    pub to: CUdeviceptr,
    pub wanted: CUdeviceptr,
    pub rows: u32,
    pub stride: u32,
}

#[repr(C)]
pub struct ChooseParams {
    pub logits: CUdeviceptr,
    pub shares: CUdeviceptr,
    pub choices: CUdeviceptr,
    pub finished: CUdeviceptr,
    pub stride: u32,
    pub vocabulary: u32,
}

#[repr(C)]
pub struct TurnsParams {
    pub frequencies: CUdeviceptr,
    pub positions: CUdeviceptr,
    pub turns: CUdeviceptr,
    pub half: u32,
}

#[repr(C)]
pub struct RotateParams {
    pub products: Partial,
    pub bias: CUdeviceptr,
    pub turns: CUdeviceptr,
    pub positions: CUdeviceptr,
    pub table_starts: CUdeviceptr,
    pub tables: CUdeviceptr,
    pub query: CUdeviceptr,
    pub keys: CUdeviceptr,
    pub values: CUdeviceptr,
    pub heads: u32,
    pub kv_heads: u32,
    pub dimension: u32,
    pub adjacent: u32,
}

/// Five words; see `attention.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ItemTile {
    pub first_row: u32,
    pub first_item: u32,
    pub items: u32,
    pub start: u32,
    pub table_start: u32,
}

#[repr(C)]
pub struct AttendParams {
    pub query: CUdeviceptr,
    pub keys: CUdeviceptr,
    pub values: CUdeviceptr,
    pub tiles: CUdeviceptr,
    pub tables: CUdeviceptr,
    pub out: CUdeviceptr,
    pub weights: CUdeviceptr,
    pub tile_count: u32,
    pub rows: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub chunks: u32,
    pub scale: f32,
}

#[repr(C)]
pub struct RotateAttendParams {
    pub rotate: RotateParams,
    pub attend: AttendParams,
}

#[repr(C)]
pub struct AttendFewParams {
    pub rotate: RotateParams,
    pub attend: AttendParams,
    pub out: Activations,
    pub group: u32,
    pub group_inverse: u32,
    pub units: u32,
    pub units_inverse: u32,
    pub heads_at_once: u32,
    pub blocks_log2: u32,
    pub capacity: u32,
}

#[repr(C)]
pub struct MergeParams {
    pub sums: CUdeviceptr,
    pub weights: CUdeviceptr,
    pub positions: CUdeviceptr,
    pub out: Activations,
    pub rows: u32,
    pub heads: u32,
    pub dimension: u32,
}

#[repr(C)]
pub struct CopyPagesParams {
    pub cache: CUdeviceptr,
    pub copies: CUdeviceptr,
    pub plane_bytes: u64,
    pub page_bytes: u32,
}
