"""Models whose training steps take hundreds of megabytes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

V, D, H, BLOCKS, LENGTH = 8000, 256, 8, 4, 512


class Layer(nn.Module):
    """A block of BERT, with its attention written out."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        self.norm_1, self.norm_2, self.dropout = nn.LayerNorm(D), nn.LayerNorm(D), nn.Dropout(0.1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, H, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / (D // H) ** 0.5
        if mask is not None:
            scores = scores + (1 - mask[:, None, None].float()) * -1e9
        mixed = (self.dropout(scores.softmax(-1)) @ v).transpose(1, 2).reshape(x.shape)
        x = self.norm_1(x + self.dropout(self.out(mixed)))
        return self.norm_2(x + self.dropout(self.down(F.gelu(self.up(x)))))


class Bert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(V, D), nn.Embedding(LENGTH, D)
        self.layers = nn.ModuleList([Layer() for _ in range(BLOCKS)])
        self.head = nn.Linear(D, V)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.embedding(input_ids) + self.position.weight[: input_ids.size(1)]
        for layer in self.layers:
            x = layer(x, attention_mask)
        return self.head(x)


class Encoder(nn.Module):
    """A causal model on torch's own encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(V, D), nn.Embedding(LENGTH, D)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(D, H, 4 * D, batch_first=True), BLOCKS)
        self.head = nn.Linear(D, V)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.embedding(input_ids) + self.position.weight[: input_ids.size(1)]
        mask = torch.ones(x.size(1), x.size(1), dtype=torch.bool).triu(1)
        padding = None if attention_mask is None else attention_mask == 0
        return self.head(self.encoder(x, mask=mask, src_key_padding_mask=padding))


class Looking(Encoder):
    """Looks at the values of its input, which fake tensors do not have."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        if int(input_ids.max()) >= V:
            raise ValueError("no such token")
        return super().forward(input_ids, attention_mask)


class Pair(nn.Module):
    """An encoder-decoder on torch's own transformer, with the relative scale of T5 on its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, D)
        self.transformer = nn.Transformer(D, H, BLOCKS, BLOCKS, 4 * D, batch_first=True)
        self.head = nn.Linear(D, V)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        assert decoder_input_ids is not None
        mask = torch.ones(decoder_input_ids.size(1), decoder_input_ids.size(1), dtype=torch.bool).triu(1)
        padding = None if attention_mask is None else attention_mask == 0
        source, target = self.embedding(input_ids), self.embedding(decoder_input_ids)
        return self.head(self.transformer(source, target, tgt_mask=mask, src_key_padding_mask=padding)) * D**-0.5
