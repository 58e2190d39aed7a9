"""A decoder as the editor exports it: names of modules and variables start with the id of their block."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class MultiHeadSelfAttention(nn.Module):
    def __init__(self, d_model, num_heads, dropout=0.0, causal=False):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = d_model // num_heads
        self.causal = causal
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.o_proj = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        B, T, C = x.shape
        q = self.q_proj(x).view(B, T, self.num_heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(B, T, self.num_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(B, T, self.num_heads, self.head_dim).transpose(1, 2)
        scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(self.head_dim)
        if self.causal:
            mask = torch.triu(torch.ones(T, T, device=x.device, dtype=torch.bool), diagonal=1)
            scores = scores.masked_fill(mask, float("-inf"))
        attn = self.dropout(F.softmax(scores, dim=-1))
        out = torch.matmul(attn, v).transpose(1, 2).contiguous().view(B, T, C)
        return self.o_proj(out)


class FeedForward(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.fc1 = nn.Linear(d_model, d_ff)
        self.fc2 = nn.Linear(d_ff, d_model)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class CustomTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.token_embedding_0 = nn.Embedding(110, 40)
        self.positional_encoding_0 = nn.Embedding(56, 40)
        self.layer_norm_0 = nn.LayerNorm(40)
        self.mhsa_0 = MultiHeadSelfAttention(40, 4, 0.1, causal=True)
        self.layer_norm_1 = nn.LayerNorm(40)
        self.ffn_0 = FeedForward(40, 120)
        self.layer_norm_2 = nn.LayerNorm(40)
        self.mhsa_1 = MultiHeadSelfAttention(40, 4, 0.1, causal=True)
        self.layer_norm_3 = nn.LayerNorm(40)
        self.ffn_1 = FeedForward(40, 120)
        self.layer_norm_4 = nn.LayerNorm(40)
        self.lm_head_0 = nn.Linear(40, 110)

    def forward(self, input_0_tokens):
        token_embedding_0_output = self.token_embedding_0(input_0_tokens)
        positions = torch.arange(input_0_tokens.size(1), device=input_0_tokens.device)
        positional_encoding_0_output = token_embedding_0_output + self.positional_encoding_0(positions)
        layer_norm_0_output = self.layer_norm_0(positional_encoding_0_output)
        mhsa_0_output = self.mhsa_0(layer_norm_0_output)
        residual_0_output = positional_encoding_0_output + mhsa_0_output
        layer_norm_1_output = self.layer_norm_1(residual_0_output)
        ffn_0_output = self.ffn_0(layer_norm_1_output)
        residual_1_output = residual_0_output + ffn_0_output
        layer_norm_2_output = self.layer_norm_2(residual_1_output)
        mhsa_1_output = self.mhsa_1(layer_norm_2_output)
        residual_2_output = residual_1_output + mhsa_1_output
        layer_norm_3_output = self.layer_norm_3(residual_2_output)
        ffn_1_output = self.ffn_1(layer_norm_3_output)
        residual_3_output = residual_2_output + ffn_1_output
        layer_norm_4_output = self.layer_norm_4(residual_3_output)
        lm_head_0_output = self.lm_head_0(layer_norm_4_output)
        return lm_head_0_output
