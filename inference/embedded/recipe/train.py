"""Trains the model in stretches that checkpoint and resume; starts samples.py as its data service.

On several GPUs of one machine it runs under torchrun: each process takes its share of every part's rows, gradients are summed,
and all take the same step. The schedule is a share of the training time, summed over all stretches: of --total-seconds, or of
what this stretch has.
"""
import argparse
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

import gguf_file
import optimizer
from filters import PAD
from model import Config, Model, causal_attention
from samples import WEIGHT

HERE = os.path.dirname(os.path.abspath(__file__))
BEGAN = time.time()
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
# Steps between two looks at the clock, which all processes have to agree on.
STEPS_BETWEEN = 10


def log(*words):
    if RANK == 0:
        print(f"[{time.time() - BEGAN:6.1f}s]", *words, flush=True)


def summed(tensor):
    """The sum over all processes, in place."""
    if WORLD > 1:
        dist.all_reduce(tensor)
    return tensor


def agreed(value, device):
    """The first process's value, in all of them."""
    shared = torch.tensor([float(value)], dtype=torch.float64, device=device)
    if WORLD > 1:
        dist.broadcast(shared, 0)
    return float(shared)


class Feed:
    """This process's share of the rows from the data service. The next part is read while this one is used."""

    def __init__(self, work, first, is_running, device):
        self.work, self.part, self.is_running, self.device = work, first, is_running, device
        self.rows, self.at, self.waited, self.next = None, 0, 0.0, None
        self._read_ahead()

    def _read(self, part):
        path = f"{self.work}/part-{part}.npz"
        while not os.path.exists(path):
            if not self.is_running():
                return
            time.sleep(0.05)
        with np.load(path) as z:
            share = slice(RANK, len(z["ids"]) // WORLD * WORLD, WORLD)
            self.next = [torch.from_numpy(z["ids"][share].astype(np.int16)), torch.from_numpy(z["weights"][share]),
                         torch.from_numpy(z["numbers"][share])]

    def _read_ahead(self):
        self.next = None
        self.reader = threading.Thread(target=self._read, args=(self.part,), daemon=True)
        self.reader.start()

    def load(self):
        began = time.time()
        self.reader.join()
        self.waited += time.time() - began
        if self.next is None:
            raise RuntimeError("the data service ended: see data.log")
        self.rows, self.at, self.part = [r.to(self.device) for r in self.next], 0, self.part + 1
        if RANK == 0:
            # What is two parts back has been read by all: a step of every process lies between.
            if os.path.exists(f"{self.work}/part-{self.part - 3}.npz"):
                os.remove(f"{self.work}/part-{self.part - 3}.npz")
            with open(f"{self.work}/cursor.tmp", "w") as file:
                file.write(str(self.part - 1))
            os.replace(f"{self.work}/cursor.tmp", f"{self.work}/cursor")
        self._read_ahead()

    def take(self, count):
        while self.rows is None or self.at + count > len(self.rows[0]):
            self.load()
        self.at += count
        return [r[self.at - count:self.at] for r in self.rows]


class DocumentMask:
    """Attention within each packed document only, by flex attention over a mask that is rebuilt for every micro-batch."""

    def __init__(self, rows, context, device):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        self.numbers = torch.zeros(rows, context, dtype=torch.int32, device=device)
        self.make, self.attend = torch.compile(create_block_mask), flex_attention
        self.shape = (rows, None, context, context)

    def mask(self, numbers):
        self.numbers.copy_(numbers)
        seen = self.numbers

        def visible(b, h, q, k):
            return (q >= k) & (seen[b, q] == seen[b, k])

        return self.make(visible, *self.shape, device=str(self.numbers.device))


class Trainer:
    def __init__(self, model, arguments, device):
        self.model, self.arguments, self.device, self.documents = model, arguments, device, None
        self.rows = arguments.rows

    def _random(self):
        c, numbers = self.model.c, torch.arange(self.arguments.context, device=self.device) // 600 + 1
        ids = torch.randint(7, c.vocabulary, (self.rows, self.arguments.context + 1), device=self.device)
        return ids, torch.ones_like(ids, dtype=torch.float32), numbers.expand(self.rows, -1)

    def _documents_step(self, ids, weights, numbers):
        return self.masked(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), weights[:, 1:].contiguous(), self.documents.mask(numbers))

    def _causal_step(self, ids, weights, numbers):
        return self.plain(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), weights[:, 1:].contiguous())

    def warm_up(self):
        """Compiles both attentions and keeps the document mask unless it fails or costs more than a fifth of the speed."""
        compiled = not self.arguments.no_compile
        self.plain = torch.compile(self.model, dynamic=False) if compiled else self.model
        speeds = {}
        if compiled and not self.arguments.causal:
            try:
                self.documents = DocumentMask(self.rows, self.arguments.context, self.device)
                attend = self.documents.attend
                model = self.model
                self.masked = torch.compile(lambda x, y, w, m: model(x, y, w, lambda q, k, v: attend(q, k, v, block_mask=m)), dynamic=False)
                speeds["documents"] = self._speed(self._documents_step)
            except Exception as error:
                log("document mask is not available:", repr(error)[:600])
                torch._dynamo.reset()
                self.plain = torch.compile(self.model, dynamic=False)
        if "documents" not in speeds or self.arguments.compare:
            speeds["causal"] = self._speed(self._causal_step)
        log("seconds for a micro-batch", speeds)
        self.step = self._documents_step
        if "documents" not in speeds or speeds["documents"] > 1.25 * speeds.get("causal", 9e9):
            self.step, self.documents = self._causal_step, None
        log("attention:", "document mask" if self.documents else "causal")

    def _speed(self, step):
        for n in range(6):
            if n == 3:
                self._wait()
                began = time.time()
            ids, weights, numbers = self._random()
            (step(ids, weights, numbers) / ids.numel()).backward()
        self._wait()
        self.model.zero_grad(set_to_none=True)
        return round((time.time() - began) / 3, 4)

    def _wait(self):
        if self.device != "cpu":
            torch.cuda.synchronize()


