//! Every kernel against the CPU, over awkward shapes: what tests assert and the benchmark prints.
//!
//! References compute in f64 from the numbers that the kernel was given, so an error is the kernel's own rounding.

use candle_core::quantized::GgmlDType;
use half::bf16;

use super::{
    Gpu, GpuError,
    attention::{AttentionScratch, Rotation, StepAddresses, group},
    buffers::{Buffer, Uploader},
    multiply::Products,
    pages::{AttentionShape, KvPages, PAGE_FORMATS, PageFormat, round_fp8},
    params::{Activations, GateInput, GateParams, Layout, NormalizeParams, PackParams, Partial},
    rows::{self, ActivationBuffer, ChoiceBuffer, NOTHING, Precision, UNIT_BYTES, UNIT_ROWS},
    step::Step,
    tiles::{COLUMN_UNIT, Format, GROUP},
};
use crate::{
    cpu::{
        attention::{Span, attend},
        kv_storage::{KvPrecision, KvShape, KvStorage},
        ops::{Rope, RopePairing, rms_norm, swiglu},
        threads::ThreadPool,
    },
    kv_cache::{BLOCK_SIZE, BlockId},
    sampler::{argmax, log_probability},
    scheduler::{Batch, BatchEntry, BlockCopy},
    weights::{
        Matrix,
        random::{self, Random},
    },
};

/// One comparison. `error` is the normalized mean squared error, or a count of differing values where `bound` is 0.
#[derive(Debug, Clone)]
pub struct Check {
    pub name: String,
    pub error: f64,
    pub bound: f64,
}

impl Check {
    fn new(name: String, error: f64, bound: f64) -> Self {
        Self { name, error, bound }
    }

    /// `false` for an error that is no number, too.
    pub fn is_passed(&self) -> bool {
        self.error <= self.bound
    }
}

/// Squared error relative to the squares of the exact values; infinite when a value is no number.
pub fn normalized_error(found: &[f32], exact: &[f32]) -> f64 {
    assert_eq!(found.len(), exact.len());
    let (mut error, mut size) = (0.0, 0.0);
    for (a, b) in found.iter().zip(exact) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        error += (a - b) * (a - b);
        size += b * b;
    }
    if error.is_finite() { error / size.max(1e-30) } else { f64::INFINITY }
}

fn differing(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count() as f64
}

/// All kernels' checks, one result each.
pub fn all(gpu: &Gpu) -> Vec<Result<Check, GpuError>> {
    let mut checks = Vec::new();
    for (dtype, columns) in [
        (GgmlDType::Q4K, 1024),
        (GgmlDType::Q5K, 768),
        (GgmlDType::Q6K, 1536),
        (GgmlDType::Q8_0, 352),
        (GgmlDType::F32, 320),
        (GgmlDType::F16, 96),
    ] {
        checks.extend(one_or_error(products(gpu, &[(dtype, 200)], columns)));
        checks.push(embedding(gpu, dtype, 50, columns));
    }
    // Parts of different types in one launch, and sizes that leave warps without work.
    checks.extend(one_or_error(products(
        gpu,
        &[(GgmlDType::Q4K, 176), (GgmlDType::Q5K, 32), (GgmlDType::Q6K, 48)],
        2816,
    )));
    for (dtype, columns) in
        [(GgmlDType::Q4K, 1024), (GgmlDType::Q5K, 768), (GgmlDType::Q6K, 2816), (GgmlDType::Q8_0, 352)]
    {
        checks.extend(one_or_error(gated(gpu, dtype, columns)));
    }
    for (rows, columns) in [(1, 512), (7, 1536), (130, 192)] {
        checks.push(normalize(gpu, rows, columns));
        checks.push(gate(gpu, rows, columns));
        checks.push(pack(gpu, rows, columns, Layout::Fragments));
        checks.push(pack(gpu, rows, columns, Layout::Blocks));
    }
    for (rows, vocabulary) in [(1, 5000), (3, 31), (17, 40_001)] {
        checks.push(choose(gpu, rows, vocabulary));
    }
    for (heads, kv_heads, dimension, pairing) in [
        (2, 2, 32, RopePairing::Halves),
        (6, 2, 64, RopePairing::Adjacent),
        (7, 1, 128, RopePairing::Halves),
        (12, 4, 64, RopePairing::Halves),
        (12, 2, 128, RopePairing::Halves),
        (28, 4, 128, RopePairing::Halves),
        (32, 8, 128, RopePairing::Adjacent),
    ] {
        for format in PAGE_FORMATS {
            let shape = AttentionShape { layers: 2, heads, kv_heads, dimension, format };
            for (start, count) in [
                (0, 1),
                (0, 17),
                (15, 1),
                (63, 2),
                (64, 8),
                (100, 33),
                (300, 5),
                (700, 3),
                (1027, 2),
                (2301, 1),
            ] {
                checks.extend(one_or_error(attention(gpu, shape, pairing, start, count)));
            }
        }
    }
    checks
}

