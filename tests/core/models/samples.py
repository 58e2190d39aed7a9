"""Small models in every style that exports come in, as source text: constructors, signatures, outputs, masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VOCABULARY = 40
WIDTH = 16
CONFIG: dict[str, Any] = {"vocab_size": VOCABULARY, "d_model": WIDTH, "n_head": 2, "n_layer": 2, "max_seq_len": 20}

PARTS = '''
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Attention and feed-forward with residuals; a mask is True where a position may be looked at."""

    def __init__(self, width, heads, crosses=False):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.cross = Block(width, heads) if crosses else None
        self.norm, self.feed = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(),
                                                                  nn.Linear(2 * width, width))

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x, allowed=None, memory=None):
        read = self.norm(x) if memory is None else memory
        query = self.split(self.query(self.norm(x)))
        key, value = self.split(self.key(read)), self.split(self.value(read))
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -1e9)
        mixed = scores.softmax(-1) @ value
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.feed(self.norm(x))


class Body(nn.Module):
    def __init__(self, vocab_size, d_model, n_head, n_layer, max_seq_len, outputs=None, crosses=False):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, d_model), nn.Embedding(max_seq_len, d_model)
        self.blocks = nn.ModuleList(Block(d_model, n_head, crosses) for _ in range(n_layer))
        self.head = nn.Linear(d_model, outputs or vocab_size)

    def embed(self, ids):
        return self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))

    def states(self, ids, allowed=None):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, allowed)
        return x

    def logits(self, ids, allowed=None):
        return self.head(self.states(ids, allowed))


def look_back(ids):
    return torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