@torch.no_grad()
def held_out_loss(model, path, device, most=64, batch=16):
    """Mean loss in nats on rows from held-out packages: all tokens, middles, and the end of middles."""
    with np.load(path) as z:
        ids, weights = z["ids"][:most].astype(np.int64), z["weights"][:most]
    sums = {}
    for at in range(0, len(ids), batch):
        x = torch.from_numpy(ids[at:at + batch]).to(device)
        w = torch.from_numpy(weights[at:at + batch]).to(device)[:, 1:]
        h = model.hidden(x[:, :-1], torch.bfloat16 if device != "cpu" else torch.float32)
        losses = F.cross_entropy(F.linear(h, model.embedding.to(h.dtype)).float().transpose(1, 2), x[:, 1:], reduction="none")
        for name, chosen in (("all", w > 0), ("text", w == WEIGHT["text"]), ("middle", w == WEIGHT["middle"]), ("end", w == WEIGHT["end"])):
            total, count = sums.get(name, (0.0, 0))
            sums[name] = (total + float(losses[chosen].sum()), count + int(chosen.sum()))
    return {name: round(total / max(1, count), 4) for name, (total, count) in sums.items()}


def start_service(arguments, tokenizer, part):
    work = arguments.work
    with open(f"{work}/cursor", "w") as file:
        file.write(str(part))
    for name in ("stop", "done"):
        if os.path.exists(f"{work}/{name}"):
            os.remove(f"{work}/{name}")
    return subprocess.Popen([sys.executable, f"{HERE}/samples.py", "--work", work, "--shards", arguments.shards, "--tokenizer", tokenizer,
                             "--context", str(arguments.context), "--start-part", str(part), *arguments.data_arguments.split()],
                            stdout=open(f"{work}/data.log", "a"), stderr=subprocess.STDOUT)