fn one_or_error(checks: Result<Vec<Check>, GpuError>) -> Vec<Result<Check, GpuError>> {
    match checks {
        Ok(checks) => checks.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    }
}

fn floats(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.float() * scale).collect()
}

fn round_bf16(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| bf16::from_f32(*value).to_f32()).collect()
}

/// Uploads rows of floats as activations.
fn activations(
    gpu: &Gpu,
    buffer: &mut ActivationBuffer,
    values: &[f32],
    columns: usize,
    layout: Layout,
) -> Result<Activations, GpuError> {
    let rows = values.len() / columns;
    buffer.reserve(gpu, rows, columns)?;
    let x = buffer.shaped(rows, columns, layout);
    let source = Buffer::of(gpu, "a check", values)?;
    let params = PackParams { rows: source.address(), out: x, columns: columns as u32 };
    // SAFETY: `source` holds the rows, `x` was made for them.
    unsafe { rows::pack(gpu, rows, &params)? };
    gpu.synchronize()?;
    Ok(x)
}

/// Activations as rows of floats.
struct ReadActivations {
    /// As weights that are not quantized see them.
    halves: Vec<f32>,
    /// As the others do.
    bytes: Vec<f32>,
    /// Numbers that contradict each other: bytes, halves and sums must be of the same values.
    wrong: f64,
}

fn read_activations(
    gpu: &Gpu,
    x: Activations,
    buffer: &ActivationBuffer,
    rows: usize,
    columns: usize,
) -> Result<ReadActivations, GpuError> {
    let (units, stored_halves) = buffer.read(gpu, x)?;
    let padded = x.padded_rows as usize;
    let mut out =
        ReadActivations { halves: vec![0.0; rows * columns], bytes: vec![0.0; rows * columns], wrong: 0.0 };
    for group in 0..x.columns as usize / GROUP {
        for row in 0..rows {
            let unit = group * GROUP / COLUMN_UNIT * (padded / UNIT_ROWS) + row / UNIT_ROWS;
            let unit = &units[unit * UNIT_BYTES..][..UNIT_BYTES];
            let (values, rest) = unit.split_at(UNIT_ROWS * COLUMN_UNIT);
            let (scales, sums) = rest.split_at(UNIT_ROWS * 4);
            let row_in_unit = row % UNIT_ROWS;
            let scale: [u8; 4] = scales[row_in_unit * 4..][..4].try_into().expect("four bytes");
            let scale = f32::from_le_bytes(scale);
            let mut sum = 0;
            for k in 0..GROUP {
                // Bytes: word k / 4 of eight, in pairs of groups, or 16 columns of all rows; halves: as
                // `activations.cuh` says.
                let (pair, word) = (group % 8 / 2 * UNIT_ROWS + row_in_unit, k / 4);
                let at = match x.layout {
                    Layout::Fragments => pair * 64 + word % 4 * 16 + group % 2 * 8 + word / 4 * 4 + k % 4,
                    Layout::Blocks => ((group % 8 * 2 + k / 16) * UNIT_ROWS + row_in_unit) * 16 + k % 16,
                };
                let byte = values[at].cast_signed();
                let column = group * GROUP + k;
                sum += i32::from(byte);
                let at = (group * padded + row) * GROUP + k % 16 / 4 * 8 + k / 16 * 4 + k % 4;
                let half = stored_halves[at].to_f32();
                let value = f32::from(byte) * scale;
                let exact_to = 0.51 * scale + half.abs() / 200.0;
                if scale.is_nan() || (value - half).abs() > exact_to || (column >= columns && byte != 0) {
                    out.wrong += 1.0;
                }
                if column < columns {
                    out.halves[row * columns + column] = half;
                    out.bytes[row * columns + column] = value;
                }
            }
            let term = |index: usize| {
                let at = match x.layout {
                    Layout::Fragments => row_in_unit * 32 + (group % 8 / 2 * 4 + group % 2 + index * 2) * 2,
                    Layout::Blocks => (index * UNIT_ROWS + row_in_unit) * 16 + group % 8 * 2,
                };
                bf16::from_le_bytes([sums[at], sums[at + 1]]).to_f32()
            };
            out.wrong += f64::from(u8::from(term(0) + term(1) != sum as f32));
        }
    }
    Ok(out)
}

