#!/usr/bin/env python3
"""Writes a GGUF model of a real shape with random weights, for measuring speed where no trained weights are at hand.

    pip install gguf==0.19.0 numpy
    random_gguf.py --shape 1.5b --type Q4_K_M --out DIR       # DIR/random-qwen2-1.5b-q4_k_m.gguf
    random_gguf.py --shape 7b --inside inference/embedded/model.gguf --out DIR      # DIR/placed-qwen2-7b-q4_k_m.gguf

Speed depends on shapes and types, not on values, so the values are random; the layout is the real one: tensor names,
order and types are those that llama.cpp's converter and quantizer give (Q4_K_M holds the output matrix and half of
attn_v and ffn_down in Q6_K), blocks are valid, weights have a standard deviation of 0.02. The vocabulary and merges are
those of --vocabulary, filled up to the shape's size, so that source text tokenizes as it does for a real model.

With --inside the answers are those of a small trained model, whose weights lie among the random ones (placed_weights.py): for
measuring what depends on answers, as speculation does.
"""

import argparse
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from placed_weights import Trained, put

DEVIATION = 0.02
EMBEDDED = Path(__file__).resolve().parents[2] / "inference" / "embedded" / "model.gguf"


@dataclass(frozen=True)
class Shape:
    hidden: int
    layers: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool


SHAPES = {
    "1.5b": Shape(1536, 28, 8960, 12, 2, 128, 151936, tied=True),
    "7b": Shape(3584, 28, 18944, 28, 4, 128, 152064, tied=False),
}
FILE_TYPES = {
    "Q4_K_M": gguf.LlamaFileType.MOSTLY_Q4_K_M,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
}


def random_blocks(rng: np.random.Generator, kind: Type, count: int) -> np.ndarray:
    """`count` valid blocks as bytes, the weights they stand for spread evenly about zero."""

    def half(values) -> np.ndarray:
        return np.asarray(values, dtype=np.float16).reshape(count, 1).view(np.uint8)

    def random_bytes(n: int) -> np.ndarray:
        return rng.integers(0, 256, (count, n), dtype=np.uint8)

    jitter = 0.9 + 0.2 * rng.random(count)
    if kind == Type.F16:
        return (rng.standard_normal((count, 1), dtype=np.float32) * DEVIATION).astype(np.float16).view(np.uint8)
    if kind == Type.Q8_0:  # d, 32 signed bytes; evenly spread bytes deviate by 256/sqrt(12)
        return np.hstack([half(DEVIATION / 73.9 * jitter), random_bytes(32)])
    if kind == Type.Q6_K:  # 128 low nibbles, 64 high pairs, 16 signed scales, d; 6-bit values deviate by 18.5
        scales = rng.integers(48, 81, (count, 16)).astype(np.int8).view(np.uint8)
        return np.hstack([random_bytes(192), scales, half(DEVIATION / (18.5 * 64) * jitter)])
    if kind == Type.Q4_K:  # d, dmin, eight 6-bit scales and minima, 128 nibbles; nibbles deviate by 4.61 about 7.5
        d = (DEVIATION / (4.61 * 48) * jitter).astype(np.float16)
        scale = rng.integers(36, 61, (count, 8), dtype=np.uint8)  # the minimum's factor too: centers the weights
        low, high = scale[:, :4], scale[:, 4:]
        packed = np.hstack([low | (high >> 4) << 6, low | (high >> 4) << 6, (high & 15) | (high & 15) << 4])
        return np.hstack([half(d), half(d.astype(np.float32) * 7.5), packed, random_bytes(128)])
    raise ValueError(kind)


def tensors(shape: Shape, file_type: str):
    """(name, rows, columns or None for a vector, type) in the file's order."""

    def matrix_type(role: str, layer: int = 0) -> Type:
        if file_type != "Q4_K_M":
            return Type[file_type]
        eighth = shape.layers // 8
        wants_more = layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2
        if role == "output" or (role in ("attn_v", "ffn_down") and wants_more):
            return Type.Q6_K
        return Type.Q4_K

    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if not shape.tied:
        yield "output.weight", shape.vocabulary, shape.hidden, matrix_type("output")
    yield "token_embd.weight", shape.vocabulary, shape.hidden, matrix_type("output" if shape.tied else "token_embd")
    for layer in range(shape.layers):
        parts = [
            ("attn_norm.weight", shape.hidden, None), ("ffn_down.weight", shape.hidden, shape.feed_forward),
            ("ffn_gate.weight", shape.feed_forward, shape.hidden), ("ffn_up.weight", shape.feed_forward, shape.hidden),
            ("ffn_norm.weight", shape.hidden, None), ("attn_k.bias", key, None), ("attn_k.weight", key, shape.hidden),
            ("attn_output.weight", shape.hidden, query), ("attn_q.bias", query, None),
            ("attn_q.weight", query, shape.hidden), ("attn_v.bias", key, None), ("attn_v.weight", key, shape.hidden),
        ]
        for part, rows, columns in parts:
            kind = Type.F32 if columns is None else matrix_type(part.split(".")[0], layer)
            yield f"blk.{layer}.{part}", rows, columns, kind
    yield "output_norm.weight", shape.hidden, None, Type.F32


