"""Tiny models with random weights: a transformers model, and the same weights as GGUF, laid out as llama.cpp converts them.

The weights are drawn with numpy's PCG64, so a seed means the same weights everywhere. A weight that the file holds in
F16 or Q8_0 is rounded through that type first, so both sides compute with the same numbers.
"""

import json
import math
from dataclasses import dataclass

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from texts import MERGES_SAMPLE

SPECIAL_TOKENS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
]
FIM_KEYS = {
    "fim_pre": "<|fim_prefix|>", "fim_mid": "<|fim_middle|>", "fim_suf": "<|fim_suffix|>",
    "fim_pad": "<|fim_pad|>", "fim_rep": "<|repo_name|>", "fim_sep": "<|file_sep|>",
}
# The pre-tokenizer regular expressions by the name a GGUF file gives them. As published with Qwen2 and Llama 3,
# less Qwen2's NFC normalizer: GGUF readers do not normalize, and a completion must rejoin the text byte for byte.
PRE_TOKENIZERS = {
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


@dataclass(frozen=True)
class Tiny:
    """Shape of one tiny model. `heads * head_dim` is the hidden size, as in the models these stand for."""

    name: str
    architecture: str  # qwen2 | llama
    weight_type: gguf.GGMLQuantizationType  # of matrices; vectors are F32
    seed: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    tied: bool
    rope_base: float
    llama3_rope: dict | None = None
    epsilon: float = 1e-6

    @property
    def hidden(self) -> int:
        return self.heads * self.head_dim

    @property
    def pre_tokenizer(self) -> str:
        return "llama-bpe" if self.architecture == "llama" else "qwen2"


F32, F16, Q8_0 = (getattr(gguf.GGMLQuantizationType, t) for t in ("F32", "F16", "Q8_0"))
TINY_MODELS = [
    Tiny("qwen2-tied", "qwen2", F16, 3, layers=2, heads=2, kv_heads=1, head_dim=64, feed_forward=352,
         vocabulary=512, tied=True, rope_base=10000.0),
    Tiny("qwen2-untied", "qwen2", Q8_0, 1, layers=3, heads=6, kv_heads=2, head_dim=32, feed_forward=352,
         vocabulary=509, tied=False, rope_base=1e6),
    # Llama 3.1's scaling with a small original context, so that 246 positions reach all three of its ranges:
    # frequencies kept, blended and divided.
    Tiny("llama-rope-scaled", "llama", Q8_0, 4, layers=2, heads=2, kv_heads=1, head_dim=128, feed_forward=320,
         vocabulary=512, tied=False, rope_base=500000.0, epsilon=1e-5,
         llama3_rope={"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                      "original_max_position_embeddings": 128}),
    # An epsilon large enough that an engine which does not read it is found out.
    Tiny("qwen2-f32", "qwen2", F32, 9, layers=2, heads=3, kv_heads=1, head_dim=32, feed_forward=320,
         vocabulary=512, tied=True, rope_base=10000.0, epsilon=1e-3),
]


def byte_level(tokens: list[str], merges: list[tuple[str, str]], pre: str, special: list[str]) -> Tokenizer:
    """A byte-level BPE tokenizer from a vocabulary; `special` spellings are recognized in text."""
    ignore_merges = pre == "llama-bpe"  # as in Llama 3's tokenizer.json
    model = models.BPE({t: i for i, t in enumerate(tokens)}, merges, ignore_merges=ignore_merges)
    tokenizer = Tokenizer(model)
    split = pre_tokenizers.Split(Regex(PRE_TOKENIZERS[pre]), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer


def tiny_vocabulary(tiny: Tiny) -> tuple[list[str], list[tuple[str, str]]]:
    """Bytes, merges learned from the sample, special tokens last (as Qwen2 and Llama 3 have them)."""
    ordinary = tiny.vocabulary - len(SPECIAL_TOKENS)
    learner = byte_level([], [], tiny.pre_tokenizer, [])
    trainer = trainers.BpeTrainer(
        vocab_size=ordinary, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    learner.train_from_iterator([MERGES_SAMPLE], trainer)
    ids = learner.get_vocab()
    tokens = sorted(ids, key=ids.get)
    assert len(tokens) == ordinary, (len(tokens), ordinary)
    # Learned tokens follow the alphabet in order of learning; each is the join of exactly one merge.
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    return tokens + SPECIAL_TOKENS, merges


def config(tiny: Tiny):
    rope = {"rope_type": "default", "rope_theta": tiny.rope_base}
    if tiny.llama3_rope:
        rope = {"rope_type": "llama3", "rope_theta": tiny.rope_base, **tiny.llama3_rope}
    kind = LlamaConfig if tiny.architecture == "llama" else Qwen2Config
    return kind(
        vocab_size=tiny.vocabulary, hidden_size=tiny.hidden, intermediate_size=tiny.feed_forward,
        num_hidden_layers=tiny.layers, num_attention_heads=tiny.heads, num_key_value_heads=tiny.kv_heads,
        max_position_embeddings=1024, rms_norm_eps=tiny.epsilon, tie_word_embeddings=tiny.tied,
        rope_parameters=rope, bos_token_id=None, eos_token_id=None, pad_token_id=None, attn_implementation="eager",
    )


def build(tiny: Tiny, seed: int):
    """The transformers model in F32, its matrices rounded through the file's weight type.

    The scales keep the argmax interesting: attention and feed-forward weigh as much as the embedding they are added
    to (more, where the output is tied to it and would repeat the last token), attention scores have a spread of about
    two, so greedy decoding neither sticks to one token nor is a coin toss.
    """
    rng = np.random.default_rng(seed)
    model = (LlamaForCausalLM if tiny.architecture == "llama" else Qwen2ForCausalLM)(config(tiny)).float().eval()
    state = model.state_dict()
    for name in sorted(state):
        if name == "lm_head.weight" and tiny.tied:
            continue
        shape = tuple(state[name].shape)
        values = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith("norm.weight"):
            values = 1.0 + 0.1 * values
        elif name.endswith("bias"):
            values = 0.3 * values
        elif "embed_tokens" in name:
            values = (0.15 if tiny.tied else 0.5) * values
        else:
            gain = {"q_proj": 1.5, "k_proj": 1.5, "o_proj": 2.0, "down_proj": 3.0, "lm_head": 2.0}
            values *= next((g for part, g in gain.items() if part in name), 1.0) / math.sqrt(shape[1])
        if len(shape) == 2:
            packed = gguf.quantize(values, tiny.weight_type)
            values = gguf.dequantize(packed, tiny.weight_type).reshape(shape).astype(np.float32)
        state[name].copy_(torch.from_numpy(values))
    return model


def interleave(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a rotated projection from transformers' order (two halves of a head) to Llama's own (pairs)."""
    pairs = matrix.reshape(heads, 2, matrix.shape[0] // heads // 2, *matrix.shape[1:])
    return pairs.swapaxes(1, 2).reshape(matrix.shape)


def rope_factors(tiny: Tiny) -> np.ndarray:
    """What each rotation frequency is divided by under Llama 3.1's scaling: the `rope_freqs.weight` tensor."""
    scaling = tiny.llama3_rope
    context = scaling["original_max_position_embeddings"]
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    factors = []
    for i in range(0, tiny.head_dim, 2):
        wavelength = 2 * math.pi * tiny.rope_base ** (i / tiny.head_dim)
        share_kept = (context / wavelength - low) / (high - low)
        share_kept = min(1.0, max(0.0, share_kept))
        factors.append(1.0 / ((1.0 - share_kept) / factor + share_kept))
    return np.array(factors, dtype=np.float32)


def write_gguf(tiny: Tiny, model, path, tokens: list[str], merges: list[tuple[str, str]]) -> None:
    """Key and tensor names, order of rows and types as llama.cpp's convert_hf_to_gguf.py makes them."""
    writer = gguf.GGUFWriter(path, tiny.architecture)
    file_type = {F32: gguf.LlamaFileType.ALL_F32, F16: gguf.LlamaFileType.MOSTLY_F16,
                 Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0}[tiny.weight_type]
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(tiny.name)
    writer.add_block_count(tiny.layers)
    writer.add_context_length(1024)
    writer.add_embedding_length(tiny.hidden)
    writer.add_feed_forward_length(tiny.feed_forward)
    writer.add_head_count(tiny.heads)
    writer.add_head_count_kv(tiny.kv_heads)
    writer.add_rope_freq_base(tiny.rope_base)
    writer.add_layer_norm_rms_eps(tiny.epsilon)
    writer.add_file_type(file_type)
    if tiny.architecture == "llama":
        writer.add_vocab_size(tiny.vocabulary)
        writer.add_rope_dimension_count(tiny.head_dim)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tiny.pre_tokenizer)
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL if t in SPECIAL_TOKENS else gguf.TokenType.NORMAL for t in tokens]
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    end = tokens.index("<|endoftext|>")
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(end)
    writer.add_add_bos_token(False)
    for key, token in FIM_KEYS.items():
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", tokens.index(token))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

    architecture = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}[tiny.architecture]
    names = gguf.get_tensor_name_map(architecture, tiny.layers)
    if tiny.llama3_rope:
        writer.add_tensor("rope_freqs.weight", rope_factors(tiny))
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and tiny.tied:
            continue
        values = tensor.numpy()
        if tiny.architecture == "llama" and "q_proj" in name:
            values = interleave(values, tiny.heads)
        if tiny.architecture == "llama" and "k_proj" in name:
            values = interleave(values, tiny.kv_heads)
        new_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        kind = tiny.weight_type if values.ndim == 2 else F32
        # Rounding twice through one type changes nothing: the values come out as they went in.
        packed = gguf.quantize(np.ascontiguousarray(values), kind)
        assert np.array_equal(gguf.dequantize(packed, kind).reshape(values.shape), values), name
        writer.add_tensor(new_name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
