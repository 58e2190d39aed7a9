"""What an exception out of somebody's model means, in plain words, and how to mend it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from transformer_foundry.core.base.errors import cause_chain

__all__ = ["Explanation", "explain", "root_cause"]


@dataclass(frozen=True)
class Explanation:
    """The meaning of an error and how to mend it."""

    meaning: str
    fix: str


# (pattern in "TypeOfError: message", meaning, fix); the first that matches counts.
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"Torch not compiled with CUDA|No CUDA GPUs|NVIDIA driver|CUDA error|cuda.*(not available|is_available)",
        "The code insists on a GPU (CUDA): it fails on every machine without one, and on any other device.",
        "take the device from the input instead: remove .cuda() and write device=input_ids.device",
    ),
    (
        r"UnboundLocalError|NameError",
        "The code uses a name that is not defined when the line runs: the value it stands for is never computed.",
        "connect the block that computes this value, or return a name that is assigned before",
    ),
    (
        r"missing \d+ required positional argument",
        "The call does not give all the arguments that the function asks for.",
        "let forward take the token ids only, and compute everything else inside",
    ),
    (
        r"view size is not compatible",
        "view() cannot reshape a tensor whose axes were exchanged: its memory is not contiguous.",
        "write .reshape(...) instead of .view(...), or .contiguous().view(...)",
    ),
    (
        r"is invalid for input of size",
        "A reshape does not fit the number of values: a batch size, a length or a width is fixed in the code, or does "
        "not divide evenly among the heads.",
        "take the sizes from the tensor (B, T, C = x.shape), and choose a width that the number of heads divides",
    ),
    (
        r"index out of range in self|index \d+ is out of bounds|IndexError",
        "A table is too small: an index (a token id or a position) lies outside its rows.",
        "give the embedding as many rows as there are token ids or positions",
    ),
    (
        r"mat1 and mat2 shapes cannot be multiplied|size mismatch|must match the (existing )?size|Expected size|"
        r"shapes? .*(mismatch|incompatible)|must match except|normalized_shape|embed_dim must|was expecting embedding",
        "Two tensors of different shapes meet: a width or a length of one block does not fit the next.",
        "give both blocks the same size, and take lengths from the input instead of fixing them in the code",
    ),
    (
        r"shape of the [23]D attn_mask is|key_padding_mask.*should be|expected.*key_padding_mask",
        "The attention reads the axes in another order than they are given: torch's own layers take time first.",
        "build the layer with batch_first=True, or hand it tensors of shape (T, B, D)",
    ),
    (
        r"without overflow",
        "A number does not fit into the number type: float16 ends at 65504, and -1e9 is beyond it.",
        "use torch.finfo(scores.dtype).min for masks instead of a fixed number such as -1e9",
    ),
    (
        r"must be divisible|divisible by",
        "The width does not divide evenly among the heads.",
        "choose a width that is a multiple of the number of heads",
    ),
    (
        r"expected scalar type|same scalar type|same dtype|dtypes match|dtype mismatch|must have the same dtype|"
        r"Long.*(Float|Half)|Float.*Long",
        "Tensors of different number types meet.",
        "convert one of them, for example with .to(x.dtype)",
    ),
    (
        r"modified by an inplace operation",
        "An operation in place overwrites a value that the backward pass still needs.",
        "write x = x + y instead of x += y there",
    ),
    (
        r"does not require grad",
        "The result is cut off from the weights: there is nothing to differentiate.",
        "remove .detach(), .data, .item(), torch.tensor(...) and torch.no_grad() from forward",
    ),
    (
        r"KeyError|has no attribute|AttributeError",
        "The code asks for something that is not there: an entry of config.json or an attribute never set.",
        "add the missing entry to the settings of the block, or set the attribute in __init__",
    ),
    (
        r"SyntaxError|IndentationError",
        "model.py is not valid Python.",
        "export the model again",
    ),
    (
        r"ModuleNotFoundError|ImportError",
        "model.py imports a library that is not installed.",
        "use torch only, or install that library",
    ),
)
_UNKNOWN = Explanation("The code stops with an error.", "correct the line that is named")
_LONGEST_MESSAGE = 300


def explain(error: BaseException) -> Explanation:
    """Return what ``error`` means and how to mend it."""
    text = describe(error)
    for pattern, meaning, fix in _KNOWN:
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return Explanation(meaning, fix)
    return _UNKNOWN


def describe(error: BaseException) -> str:
    """Return ``Type: message`` on one line."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:_LONGEST_MESSAGE]}"


def root_cause(error: BaseException) -> BaseException:
    """Return the first error in the chain of causes: what the model's own code raised."""
    return list(cause_chain(error, explicit=True))[-1]
