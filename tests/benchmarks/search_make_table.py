"""Make a table of learning curves: a small byte-level GPT trained in full with every configuration of a grid.

``python -m tests.benchmarks.search_make_table FILE.npz`` takes about four minutes on one core. A search can then be
replayed against the table in milliseconds (``search_replay``). The grid has a categorical and a conditional dimension:
``min_lr_ratio`` exists only where the schedule decays.
"""

import itertools
import json
import math
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional

SPACE = {
    "learning_rate": {"type": "categorical", "choices": [4e-4, 8e-4, 1.6e-3, 3.2e-3, 6.4e-3, 1.28e-2, 2.56e-2]},
    "lr_scheduler_type": {"type": "categorical", "choices": ["cosine", "linear", "constant"]},
    "min_lr_ratio": {
        "type": "categorical",
        "choices": [0.0, 0.2],
        "when": {"lr_scheduler_type": ["cosine", "linear"]},
    },
    "warmup_ratio": {"type": "categorical", "choices": [0.0, 0.1, 0.3]},
    "per_device_train_batch_size": {"type": "categorical", "choices": [6, 12]},
}
STEPS, EVERY = 160, 8
WIDTH, LAYERS, HEADS, LENGTH, VOCAB = 40, 2, 4, 40, 128
SEED = 0


def configurations():
    """Every configuration of the grid, without the parameters that do not apply."""
    for values in itertools.product(*(entry["choices"] for entry in SPACE.values())):
        configuration = dict(zip(SPACE, values, strict=True))
        decays = configuration["lr_scheduler_type"] in SPACE["min_lr_ratio"]["when"]["lr_scheduler_type"]
        if decays or configuration.pop("min_lr_ratio") == SPACE["min_lr_ratio"]["choices"][0]:
            yield configuration


def text():
    """Bytes for training and for validation: the documentation that every Python carries."""
    from pydoc_data.topics import topics

    raw = "\n\n".join(topics[name] for name in sorted(topics, key=lambda name: name[::-1])).encode("ascii", "replace")
    tokens = torch.tensor(np.frombuffer(raw, dtype=np.uint8).astype(np.int64)).clamp_(max=VOCAB - 1)
    cut = int(0.9 * len(tokens))
    return tokens[:cut], tokens[cut:]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate, self.up, self.down = nn.Linear(WIDTH, 96), nn.Linear(WIDTH, 96), nn.Linear(96, WIDTH)

    def forward(self, x):
        shape = (*x.shape[:2], 3, HEADS, WIDTH // HEADS)
        query, key, value = self.qkv(self.before(x)).view(shape).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        hidden = self.between(x)
        return x + self.down(functional.silu(self.gate(hidden)) * self.up(hidden))


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCAB, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        for parameter in (self.tokens.weight, self.positions.weight):
            nn.init.normal_(parameter, std=0.02)

    def forward(self, ids):
        hidden = self.blocks(self.tokens(ids) + self.positions.weight[: ids.shape[1]])
        return self.norm(hidden) @ self.tokens.weight.T


def loss_of(model, rows):
    return functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


def rate_at(step, configuration):
    """Learning rate of a step, as a share of the highest."""
    warmup = int(configuration["warmup_ratio"] * STEPS)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, STEPS - warmup)
    least = configuration.get("min_lr_ratio", 1.0)
    decay = 1 - done if configuration["lr_scheduler_type"] == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return least + (1 - least) * decay


def train(configuration, training, validation):
    """Validation loss each EVERY steps."""
    torch.manual_seed(SEED)
    model, generator = Gpt(), torch.Generator().manual_seed(SEED + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.97), weight_decay=0.1, fused=True)
    span = torch.arange(LENGTH + 1)
    held_out = validation[torch.linspace(0, len(validation) - LENGTH - 2, 48).long()[:, None] + span]
    losses = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = configuration["learning_rate"] * rate_at(step, configuration)
        n_rows = configuration["per_device_train_batch_size"]
        starts = torch.randint(len(training) - LENGTH - 1, (n_rows,), generator=generator)
        optimizer.zero_grad(set_to_none=True)
        loss_of(model, training[starts[:, None] + span]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % EVERY == 0:
            with torch.no_grad():
                losses.append(loss_of(model, held_out).item())
    return losses


def main(path):
    torch.set_num_threads(1)
    training, validation = text()
    rows = list(configurations())
    curves = np.array([train(row, training, validation) for row in rows], dtype=np.float32)
    np.savez_compressed(path, curves=curves, space=json.dumps(SPACE), every=EVERY)
    print(f"{len(rows)} configurations, best loss {curves[:, -1].min():.3f}, {path}")


if __name__ == "__main__":
    main(sys.argv[1])