/// The numbers that a matrix's tiles stand for.
fn exact_weights(matrix: &Matrix) -> Vec<f32> {
    let mut weights = vec![0f32; matrix.rows() * matrix.columns()];
    for (row, out) in weights.chunks_exact_mut(matrix.columns()).enumerate() {
        matrix.row_to_floats(row, out);
    }
    if Format::of(matrix.dtype()) == Format::Bf16 { round_bf16(&weights) } else { weights }
}

fn products(gpu: &Gpu, parts: &[(GgmlDType, usize)], columns: usize) -> Result<Vec<Check>, GpuError> {
    let matrices: Vec<Matrix> = parts
        .iter()
        .enumerate()
        .map(|(index, (dtype, rows))| random::matrix(*dtype, *rows, columns, index as u64))
        .collect();
    let weights: Vec<Vec<f32>> = matrices.iter().map(exact_weights).collect();
    let mut uploader = Uploader::new(gpu)?;
    let uploaded: Result<Vec<_>, _> = matrices.iter().map(|matrix| uploader.upload(gpu, matrix)).collect();
    let products = Products::new(gpu, uploaded?);
    let name: Vec<String> = parts.iter().map(|(dtype, rows)| format!("{dtype:?} {rows}")).collect();
    let name = name.join(" + ");
    let most = 800;
    let input = floats(3, most * columns, 1.0);
    let mut buffer = ActivationBuffer::new(gpu, Precision::BytesAndHalves)?;
    let mut checks = Vec::new();
    // A row's bits, from the first number of rows that was tried.
    let mut first_bits: Option<Vec<f32>> = None;
    for rows in [1, 3, 8, 9, 17, 32, 33, 130, most] {
        let x = activations(gpu, &mut buffer, &input[..rows * columns], columns, products.layout(gpu, rows))?;
        let out = Buffer::of(gpu, "a check", &vec![f32::NAN; products.output_length(gpu, rows)?])?;
        // SAFETY: `x` holds the rows, `out` has the length that the products state.
        let partial = unsafe { products.launch(gpu, x, rows, out.address())? };
        let found = read_partial(gpu, &out, partial)?;
        let read = read_activations(gpu, x, &buffer, rows, columns)?;
        let (mut ours, mut exact) = (Vec::new(), Vec::new());
        for row in 0..rows {
            for (part, weights) in weights.iter().enumerate() {
                let is_quantized = Format::of(parts[part].0) != Format::Bf16;
                let input = if is_quantized { &read.bytes } else { &read.halves };
                let input = &input[row * columns..(row + 1) * columns];
                let from = row * products.stride + products.columns[part];
                ours.extend_from_slice(&found[from..from + parts[part].1]);
                exact.extend(weights.chunks_exact(columns).map(|w| {
                    w.iter().zip(input).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>() as f32
                }));
            }
        }
        checks.push(Check::new(
            format!("multiply {name} x {columns}, {rows} rows"),
            normalized_error(&ours, &exact),
            1e-9,
        ));
        let width = ours.len() / rows;
        match &first_bits {
            None => first_bits = Some(ours),
            Some(bits) => checks.push(Check::new(
                format!("multiply {name} x {columns}, {rows} rows: bits of row 0"),
                differing(&ours[..width], &bits[..width]),
                0.0,
            )),
        }
    }
    Ok(checks)
}

