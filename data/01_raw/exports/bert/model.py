"""
Generated model: SampleBERT
Sample export of Transformer Foundry in the style of Transformer Builder.

Encoder-only masked language model: takes a padding mask (1 = real token), returns a dict with logits and, when labels
are given, the loss.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F


class EncoderLayer(nn.Module):
    def __init__(self, d_model, nhead, dim_feedforward, dropout):
        super().__init__()
        self.attention = nn.MultiheadAttention(d_model, nhead, dropout=dropout, batch_first=True)
        self.norm_1 = nn.LayerNorm(d_model)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, dim_feedforward),
            nn.GELU(),
            nn.Linear(dim_feedforward, d_model),
            nn.Dropout(dropout),
        )
        self.norm_2 = nn.LayerNorm(d_model)

    def forward(self, x, is_padding):
        attended, _ = self.attention(x, x, x, key_padding_mask=is_padding, need_weights=False)
        x = self.norm_1(x + attended)
        return self.norm_2(x + self.feed_forward(x))


class SampleBERT(nn.Module):
    def __init__(self, config):
        super().__init__()
        d_model = config["d_model"]
        self.token_embedding = nn.Embedding(config["vocab_size"], d_model)
        self.position_embedding = nn.Embedding(config["max_seq_len"], d_model)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(config["dropout"])
        self.layers = nn.ModuleList(
            [
                EncoderLayer(d_model, config["nhead"], config["dim_feedforward"], config["dropout"])
                for _ in range(config["num_layers"])
            ]
        )
        self.transform = nn.Sequential(nn.Linear(d_model, d_model), nn.GELU(), nn.LayerNorm(d_model))
        self.decoder = nn.Linear(d_model, config["vocab_size"])
        self.apply(self._init_weights)
        self.decoder.weight = self.token_embedding.weight

    @staticmethod
    def _init_weights(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, input_ids, attention_mask=None, labels=None):
        positions = torch.arange(input_ids.size(1), device=input_ids.device)
        x = self.token_embedding(input_ids) + self.position_embedding(positions)
        x = self.dropout(self.norm(x))
        is_padding = None if attention_mask is None else attention_mask == 0
        for layer in self.layers:
            x = layer(x, is_padding)
        output = {"logits": self.decoder(self.transform(x))}
        if labels is not None:
            output["loss"] = F.cross_entropy(output["logits"].flatten(0, 1), labels.flatten(), ignore_index=-100)
        return output