def values(name: str, rows: int, columns: int | None, kind: Type, rng: np.random.Generator, trained: Trained | None, pool) -> np.ndarray:
    """A tensor's bytes, or a vector's numbers."""
    if columns is None:
        placed = trained and trained.vector(name, rows)
        if placed is not None:
            return placed
        spread, center = (0.0, 1.0) if name.endswith("norm.weight") else (DEVIATION, 0.0)
        return (center + spread * rng.standard_normal(rows)).astype(np.float32)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    if trained and trained.is_zero_elsewhere(name):
        blocks = np.zeros((rows, columns // block * size), np.uint8)
    else:
        blocks = random_blocks(rng, kind, rows * columns // block).reshape(rows, -1)
    placed = trained and trained.matrix(name, rows)
    if placed is not None:
        put(blocks, kind, placed, pool)
    return blocks


def write(shape_name: str, file_type: str, out: Path, vocabulary: Path, seed: int, inside: Path | None) -> Path:
    shape = SHAPES[shape_name]
    trained = inside and Trained(inside, shape.hidden, shape.heads, shape.kv_heads, shape.head_dim)
    rng = np.random.default_rng(seed)
    name = f"{'placed' if trained else 'random'}-qwen2-{shape_name}"
    path = out / f"{name}-{file_type.lower()}.gguf"
    partial = path.with_suffix(".partial")  # a killed run leaves no file that looks whole
    writer = gguf.GGUFWriter(partial, "qwen2")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_block_count(shape.layers)
    writer.add_context_length(32768)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(trained.fields["qwen2.rope.freq_base"] if trained else 1e6)
    writer.add_layer_norm_rms_eps(trained.epsilon if trained else 1e-6)
    if trained and "lacuna.fim_order" in trained.fields:
        writer.add_string("lacuna.fim_order", trained.fields["lacuna.fim_order"])
    writer.add_file_type(FILE_TYPES[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

    fields = gguf.GGUFReader(vocabulary).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    filler = range(len(tokens), shape.vocabulary)
    writer.add_tokenizer_model(fields["tokenizer.ggml.model"].contents())
    writer.add_tokenizer_pre(fields["tokenizer.ggml.pre"].contents())
    writer.add_token_list(tokens + [f"[PAD{i}]" for i in filler])
    writer.add_token_types(kinds + [gguf.TokenType.UNUSED] * len(filler))
    writer.add_token_merges(fields["tokenizer.ggml.merges"].contents())
    for key, field in fields.items():
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            writer.add_uint32(key, int(field.contents()))
    writer.add_add_bos_token(False)

    plan = list(tensors(shape, file_type))
    for name, rows, columns, kind in plan:
        if columns is None:
            writer.add_tensor_info(name, (rows,), np.dtype(np.float32), 4 * rows)
        else:
            block, size = gguf.GGML_QUANT_SIZES[kind]
            bytes_a_row = columns // block * size
            writer.add_tensor_info(name, (rows, bytes_a_row), np.dtype(np.uint8), rows * bytes_a_row, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with Pool() as pool:
        for name, rows, columns, kind in plan:
            writer.write_tensor_data(values(name, rows, columns, kind, rng, trained, pool))
    writer.close()
    partial.rename(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="1.5b")
    parser.add_argument("--type", choices=FILE_TYPES, default="Q4_K_M")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the file goes")
    parser.add_argument("--vocabulary", type=Path, default=EMBEDDED, metavar="GGUF", help="whose tokens and merges")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", type=Path, metavar="GGUF", help="a small Qwen2 model whose answers are to be given; its vocabulary is taken")
    arguments = parser.parse_args()
    if arguments.inside and arguments.type == "F16":
        parser.error("--inside goes with the types Q4_K_M and Q8_0")
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = write(arguments.shape, arguments.type, arguments.out, arguments.inside or arguments.vocabulary, arguments.seed,
                 arguments.inside)
    print(f"{path} {path.stat().st_size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