/// The pieces of a product added up in order.
fn read_partial(gpu: &Gpu, out: &Buffer, partial: Partial) -> Result<Vec<f32>, GpuError> {
    let length = (partial.rows * partial.stride) as usize;
    let mut all = vec![0f32; length * partial.splits as usize];
    out.read(gpu, &mut all)?;
    let (sum, rest) = all.split_at_mut(length);
    for piece in rest.chunks_exact(length) {
        for (sum, value) in sum.iter_mut().zip(piece) {
            *sum += value;
        }
    }
    Ok(sum.to_vec())
}

fn embedding(gpu: &Gpu, dtype: GgmlDType, rows: usize, columns: usize) -> Result<Check, GpuError> {
    let matrix = random::matrix(dtype, rows, columns, 5);
    let weights = exact_weights(&matrix);
    let device = Uploader::new(gpu)?.upload(gpu, &matrix)?;
    let tokens: Vec<u32> = (0..20).map(|index| (index * 7 % rows) as u32).collect();
    let words = Buffer::of(gpu, "a check", &tokens)?;
    let out = Buffer::of(gpu, "a check", &vec![f32::NAN; tokens.len() * columns])?;
    // SAFETY: tokens are below the matrix's rows; `out` has a row for each.
    unsafe { rows::embed(gpu, &device, words.address(), tokens.len(), out.address())? };
    let mut found = vec![0f32; tokens.len() * columns];
    out.read(gpu, &mut found)?;
    let exact: Vec<f32> =
        tokens.iter().flat_map(|t| weights[*t as usize * columns..][..columns].to_vec()).collect();
    Ok(Check::new(format!("embed {dtype:?} {rows} x {columns}"), normalized_error(&found, &exact), 1e-12))
}

/// Errors of values that were rounded to bf16.
const BF16_ERROR: f64 = 1e-5;

fn normalize(gpu: &Gpu, rows: usize, columns: usize) -> Result<Check, GpuError> {
    let residual = floats(1, rows * columns, 3.0);
    let (splits, stride) = (3, columns + 16);
    let update = floats(2, splits * rows * stride, 1.0);
    let weight = floats(3, columns, 2.0);
    let (device_residual, device_update, device_weight) = (
        Buffer::of(gpu, "a check", &residual)?,
        Buffer::of(gpu, "a check", &update)?,
        Buffer::of(gpu, "a check", &weight)?,
    );
    let mut sums = residual.clone();
    for row in 0..rows {
        for column in 0..columns {
            for split in 0..splits {
                sums[row * columns + column] += update[(split * rows + row) * stride + column];
            }
        }
    }
    let mut buffer = ActivationBuffer::new(gpu, Precision::BytesAndHalves)?;
    buffer.reserve(gpu, rows, columns)?;
    let out = buffer.shaped(rows, columns, Layout::Fragments);
    let params = NormalizeParams {
        residual: device_residual.address(),
        update: Partial {
            values: device_update.address(),
            splits: splits as u32,
            rows: rows as u32,
            stride: stride as u32,
        },
        weight: device_weight.address(),
        wanted: 0,
        out,
        columns: columns as u32,
        epsilon: 1e-6,
    };
    // SAFETY: buffers have the shapes that the parameters state.
    unsafe { rows::normalize(gpu, rows, &params)? };
    let found = read_activations(gpu, out, &buffer, rows, columns)?;
    let mut stored = vec![0f32; residual.len()];
    device_residual.read(gpu, &mut stored)?;
    let mut exact = vec![0f32; rows * columns];
    for (row, out) in sums.chunks_exact(columns).zip(exact.chunks_exact_mut(columns)) {
        rms_norm(row, &weight, 1e-6, out);
    }
    // The last row alone, without an update: what the end of a model does.
    let wanted = Buffer::of(gpu, "a check", &[rows as u32 - 1])?;
    let out = buffer.shaped(1, columns, Layout::Fragments);
    let params = NormalizeParams { update: NOTHING, wanted: wanted.address(), out, ..params };
    // SAFETY: as above; the wanted row is one of the residual's.
    unsafe { rows::normalize(gpu, 1, &params)? };
    let last = read_activations(gpu, out, &buffer, 1, columns)?;
    let error = normalized_error(&found.halves, &exact)
        + normalized_error(&stored, &sums)
        + normalized_error(&last.halves, &exact[(rows - 1) * columns..])
        + found.wrong
        + last.wrong;
    Ok(Check::new(format!("normalize {rows} x {columns}"), error, BF16_ERROR))
}

