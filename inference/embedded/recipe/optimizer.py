"""Muon for the matrices (Newton-Schulz orthogonalised momentum, batched over equal shapes), AdamW for the rest."""
import torch


def orthogonalise(gradient, steps=5):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = gradient.bfloat16() if gradient.is_cuda else gradient.float()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.mT if tall else x


class Muon:
    """`slices` are (parameter, first row, end row): fused projections are orthogonalised one by one."""

    def __init__(self, slices, momentum=0.95, decay=0.1):
        self.momentum, self.decay, groups = momentum, decay, {}
        for parameter, first, end in slices:
            groups.setdefault((end - first, parameter.shape[1]), []).append((parameter, first, end))
        self.groups = list(groups.values())
        self.buffers = [torch.zeros(len(g), g[0][2] - g[0][1], g[0][0].shape[1], device=g[0][0].device) for g in self.groups]

    @torch.no_grad()
    def step(self, rate):
        for group, buffer in zip(self.groups, self.buffers):
            gradient = torch.stack([p.grad[a:b] for p, a, b in group])
            buffer.mul_(self.momentum).add_(gradient, alpha=1 - self.momentum)
            update = orthogonalise(gradient.lerp(buffer, self.momentum)).float() * (0.2 * max(gradient.shape[-2:]) ** 0.5)
            for (p, a, b), change in zip(group, update.unbind(0)):
                p.data[a:b].mul_(1 - rate * self.decay).add_(change, alpha=-rate)


def build(model, adam_rate, decay):
    c, kv, slices, small = model.c, model.c.kv_heads * model.c.head, [], [model.norm]
    for block in model.blocks:
        slices += [(block.qkv, 0, c.width), (block.qkv, c.width, c.width + kv), (block.qkv, c.width + kv, c.width + 2 * kv),
                   (block.out, 0, c.width), (block.gate_up, 0, c.ffn), (block.gate_up, c.ffn, 2 * c.ffn), (block.down, 0, c.width)]
        small += [block.norm1, block.norm2, block.qkv_bias]
    adam = torch.optim.AdamW([{"params": [model.embedding], "scale": 1.0}, {"params": small, "scale": 0.5}],
                             lr=adam_rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, fused=model.embedding.is_cuda)
    return Muon(slices, decay=decay), adam
