"""GGUF v3: reading metadata and tensors, writing a model with its tokenizer inside, and the tokenizer back out of it."""
import json
import os
import struct
from multiprocessing import get_context

import numpy as np

import kquants

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TENSOR_TYPES = {"F32": 0, "F16": 1, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "BF16": 30}
TYPE_NAMES = {number: name for name, number in TENSOR_TYPES.items()}
FILE_TYPES = {"Q8_0": 7, "Q4_K": 14, "Q5_K": 16, "Q6_K": 18}  # llama.cpp's names for "mostly" this type
# Qwen2's pre-tokenizer, which the key `tokenizer.ggml.pre = qwen2` stands for.
PRE_TOKENIZER = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
                 r"\s+(?!\S)|\s+")


class Reader:
    """Metadata as a dict, and tensors as (type name, shape with rows first, raw bytes)."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.raw = file.read()
        if self.raw[:4] != b"GGUF":
            raise ValueError(f"{path} is not a GGUF file")
        self.at, self.metadata, self.infos = 24, {}, {}
        _, tensors, keys = struct.unpack_from("<IQQ", self.raw, 4)
        for _ in range(keys):
            key = self._string()
            self.metadata[key] = self._value(self._scalar(4))
        for _ in range(tensors):
            name, rank = self._string(), self._scalar(4)
            shape = [self._scalar(10) for _ in range(rank)][::-1]
            self.infos[name] = (TYPE_NAMES[self._scalar(4)], shape, self._scalar(10))
        alignment = self.metadata.get("general.alignment", 32)
        self.data = -(-self.at // alignment) * alignment

    def _scalar(self, kind):
        value = struct.unpack_from(SCALARS[kind], self.raw, self.at)[0]
        self.at += struct.calcsize(SCALARS[kind])
        return value

    def _string(self):
        length = self._scalar(10)
        self.at += length
        return self.raw[self.at - length:self.at].decode("utf-8")

    def _value(self, kind):
        if kind == 8:
            return self._string()
        if kind == 9:
            inner, length = self._scalar(4), self._scalar(10)
            return [self._value(inner) for _ in range(length)]
        return self._scalar(kind)

    def tensor(self, name):
        """float32 array of a tensor."""
        kind, shape, offset = self.infos[name]
        count, start = int(np.prod(shape)), self.data + offset
        if kind == "F32":
            return np.frombuffer(self.raw, np.float32, count, start).reshape(shape)
        if kind == "F16":
            return np.frombuffer(self.raw, np.float16, count, start).reshape(shape).astype(np.float32)
        size = count // (32 if kind == "Q8_0" else 256) * kquants.BLOCK_BYTES[kind]
        return kquants.dequantize(self.raw[start:start + size], kind, shape)


def tokenizer_json(metadata):
    """The `tokenizers` file of a GGUF with a byte-level BPE vocabulary."""
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    special = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
               for i, t in enumerate(tokens) if types[i] == 3]
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PRE_TOKENIZER}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens)}, "merges": [m.split(" ") for m in metadata["tokenizer.ggml.merges"]]}})


NAMES = {"norm1": "attn_norm.weight", "norm2": "ffn_norm.weight", "out": "attn_output.weight", "down": "ffn_down.weight"}


def tensors_of(model):
    """GGUF tensor name -> float32 array: the fused projections are taken apart."""
    c, kv = model.c, model.c.kv_heads * model.c.head
    numpy = lambda p: p.detach().float().cpu().numpy()
    found = {"token_embd.weight": numpy(model.embedding), "output_norm.weight": numpy(model.norm)}
    for i, block in enumerate(model.blocks):
        for ours, theirs in NAMES.items():
            found[f"blk.{i}.{theirs}"] = numpy(getattr(block, ours))
        qkv, bias, gate_up = numpy(block.qkv), numpy(block.qkv_bias), numpy(block.gate_up)
        for name, a, b in (("q", 0, c.width), ("k", c.width, c.width + kv), ("v", c.width + kv, c.width + 2 * kv)):
            found[f"blk.{i}.attn_{name}.weight"], found[f"blk.{i}.attn_{name}.bias"] = qkv[a:b], bias[a:b]
        found[f"blk.{i}.ffn_gate.weight"], found[f"blk.{i}.ffn_up.weight"] = gate_up[:c.ffn], gate_up[c.ffn:]
    return found


def load_into(model, tensors):
    """The inverse of `tensors_of`; `tensors` is a callable from name to array."""
    import torch
    put = lambda parameter, array: parameter.data.copy_(torch.from_numpy(np.array(array, np.float32)))
    put(model.embedding, tensors("token_embd.weight"))
    put(model.norm, tensors("output_norm.weight"))
    for i, block in enumerate(model.blocks):
        for ours, theirs in NAMES.items():
            put(getattr(block, ours), tensors(f"blk.{i}.{theirs}"))
        put(block.qkv, np.concatenate([tensors(f"blk.{i}.attn_{n}.weight") for n in "qkv"]))
        put(block.qkv_bias, np.concatenate([tensors(f"blk.{i}.attn_{n}.bias") for n in "qkv"]))
        put(block.gate_up, np.concatenate([tensors(f"blk.{i}.ffn_{n}.weight") for n in ("gate", "up")]))
    return model


def config_of(metadata):
    from model import Config
    key = lambda name: metadata["qwen2." + name]
    return Config(vocabulary=len(metadata["tokenizer.ggml.tokens"]), width=key("embedding_length"), layers=key("block_count"),
                  heads=key("attention.head_count"), kv_heads=key("attention.head_count_kv"), ffn=key("feed_forward_length"),
                  context=key("context_length"), theta=key("rope.freq_base"), epsilon=key("attention.layer_norm_rms_epsilon"))


def load_model(path):
    """(model, metadata) of a GGUF file; quantized weights are decoded to float32."""
    from model import Model
    reader = Reader(path)
    return load_into(Model(config_of(reader.metadata)), reader.tensor), reader.metadata


def _encode(job):
    name, array, kind, importance = job
    if kind == "F32":
        return name, np.ascontiguousarray(array, np.float32).tobytes()
    return name, kquants.quantize(array, kind, importance)


def write(path, tensors, kind_of, metadata, importance=None, processes=1):
    """Writes `tensors` with the type that `kind_of(name, array)` names. `metadata`: (key, type number, value) rows."""
    string = lambda s: struct.pack("<Q", len(s.encode())) + s.encode()

    def value(kind, content):
        if kind == 8:
            return string(content)
        if kind == 9:
            inner, items = content
            return struct.pack("<IQ", inner, len(items)) + b"".join(value(inner, item) for item in items)
        return struct.pack(SCALARS[kind], content)

    jobs = [(n, a, kind_of(n, a), (importance or {}).get(n)) for n, a in sorted(tensors.items())]
    if processes > 1:
        with get_context("fork").Pool(processes) as pool:
            blobs = dict(pool.imap_unordered(_encode, jobs, chunksize=1))
    else:
        blobs = dict(map(_encode, jobs))
    infos, body, offset = [], [], 0
    for name, array, kind, _ in jobs:
        shape = array.shape[::-1]
        infos.append(string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, TENSOR_TYPES[kind], offset))
        blob = blobs[name] + b"\0" * (-len(blobs[name]) % 32)
        body.append(blob)
        offset += len(blob)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(metadata))
    head += b"".join(string(key) + struct.pack("<I", kind) + value(kind, content) for key, kind, content in metadata) + b"".join(infos)
    with open(path + ".tmp", "wb") as file:
        file.write(head + b"\0" * (-len(head) % 32) + b"".join(body))
    os.replace(path + ".tmp", path)
    return os.path.getsize(path)


def metadata_for(config, tokens, token_types, merges, kind):
    """The keys of Lacuna's embedded model."""
    rows = [("general.architecture", 8, "qwen2"), ("general.type", 8, "model"), ("general.name", 8, "lacuna-embedded"),
            ("general.license", 8, "apache-2.0"), ("general.file_type", 4, FILE_TYPES[kind]), ("general.quantization_version", 4, 2),
            ("lacuna.fim_order", 8, "spm")]
    for key, kind_number, content in (
            ("block_count", 4, config.layers), ("context_length", 4, config.context), ("embedding_length", 4, config.width),
            ("feed_forward_length", 4, config.ffn), ("attention.head_count", 4, config.heads), ("attention.head_count_kv", 4, config.kv_heads),
            ("rope.freq_base", 6, config.theta), ("attention.layer_norm_rms_epsilon", 6, config.epsilon)):
        rows.append(("qwen2." + key, kind_number, content))
    rows += [("tokenizer.ggml.model", 8, "gpt2"), ("tokenizer.ggml.pre", 8, "qwen2"), ("tokenizer.ggml.tokens", 9, (8, tokens)),
             ("tokenizer.ggml.token_type", 9, (5, token_types)), ("tokenizer.ggml.merges", 9, (8, merges))]
    for name, number in (("bos", 0), ("eos", 0), ("padding", 4), ("fim_pre", 1), ("fim_mid", 2), ("fim_suf", 3), ("fim_pad", 4),
                         ("fim_rep", 5), ("fim_sep", 6)):
        rows.append((f"tokenizer.ggml.{name}_token_id", 4, number))
    return rows + [("tokenizer.ggml.add_bos_token", 7, False)]