fn gate(gpu: &Gpu, rows: usize, columns: usize) -> Result<Check, GpuError> {
    let stride = 2 * columns + 32;
    let up_column = columns + 16;
    let products = floats(4, rows * stride, 4.0);
    let device = Buffer::of(gpu, "a check", &products)?;
    let mut buffer = ActivationBuffer::new(gpu, Precision::BytesAndHalves)?;
    buffer.reserve(gpu, rows, columns)?;
    let out = buffer.shaped(rows, columns, Layout::Fragments);
    let partial = Partial { values: device.address(), splits: 1, rows: rows as u32, stride: stride as u32 };
    let input = GateInput { products: partial, up_column: up_column as u32, columns: columns as u32 };
    let params = GateParams { input, out };
    // SAFETY: buffers have the shapes that the parameters state.
    unsafe { rows::gate(gpu, rows, &params)? };
    let found = read_activations(gpu, out, &buffer, rows, columns)?;
    let mut exact = vec![0f32; rows * columns];
    for (row, out) in products.chunks_exact(stride).zip(exact.chunks_exact_mut(columns)) {
        swiglu(&row[..columns], &row[up_column..up_column + columns], out);
    }
    let error = normalized_error(&found.halves, &exact) + found.wrong;
    Ok(Check::new(format!("gate {rows} x {columns}"), error, BF16_ERROR))
}

/// Products that gate their input themselves, against the gate's kernel and the product after it.
fn gated(gpu: &Gpu, dtype: GgmlDType, columns: usize) -> Result<Vec<Check>, GpuError> {
    let matrix = random::matrix(dtype, 200, columns, 7);
    let products = Products::new(gpu, vec![Uploader::new(gpu)?.upload(gpu, &matrix)?]);
    let (up_column, stride) = (columns.next_multiple_of(16), 2 * columns.next_multiple_of(16));
    let mut checks = Vec::new();
    for rows in [1, 3, 8] {
        let gate_up = Buffer::of(gpu, "a check", &floats(8, rows * stride, 4.0))?;
        let partial =
            Partial { values: gate_up.address(), splits: 1, rows: rows as u32, stride: stride as u32 };
        let input = GateInput { products: partial, up_column: up_column as u32, columns: columns as u32 };
        let mut buffer = ActivationBuffer::new(gpu, Precision::Bytes)?;
        buffer.reserve(gpu, rows, columns)?;
        let x = buffer.shaped(rows, columns, Layout::Fragments);
        let out = || Buffer::of(gpu, "a check", &vec![f32::NAN; products.output_length(gpu, rows)?]);
        let (apart, together) = (out()?, out()?);
        assert!(products.gates(gpu, rows));
        // SAFETY: buffers have the shapes that the parameters state, and outputs the length that the products do.
        let [expected, found] = unsafe {
            rows::gate(gpu, rows, &GateParams { input, out: x })?;
            [
                products.launch(gpu, x, rows, apart.address())?,
                products.launch_gated(gpu, input, rows, together.address())?,
            ]
        };
        let (expected, found) = (read_partial(gpu, &apart, expected)?, read_partial(gpu, &together, found)?);
        let wrong = expected.iter().filter(|value| value.is_nan()).count() as f64;
        let name = format!("multiply {dtype:?} 200 x {columns}, {rows} rows gated within: bits");
        checks.push(Check::new(name, differing(&found, &expected) + wrong, 0.0));
    }
    Ok(checks)
}

