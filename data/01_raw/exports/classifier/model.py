"""
Generated model: SampleClassifier
Sample export of Transformer Foundry in the style of Transformer Builder.

Encoder-only classifier: takes a padding mask (1 = real token), returns a score for each class from the mean of the
states of the real tokens.
"""

import torch
import torch.nn as nn


class SampleClassifier(nn.Module):
    def __init__(self, config):
        super().__init__()
        d_model = config["d_model"]
        self.token_embedding = nn.Embedding(config["vocab_size"], d_model)
        self.position_embedding = nn.Embedding(config["max_seq_len"], d_model)
        self.dropout = nn.Dropout(config["dropout"])
        layer = nn.TransformerEncoderLayer(
            d_model,
            config["nhead"],
            config["dim_feedforward"],
            config["dropout"],
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, config["num_layers"], enable_nested_tensor=False)
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, config["num_labels"])
        for embedding in (self.token_embedding, self.position_embedding):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, input_ids, attention_mask=None):
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        positions = torch.arange(input_ids.size(1), device=input_ids.device)
        x = self.dropout(self.token_embedding(input_ids) + self.position_embedding(positions))
        x = self.norm(self.encoder(x, src_key_padding_mask=attention_mask == 0))
        is_real = attention_mask.unsqueeze(-1).to(x.dtype)
        return self.head((x * is_real).sum(1) / is_real.sum(1).clamp(min=1))
