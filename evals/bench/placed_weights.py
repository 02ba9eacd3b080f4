"""A small trained Qwen2 model's weights, placed inside a larger Qwen2 shape so that the larger model computes what the small one does.

Speed depends on shapes, but how many guesses a speculating decoder gets right depends on what the model says. A real shape
whose answers are a trained model's shows both at once, where no trained weights of that shape are at hand.

Hidden values beyond the small model's are zero: the rows of `attn_output`, `ffn_down` and the embedding that would fill them are
zero, and so are both in the layers that the small model lacks. Everything else stays random and is computed in full. What
changes on the way:

- The root mean square is over more values, most of them zero: norms' weights and epsilon are scaled.
- A head of twice the length turns dimension 2i by the angle of the small head's i: queries and keys are spread over even
  dimensions. Scores are divided by the root of the longer length: queries are scaled.
- Words that the small model lacks get the output row of its padding token, which it never says.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "inference" / "embedded" / "recipe"))
import kquants  # noqa: E402

# Rows quantized at a time, by one process.
CHUNK = 256


@dataclass(frozen=True)
class Placed:
    """Values for some rows and columns of a matrix; the other columns of a block that holds one of them are zero."""

    rows: np.ndarray
    columns: np.ndarray
    # One row of `values` for each of `sources`' numbers.
    values: np.ndarray
    sources: np.ndarray | None = None


class Trained:
    """The small model. Shapes are rows x columns."""

    def __init__(self, path: Path, hidden: int, heads: int, kv_heads: int, head_dim: int):
        reader = gguf.GGUFReader(path)
        self.fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("tokenizer.")}
        self.padding = int(reader.fields["tokenizer.ggml.padding_token_id"].contents())
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.hidden, self.heads, self.kv_heads, self.head_dim = hidden, heads, kv_heads, head_dim
        number = lambda key: int(self.fields[f"qwen2.{key}"])  # noqa: E731
        self.small_hidden = number("embedding_length")
        self.small_heads, self.small_kv_heads = number("attention.head_count"), number("attention.head_count_kv")
        self.small_head_dim = self.small_hidden // self.small_heads
        if head_dim != 2 * self.small_head_dim or self.small_kv_heads > kv_heads or self.group > heads // kv_heads:
            raise SystemExit(f"{path} does not fit: heads must be half as long, and no more of them to a key than the shape has")

    @property
    def group(self) -> int:
        return self.small_heads // self.small_kv_heads

    @property
    def norm_scale(self) -> float:
        return (self.small_hidden / self.hidden) ** 0.5

    @property
    def epsilon(self) -> float:
        return float(self.fields["qwen2.attention.layer_norm_rms_epsilon"]) * self.small_hidden / self.hidden

    def weight(self, name: str) -> np.ndarray:
        tensor = self.tensors[name]
        return gguf.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1]).astype(np.float32)

    def rotated(self, heads: np.ndarray) -> np.ndarray:
        """Where the dimensions of queries' and keys' heads go, which are turned in pairs half a head apart."""
        half = self.small_head_dim // 2
        dimension = np.arange(self.small_head_dim)
        spread = np.where(dimension < half, 2 * dimension, self.head_dim // 2 + 2 * (dimension - half))
        return (heads[:, None] * self.head_dim + spread).reshape(-1)

    def straight(self, heads: np.ndarray) -> np.ndarray:
        """The same for values, which are not turned."""
        return (heads[:, None] * self.head_dim + np.arange(self.small_head_dim)).reshape(-1)

    @property
    def query_heads(self) -> np.ndarray:
        each = np.arange(self.small_heads)
        return each // self.group * (self.heads // self.kv_heads) + each % self.group

    def vector(self, name: str, size: int) -> np.ndarray | None:
        """A norm's weights or a bias of the larger shape, or `None` where the small model has no say."""
        role = name.split(".")[-2]
        if name not in self.tensors:
            return None
        small = self.weight(name)
        if role.endswith("norm"):
            out = np.ones(size, np.float32)
            out[: len(small)] = small * self.norm_scale
            return out
        out = np.zeros(size, np.float32)
        out[self.places(role)] = small * self.scale(role)
        return out

    def places(self, role: str) -> np.ndarray:
        kv = np.arange(self.small_kv_heads)
        return {"attn_q": lambda: self.rotated(self.query_heads), "attn_k": lambda: self.rotated(kv),
                "attn_v": lambda: self.straight(kv)}[role]()

    @staticmethod
    def scale(role: str) -> float:
        return 2**0.5 if role == "attn_q" else 1.0

    def is_zero_elsewhere(self, name: str) -> bool:
        return name.split(".")[-2] in ("attn_output", "ffn_down", "token_embd")

    def matrix(self, name: str, rows: int) -> Placed | None:
        role = name.split(".")[-2]
        hidden = np.arange(self.small_hidden)
        if role in ("token_embd", "output"):
            values = self.weight("token_embd.weight")
            which = np.where(np.arange(rows) < len(values), np.arange(rows), self.padding)
            return Placed(np.arange(rows), hidden, values, which)
        if name not in self.tensors:
            return None
        small = self.weight(name)
        if role in ("attn_q", "attn_k", "attn_v"):
            return Placed(self.places(role), hidden, small * self.scale(role))
        if role == "attn_output":
            return Placed(hidden, self.straight(self.query_heads), small)
        if role == "ffn_down":
            return Placed(hidden, np.arange(small.shape[1]), small)
        return Placed(np.arange(len(small)), hidden, small)


def put(blocks: np.ndarray, kind: Type, placed: Placed, pool) -> None:
    """Writes `placed`, quantized, over `blocks` (rows x bytes of the whole matrix)."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    touched = np.unique(placed.columns // block)
    dense = np.zeros((len(placed.values), len(touched) * block), np.float32)
    dense[:, np.searchsorted(touched, placed.columns // block) * block + placed.columns % block] = placed.values
    jobs = [(dense[at : at + CHUNK], kind.name) for at in range(0, len(dense), CHUNK)]
    packed = np.frombuffer(b"".join(pool.starmap(kquants.quantize, jobs)), np.uint8).reshape(len(dense), len(touched), size)
    sources = np.arange(len(dense)) if placed.sources is None else placed.sources
    for index, column in enumerate(touched):
        blocks[placed.rows, column * size : (column + 1) * size] = packed[sources, index]