fn pack(gpu: &Gpu, rows: usize, columns: usize, layout: Layout) -> Result<Check, GpuError> {
    let values = floats(5, rows * columns, 1.0);
    let mut buffer = ActivationBuffer::new(gpu, Precision::BytesAndHalves)?;
    let x = activations(gpu, &mut buffer, &values, columns, layout)?;
    let found = read_activations(gpu, x, &buffer, rows, columns)?;
    let error = differing(&found.halves, &round_bf16(&values)) + found.wrong;
    Ok(Check::new(format!("pack {rows} x {columns}, {layout:?}"), error, 0.0))
}

/// The likeliest token and its log probability, against the sampler's.
fn choose(gpu: &Gpu, rows: usize, vocabulary: usize) -> Result<Check, GpuError> {
    let stride = vocabulary.next_multiple_of(16);
    let mut logits = floats(6, rows * stride, 8.0);
    for (row, logits) in logits.chunks_exact_mut(stride).enumerate() {
        // Beyond the vocabulary is padding, and among equals the first counts.
        logits[vocabulary..].fill(100.0);
        let best = row * 7919 % vocabulary;
        logits[best] = 9.0;
        logits[(best + vocabulary / 2) % vocabulary] = 9.0;
    }
    let device = Buffer::of(gpu, "a check", &logits)?;
    let mut choices = ChoiceBuffer::new(gpu)?;
    choices.reserve(gpu, rows)?;
    let mut error = 0.0;
    // Twice: the second run finds what the first one left behind.
    for _ in 0..2 {
        let mut found = vec![0u32; rows * 2];
        // SAFETY: the logits have these rows, and `choices` room for them.
        unsafe { choices.choose(gpu, device.address(), rows, stride, vocabulary)? };
        choices.read(gpu, &mut found)?;
        for (row, pair) in logits.chunks_exact(stride).zip(found.chunks_exact(2)) {
            let row = &row[..vocabulary];
            let token = argmax(row);
            let exact = log_probability(row, token);
            let is_right = pair[0] == token && (f32::from_bits(pair[1]) - exact).abs() <= 1e-4;
            error += f64::from(u8::from(!is_right));
        }
    }
    Ok(Check::new(format!("choose {rows} x {vocabulary}"), error, 0.0))
}

