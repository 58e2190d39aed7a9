"""Meaning of the exceptions that a model's code raises, and how to fix their cause.

The only table of this kind: errors of building and calling a model and the findings of the checks use it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from transformer_foundry.core.base.errors import cause_chain, error_message

__all__ = ["KNOWN_ERRORS", "ErrorMeaning", "describe", "explain", "root_cause"]


@dataclass(frozen=True)
class ErrorMeaning:
    """What an exception means, as a sentence, and what to do about it, as a clause without a full stop."""

    meaning: str
    fix: str


# (pattern in "TypeOfError: message", meaning, fix); the first that matches counts.
KNOWN_ERRORS: tuple[tuple[str, str, str], ...] = (
    (
        r"MemoryError|out of memory|allocate memory|not enough memory|[Uu]nable to allocate",
        "The model needs more memory than this machine has.",
        "make the sizes in config.json smaller (vocab_size, d_model, num_layers, max_seq_len)",
    ),
    (
        # A build of torch for GPUs reports the driver on a machine without a GPU.
        r"Torch not compiled with CUDA|No CUDA GPUs|NVIDIA driver|CUDA error|cuda.*(not available|is_available)",
        "The code requires a GPU (CUDA): it fails on every machine without one, and on any other device.",
        "remove .cuda() and device='cuda' and write device=input_ids.device: Foundry chooses the device",
    ),
    (
        r"UnboundLocalError|NameError",
        "The code uses a name that is not defined when the line runs: the value it stands for is never computed.",
        "compute the value before that line, or use a name that is assigned before",
    ),
    (
        r"missing \d+ required positional argument",
        "The call does not pass all arguments that the function requires.",
        "let forward take the token ids only, and compute everything else inside",
    ),
    (
        r"view size is not compatible",
        "view() cannot reshape a tensor whose axes were transposed: its memory is not contiguous.",
        "write .reshape(...) instead of .view(...), or .contiguous().view(...)",
    ),
    (
        r"is invalid for input of size",
        "A reshape does not match the number of values: a batch size, a length or a width is fixed in the code, or is "
        "not divisible by the number of heads.",
        "take the sizes from the tensor (B, T, C = x.shape), and choose a width that the number of heads divides",
    ),
    (
        r"index out of range in self|index \d+ is out of bounds|IndexError",
        "A table is too small: an index (a token id or a position) has no row in it.",
        "give the embedding as many rows as there are token ids (vocab_size) or positions (max_seq_len)",
    ),
    (
        r"mat1 and mat2 shapes cannot be multiplied|size mismatch|must match the (existing )?size|Expected size|"
        r"shapes? .*(mismatch|incompatible)|must match except|normalized_shape|embed_dim must|"
        r"was expecting embedding|to have shape",
        "Two tensors have shapes that do not match: a width or a length of one block differs from that of the next.",
        "give both blocks the same size (d_model, number of heads), and take lengths from the input instead of fixing "
        "them in the code",
    ),
    (
        r"shape of the [23]D attn_mask is|key_padding_mask.*should be|expected.*key_padding_mask",
        "The attention expects another order of axes than it gets: torch's own layers take time first.",
        "build the layer with batch_first=True, or pass tensors of shape (T, B, D)",
    ),
    (
        r"without overflow",
        "A number is too large for its type: float16 ends at 65504, so -1e9 does not fit.",
        "use torch.finfo(scores.dtype).min for masks instead of a fixed number such as -1e9",
    ),
    (
        r"must be divisible|divisible by",
        "The width is not divisible by the number of heads.",
        "choose a width that is a multiple of the number of heads",
    ),
    (
        r"expected scalar type|same scalar type|same dtype|dtypes match|dtype mismatch|must have the same dtype|"
        r"Long.*(Float|Half)|Float.*Long",
        "Tensors of different dtypes are combined.",
        "convert one of them, for example with .to(x.dtype)",
    ),
    (
        r"modified by an inplace operation",
        "An in-place operation overwrites a value that the backward pass still needs.",
        "write x = x + y instead of x += y there",
    ),
    (
        r"does not require grad",
        "The result is detached from the weights: there is nothing to differentiate.",
        "remove .detach(), .data, .item(), torch.tensor(...) and torch.no_grad() from forward",
    ),
    (
        r"KeyError|has no attribute|AttributeError",
        "The code reads something that does not exist: an entry of config.json or an attribute that was never set.",
        "add the missing entry to the settings of the block, or set the attribute in __init__",
    ),
    (
        r"SyntaxError|IndentationError",
        "model.py is not valid Python.",
        "correct that line",
    ),
    (
        r"relative import|No module named 'transformer_foundry_export",
        "model.py imports a module beside it that is not there.",
        "put that module beside model.py: into the folder, the zip file or the gist",
    ),
    (
        r"ImportError: cannot import name",
        "A name is imported that the module does not have.",
        "correct the name, or use the version of the library that has it",
    ),
    (
        r"ModuleNotFoundError|ImportError",
        "model.py imports a library that is not installed.",
        "install that library, or export a model that needs only torch",
    ),
)
_UNKNOWN = ErrorMeaning("The code raises an exception.", "correct that line or the block it comes from")
_MAX_MESSAGE_CHARACTERS = 300


def explain(error: BaseException) -> ErrorMeaning:
    """Return what ``error`` means and how to fix its cause.

    Example:
        >>> explain(RuntimeError("shape '[2, 3]' is invalid for input of size 7")).fix
        'take the sizes from the tensor (B, T, C = x.shape), and choose a width that the number of heads divides'
    """
    if (
        isinstance(error, ModuleNotFoundError)
        and error.name
        and not error.name.startswith("transformer_foundry_export")
    ):
        file = f"{error.name.replace('.', '/')}.py"
        return ErrorMeaning(
            f"model.py imports '{error.name}', which is neither installed nor beside it.",
            f"put {file} beside model.py, if it is a module of yours, or install '{error.name}'",
        )
    text = describe(error)
    for pattern, meaning, fix in KNOWN_ERRORS:
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return ErrorMeaning(meaning, fix)
    return _UNKNOWN


def describe(error: BaseException) -> str:
    """Return ``Type: message`` on one line."""
    return f"{type(error).__name__}: {error_message(error, _MAX_MESSAGE_CHARACTERS)}"


def root_cause(error: BaseException) -> BaseException:
    """Return the first exception in the chain of causes: the one that the model's own code raised."""
    return list(cause_chain(error, explicit=True))[-1]