def train(arguments, device):
    work = arguments.work
    resumed = torch.load(f"{work}/checkpoint.pt", map_location=device, weights_only=False) if os.path.exists(f"{work}/checkpoint.pt") else None
    part = resumed["part"] if resumed else 0
    reader = gguf_file.Reader(arguments.tokenizer_from)
    if RANK > 0:
        return run(arguments, device, reader, lambda: not os.path.exists(f"{work}/stop"), resumed, part)
    tokenizer = f"{work}/tokenizer.json"
    with open(tokenizer, "w", encoding="utf-8") as file:
        file.write(gguf_file.tokenizer_json(reader.metadata))
    service = start_service(arguments, tokenizer, part)
    try:
        run(arguments, device, reader, lambda: service.poll() is None, resumed, part)
    finally:
        open(f"{work}/stop", "w").close()
        service.terminate()


class Gradients:
    """All gradients of a model in one buffer, so that one sum over the processes is enough."""

    def __init__(self, model):
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.flat = torch.zeros(sum(p.numel() for p in self.parameters), device=self.parameters[0].device)
        at = 0
        for parameter in self.parameters:
            parameter.grad = self.flat[at:at + parameter.numel()].view_as(parameter)
            at += parameter.numel()


def state_of(model, muon, adam, **more):
    return {"model": model.state_dict(), "muon": muon.buffers, "adam": adam.state_dict(), **more}


def save(state, work):
    torch.save(state, f"{work}/checkpoint.tmp")
    os.replace(f"{work}/checkpoint.tmp", f"{work}/checkpoint.pt")


