"""Models small enough for proofs, each with a head, a block or a habit of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

V, D, T = 41, 16, 9


class Block(nn.Module):
    """Attention and feed-forward with residuals, dropout on."""

    def __init__(self, is_causal: bool = True) -> None:
        super().__init__()
        self.is_causal = is_causal
        self.norm = nn.LayerNorm(D)
        self.attention = nn.MultiheadAttention(D, 2, dropout=0.1, batch_first=True)
        self.feed_forward = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 2 * D), nn.GELU(), nn.Linear(2 * D, D))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(x.size(1), x.size(1), dtype=torch.bool, device=x.device).triu(1) if self.is_causal else None
        h = self.norm(x)
        x = x + self.attention(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.dropout(self.feed_forward(x))


class Model(nn.Module):
    """A stack of blocks; ``logits`` and ``run_blocks`` are what the others change."""

    def __init__(self, blocks: int = 3, *, block: Callable[..., nn.Module] = Block, vocab_size: int = V) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(vocab_size, D)
        self.blocks = nn.ModuleList([block() for _ in range(blocks)])
        self.head = nn.Linear(D, vocab_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.logits(self.run_blocks(self.embedding(input_ids)))

    def run_blocks(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def logits(self, x: Tensor) -> Tensor:
        return self.head(x)


class Tied(Model):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(D, V, bias=False)
        self.head.weight = self.embedding.weight


class Functional(Model):
    """Multiplies with the transposed table and adds a bias; the layer that is named head has no part in it."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(V))

    def logits(self, x: Tensor) -> Tensor:
        return x @ self.embedding.weight.T + self.bias


class FunctionalLinear(Model):
    def logits(self, x: Tensor) -> Tensor:
        return F.linear(x, self.embedding.weight)


class Scaled(Model):
    """T5 scales its logits."""

    def logits(self, x: Tensor) -> Tensor:
        return self.head(x) * D**-0.5


class SoftCapped(Model):
    """Gemma 2 caps its logits."""

    def logits(self, x: Tensor) -> Tensor:
        return 5.0 * torch.tanh(self.head(x) / 5.0)


class LogProbabilities(Model):
    def logits(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.head(x), dim=-1)


class OwnLoss(Model):
    """Computes a loss with each forward pass, and keeps it."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        logits = super().forward(input_ids)
        self.loss = nn.CrossEntropyLoss()(logits[:, :-1].transpose(1, 2), input_ids[:, 1:])
        return logits


class Mixed(Model):
    """Mixes the logits of neighbouring positions: they are needed whole."""

    def logits(self, x: Tensor) -> Tensor:
        return self.head(x).cumsum(1)


class Factors(Model):
    """Logits as a sum of two products: no linear layer makes them."""

    def logits(self, x: Tensor) -> Tensor:
        return torch.einsum("btd,vd->btv", x, self.embedding.weight)


class Frozen(Model):
    """Only the head is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding.requires_grad_(False)
        self.blocks.requires_grad_(False)


class Shared(Model):
    """One block, called three times."""

    def __init__(self) -> None:
        super().__init__(1)

    def run_blocks(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.blocks[0](x)
        return x


class Counting(Block):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * (1.0 + 0.01 * self.calls)


class Remembering(Block):
    def __init__(self) -> None:
        super().__init__()
        self.cache: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.cache.append(x.detach())
        return super().forward(x)


class Normalising(Block):
    """Batch normalisation moves its running mean with each call."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_norm = nn.BatchNorm1d(D)

    def forward(self, x: Tensor) -> Tensor:
        return self.batch_norm(super().forward(x).transpose(1, 2)).transpose(1, 2)


class Gambling(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (0.5 + random.random())


class Tupled(Block):
    """Gives its output and a cache, as blocks with key-value caches do."""

    def forward(self, x: Tensor, past: Any = None) -> Any:
        return super().forward(x), {"key": x}


class Caching(Model):
    def __init__(self) -> None:
        super().__init__(block=Tupled)

    def run_blocks(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x, _ = block(x, past=None)
        return x


class Heads(nn.Module):
    """A block with attention heads side by side: they are not blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Sequential(nn.Linear(D, D // 4), nn.Tanh()) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.cat([head(x) for head in self.heads], dim=-1)


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Block(is_causal=False) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Nodes(Model):
    """One attribute for each node of a drawing, no list."""

    def __init__(self) -> None:
        super().__init__(0)
        for index in range(2):
            self.add_module(f"mhsa_{index}", nn.MultiheadAttention(D, 2, batch_first=True))
            self.add_module(f"norm_{index}", nn.LayerNorm(D))
            self.add_module(f"ffn_{index}", nn.Sequential(nn.Linear(D, D), nn.GELU(), nn.Dropout(0.1)))

    def run_blocks(self, x: Tensor) -> Tensor:
        for index in range(2):
            x = x + self.get_submodule(f"mhsa_{index}")(x, x, x)[0]
            x = x + self.get_submodule(f"ffn_{index}")(self.get_submodule(f"norm_{index}")(x))
        return x


class TorchEncoder(Model):
    """torch's own encoder, which has a fast path."""

    def __init__(self) -> None:
        super().__init__(0)
        layer = nn.TransformerEncoderLayer(D, 2, 2 * D, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3)

    def run_blocks(self, x: Tensor) -> Tensor:
        return self.encoder(x)


class Pair(Model):
    """An encoder and a decoder of one class."""

    def __init__(self) -> None:
        super().__init__(0)
        self.encoder, self.decoder = Stack(), Stack()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        memory = self.encoder(self.embedding(input_ids)).mean(1, keepdim=True)
        return self.logits(self.decoder(self.embedding(decoder_input_ids) + memory))


def make_batch(task: str = "causal_lm", *, rows: int = 3, length: int = T) -> dict[str, Tensor]:
    """Random ids; the last row is padded."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, V, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[-1, -2:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    if task == "masked_lm":
        labels = labels.masked_fill(torch.rand(ids.shape, generator=generator) > 0.4, -100)
    if task == "sequence_classification":
        labels = torch.arange(rows) % V
    if task == "seq2seq_lm":
        return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids.roll(1, 1), "labels": labels}
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class LanguageModel(nn.Module):
    """A decoder of any size, for measurements."""

    def __init__(
        self, vocab_size: int, width: int, *, blocks: int, heads: int, dropout: float = 0.1, length: int = 512
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(vocab_size, width)
        self.position = nn.Embedding(length, width)
        self.blocks = nn.ModuleList([SizedBlock(width, heads, dropout) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab_size, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.embedding(input_ids) + self.position(torch.arange(input_ids.size(1), device=input_ids.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class SizedBlock(nn.Module):
    """A causal block whose attention is torch's fused one."""

    def __init__(self, width: int, heads: int, dropout: float, is_causal: bool = True) -> None:
        super().__init__()
        self.heads, self.is_causal = heads, is_causal
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.is_causal).transpose(1, 2)
        x = x + self.dropout(self.out(mixed.reshape(rows, length, width)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm_2(x)))))
