"""Weights as safetensors, which ``load_example.py`` loads into the model's own code."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from transformer_foundry.core.export.capture.export_source import ExportSource
from transformer_foundry.core.export.files import LOADER_FILE
from transformer_foundry.core.export.formats.table import Way
from transformer_foundry.core.export.verification.parity import ParityCheck, Run
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE
from transformer_foundry.core.files.safetensors_header import sort_metadata
from transformer_foundry.core.system.tensors import memory_key

__all__ = ["load_weights", "open_file", "run_by_name", "ways", "write_weights"]


def ways(source: ExportSource, check: ParityCheck) -> Iterator[Way]:  # noqa: ARG001 (as all formats)
    """Yield the only way: writing the module's state, or what the caller of ``export_model`` writes instead."""
    yield Way(source.write_weights or (lambda path: write_weights(source.module, path)))


def open_file(path: Path) -> Run:
    """Return a function that runs the model that ``load_example.py`` beside ``path`` loads."""
    import importlib.util

    # The script is verified as it is shipped, with nothing but the files of its folder.
    spec = importlib.util.spec_from_file_location("load_example", path.with_name(LOADER_FILE))
    assert spec, path
    assert spec.loader, path
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return run_by_name(example.load_model(**({} if _is_complete(path.parent) else {"check": False})))


def _is_complete(folder: Path) -> bool:
    """Return whether the manifest lists the digests of the files; while a package is made, it does not yet."""
    manifest = folder / MANIFEST_FILE
    return not manifest.is_file() or "files" in json.loads(manifest.read_text(encoding="utf-8"))


def run_by_name(model: Callable[..., Tensor]) -> Run:
    """Return ``model``, which takes tensors by name, as a function of named arrays."""

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            return model(**{name: torch.from_numpy(value) for name, value in inputs.items()}).float().numpy()

    return run


def write_weights(module: nn.Module, path: Path, buffers: Collection[str] = ()) -> None:
    """Write parameters and persistent buffers to a safetensors file, each tensor once.

    The names of tied tensors are kept in the file's metadata (``aliases``, JSON), so that the file fills a module that
    ties them and one that does not.

    Args:
        module: Module whose state is written.
        path: The file.
        buffers: Names of non-persistent buffers to write as well.
    """
    from safetensors.torch import save_file

    state = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    state |= {name: value for name, value in module.named_buffers() if name in buffers}
    first: dict[Hashable, str] = {}
    aliases: dict[str, str] = {}
    kept: dict[str, Tensor] = {}
    for name, value in state.items():
        owner = first.setdefault(memory_key(value), name)
        if owner != name:
            aliases[name] = owner
        else:
            # A view of another tensor (a transposed tie, a slice of a fused matrix) becomes a separate tensor.
            kept[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    save_file(kept, path, metadata={"format": "pt", "aliases": json.dumps(aliases)})
    sort_metadata(path)


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill ``module`` from a file of ``write_weights``.

    Raises:
        RuntimeError: If names or shapes do not fit.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        aliases: dict[str, str] = json.loads(file.metadata()["aliases"])
    tensors |= {name: tensors[kept] for name, kept in aliases.items()}
    module.load_state_dict(tensors)
