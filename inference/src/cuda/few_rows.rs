//! How attention of a step with few rows is spread over a Hopper device: the kernels of `attention_hopper.cu`.

use cudarc::driver::CudaFunction;

use super::{
    kernels::AttendFew,
    pages::AttentionShape,
    params::{Activations, AttendFewParams, AttendParams, RotateParams},
    step::{CHUNK, SPAN_CHUNKS, Step, TILE_ITEMS},
    tiles::COLUMN_UNIT,
};
use crate::kv_cache::BLOCK_SIZE;

/// Blocks of a cluster, and threads that share a chunk, as in `attention_hopper.cu`.
const CLUSTER: usize = 16;
const CHUNK_THREADS: usize = 128;
/// Chunks that a block of a cluster has at once.
const NARROW_GROUPS: usize = 2;
const WIDE_GROUPS: usize = 4;
/// So many clusters run side by side on an H200: two narrow blocks or a wide one a multiprocessor. With more of them the
/// kernels that a cluster saves would cost less (measured with 1 to 8 rows, and with 2 to 16 sequences, of a 1.5B and a 7B).
const MOST_NARROW_CLUSTERS: usize = 8;
const MOST_WIDE_CLUSTERS: usize = 4;
/// A multiprocessor has one block of spans at a time. With so many tiles of a sequence half as many again still pay.
const MOST_TILES: usize = 2;

/// What takes a step from its products to the attended values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FewRows {
    /// Clusters of blocks, for a tile and `heads_at_once` key-value heads each; they leave `units` units of columns a row.
    Clusters { heads_at_once: usize, units: usize, groups: usize },
    /// A block for each tile, key-value head and span; the spans are merged after it.
    Spans,
}

impl FewRows {
    /// `None` where the step has so many rows or chunks that the kernels for any number of rows are faster.
    pub fn of(shape: &AttentionShape, step: &Step, multiprocessors: usize) -> Option<Self> {
        if step.row_tile_count == 0 {
            return None;
        }
        if let Some((heads_at_once, units)) = cluster_heads(shape) {
            let rows = step.most_rows.min(TILE_ITEMS / shape.group());
            let clusters = step.row_tile_count * shape.kv_heads / heads_at_once;
            let blocks = CLUSTER / heads_at_once;
            let groups = [(NARROW_GROUPS, MOST_NARROW_CLUSTERS), (WIDE_GROUPS, MOST_WIDE_CLUSTERS)]
                .into_iter()
                .find(|(groups, most)| step.chunks <= groups * blocks && clusters <= *most);
            // Each block merges one unit of one row at most.
            if let Some((groups, _)) = groups.filter(|_| rows * units <= CLUSTER) {
                return Some(Self::Clusters { heads_at_once, units, groups });
            }
        }
        // Each tile of a sequence reads its spans anew.
        let tiles = step.most_rows.div_ceil(TILE_ITEMS / shape.group());
        let most = if tiles > MOST_TILES { multiprocessors } else { multiprocessors * 3 / 2 };
        let blocks = step.row_tile_count * shape.kv_heads * step.spans();
        (blocks <= most).then_some(Self::Spans)
    }

    pub fn kernels(self, kernels: &AttendFew) -> &[CudaFunction; 3] {
        match self {
            Self::Clusters { groups: NARROW_GROUPS, .. } => &kernels.cluster,
            Self::Clusters { .. } => &kernels.wide_cluster,
            Self::Spans => &kernels.span,
        }
    }

    pub fn grid(self, shape: &AttentionShape, step: &Step) -> [usize; 3] {
        match self {
            Self::Clusters { heads_at_once, .. } => {
                [shape.kv_heads / heads_at_once * CLUSTER, step.row_tile_count, 1]
            }
            Self::Spans => [shape.kv_heads, step.row_tile_count, step.spans()],
        }
    }

    fn groups(self) -> usize {
        match self {
            Self::Clusters { groups, .. } => groups,
            Self::Spans => SPAN_CHUNKS,
        }
    }

    pub fn threads(self) -> u32 {
        (self.groups() * CHUNK_THREADS) as u32
    }

    /// Dynamic shared memory of a block: keys and values of its chunks, then sums to be merged.
    pub fn shared_bytes(self, shape: &AttentionShape, chunks: usize) -> usize {
        let dimension = shape.dimension;
        let copied = self.groups() * 2 * (CHUNK / BLOCK_SIZE) * shape.format.page_bytes(dimension);
        match self {
            // Of each chunk a unit's sums, and two numbers a head.
            Self::Clusters { .. } => copied + chunks * (COLUMN_UNIT * 4 + COLUMN_UNIT / dimension * 8),
            // Rows lie apart by 8 floats.
            Self::Spans => copied + SPAN_CHUNKS * TILE_ITEMS * (dimension + 8) * 4,
        }
    }

