"""Trained weights to the shipped file: measures column importance, quantizes by a named mix, reports sizes and losses."""
import argparse
import json
import os

import numpy as np
import torch
import torch.nn.functional as F

import gguf_file
from model import rms_norm
from train import held_out_loss

LIMIT = 32 * 2 ** 20
WIDE = ("attn_v.weight", "ffn_down.weight")


def mixes(layers):
    """Name -> (base type, function from tensor name to type). Embedding and output share one tensor: it keeps 6 bits."""
    def uniform(base, embedding="Q6_K"):
        return base, lambda name: embedding if name == "token_embd.weight" else base

    def raised(base, count, better="Q6_K"):
        """`better` for the values and the down projections of the first and last layers, `count` layers in all."""
        chosen = set(sorted(range(layers), key=lambda i: min(i, layers - 1 - i))[:count])
        def kind(name):
            if name == "token_embd.weight":
                return "Q6_K"
            layer = int(name.split(".")[1])
            return better if layer in chosen and name.endswith(WIDE) else base
        return base, kind

    return {"q4_k": uniform("Q4_K"), "q4_k_m": raised("Q4_K", layers), "q5_k": uniform("Q5_K"), "q5_k_m": raised("Q5_K", max(1, layers * 2 // 3)),
            "q6_k": uniform("Q6_K"), "q8_0": uniform("Q8_0", "Q8_0")}


@torch.no_grad()
def importance(model, rows, device):
    """Mean square of the input of every matrix, by GGUF tensor name."""
    c, sums = model.c, {}

    def note(name, x):
        square = x.float().pow(2).mean(dim=tuple(range(x.ndim - 1)))
        sums[name] = sums.get(name, 0) + square.cpu().numpy()

    for at in range(0, len(rows), 8):
        ids = torch.from_numpy(rows[at:at + 8, :-1].astype(np.int64)).to(device)
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        x, length = F.embedding(ids, model.embedding).to(dtype), ids.shape[1]
        cos, sin = model.cos[:length].to(dtype), model.sin[:length].to(dtype)
        for i, block in enumerate(model.blocks):
            normed = rms_norm(x, block.norm1, c.epsilon)
            for name in "qkv":
                note(f"blk.{i}.attn_{name}.weight", normed)
            q, k, v = block.heads(x, cos, sin)
            repeat = c.heads // c.kv_heads
            attended = F.scaled_dot_product_attention(q, k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1), is_causal=True)
            flat = attended.transpose(1, 2).reshape(*ids.shape, -1)
            note(f"blk.{i}.attn_output.weight", flat)
            x = x + F.linear(flat, block.out.to(dtype))
            normed = rms_norm(x, block.norm2, c.epsilon)
            note(f"blk.{i}.ffn_gate.weight", normed)
            note(f"blk.{i}.ffn_up.weight", normed)
            gate, up = F.linear(normed, block.gate_up.to(dtype)).chunk(2, -1)
            note(f"blk.{i}.ffn_down.weight", F.silu(gate) * up)
            x = x + F.linear(F.silu(gate) * up, block.down.to(dtype))
        note("token_embd.weight", rms_norm(x, model.norm, c.epsilon))
    return sums


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trained", required=True, help="trained.gguf of train.py (F32)")
    parser.add_argument("--rows", required=True, help="rows for importance and loss, such as held.npz of the training run")
    parser.add_argument("--output", required=True, help="folder for the files and quantization.json")
    parser.add_argument("--mix", nargs="*", default=["q4_k", "q4_k_m", "q5_k", "q5_k_m", "q6_k"])
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--no-importance", action="store_true")
    arguments = parser.parse_args()
    os.makedirs(arguments.output, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, metadata = gguf_file.load_model(arguments.trained)
    # Copied before anything touches the device, so that the quantizing processes can be forked from plain memory.
    tensors = {name: array.copy() for name, array in gguf_file.tensors_of(model).items()}
    model = model.to(device)
    with np.load(arguments.rows) as z:
        rows = z["ids"]
    # Importance from rows that the loss below is not measured on.
    columns = None if arguments.no_importance else importance(model, rows[-48:], device)
    report = {"trained": {"bytes": None, "loss": held_out_loss(model, arguments.rows, device, most=96)}}
    print("trained", report["trained"]["loss"], flush=True)
    tokens, types, merges = (metadata[f"tokenizer.ggml.{k}"] for k in ("tokens", "token_type", "merges"))
    for mix in arguments.mix:
        base, kind = mixes(model.c.layers)[mix]
        path = f"{arguments.output}/{mix}.gguf"
        size = gguf_file.write(path, tensors, lambda name, array: "F32" if array.ndim == 1 else kind(name),
                               gguf_file.metadata_for(model.c, tokens, types, merges, base), columns, arguments.processes)
        quantized, _ = gguf_file.load_model(path)
        loss = held_out_loss(quantized.to(device), arguments.rows, device, most=96)
        cost = {k: round(loss[k] - report["trained"]["loss"][k], 4) for k in loss}
        report[mix] = {"bytes": size, "fits": size <= LIMIT, "loss": loss, "cost": cost}
        print(mix, f"{size / 2**20:.2f} MiB", "fits" if size <= LIMIT else "too large", loss, "cost", cost, flush=True)
        with open(f"{arguments.output}/quantization.json", "w") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
