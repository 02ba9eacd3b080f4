#!/usr/bin/env python3
"""A second witness for the references: llama.cpp reads the same GGUF files and must agree with what is recorded.

    VENV/bin/pip install llama-cpp-python==0.3.36 gguf==0.19.0      # any llama.cpp of 2025 or later will do
    VENV/bin/python check_with_llama_cpp.py

Keys, tensor names, row order and rotary scaling in the fixtures are thereby those that llama.cpp understands, and
greedy decoding agrees between two engines that share no code. The weights are widened to F32 first and the KV cache is
F32, because llama.cpp otherwise rounds activations to the weights' type. Tokenizers are compared too, on every string.
"""

import ctypes
import json
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp as api
import numpy as np

HERE = Path(__file__).resolve().parent
CRATE = HERE.parent.parent
TOLERANCE = 1e-3


def model_path(record: dict) -> Path:
    beside = HERE / "recorded" / record["model"]
    return beside if beside.exists() else CRATE / record["model"]


def widen(path: Path, out: Path) -> None:
    """The same file with every tensor in F32."""
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=element)
    for tensor in reader.tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).reshape(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Engine:
    def __init__(self, path: Path, vocabulary_only: bool):
        parameters = api.llama_model_default_params()
        parameters.n_gpu_layers = 0
        parameters.vocab_only = vocabulary_only
        self.model = api.llama_model_load_from_file(str(path).encode(), parameters)
        assert self.model, f"llama.cpp cannot load {path}"
        self.vocabulary = api.llama_model_get_vocab(self.model)
        self.size = api.llama_vocab_n_tokens(self.vocabulary)
        if vocabulary_only:
            return
        parameters = api.llama_context_default_params()
        parameters.n_ctx = 512
        parameters.n_batch = 512
        parameters.type_k = parameters.type_v = gguf.GGMLQuantizationType.F32.value
        parameters.flash_attn_type = 0  # disabled
        parameters.n_threads = parameters.n_threads_batch = 1
        self.context = api.llama_init_from_model(self.model, parameters)
        assert self.context

    def decode(self, tokens: list[int], start: int) -> np.ndarray:
        """Logits after each of `tokens`, which begin at position `start`."""
        batch = api.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, start + i, 1, 1
            batch.seq_id[i][0] = 0
        assert api.llama_decode(self.context, batch) == 0
        rows = [np.ctypeslib.as_array(api.llama_get_logits_ith(self.context, i), shape=(self.size,)).copy()
                for i in range(len(tokens))]
        api.llama_batch_free(batch)
        return np.stack(rows)

    def tokenize(self, text: str, special: bool) -> list[int]:
        data = text.encode()
        room = (api.llama_token * (len(data) + 8))()
        count = api.llama_tokenize(self.vocabulary, data, len(data), room, len(room), False, special)
        return room[:count]


def check_model(record: dict, directory: Path) -> bool:
    wide = directory / "wide.gguf"
    widen(model_path(record), wide)
    engine = Engine(wide, vocabulary_only=False)
    table = np.fromfile(HERE / "recorded" / record["logits"], "<f4").reshape(-1, record["vocabulary"])
    good = True
    for case in record["cases"]:
        api.llama_memory_clear(api.llama_get_memory(engine.context), True)
        prompt, tokens = case["prompt"], case["tokens"]
        logits = list(engine.decode(prompt, 0))
        mine = [int(logits[-1].argmax())]
        while len(mine) < len(tokens):
            logits += list(engine.decode(mine[-1:], len(prompt) + len(mine) - 1))
            mine.append(int(logits[-1].argmax()))
        agreed = next((i for i, (a, b) in enumerate(zip(mine, tokens)) if a != b), len(tokens))
        errors = [np.abs(logits[r["position"]] - table[r["row"]]).max() / np.abs(table[r["row"]]).max()
                  for r in case["rows"] if r["position"] < len(prompt) + agreed]
        fine = agreed == len(tokens) and max(errors) < TOLERANCE
        good &= fine
        print(f"{record['model']:26} {case['name']:12} greedy {agreed}/{len(tokens)}, worst relative error of a logit"
              f" {max(errors):.1e}{'' if fine else '  DISAGREES'}")
    return good


def check_tokenizer(record: dict) -> bool:
    engine = Engine(model_path(record), vocabulary_only=True)
    good = True
    for case in record["cases"]:
        for key, special in (("ids", False), ("ids_with_special", True)):
            ids = engine.tokenize(case["text"], special)
            if ids != case[key]:
                good = False
                print(f"{record['model']} {case['text']!r} {key}: llama.cpp {ids}, recorded {case[key]}")
    print(f"{record['model']:26} tokenizer: {len(record['cases'])} strings {'agree' if good else 'compared'}")
    return good


def main() -> None:
    quiet = api.llama_log_callback(lambda level, text, data: None)
    api.llama_log_set(quiet, ctypes.c_void_p(0))
    api.llama_backend_init()
    good = True
    with tempfile.TemporaryDirectory() as directory:
        for path in sorted((HERE / "recorded").glob("*.json")):
            record = json.loads(path.read_text())
            if path.name.startswith("tokenizer-"):
                good &= check_tokenizer(record)
            else:
                good &= check_model(record, Path(directory))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