    pub fn params(
        self,
        shape: &AttentionShape,
        step: &Step,
        rotate: RotateParams,
        attend: AttendParams,
        out: Activations,
    ) -> AttendFewParams {
        let (heads_at_once, units) = match self {
            Self::Clusters { heads_at_once, units, .. } => (heads_at_once, units),
            Self::Spans => (1, 1),
        };
        // As `divide` takes it.
        let inverse = |divisor: usize| (65_536 / divisor + 1) as u32;
        AttendFewParams {
            rotate,
            attend,
            out,
            group: shape.group() as u32,
            group_inverse: inverse(shape.group()),
            units: units as u32,
            units_inverse: inverse(units),
            heads_at_once: heads_at_once as u32,
            blocks_log2: (CLUSTER / heads_at_once).ilog2(),
            capacity: step.chunks as u32,
        }
    }
}

/// The fewest key-value heads whose queries' columns are whole units, or all of them, and those units; `None` where the
/// blocks of a cluster cannot be shared out evenly among them.
fn cluster_heads(shape: &AttentionShape) -> Option<(usize, usize)> {
    let columns = |heads: usize| heads * shape.group() * shape.dimension;
    let heads = (1..=shape.kv_heads)
        .filter(|heads| shape.kv_heads.is_multiple_of(*heads) && CLUSTER.is_multiple_of(*heads))
        .find(|heads| columns(*heads).is_multiple_of(COLUMN_UNIT) || *heads == shape.kv_heads)?;
    Some((heads, columns(heads).div_ceil(COLUMN_UNIT)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cuda::{kernels::ATTEND_FEW_SHARED_BYTES, pages::PageFormat},
        scheduler::{Batch, BatchEntry},
    };

    const SEVEN_B: [usize; 3] = [28, 4, 128];
    const SMALL: [usize; 3] = [12, 2, 128];
    const NARROW_7B: FewRows = FewRows::Clusters { heads_at_once: 2, units: 7, groups: 2 };
    const WIDE_7B: FewRows = FewRows::Clusters { heads_at_once: 2, units: 7, groups: 4 };

    /// What is chosen for sequences of so many rows each after so many tokens; heads, key-value heads and dimensions.
    fn check(heads: [usize; 3], start: usize, rows: &[usize], expected: Option<FewRows>) {
        let [heads, kv_heads, dimension] = heads;
        let shape = AttentionShape { layers: 1, heads, kv_heads, dimension, format: PageFormat::Bf16 };
        let entry = |rows: &usize| BatchEntry {
            sequence: 0,
            tokens: vec![0; *rows],
            start,
            blocks: vec![0; (start + rows).div_ceil(BLOCK_SIZE)],
            logits: 0..0,
        };
        let batch = Batch { copies: Vec::new(), entries: rows.iter().map(entry).collect() };
        let step = Step::new(&batch, shape.group());
        let found = FewRows::of(&shape, &step, 132);
        assert_eq!(found, expected, "{heads}/{kv_heads} heads, {rows:?} rows after {start}");
        if let Some(found) = found {
            assert!(found.shared_bytes(&shape, step.chunks) <= ATTEND_FEW_SHARED_BYTES);
        }
    }

    #[test]
    fn few_rows_take_the_kernels_that_are_fastest_for_them() {
        check(SEVEN_B, 512, &[1], Some(NARROW_7B));
        check(SEVEN_B, 512, &[8], Some(NARROW_7B));
        check(SEVEN_B, 512, &[9], None);
        check(SEVEN_B, 1023, &[1], Some(NARROW_7B));
        check(SEVEN_B, 1024, &[1], Some(WIDE_7B));
        check(SEVEN_B, 1024, &[4], Some(WIDE_7B));
        check(SEVEN_B, 1200, &[8], Some(FewRows::Spans));
        check(SEVEN_B, 2048, &[1], Some(FewRows::Spans));
        check(SEVEN_B, 2048, &[8], None);
        // 40 spans, of which 7 are beyond the last chunk, of 4 heads.
        check(SEVEN_B, 8192, &[1], Some(FewRows::Spans));
        check(SEVEN_B, 8192, &[4], None);
        check(SEVEN_B, 512, &[1; 4], Some(NARROW_7B));
        check(SEVEN_B, 512, &[1; 5], Some(FewRows::Spans));
        check(SEVEN_B, 512, &[1; 16], Some(FewRows::Spans));
        check(SMALL, 8192, &[4], Some(FewRows::Spans));
        check(SMALL, 2000, &[2], Some(FewRows::Clusters { heads_at_once: 1, units: 3, groups: 2 }));
        check(SMALL, 4000, &[4], Some(FewRows::Clusters { heads_at_once: 1, units: 3, groups: 4 }));
        check([32, 8, 128], 100, &[1], Some(FewRows::Clusters { heads_at_once: 1, units: 2, groups: 2 }));
        // Columns of all heads that are not whole units; heads that a cluster's blocks cannot share.
        check([7, 1, 128], 15, &[2], Some(FewRows::Clusters { heads_at_once: 1, units: 4, groups: 2 }));
        check([3, 3, 64], 15, &[2], Some(FewRows::Spans));
        // More heads than a tile has items.
        check([17, 1, 64], 15, &[1], None);
    }
}