'''

CAUSAL_FORWARD = "    def forward(self, input_ids):\n        return self.logits(input_ids, look_back(input_ids))\n"
FIVE = "vocab_size, d_model, n_head, n_layer, max_seq_len"
FIVE_ITEMS = ", ".join(f'config["{name}"]' for name in FIVE.split(", "))
FIVE_ATTRIBUTES = ", ".join(f"config.{name}" for name in FIVE.split(", "))
DATACLASS = "@dataclass\nclass ModelArgs:\n" + "".join(f"    {name}: int = 8\n" for name in FIVE.split(", "))


def a_model(init: str, forward: str = CAUSAL_FORWARD, *, before: str = "", after: str = "") -> str:
    """Source of a model whose class ``Net`` has this constructor and this forward."""
    return f"{PARTS}\n\n{before}\n\nclass Net(Body):\n{init}\n{forward}\n\n{after}\n"


NO_ARGUMENTS = f"    def __init__(self):\n        super().__init__({VOCABULARY}, {WIDTH}, 2, 2, 20)\n"


def a_forward(arguments: str, body: str) -> str:
    """Source of a model without constructor arguments and with this forward."""
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    return a_model(NO_ARGUMENTS, f"    def forward(self, {arguments}):\n{lines}\n")


CONSTRUCTORS: dict[str, tuple[str, str]] = {
    "none": (a_model(NO_ARGUMENTS), "Net()"),
    "keywords": (
        a_model(f"    def __init__(self, {FIVE}):\n        super().__init__({FIVE})\n"),
        "Net(vocab_size=40, d_model=16, n_head=2, n_layer=2, max_seq_len=20)",
    ),
    "keywords with other names": (
        a_model(
            "    def __init__(self, n_vocab, hidden_size, heads, depth, block_size=4, p=0.1):\n"
            "        super().__init__(n_vocab, hidden_size, heads, depth, block_size)\n"
        ),
        "Net(n_vocab=40, hidden_size=16, heads=2, depth=2, block_size=20)",
    ),
    "extra keywords that are ignored": (
        a_model(f"    def __init__(self, {FIVE}, **kwargs):\n        super().__init__({FIVE})\n"),
        "Net(vocab_size=40, d_model=16, n_head=2, n_layer=2, max_seq_len=20)",
    ),
    "extra keywords that are read": (
        a_model("    def __init__(self, **kwargs):\n        super().__init__(**kwargs)\n"),
        "Net(vocab_size=40, d_model=16, n_head=2, n_layer=2, max_seq_len=20)",
    ),
    "mapping": (
        a_model(f"    def __init__(self, config):\n        super().__init__({FIVE_ITEMS})\n"),
        "Net(config)",
    ),
    "mapping of another name": (
        a_model("    def __init__(self, sizes):\n        super().__init__(**sizes)\n"),
        "Net(sizes=config)",
    ),
    "namespace": (
        a_model(f"    def __init__(self, config):\n        super().__init__({FIVE_ATTRIBUTES})\n"),
        "Net(SimpleNamespace(**config))",
    ),
    "mapping and namespace": (
        a_model(
            "    def __init__(self, config):\n"
            '        super().__init__(config["vocab_size"], config.d_model, config.n_head, config["n_layer"], 20)\n'
        ),
        "Net(ConfigMapping(",
    ),
    "dataclass by annotation": (
        a_model(
            f"    def __init__(self, config: ModelArgs):\n        super().__init__({FIVE_ATTRIBUTES})\n",
            before=DATACLASS,
        ),
        "Net(ModelArgs(vocab_size=40, d_model=16, n_head=2, n_layer=2, max_seq_len=20))",
    ),
    "dataclass without annotation": (
        a_model(f"    def __init__(self, config):\n        super().__init__({FIVE_ATTRIBUTES})\n", before=DATACLASS),
        "Net(ModelArgs(vocab_size=40, d_model=16, n_head=2, n_layer=2, max_seq_len=20))",
    ),
    "dataclass and keyword": (
        a_model(
            f"    def __init__(self, sizes: ModelArgs, n_layer: int):\n"
            f"        super().__init__({FIVE_ATTRIBUTES.replace('config', 'sizes')})\n",
            before=DATACLASS,
        ),
        "Net(sizes=ModelArgs(vocab_size=40, d_model=16, n_head=2, n_layer=2, max_seq_len=20), n_layer=2)",
    ),
    "factory with a mapping": (
        a_model(
            f"    def __init__(self, {FIVE}):\n        super().__init__({FIVE})\n",
            after="def build_model(config):\n    return Net(**config)\n",
        ),
        "build_model(config)",
    ),
    "factory without arguments": (
        a_model(
            f"    def __init__(self, {FIVE}):\n        super().__init__({FIVE})\n",
            after="def build_model():\n    return Net(40, 16, 2, 2, 20)\n",
        ),
        "build_model()",
    ),
}
CAUSAL = a_model(NO_ARGUMENTS)
ENCODER = a_forward("input_ids", "return self.logits(input_ids)")
PLAIN = {"vocab_size": VOCABULARY}


def a_seq2seq(arguments: str, body: str = "") -> str:
    """Source of an encoder-decoder; ``body`` names its ids ``input_ids`` and ``target``."""
    init = "    def __init__(self):\n        super().__init__(40, 16, 2, 2, 20, crosses=True)\n"
    forward = (
        f"    def forward(self, {arguments}):\n{body}"
        "        memory, x = self.embed(input_ids), self.embed(target)\n"
        "        for block in self.blocks:\n"
        "            memory = block(memory)\n"
        "        for block in self.blocks:\n"
        "            x = block.cross(block(x, look_back(target)), memory=memory)\n"
        "        return self.head(x)\n"
    )
    return a_model(init, forward)


GRAPH_CONFIG: dict[str, Any] = {
    "model_name": "Net",
    "nodes": [
        {"id": "input_0", "type": "input", "params": {"seq_length": 20}},
        {"id": "embedding_0", "type": "embedding", "params": {"vocab_size": VOCABULARY, "d_model": WIDTH}},
        {"id": "mhsa_0", "type": "mhsa", "params": {"num_heads": 2, "causal": True}},
    ],
    "edges": [["input_0", "embedding_0"], ["embedding_0", "mhsa_0"]],
}

INTERMEDIATES = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding_0 = nn.Embedding(40, 16)
        self.mhsa_0 = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(
        self,
        input_0_tokens: torch.Tensor,
        mhsa_0_output: torch.Tensor,
        residual_0_output: torch.Tensor,
    ) -> torch.Tensor:
        x = self.embedding_0(input_0_tokens)
        mhsa_0_output, _ = self.mhsa_0(x, x, x)
        return output_0_logits
"""


def write_export(folder: Path, code: str, config: dict[str, Any] | None = None) -> Path:
    """Write an export into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(code, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config), encoding="utf-8")
    return folder
