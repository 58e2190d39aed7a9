"""
Generated model: SampleT5
Sample export of Transformer Foundry in the style of Transformer Builder.

Encoder-decoder with a relative position bias.  The caller shifts the target right and gives it as decoder_input_ids;
the logits are for the decoder's positions.  Encoder, decoder and head share one embedding.
"""

from typing import Optional

import torch
import torch.nn as nn
import torch.nn.functional as F


class RelativePositionBias(nn.Module):
    """A learned bias for each head and clipped distance between query and key."""

    def __init__(self, nhead, max_distance=32):
        super().__init__()
        self.max_distance = max_distance
        self.bias = nn.Embedding(2 * max_distance + 1, nhead)

    def forward(self, length, device):
        positions = torch.arange(length, device=device)
        distance = (positions[None, :] - positions[:, None]).clamp(-self.max_distance, self.max_distance)
        return self.bias(distance + self.max_distance).permute(2, 0, 1)[None]


class Attention(nn.Module):
    def __init__(self, d_model, nhead, dropout):
        super().__init__()
        self.nhead = nhead
        self.dropout = dropout
        self.q = nn.Linear(d_model, d_model, bias=False)
        self.k = nn.Linear(d_model, d_model, bias=False)
        self.v = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def _split(self, x):
        return x.view(x.size(0), x.size(1), self.nhead, -1).transpose(1, 2)

    def forward(self, x, memory, bias):
        q, k, v = self._split(self.q(x)), self._split(self.k(memory)), self._split(self.v(memory))
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        return self.out(y.transpose(1, 2).reshape(x.shape))


class FeedForward(nn.Module):
    def __init__(self, d_model, dim_feedforward, dropout):
        super().__init__()
        self.up = nn.Linear(d_model, dim_feedforward, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(dim_feedforward, d_model, bias=False)

    def forward(self, x):
        return self.down(self.dropout(F.relu(self.up(x))))


class EncoderBlock(nn.Module):
    def __init__(self, d_model, nhead, dim_feedforward, dropout):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.self_attention = Attention(d_model, nhead, dropout)
        self.feed_forward = FeedForward(d_model, dim_feedforward, dropout)

    def forward(self, x, bias):
        h = self.norm_1(x)
        x = x + self.self_attention(h, h, bias)
        return x + self.feed_forward(self.norm_2(x))


class DecoderBlock(nn.Module):
    def __init__(self, d_model, nhead, dim_feedforward, dropout):
        super().__init__()
        self.norm_1, self.norm_2, self.norm_3 = nn.LayerNorm(d_model), nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.self_attention = Attention(d_model, nhead, dropout)
        self.cross_attention = Attention(d_model, nhead, dropout)
        self.feed_forward = FeedForward(d_model, dim_feedforward, dropout)

    def forward(self, x, memory, self_bias, memory_bias):
        h = self.norm_1(x)
        x = x + self.self_attention(h, h, self_bias)
        x = x + self.cross_attention(self.norm_2(x), memory, memory_bias)
        return x + self.feed_forward(self.norm_3(x))


class SampleT5(nn.Module):
    def __init__(
        self,
        vocab_size=512,
        d_model=128,
        nhead=4,
        num_encoder_layers=3,
        num_decoder_layers=3,
        dim_feedforward=384,
        dropout=0.1,
    ):
        super().__init__()
        self.shared = nn.Embedding(vocab_size, d_model)
        self.encoder_bias = RelativePositionBias(nhead)
        self.decoder_bias = RelativePositionBias(nhead)
        size = (d_model, nhead, dim_feedforward, dropout)
        self.encoder = nn.ModuleList([EncoderBlock(*size) for _ in range(num_encoder_layers)])
        self.decoder = nn.ModuleList([DecoderBlock(*size) for _ in range(num_decoder_layers)])
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.lm_head = nn.Linear(d_model, vocab_size, bias=False)
        self.lm_head.weight = self.shared.weight
        nn.init.normal_(self.shared.weight, std=0.05)

    def forward(
        self,
        input_ids: torch.Tensor,
        decoder_input_ids: torch.Tensor,
        attention_mask: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        blocked = torch.finfo(self.shared.weight.dtype).min
        padding_bias = None
        encoder_bias = self.encoder_bias(input_ids.size(1), input_ids.device)
        if attention_mask is not None:
            padding_bias = (attention_mask[:, None, None, :] == 0) * blocked
            encoder_bias = encoder_bias + padding_bias
        memory = self.dropout(self.shared(input_ids))
        for block in self.encoder:
            memory = block(memory, encoder_bias)
        memory = self.encoder_norm(memory)

        length = decoder_input_ids.size(1)
        future = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).triu(1)
        decoder_bias = self.decoder_bias(length, input_ids.device) + future * blocked
        x = self.dropout(self.shared(decoder_input_ids))
        for block in self.decoder:
            x = block(x, memory, decoder_bias, padding_bias)
        return self.lm_head(self.decoder_norm(x))
