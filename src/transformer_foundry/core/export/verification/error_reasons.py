"""Explain the errors of exporters: why a format could not be made."""

from __future__ import annotations

import re
from collections.abc import Mapping

from transformer_foundry.core.base.errors import cause_chain

__all__ = ["explain", "explain_error"]

_MAX_CHARACTERS = 300
_COLORS = re.compile(r"\x1b\[[0-9;]*m")

_SIZE_FIXED = re.compile(r"\['tensors'\]\[(\d+)\]\.size\(\)\[(\d+)\].*?specialized it to be a constant \((\d+)\)", re.S)
_CAUSES = (
    (r"specialized it to be a constant", "the model fixes a size of its input, so it would be right at that size only"),
    (
        r"data-dependent|DataDependent|unbacked",
        "the computation depends on the values of the input, which a captured graph cannot follow",
    ),
    (r"[Cc]omplex", "complex numbers have no translation: write rotary embeddings with real cosines and sines"),
    (r"DispatchError|No ONNX function", "the model uses an operation that ONNX does not have"),
    (r"No module named '?(onnxscript|onnx)\b", "ONNX needs two packages: pip install onnx onnxscript"),
    (
        r"No module named '?onnxruntime\b",
        "an ONNX file cannot be verified without its runtime: pip install onnxruntime",
    ),
    (r"No space left", "the disk is full"),
)


def explain(text: str, names: Mapping[str, tuple[str | int, ...]] | None = None) -> str:
    """Return the cause in plain English, followed by the beginning of the original message.

    Args:
        text: ``ExceptionName: message``, or the last lines of a process.
        names: Argument -> names of its dimensions, to name the size in question.
    """
    original = _first_line(text)
    if names and (found := _SIZE_FIXED.search(text)):
        argument, dim, size = list(names)[int(found[1])], int(found[2]), found[3]
        return (
            f"the model's code ties dimension {dim} of {argument} ({names[argument][dim]}) to {size}, the size of the "
            "example, so the file would be right at that size only"
        )
    cause = next((words for pattern, words in _CAUSES if re.search(pattern, text)), None)
    return f"{cause} ({original})" if cause else original


def explain_error(error: BaseException, names: Mapping[str, tuple[str | int, ...]] | None = None) -> str:
    """Return the cause of ``error`` in plain English; the first error of its chain comes first."""
    chain = list(cause_chain(error, explicit=True))
    return explain("\n".join(f"{type(item).__name__}: {item}" for item in reversed(chain)), names)


def _first_line(text: str) -> str:
    lines = [line.strip() for line in _COLORS.sub("", text).splitlines() if line.strip()]
    line = lines[0] if lines else "no message"
    return line if len(line) <= _MAX_CHARACTERS else line[: _MAX_CHARACTERS - 3] + "..."
