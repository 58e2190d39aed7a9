"""Logits of a GGUF file, computed from the file alone in the operations of llama.cpp, whose names its tensors have.

Nothing of the model or its configuration is read: a wrong name, layout, epsilon or base of the rotation gives other
logits than the model's. llama.cpp rounds a little more (its table of GELU and its cache have 16 bits).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_foundry.core.export.files import NATIVE_FOLDER
from transformer_foundry.core.export.gguf.file import read_gguf

if TYPE_CHECKING:
    from transformer_foundry.core.export.verification.parity import Run

__all__ = ["GgufModel", "open_gguf"]

# llama.cpp rotates neighbouring features in these architectures, and halves of a head in the others.
_ROTATES_PAIRS = ("llama",)
_FREQUENCY_BASE = 10000.0


class GgufModel:
    """A decoder in a GGUF file.

    Args:
        path: The file.
        exact_gelu: Whether GELU is computed by the error function, as the model was trained, and not in the tanh form
            of llama.cpp.
    """

    def __init__(self, path: Path, *, exact_gelu: bool = False) -> None:
        self._metadata, self._tensors = read_gguf(path)
        self._architecture = str(self._metadata["general.architecture"])
        self._gelu = "none" if exact_gelu else "tanh"
        self._heads: int = self._value("attention.head_count")
        self._kv_heads: int = self._value("attention.head_count_kv", self._heads)
        self._is_gated = "blk.0.ffn_gate.weight" in self._tensors

    def _value(self, key: str, default: Any = None) -> Any:
        return self._metadata.get(f"{self._architecture}.{key}", default)

    @torch.no_grad()
    def logits(self, input_ids: Tensor) -> Tensor:
        """Return (B, T, V) logits for (B, T) ids; padding is at the end, where a causal model needs no mask."""
        length = input_ids.shape[1]
        if length > self._value("context_length"):
            raise ValueError(f"{length} tokens are more than the file's {self._value('context_length')}")
        x = self._tensors["token_embd.weight"][input_ids]
        if "position_embd.weight" in self._tensors:
            x = x + self._tensors["position_embd.weight"][:length]
        for number in range(self._value("block_count")):
            block = f"blk.{number}."
            attended = self._attention(block, self._norm(x, f"{block}attn_norm"))
            if self._value("use_parallel_residual", False):
                x = x + attended + self._network(block, self._norm(x, f"{block}ffn_norm"))
            else:
                x = x + attended
                x = x + self._network(block, self._norm(x, f"{block}ffn_norm"))
        head = self._tensors.get("output.weight", self._tensors["token_embd.weight"])
        return self._norm(x, "output_norm") @ head.t()

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._tensors[f"{name}.weight"], self._tensors.get(f"{name}.bias"))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        scale, rms = self._tensors[f"{name}.weight"], self._value("attention.layer_norm_rms_epsilon")
        if rms is not None:
            return F.rms_norm(x, scale.shape, scale, rms)
        return F.layer_norm(
            x, scale.shape, scale, self._tensors[f"{name}.bias"], self._value("attention.layer_norm_epsilon")
        )

    def _attention(self, block: str, x: Tensor) -> Tensor:
        if f"{block}attn_qkv.weight" in self._tensors:
            q, k, v = self._linear(x, f"{block}attn_qkv").chunk(3, -1)
        else:
            q, k, v = (self._linear(x, f"{block}attn_{part}") for part in "qkv")
        q = q.unflatten(-1, (self._heads, -1)).transpose(1, 2)
        k, v = (item.unflatten(-1, (self._kv_heads, -1)).transpose(1, 2) for item in (k, v))
        if f"{block}attn_q_norm.weight" in self._tensors:
            q, k = self._norm(q, f"{block}attn_q_norm"), self._norm(k, f"{block}attn_k_norm")
        if (size := self._value("rope.dimension_count")) is not None:
            q, k = self._rotate(q, size), self._rotate(k, size)
        groups = self._heads // self._kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self._linear(out.transpose(1, 2).flatten(2), f"{block}attn_output")

    def _rotate(self, x: Tensor, size: int) -> Tensor:
        """Rotate the first ``size`` features of (B, H, T, d) heads by their positions."""
        base, length = self._value("rope.freq_base", _FREQUENCY_BASE), x.shape[2]
        angles = torch.outer(torch.arange(length).float(), base ** (-torch.arange(0, size, 2).float() / size))
        x, rest = x[..., :size], x[..., size:]
        if self._architecture in _ROTATES_PAIRS:
            first, second = x[..., 0::2], x[..., 1::2]
        else:
            first, second = x.chunk(2, -1)
        turned = (first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin())
        joined = torch.stack(turned, -1).flatten(-2) if self._architecture in _ROTATES_PAIRS else torch.cat(turned, -1)
        return torch.cat([joined, rest], -1)

    def _network(self, block: str, x: Tensor) -> Tensor:
        up = self._linear(x, f"{block}ffn_up")
        hidden = (
            F.silu(self._linear(x, f"{block}ffn_gate")) * up if self._is_gated else F.gelu(up, approximate=self._gelu)
        )
        return self._linear(hidden, f"{block}ffn_down")


def open_gguf(path: Path) -> Run:
    """Return a function that runs the file with the GELU of the native model beside it, which GGUF does not name."""
    config = json.loads((path.parent / NATIVE_FOLDER / "config.json").read_text(encoding="utf-8"))
    activation = config.get("hidden_act") or config.get("activation_function")
    model = GgufModel(path, exact_gelu=activation == "gelu")

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return model.logits(torch.from_numpy(inputs["input_ids"])).numpy()

    return run