/// Writes `start` tokens, copies a block, then attends with `count` more: alone and in one step with the first ones.
fn attention(
    gpu: &Gpu,
    shape: AttentionShape,
    pairing: RopePairing,
    start: usize,
    count: usize,
) -> Result<Vec<Check>, GpuError> {
    let AttentionShape { heads, kv_heads, dimension, .. } = shape;
    let (total, width, kv_width) = (start + count, heads * dimension, kv_heads * dimension);
    let stride = width + 2 * kv_width;
    let projections = floats(total as u64, total * stride, 2.0);
    let bias = floats(9, stride, 0.5);
    let rope = Rope::new(dimension, 10_000.0, None, pairing);

    // The definition, on the CPU in F32.
    let kv_shape = KvShape { layers: 1, blocks: 160, heads: kv_heads, head_dimension: dimension };
    let blocks: Vec<BlockId> = (0..total.div_ceil(BLOCK_SIZE)).map(|i| (i * 7 % 157) as BlockId).collect();
    let mut cpu_kv = KvStorage::new(kv_shape, KvPrecision::F32)
        .map_err(|error| GpuError::Unsupported(error.to_string()))?;
    let (mut queries, mut angles) = (Vec::new(), vec![(0.0, 0.0); dimension / 2]);
    for (position, row) in projections.chunks_exact(stride).enumerate() {
        let mut row: Vec<f32> = row.iter().zip(&bias).map(|(x, b)| x + b).collect();
        rope.angles(position, &mut angles);
        rope.apply(&mut row[..width + kv_width], &angles);
        if shape.format == PageFormat::Fp8 {
            // Nothing in a head makes a rounded value of another head.
            row[width..].chunks_exact_mut(dimension).for_each(round_fp8);
        }
        cpu_kv.write(0, &blocks, position, &row[width..width + kv_width], &row[width + kv_width..]);
        queries.extend_from_slice(&row[..width]);
    }
    let mut pool = ThreadPool::new(1).map_err(|error| GpuError::Unsupported(error.to_string()))?;
    let mut exact = vec![0f32; count * width];
    let span = Span { row: 0, rows: count, start, blocks: &blocks };
    attend(&mut pool, &cpu_kv, 0, heads, &[span], &queries[start * width..], &mut exact);

    let mut kv = KvPages::new(gpu, shape, 160)?;
    let mut scratch = AttentionScratch::new(gpu)?;
    let mut buffer = ActivationBuffer::new(gpu, Precision::BytesAndHalves)?;
    let (bias, frequencies) =
        (Buffer::of(gpu, "a check", &bias)?, Buffer::of(gpu, "a check", rope.frequencies())?);
    let rotation =
        Rotation { bias: bias.address(), pairs_are_adjacent: u32::from(pairing == RopePairing::Adjacent) };
    let layer = 1;
    let mut run = |kv: &KvPages, first: usize, rows: usize, blocks: &[BlockId]| -> Result<_, GpuError> {
        let entry = BatchEntry {
            sequence: 0,
            tokens: vec![0; rows],
            start: first,
            blocks: blocks.to_vec(),
            logits: 0..0,
        };
        let step = Step::new(&Batch { copies: Vec::new(), entries: vec![entry] }, group(&shape));
        let words = Buffer::of(gpu, "a check", &step.words)?;
        let input = Buffer::of(gpu, "a check", &projections[first * stride..(first + rows) * stride])?;
        scratch.reserve(gpu, &shape, &step)?;
        buffer.reserve(gpu, rows, width)?;
        let out = buffer.shaped(rows, width, Layout::Fragments);
        let at = StepAddresses { words: words.address() };
        let partial =
            Partial { values: input.address(), splits: 1, rows: rows as u32, stride: stride as u32 };
        // SAFETY: blocks are below the cache's 160; buffers were made for these rows.
        unsafe { scratch.turn(gpu, &shape, &step, at, frequencies.address())? };
        // SAFETY: as above.
        unsafe { scratch.attend(gpu, kv, layer, &step, at, partial, rotation, out)? };
        read_activations(gpu, out, &buffer, rows, width)
    };
    if start > 0 {
        run(&kv, 0, start, &blocks)?;
    }
    // The block that the new rows begin in is a copy from here on.
    let mut copied = blocks.clone();
    let shared = &mut copied[start / BLOCK_SIZE];
    kv.copy_blocks(gpu, &[BlockCopy { source: *shared, destination: 159, tokens: start % BLOCK_SIZE }])?;
    *shared = 159;
    let found = run(&kv, start, count, &copied)?;
    let cache = shape.format;
    let name = format!("attention {heads}/{kv_heads} heads of {dimension}, {cache}, {count} rows at {start}");
    // Every row of the sequence at once, so that the last ones are computed among others.
    let whole = run(&kv, 0, total, &copied)?;
    let differences = differing(&found.halves, &whole.halves[start * width..])
        + differing(&found.bytes, &whole.bytes[start * width..]);
    Ok(vec![
        Check::new(name.clone(), normalized_error(&found.halves, &exact) + found.wrong, 1e-4),
        Check::new(format!("{name}: bits among other rows"), differences, 0.0),
    ])
}
