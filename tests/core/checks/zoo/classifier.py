"""A classifier of texts from nn.MultiheadAttention, read from the first token."""

import torch
from torch import nn


class BertLayer(nn.Module):
    def __init__(self, d, h, f, p):
        super().__init__()
        self.attention = nn.MultiheadAttention(d, h, dropout=p, batch_first=True)
        self.norm_a = nn.LayerNorm(d, eps=1e-12)
        self.inter = nn.Linear(d, f)
        self.act = nn.GELU()
        self.output = nn.Linear(f, d)
        self.norm_b = nn.LayerNorm(d, eps=1e-12)
        self.dropout = nn.Dropout(p)

    def forward(self, x, pad):
        a, _ = self.attention(x, x, x, key_padding_mask=pad, need_weights=False)
        x = self.norm_a(x + self.dropout(a))
        f = self.output(self.act(self.inter(x)))
        return self.norm_b(x + self.dropout(f))


class BertForTopic(nn.Module):
    def __init__(
        self,
        vocab_size,
        hidden_size,
        num_attention_heads,
        num_hidden_layers,
        intermediate_size,
        max_position_embeddings,
        num_labels,
        type_vocab_size=2,
        hidden_dropout_prob=0.1,
        pad_token_id=0,
        **_,
    ):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, hidden_size, padding_idx=pad_token_id)
        self.position_embeddings = nn.Embedding(max_position_embeddings, hidden_size)
        self.token_type_embeddings = nn.Embedding(type_vocab_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.dropout = nn.Dropout(hidden_dropout_prob)
        self.layer = nn.ModuleList(
            [
                BertLayer(hidden_size, num_attention_heads, intermediate_size, hidden_dropout_prob)
                for _ in range(num_hidden_layers)
            ]
        )
        self.pooler = nn.Linear(hidden_size, hidden_size)
        self.classifier = nn.Linear(hidden_size, num_labels)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        _B, T = input_ids.shape
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        positions = torch.arange(T, device=input_ids.device).unsqueeze(0)
        x = (
            self.word_embeddings(input_ids)
            + self.position_embeddings(positions)
            + self.token_type_embeddings(token_type_ids)
        )
        x = self.dropout(self.norm(x))
        pad = None if attention_mask is None else attention_mask == 0
        for layer in self.layer:
            x = layer(x, pad)
        pooled = torch.tanh(self.pooler(x[:, 0]))
        return {"logits": self.classifier(self.dropout(pooled))}
