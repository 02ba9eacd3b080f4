//! Small vector operations, compiled for AVX2 where the CPU has it, portable elsewhere.
//!
//! The bodies are written over fixed-width lanes so that the compiler vectorizes them on every target.

/// Declares a function once and compiles it twice: portable, and with AVX2, FMA and F16C.
macro_rules! dispatched {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[inline]
        $vis fn $name($($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $type),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn wide($($arg: $type),*) $(-> $ret)? { body($($arg),*) }
                if $crate::cpu::ops::has_avx2() {
                    // SAFETY: the CPU has the features that `wide` is compiled for.
                    return unsafe { wide($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use dispatched;

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

const LANES: usize = 8;

/// `a * b + c` in one rounding where the target has it; the portable form avoids the slow library call.
#[inline(always)]
pub(crate) fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}

dispatched! {
    /// Dot product of two vectors of equal length.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        dot_body(a, b)
    }
}

/// [`dot`] without its dispatch, for callers that are dispatched themselves.
#[allow(
    clippy::needless_range_loop,
    reason = "fixed lanes by index are what the compiler turns into vectors"
)]
#[inline(always)]
pub(crate) fn dot_body(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [[0f32; LANES]; 4];
    let (a_wide, a_rest) = a.as_chunks::<{ LANES * 4 }>();
    let (b_wide, b_rest) = b.as_chunks::<{ LANES * 4 }>();
    for (x, y) in a_wide.iter().zip(b_wide) {
        for (part, sum) in sums.iter_mut().enumerate() {
            for lane in 0..LANES {
                let at = part * LANES + lane;
                sum[lane] = fused(x[at], y[at], sum[lane]);
            }
        }
    }
    let mut total = 0f32;
    for lane in 0..LANES {
        total += (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane]);
    }
    for (x, y) in a_rest.iter().zip(b_rest) {
        total += x * y;
    }
    total
}

/// Root-mean-square normalization (Zhang and Sennrich 2019): `out = x / rms(x) * weight`.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let scale = 1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt();
    for ((o, x), w) in out.iter_mut().zip(x).zip(weight) {
        *o = x * scale * w;
    }
}

dispatched! {
    /// SwiGLU's elementwise part: `out = silu(gate) * up`.
    pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
            *o = g / (1.0 + fast_exp(-g)) * u;
        }
    }
}

/// Lanes of a reduction over logits: several vectors, so that additions do not wait for each other.
const WIDE_LANES: usize = 4 * LANES;

dispatched! {
    /// The largest element, NaN passed over; minus infinity where there is none.
    pub fn maximum(values: &[f32]) -> f32 {
        let larger = |a: f32, b: f32| if b > a { b } else { a };
        let mut maxima = [f32::NEG_INFINITY; WIDE_LANES];
        let (wide, rest) = values.as_chunks::<WIDE_LANES>();
        for chunk in wide {
            for lane in 0..WIDE_LANES {
                maxima[lane] = larger(maxima[lane], chunk[lane]);
            }
        }
        maxima.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
    }
}

dispatched! {
    /// The sum of `exp(value - maximum)`: a softmax's denominator.
    pub fn sum_of_exponentials(values: &[f32], maximum: f32) -> f32 {
        let mut sums = [0f32; WIDE_LANES];
        let (wide, rest) = values.as_chunks::<WIDE_LANES>();
        for chunk in wide {
            for lane in 0..WIDE_LANES {
                sums[lane] += fast_exp(chunk[lane] - maximum);
            }
        }
        sums.iter().sum::<f32>() + rest.iter().map(|value| fast_exp(value - maximum)).sum::<f32>()
    }
}

/// Exponential by range reduction and a polynomial, relative error below 2e-7; vectorizes, unlike the library's.
/// Source: Cephes' expf coefficients.
#[inline(always)]
pub fn fast_exp(x: f32) -> f32 {
    let x = x.clamp(-87.3, 88.3);
    // Adding 1.5 * 2^23 rounds to the nearest integer, in the low bits of the mantissa.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4f32;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    value * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// The angles of rotary position embeddings for one head.
#[derive(Debug, Clone)]
pub struct Rope {
    /// Per pair of dimensions, radians a position.
    frequencies: Vec<f32>,
    pairing: RopePairing,
}

/// Which two elements of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairing {
    /// `i` with `i + half`: Qwen2, and Hugging Face's layout.
    Halves,
    /// `2i` with `2i + 1`: GGUF's layout of the Llama architecture, whose converter permutes query and key rows.
    Adjacent,
}

impl Rope {
    /// `factors` divides the frequency of each pair (Llama 3's `rope_freqs` tensor).
    pub fn new(head_dimension: usize, base: f32, factors: Option<&[f32]>, pairing: RopePairing) -> Self {
        let half = head_dimension / 2;
        let frequencies = (0..half)
            .map(|i| {
                let frequency = f64::from(base).powf(-2.0 * i as f64 / head_dimension as f64) as f32;
                frequency / factors.map_or(1.0, |factors| factors[i])
            })
            .collect();
        Self { frequencies, pairing }
    }

    /// Radians a position, by pair of dimensions.
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }

    /// The sine and cosine of each pair of dimensions at `position`.
    pub fn angles(&self, position: usize, angles: &mut [(f32, f32)]) {
        for (angle, frequency) in angles.iter_mut().zip(&self.frequencies) {
            *angle = (position as f32 * frequency).sin_cos();
        }
    }

    /// Turns all heads of one row (`heads * head_dimension` values) by the angles of its position.
    pub fn apply(&self, row: &mut [f32], angles: &[(f32, f32)]) {
        let half = self.frequencies.len();
        for head in row.chunks_exact_mut(half * 2) {
            for (i, (sin, cos)) in angles.iter().enumerate() {
                let (first, second) = match self.pairing {
                    RopePairing::Halves => (i, i + half),
                    RopePairing::Adjacent => (2 * i, 2 * i + 1),
                };
                let (a, b) = (head[first], head[second]);
                head[first] = a * cos - b * sin;
                head[second] = b * cos + a * sin;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_close() {
        for step in -8000..8000 {
            let x = step as f32 * 0.01;
            let (ours, exact) = (f64::from(fast_exp(x)), f64::from(x).exp());
            assert!((ours / exact - 1.0).abs() < 3e-7, "exp({x}) = {ours}, not {exact}");
        }
    }

    #[test]
    fn reductions_over_logits_match_plain_ones() {
        for length in [1, 7, 31, 32, 33, 100, 1000] {
            let mut logits: Vec<f32> = (0..length).map(|i| (i as f32 * 0.37).sin() * 20.0).collect();
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            logits.push(f32::NEG_INFINITY);
            logits.push(f32::NAN);
            assert_eq!(maximum(&logits), largest, "length {length}");
            logits.pop();
            let exact: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
            let ours = f64::from(sum_of_exponentials(&logits, largest));
            assert!((ours / exact - 1.0).abs() < 1e-5, "length {length}: {ours} not {exact}");
        }
        assert_eq!(maximum(&[]), f32::NEG_INFINITY);
    }

    #[test]
    fn dot_matches_plain_sum() {
        for length in [0, 1, 7, 8, 31, 32, 33, 100, 513] {
            let a: Vec<f32> = (0..length).map(|i| (i as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..length).map(|i| (i as f32 * 0.91).cos()).collect();
            let exact: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            assert!((f64::from(dot(&a, &b)) - exact).abs() < 1e-4, "length {length}");
        }
    }
}
