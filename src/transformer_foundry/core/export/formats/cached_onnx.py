"""An ONNX file of a native decoder that takes the keys and values of earlier tokens, proved equal to the plain file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transformer_foundry.core.export.capture.torch_export import EXPORTER_ERRORS, silence_exporters
from transformer_foundry.core.export.files import delete_file, describe_file, needs_data_file

__all__ = ["CACHED_FILE", "add_cached_steps"]

_LOGGER = logging.getLogger(__name__)

CACHED_FILE = "model-cached.onnx"
"""Name of the file in a package."""

_NEW_TOKENS = 24
_PROMPT_LENGTHS = (1, 2, 3, 4, 5, 7, 8, 11, 16, 23)
# Sizes of the example: distinct, and no feature of a usual model.
_NEW, _SEEN = 3, 5


def add_cached_steps(
    folder: Path, native: Any, *, vocab_size: int, longest: int, bound: float, plain: str = "model.onnx"
) -> dict[str, Any]:
    """Write ``model-cached.onnx`` beside a verified ONNX file, and keep it only if it writes the same tokens.

    The file takes ``input_ids`` (1, new) and ``past`` (2 x layers, 1, heads, seen, head size), keys and values of each
    layer, and returns ``logits`` of the new tokens and ``present``, which is ``past`` for the next step.

    Args:
        folder: The package.
        native: The model of transformers, with the weights of the package.
        vocab_size: Number of token ids.
        longest: Greatest length of a row.
        bound: Largest difference allowed between logits.
        plain: The ONNX file without a cache.

    Returns:
        The manifest's ``cache``: ``file``, ``of``, ``past`` (shape with no token seen), ``max_abs_error``,
        ``tolerance``, ``prompts``, ``tokens``, ``sha256``, ``size_bytes``; or ``file`` None and ``reason``.
    """
    path = folder / CACHED_FILE
    try:
        shape = _write(native, vocab_size, path)
        result = _prove(path, folder / plain, shape, vocab_size, longest, bound)
    except Exception as err:  # the errors of onnxruntime derive from Exception alone; others are raised again
        if not isinstance(err, EXPORTER_ERRORS) and not type(err).__module__.startswith("onnxruntime"):
            raise
        _LOGGER.debug("No file with a cache.", exc_info=err)
        result = {"reason": f"it cannot be written or run ({type(err).__name__})"}
    if "reason" in result:
        delete_file(path)
        _LOGGER.info("inference.py computes each token from the whole text: %s.", result["reason"])
        return {"file": None, **result}
    return {"file": CACHED_FILE, "of": plain, "past": shape, "tolerance": bound, **result} | describe_file(path)


class _Step(nn.Module):
    """Logits of new tokens after those whose keys and values are given."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer in range(past.shape[0] // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        seen, new = past.shape[3], input_ids.shape[1]
        places = torch.arange(new) + seen
        is_visible = torch.arange(seen + new)[None, :] <= places[:, None]
        # The smallest number, not minus infinity: see ``avoid_denormal_softmax``.
        mask = torch.where(is_visible, 0.0, torch.finfo(torch.float32).min)[None, None]
        found = self.model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=places[None],
            past_key_values=cache,
            use_cache=True,
        )
        layers = found.past_key_values.layers
        return found.logits, torch.stack([part for layer in layers for part in (layer.keys, layer.values)])


def _write(native: Any, vocab_size: int, path: Path) -> list[int]:
    """Write the file; return the shape of ``past`` before the first token."""
    import onnxscript.optimizer

    from transformer_foundry.core.export.formats.debug_info import drop_onnx_stacks

    if needs_data_file(sum(value.numel() * value.element_size() for value in native.parameters())):
        raise ValueError("the weights do not fit into one file")
    config = native.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = [2 * config.num_hidden_layers, 1, heads, 0, size]
    example = (torch.arange(_NEW)[None] % vocab_size, torch.ones(*shape[:3], _SEEN, size))
    dims = ({1: torch.export.Dim.DYNAMIC}, {3: torch.export.Dim.DYNAMIC})
    before = config._attn_implementation
    native.set_attn_implementation("eager")
    try:
        with torch.no_grad(), silence_exporters():
            program = torch.export.export(_Step(native).eval(), example, dynamic_shapes=dims, strict=False)
            made = torch.onnx.export(
                program,
                dynamo=True,
                input_names=["input_ids", "past"],
                output_names=["logits", "present"],
                dynamic_shapes=({1: "new"}, {3: "seen"}),
                verbose=False,
                optimize=False,
            )
            assert made is not None
            onnxscript.optimizer.optimize_ir(made.model, num_iterations=1)
            drop_onnx_stacks(made.model)
            made.save(path)
    finally:
        native.set_attn_implementation(before)
    return shape


def _prove(
    path: Path, plain_path: Path, shape: list[int], vocab_size: int, longest: int, bound: float
) -> dict[str, Any]:
    """Compare greedy generations of both files, token by token, from prompts of many lengths up to a full window."""
    import onnxruntime

    cached, plain = (
        onnxruntime.InferenceSession(str(item), providers=["CPUExecutionProvider"]) for item in (path, plain_path)
    )
    worst, tokens, count = 0.0, 0, 0
    for prompt in _prompts(vocab_size, longest):
        row, steps = _written(cached, shape, prompt, min(_NEW_TOKENS, longest - len(prompt) + 1))
        given = {"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), dtype=np.int64)}
        (logits,) = plain.run(None, {item.name: given[item.name] for item in plain.get_inputs()})
        expected = logits[0, len(prompt) - 1 :]
        worst = max(worst, float(np.abs(steps - expected).max()))
        best = np.take_along_axis(expected, steps.argmax(-1)[:, None], -1)[:, 0]
        # Two tokens whose logits are nearer than the error are a tie, which rounding decides.
        if worst > bound or (expected.max(-1) - best > bound).any():
            return {"reason": f"with a cache the logits differ by {worst:.2g} after {len(prompt)} tokens"}
        tokens, count = tokens + len(steps), count + 1
    return {"max_abs_error": worst, "prompts": count, "tokens": tokens}


def _prompts(vocab_size: int, longest: int) -> Iterator[list[int]]:
    generator = np.random.default_rng(5)
    lengths = [length for length in (*_PROMPT_LENGTHS, longest - _NEW_TOKENS + 1) if 1 <= length <= longest]
    for length in dict.fromkeys(lengths):
        for _ in range(2):
            yield generator.integers(vocab_size, size=length).tolist()


def _written(session: Any, shape: list[int], prompt: list[int], count: int) -> tuple[list[int], np.ndarray]:
    """Return a greedy generation, without the token of the last step, and the (count, V) logits of its steps."""
    row, new, past = list(prompt), list(prompt), np.zeros(shape, dtype=np.float32)
    steps: list[np.ndarray] = []
    while True:
        logits, past = session.run(None, {"input_ids": np.array([new]), "past": past})
        steps.append(logits[0, -1])
        if len(steps) == count:
            return row, np.stack(steps)
        new = [int(steps[-1].argmax())]
        row += new