def run(arguments, device, reader, is_running, resumed, part):
    work = arguments.work
    config = Config(vocabulary=len(reader.metadata["tokenizer.ggml.tokens"]), width=arguments.width, layers=arguments.layers,
                    heads=arguments.width // 64, kv_heads=2, ffn=arguments.ffn, context=2048)
    if arguments.initial:
        model, _ = gguf_file.load_model(arguments.initial)
        log("initial weights from", arguments.initial)
    else:
        model = Model(config)
    model = model.to(device)
    log(f"{model.count() / 1e6:.1f}M parameters on {WORLD} x {device}")
    muon, adam = optimizer.build(model, arguments.adam_rate, arguments.decay)
    step, tokens, used = 0, 0, 0.0
    if resumed:
        model.load_state_dict(resumed["model"])
        for buffer, saved in zip(muon.buffers, resumed["muon"]):
            buffer.copy_(saved)
        adam.load_state_dict(resumed["adam"])
        step, tokens, used = resumed["step"], resumed["tokens"], resumed["used"]
    trainer = Trainer(model, arguments, device)
    trainer.warm_up()
    gradients = Gradients(model)
    feed = Feed(work, part, is_running, device)
    feed.load()
    if RANK == 0:
        log(f"first rows are here, waited {feed.waited:.1f}s; held out before: {held_out_loss(model, f'{work}/held.npz', device)}")
    agreed(0, device)
    began, last_save, mean = time.time(), time.time(), None
    rows = trainer.rows * arguments.accumulate
    stretch_end = BEGAN + arguments.stretch_seconds
    total_seconds = arguments.total_seconds or used + stretch_end - began
    progress, since, counted = 0.0, time.time(), torch.zeros((), dtype=torch.long, device=device)
    while True:
        if step % STEPS_BETWEEN == 0 or not resumed and step < 3:
            over = time.time() > stretch_end or step >= arguments.most_steps
            progress = agreed(2.0 if over else (used + time.time() - began) / total_seconds, device)
            if progress >= 1:
                break
        rate = min(1.0, (step + 1) / arguments.warm_up) * min(1.0, max(0.01, (1 - progress) / (1 - arguments.constant)))
        ids, weights, numbers = feed.take(rows)
        ids, weights = ids.long(), weights.float() / 16
        total = summed(weights[:, 1:].sum())
        loss = torch.zeros((), device=device)
        for at in range(0, rows, trainer.rows):
            end = at + trainer.rows
            piece = trainer.step(ids[at:end], weights[at:end], numbers[at:end, :-1]) / total
            piece.backward()
            loss += piece.detach()
        summed(gradients.flat)
        norm = torch.nn.utils.clip_grad_norm_([p for g in adam.param_groups for p in g["params"]], 1.0)
        muon.momentum = min(0.95, 0.85 + step / 2000)
        for group in adam.param_groups:
            group["lr"] = arguments.adam_rate * group["scale"] * rate
        muon.step(arguments.muon_rate * rate)
        adam.step()
        gradients.flat.zero_()
        step += 1
        counted += (ids[:, 1:] != PAD).sum()
        if step <= 3 or step % 50 == 0:
            value, seen = float(summed(loss)), int(summed(counted))
            counted.zero_()
            tokens += seen
            if not np.isfinite(value):
                raise RuntimeError(f"loss is {value} at step {step}")
            mean = value if mean is None else 0.8 * mean + 0.2 * value
            log(f"step {step} loss {value:.4f} mean {mean:.4f} rate {rate:.3f} norm {float(norm):.2f} "
                f"{seen / (time.time() - since) / 1e3:.0f}k tokens/s {tokens / 1e6:.0f}M tokens, {progress:.3f} done, part {feed.part}, waited {feed.waited:.1f}s")
            since = time.time()
        if RANK == 0 and time.time() - last_save > arguments.save_every:
            last_save = time.time()
            save(state_of(model, muon, adam, step=step, tokens=tokens, used=used + time.time() - began, part=feed.part), work)
            log(f"checkpoint; held out {held_out_loss(model, f'{work}/held.npz', device)}")
    tokens += int(summed(counted))
    if RANK > 0:
        return
    elapsed = used + time.time() - began
    save(state_of(model, muon, adam, part=feed.part, step=step, tokens=tokens, used=elapsed, config=vars(model.c)), work)
    held = held_out_loss(model, f"{work}/held.npz", device)
    size = gguf_file.write(f"{work}/trained.gguf", gguf_file.tensors_of(model), lambda n, a: "F32",
                           gguf_file.metadata_for(model.c, reader.metadata["tokenizer.ggml.tokens"], reader.metadata["tokenizer.ggml.token_type"],
                                                  reader.metadata["tokenizer.ggml.merges"], "Q8_0"))
    log(f"stretch ends: {step} steps, {tokens / 1e6:.1f}M tokens in {elapsed:.0f}s, data waited {feed.waited:.1f}s, held out {held}, trained.gguf {size / 2**20:.1f} MiB")
    with open(f"{work}/done", "w") as file:
        json.dump({"steps": step, "tokens": tokens, "seconds": elapsed, "gpus": WORLD, "held_out": held, "finished": elapsed >= total_seconds - 1,
                   "arguments": vars(arguments)}, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--tokenizer-from", required=True, help="GGUF whose vocabulary is used")
    parser.add_argument("--initial", help="GGUF to start from; random weights without it")
    parser.add_argument("--total-seconds", type=float, default=0, help="of training, over all stretches; without it, this stretch is the last")
    parser.add_argument("--stretch-seconds", type=float, default=560, help="ends with a checkpoint after this long, from process start")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--ffn", type=int, default=1536)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=64, help="rows of a micro-batch")
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--muon-rate", type=float, default=1.8e-3)
    parser.add_argument("--adam-rate", type=float, default=1.2e-3)
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--warm-up", type=int, default=80)
    parser.add_argument("--constant", type=float, default=0.35, help="share of the time at the full rate, then linear to 1%%")
    parser.add_argument("--save-every", type=float, default=150)
    parser.add_argument("--most-steps", type=int, default=10**9)
    parser.add_argument("--data-arguments", default="", help="passed to samples.py")
    parser.add_argument("--causal", action="store_true", help="no document mask")
    parser.add_argument("--compare", action="store_true", help="time the causal attention too before choosing")
    parser.add_argument("--no-compile", action="store_true")
    arguments = parser.parse_args()
    os.makedirs(arguments.work, exist_ok=True)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    if device != "cpu":
        torch.cuda.set_device(device)
    if WORLD > 1:
        dist.init_process_group("gloo" if device == "cpu" else "nccl")
    train(arguments, device)
    if WORLD > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
