"""Leave out of exported files what differs from machine to machine: Python stacks with the paths of source files.

Two exports of one model then have the same bytes, and nothing of the machine is published.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["drop_onnx_stacks", "drop_torchscript_stacks", "without_stacks"]

_FX_STACK = "stack_trace"
_ONNX_STACK = "pkg.torch.onnx.stack_trace"
_TORCHSCRIPT_STACKS = ".debug_pkl"
_TORCHSCRIPT_ID = ".data/serialization_id"
_ALIGNMENT_BYTES = 64
_LOCAL_HEADER_BYTES = 30
_EXTRA_HEADER_BYTES = 4
_EXTRA_ID = b"FB"


@contextlib.contextmanager
def without_stacks(program: ExportedProgram) -> Iterator[None]:
    """Take the stacks off the nodes of a captured program while the block lasts; messages of errors need them."""
    import torch

    modules = [module for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    nodes = [node for module in modules for node in module.graph.nodes if _FX_STACK in node.meta]
    kept = [(node, node.meta.pop(_FX_STACK)) for node in nodes]
    try:
        yield
    finally:
        for node, stack in kept:
            node.meta[_FX_STACK] = stack


def drop_onnx_stacks(model: Any) -> None:
    """Remove the stacks from the nodes of an ``onnx_ir.Model``."""
    from onnx_ir.traversal import RecursiveGraphIterator

    for graph in (model.graph, *model.functions.values()):
        for node in RecursiveGraphIterator(graph):
            node.metadata_props.pop(_ONNX_STACK, None)


def drop_torchscript_stacks(path: Path) -> None:
    """Write a TorchScript file again without the stacks, each entry aligned as torch aligns it."""
    temporary = path.with_name(f"{path.name}.new")
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            if name.endswith(_TORCHSCRIPT_STACKS):
                continue
            content = source.read(name)
            if name.endswith(_TORCHSCRIPT_ID):
                # torch numbers a file by its content, which included the stacks; this entry is the last one.
                content = f"{int(digest.hexdigest(), 16) % 10 ** len(content):0{len(content)}d}".encode()
            digest.update(name.encode() + content)
            target.writestr(_aligned(name, target.fp.tell()), content)  # type: ignore[union-attr]
    os.replace(temporary, path)


def _aligned(name: str, offset: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    begin = offset + _LOCAL_HEADER_BYTES + len(name.encode()) + _EXTRA_HEADER_BYTES
    padding = -begin % _ALIGNMENT_BYTES
    entry.extra = _EXTRA_ID + padding.to_bytes(2, "little") + b"Z" * padding
    return entry
