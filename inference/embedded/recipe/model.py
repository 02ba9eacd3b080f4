"""Qwen2 in plain PyTorch: training forward with document-masked attention, and batched greedy decoding for evaluation."""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from filters import PAD


@dataclass
class Config:
    vocabulary: int = 16384
    width: int = 512
    layers: int = 12
    heads: int = 8
    kv_heads: int = 2
    ffn: int = 1536
    context: int = 2048
    theta: float = 10000.0
    epsilon: float = 1e-6

    @property
    def head(self):
        return self.width // self.heads


def rms_norm(x, weight, epsilon):
    h = x.float()
    return (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + epsilon) * weight).to(x.dtype)


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return (x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin).to(x.dtype)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, kv = c, c.kv_heads * c.head
        self.norm1, self.norm2 = nn.Parameter(torch.ones(c.width)), nn.Parameter(torch.ones(c.width))
        self.qkv = nn.Parameter(torch.randn(c.width + 2 * kv, c.width) * c.width ** -0.5)
        self.qkv_bias = nn.Parameter(torch.zeros(c.width + 2 * kv))
        self.out = nn.Parameter(torch.zeros(c.width, c.width))
        self.gate_up = nn.Parameter(torch.randn(2 * c.ffn, c.width) * c.width ** -0.5)
        self.down = nn.Parameter(torch.zeros(c.width, c.ffn))

    def heads(self, x, cos, sin):
        c = self.c
        batch, length, _ = x.shape
        y = F.linear(rms_norm(x, self.norm1, c.epsilon), self.qkv.to(x.dtype), self.qkv_bias.to(x.dtype))
        q, k, v = y.split([c.width, c.kv_heads * c.head, c.kv_heads * c.head], -1)
        q = q.view(batch, length, c.heads, c.head).transpose(1, 2)
        k = k.view(batch, length, c.kv_heads, c.head).transpose(1, 2)
        v = v.view(batch, length, c.kv_heads, c.head).transpose(1, 2)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def finish(self, x, attended):
        batch, length, _ = x.shape
        x = x + F.linear(attended.transpose(1, 2).reshape(batch, length, -1), self.out.to(x.dtype))
        gate, up = F.linear(rms_norm(x, self.norm2, self.c.epsilon), self.gate_up.to(x.dtype)).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.down.to(x.dtype))

    def forward(self, x, cos, sin, attention):
        q, k, v = self.heads(x, cos, sin)
        repeat = self.c.heads // self.c.kv_heads
        return self.finish(x, attention(q, k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)))

    def step(self, x, cos, sin, keys, values, position, mask):
        """Decoding: keys and values [batch, kv heads, total, head] are written in place at `position`."""
        q, k, v = self.heads(x, cos, sin)
        length, repeat = x.shape[1], self.c.heads // self.c.kv_heads
        keys[:, :, position:position + length], values[:, :, position:position + length] = k, v
        k = keys[:, :, :position + length].repeat_interleave(repeat, 1)
        v = values[:, :, :position + length].repeat_interleave(repeat, 1)
        return self.finish(x, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


def causal_attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embedding = nn.Parameter(torch.randn(c.vocabulary, c.width) * 0.02)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = nn.Parameter(torch.ones(c.width))
        inverse = 1.0 / (c.theta ** (torch.arange(0, c.head, 2, dtype=torch.float32) / c.head))
        angle = torch.outer(torch.arange(c.context + 64, dtype=torch.float32), inverse)
        self.register_buffer("cos", torch.cat([angle.cos()] * 2, -1), persistent=False)
        self.register_buffer("sin", torch.cat([angle.sin()] * 2, -1), persistent=False)

    def hidden(self, ids, dtype=torch.bfloat16, attention=causal_attention):
        length = ids.shape[1]
        x = F.embedding(ids, self.embedding).to(dtype)
        cos, sin = self.cos[:length].to(dtype), self.sin[:length].to(dtype)
        for block in self.blocks:
            x = block(x, cos, sin, attention)
        return rms_norm(x, self.norm, self.c.epsilon)

    def forward(self, ids, targets, weights, attention=causal_attention):
        """Weighted sum of token losses, in nats."""
        h = self.hidden(ids, torch.bfloat16 if ids.is_cuda else torch.float32, attention)
        logits = F.linear(h, self.embedding.to(h.dtype)).float()
        losses = F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1), reduction="none")
        return (losses * weights.reshape(-1)).sum()

    def count(self):
        return sum(p.numel() for p in self.parameters())


@torch.no_grad()
def generate(model, prompts, new_tokens, stop, device, batch=256):
    """Greedy answers for prompts (lists of ids): ids before the first stop token, and whether a stop token came."""
    c, dtype = model.c, torch.bfloat16 if device == "cuda" else torch.float32
    prompts = [p[-(c.context - new_tokens):] for p in prompts]
    order, answers = sorted(range(len(prompts)), key=lambda i: len(prompts[i])), [None] * len(prompts)
    stops = torch.tensor(sorted(stop), device=device)
    cos, sin = model.cos.to(dtype), model.sin.to(dtype)
    for at in range(0, len(order), batch):
        group = order[at:at + batch]
        longest = max(len(prompts[i]) for i in group)
        total = longest + new_tokens
        ids = torch.full((len(group), longest), PAD, dtype=torch.long)
        for row, i in enumerate(group):
            ids[row, longest - len(prompts[i]):] = torch.tensor(prompts[i])
        ids = ids.to(device)
        starts = torch.tensor([longest - len(prompts[i]) for i in group], device=device)
        keys = [torch.zeros(len(group), c.kv_heads, total, c.head, dtype=dtype, device=device) for _ in model.blocks]
        values = [torch.zeros_like(k) for k in keys]
        places = torch.arange(total, device=device)
        valid = places[None] >= starts[:, None]
        mask = (places[None, :longest] <= places[:longest, None])[None] & valid[:, None, :longest]
        mask = mask | torch.eye(longest, dtype=torch.bool, device=device)[None]
        x = F.embedding(ids, model.embedding).to(dtype)
        for block, k, v in zip(model.blocks, keys, values):
            x = block.step(x, cos[:longest], sin[:longest], k, v, 0, mask[:, None])
        x, made, done = x[:, -1:], [], torch.zeros(len(group), dtype=torch.bool, device=device)
        for n in range(new_tokens):
            token = F.linear(rms_norm(x[:, -1], model.norm, c.epsilon), model.embedding.to(dtype)).float().argmax(-1)
            made.append(token)
            done |= torch.isin(token, stops)
            if n + 1 == new_tokens or n % 8 == 7 and bool(done.all()):
                break
            x, position = F.embedding(token[:, None], model.embedding).to(dtype), longest + n
            for block, k, v in zip(model.blocks, keys, values):
                x = block.step(x, cos[position:position + 1], sin[position:position + 1], k, v, position, valid[:, None, None, :position + 1])
        for row, i in zip(torch.stack(made, 1).tolist(), group):
            end = next((n for n, token in enumerate(row) if token in stop), None)
            answers[i] = (row[:end], True) if end is not None else (row, False)
    return answers
