"""ggml's Q4_K, Q5_K, Q6_K and Q8_0: quantization with a scale search, and the exact inverse. NumPy only.

Block layouts are those of ggml-quants (256 weights a block; Q8_0: 32). `importance` is the mean square of the
input that meets each column, so that the search minimises the error of the layer's output, not of the weights.
"""
import numpy as np

BITS_PER_WEIGHT = {"Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625, "Q8_0": 8.5, "F32": 32}


def _blocks(weights, size, importance):
    rows, columns = weights.shape
    x = weights.astype(np.float32).reshape(-1, size)
    w = np.ones(columns, np.float32) if importance is None else importance.astype(np.float32) / max(float(importance.mean()), 1e-12)
    w = np.broadcast_to(w, (rows, columns)).reshape(-1, size)
    return x, w


def _fit_scale_min(x, w, levels):
    """Best (scale, minimum >= 0) of each row of x for codes 0..levels: x ~ scale * code - minimum."""
    low = np.minimum(x.min(-1, keepdims=True), 0)
    high = x.max(-1, keepdims=True)
    spread = np.maximum(high - low, 1e-12)
    best_scale, best_min = spread / levels, -low
    best_error = np.full_like(spread, np.inf)
    sum_w, sum_x = w.sum(-1, keepdims=True), (w * x).sum(-1, keepdims=True)
    for step in np.linspace(-1.0, 1.0, 21):
        codes = np.clip(np.rint((levels + step) / spread * (x - low)), 0, levels)
        sum_l, sum_l2 = (w * codes).sum(-1, keepdims=True), (w * codes * codes).sum(-1, keepdims=True)
        sum_xl = (w * x * codes).sum(-1, keepdims=True)
        determinant = sum_w * sum_l2 - sum_l * sum_l
        safe = np.where(determinant > 0, determinant, 1)
        scale = (sum_w * sum_xl - sum_x * sum_l) / safe
        minimum = (sum_l2 * sum_x - sum_l * sum_xl) / safe
        positive = minimum > 0
        scale = np.where(positive, sum_xl / np.maximum(sum_l2, 1e-20), scale)
        minimum = np.where(positive, 0, minimum)
        error = (w * (scale * codes + minimum - x) ** 2).sum(-1, keepdims=True)
        better = (error < best_error) & (determinant > 0) & (scale > 0)
        best_scale, best_min = np.where(better, scale, best_scale), np.where(better, -minimum, best_min)
        best_error = np.where(better, error, best_error)
    return best_scale[..., 0], best_min[..., 0]


def _half(values):
    return values.astype(np.float16).astype(np.float32)


def _pack_scales(scales, minimums):
    """Eight 6-bit scales and minimums into 12 bytes, as in ggml's `get_scale_min_k4`."""
    out = np.zeros((len(scales), 12), np.uint8)
    out[:, :4] = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    out[:, 4:8] = minimums[:, :4] | (minimums[:, 4:] >> 4) << 6
    out[:, 8:] = scales[:, 4:] & 15 | (minimums[:, 4:] & 15) << 4
    return out


def _unpack_scales(packed):
    scales, minimums = np.zeros((len(packed), 8), np.uint8), np.zeros((len(packed), 8), np.uint8)
    scales[:, :4], minimums[:, :4] = packed[:, :4] & 63, packed[:, 4:8] & 63
    scales[:, 4:] = packed[:, 8:] & 15 | packed[:, :4] >> 6 << 4
    minimums[:, 4:] = packed[:, 8:] >> 4 | packed[:, 4:8] >> 6 << 4
    return scales, minimums


def _quantize_45(weights, bits, importance):
    x, w = _blocks(weights, 256, importance)
    x, w, levels = x.reshape(-1, 8, 32), w.reshape(-1, 8, 32), 2 ** bits - 1
    w = w * (np.sqrt((x * x).mean(-1, keepdims=True)) + np.abs(x))
    scale, minimum = _fit_scale_min(x, w, levels)
    d, dmin = _half(scale.max(-1) / 63), _half(minimum.max(-1) / 63)
    code_of = lambda value, unit: np.clip(np.rint(value / np.where(unit > 0, unit, 1)[:, None]), 0, 63).astype(np.uint8)
    scales, minimums = code_of(scale, d), code_of(minimum, dmin)
    real_scale, real_min = d[:, None] * scales, dmin[:, None] * minimums
    safe = np.where(real_scale > 0, real_scale, 1)[..., None]
    codes = np.clip(np.rint((x + real_min[..., None]) / safe), 0, levels)
    codes = np.where(real_scale[..., None] > 0, codes, 0).astype(np.uint8)
    head = np.concatenate([d.astype(np.float16)[:, None].view(np.uint8), dmin.astype(np.float16)[:, None].view(np.uint8), _pack_scales(scales, minimums)], 1)
    low = codes & 15
    nibbles = (low[:, 0::2] | low[:, 1::2] << 4).reshape(len(codes), 128)
    if bits == 4:
        return np.concatenate([head, nibbles], 1)
    high = np.zeros((len(codes), 32), np.uint8)
    for group in range(8):
        high |= (codes[:, group] >> 4) << group
    return np.concatenate([head, high, nibbles], 1)


def _dequantize_45(blocks, bits):
    d, dmin = blocks[:, :2].copy().view(np.float16).astype(np.float32), blocks[:, 2:4].copy().view(np.float16).astype(np.float32)
    scales, minimums = _unpack_scales(blocks[:, 4:16])
    nibbles = blocks[:, -128:].reshape(-1, 4, 32)
    codes = np.empty((len(blocks), 8, 32), np.uint8)
    codes[:, 0::2], codes[:, 1::2] = nibbles & 15, nibbles >> 4
    if bits == 5:
        for group in range(8):
            codes[:, group] |= (blocks[:, 16:48] >> group & 1) << 4
    return (d * scales)[..., None] * codes - (dmin * minimums)[..., None]


def _quantize_6(weights, importance):
    x, w = _blocks(weights, 256, importance)
    x, w = x.reshape(-1, 16, 16), w.reshape(-1, 16, 16)
    w = w * (np.abs(x) + np.sqrt((x * x).mean(-1, keepdims=True)))
    peak = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)
    best, best_gain = np.zeros(x.shape[:2], np.float32), np.full(x.shape[:2], -np.inf, np.float32)
    for step in np.linspace(-0.9, 0.9, 19):
        inverse = -(32 + step) / np.where(np.abs(peak) > 1e-15, peak, 1)
        codes = np.clip(np.rint(inverse * x), -32, 31)
        sum_lx, sum_l2 = (w * x * codes).sum(-1), (w * codes * codes).sum(-1)
        gain = sum_lx ** 2 / np.maximum(sum_l2, 1e-20)
        better = gain > best_gain
        best, best_gain = np.where(better, sum_lx / np.maximum(sum_l2, 1e-20), best), np.maximum(gain, best_gain)
    top = np.take_along_axis(best, np.abs(best).argmax(-1)[:, None], -1)[:, 0]
    d = _half(-top / 128)
    safe = np.where(d != 0, d, 1)[:, None]
    scales = np.clip(np.rint(best / safe), -128, 127).astype(np.int8)
    real = d[:, None] * scales
    codes = np.clip(np.rint(x / np.where(real != 0, real, 1)[..., None]), -32, 31)
    codes = (np.where(real[..., None] != 0, codes, 0) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.concatenate([codes[:, :, 0] & 15 | (codes[:, :, 2] & 15) << 4, codes[:, :, 1] & 15 | (codes[:, :, 3] & 15) << 4], -1)
    high = codes[:, :, 0] >> 4 | codes[:, :, 1] >> 4 << 2 | codes[:, :, 2] >> 4 << 4 | codes[:, :, 3] >> 4 << 6
    n = len(codes)
    return np.concatenate([low.reshape(n, 128), high.reshape(n, 64), scales.view(np.uint8), d.astype(np.float16)[:, None].view(np.uint8)], 1)


def _dequantize_6(blocks):
    n = len(blocks)
    low, high = blocks[:, :128].reshape(n, 2, 64), blocks[:, 128:192].reshape(n, 2, 32)
    scales, d = blocks[:, 192:208].view(np.int8), blocks[:, 208:210].copy().view(np.float16).astype(np.float32)
    codes = np.empty((n, 2, 4, 32), np.int16)
    codes[:, :, 0] = low[:, :, :32] & 15 | (high & 3) << 4
    codes[:, :, 1] = low[:, :, 32:] & 15 | (high >> 2 & 3) << 4
    codes[:, :, 2] = low[:, :, :32] >> 4 | (high >> 4 & 3) << 4
    codes[:, :, 3] = low[:, :, 32:] >> 4 | (high >> 6 & 3) << 4
    return (d * scales)[..., None] * (codes.reshape(n, 16, 16) - 32)


def _quantize_8(weights):
    x, _ = _blocks(weights, 32, None)
    d = _half(np.abs(x).max(-1) / 127)
    codes = np.clip(np.rint(x / np.where(d > 0, d, 1)[:, None]), -127, 127).astype(np.int8)
    return np.concatenate([d.astype(np.float16)[:, None].view(np.uint8), codes.view(np.uint8)], 1)


def _dequantize_8(blocks):
    return blocks[:, :2].copy().view(np.float16).astype(np.float32) * blocks[:, 2:].view(np.int8)


BLOCK_BYTES = {"Q4_K": 144, "Q5_K": 176, "Q6_K": 210, "Q8_0": 34}


def quantize(weights, kind, importance=None):
    """float32 [rows, columns] to the bytes of ggml's blocks, row by row."""
    if kind in ("Q4_K", "Q5_K"):
        blocks = _quantize_45(weights, 4 if kind == "Q4_K" else 5, importance)
    else:
        blocks = _quantize_6(weights, importance) if kind == "Q6_K" else _quantize_8(weights)
    return np.ascontiguousarray(blocks).tobytes()


def dequantize(raw, kind, shape):
    blocks = np.frombuffer(raw, np.uint8).reshape(-1, BLOCK_BYTES[kind])
    values = {"Q4_K": lambda: _dequantize_45(blocks, 4), "Q5_K": lambda: _dequantize_45(blocks, 5),
              "Q6_K": lambda: _dequantize_6(blocks), "Q8_0": lambda: _dequantize_8(blocks)}[kind]()
    return values.reshape(shape).astype(np.float32)
