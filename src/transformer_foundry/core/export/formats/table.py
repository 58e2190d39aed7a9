"""Table of the formats: file and module of each; the docstring of this folder says how to add one."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from transformer_foundry.core.export.capture.export_source import ExportSource
    from transformer_foundry.core.export.verification.parity import ParityCheck, Run

__all__ = [
    "FORMATS",
    "FORMAT_FILES",
    "GGUF_FORMAT",
    "TRANSFORMERS_FORMAT",
    "VARIANT_FORMATS",
    "Format",
    "FormatModule",
    "Way",
    "format_module",
]


@dataclass(frozen=True)
class Format:
    """A format of exported files.

    Attributes:
        file: Name of its file in a package.
        module: Module of this folder that writes and opens it. It is imported when it is used: opening an ONNX file
            must not import torch.
        is_captured: Whether it is made from the program that ``ExportSource.program`` captures, whose
            relaxed dimensions give all formats further shapes to be verified at.
        is_variant: Whether it is smaller than the model and not equal to it: made from a verified ONNX file, and judged
            by its predictions.
    """

    file: str
    module: str
    is_captured: bool = False
    is_variant: bool = False


FORMATS = {
    "pytorch": Format("model.safetensors", "pytorch"),
    "pt2": Format("model.pt2", "pt2", is_captured=True),
    "onnx": Format("model.onnx", "onnx", is_captured=True),
    "torchscript": Format("model.torchscript.pt", "torchscript"),
    "onnx-fp16": Format("model-fp16.onnx", "onnx", is_captured=True, is_variant=True),
    "onnx-int8": Format("model-int8.onnx", "onnx", is_captured=True, is_variant=True),
}

FORMAT_FILES = {name: item.file for name, item in FORMATS.items()}
"""Format -> name of its file in a package."""

VARIANT_FORMATS = tuple(name for name, item in FORMATS.items() if item.is_variant)

TRANSFORMERS_FORMAT = "transformers"
"""The package itself, as transformers loads it: it is no single file and is made last (``transformers_code``)."""

GGUF_FORMAT = "gguf"
"""``model.gguf``, which is made from the native model and the tokenizer, after the others, and only on request
(``core.export.gguf``)."""


@dataclass
class Way:
    """One way to write the file of a format.

    Attributes:
        write: Writes the file to a path; returns the version of the operator set where the format has one.
        note: What users of the file should know.
        shapes: (batch, length) pairs at which a file written in this way must be verified besides the usual ones.
        failure: Why the file could not be written in this way; empty until then.
    """

    write: Callable[[Path], int | None]
    note: str = ""
    shapes: Sequence[tuple[int, int]] = ()
    failure: str = ""


class FormatModule(Protocol):
    """A module that writes and opens the files of a format."""

    def ways(self, source: ExportSource, check: ParityCheck) -> Iterator[Way]:
        """Yield the ways to write the file, the best first.

        The next way is asked for only if the file could not be written (``failure`` then says why) or was wrong.
        """
        ...

    def open_file(self, path: Path) -> Run:
        """Return a function that runs the file on named arrays and returns logits."""
        ...


def format_module(name: str) -> FormatModule:
    """Return the module that writes and opens files of the format ``name``."""
    return cast("FormatModule", importlib.import_module(f"{__package__}.{FORMATS[name].module}"))
