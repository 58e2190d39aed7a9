"""Add ``model.gguf`` and ``Modelfile`` to a package with a native model, and verify them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from transformer_foundry.core.export.files import GGUF_FILE, MODELFILE, NATIVE_FOLDER, delete_file, describe_file
from transformer_foundry.core.export.formats.table import GGUF_FORMAT
from transformer_foundry.core.export.gguf.file import Value, difference, write_gguf
from transformer_foundry.core.export.gguf.layout import Layout, Unwritable, lay_out
from transformer_foundry.core.export.gguf.llama_cpp import has_llama_cpp, run_in_llama_cpp
from transformer_foundry.core.export.gguf.reference import GgufModel
from transformer_foundry.core.export.gguf.vocabulary import describe_vocabulary
from transformer_foundry.core.export.native.folder import verified_entry
from transformer_foundry.core.export.verification.error_reasons import explain

if TYPE_CHECKING:
    from transformer_foundry.core.models.adapter import Adapter

__all__ = ["add_gguf"]

_LOGGER = logging.getLogger(__name__)

_ALL_FLOAT32 = 0  # general.file_type
_TEMPERATURE = 0.8  # that of the package's programs


def add_gguf(
    folder: Path, adapter: Adapter, manifest: Mapping[str, Any], tolerance: float, license_id: str
) -> dict[str, Any]:
    """Add the native model and its tokenizer as one GGUF file in float32, with a ``Modelfile`` for Ollama.

    The file is read back and compared value by value; a fresh process computes its logits from the file alone and
    compares them with the model's; where ``llama-cpp-python`` is installed, llama.cpp runs the file.

    Args:
        folder: The package, with the native model.
        adapter: The model.
        manifest: The manifest so far: ``native``, ``model``, ``special_token_ids``, ``encoding``.
        tolerance: Largest difference allowed, times the largest logit if that is above 1.
        license_id: License of the model.

    Returns:
        The entry of the manifest's ``formats``; ``llama_cpp`` in it is what llama.cpp was compared in.
    """
    entry: dict[str, Any] = {"format": GGUF_FORMAT, "file": None, "status": "failed"}
    native, path = manifest.get("native") or {}, folder / GGUF_FILE
    if native.get("architecture") is None:
        lacks = native.get("reason", "the package has none")
        return entry | {"stage": "export", "reason": f"it is made from the native model, and {lacks}"}
    try:
        layout, metadata = _described(folder / NATIVE_FOLDER, manifest, license_id)
    except Unwritable as err:
        return entry | {"stage": "export", "reason": str(err)}
    write_gguf(path, layout.architecture, metadata, layout.tensors)
    if wrong := difference(path, layout.architecture, metadata, layout.tensors):
        delete_file(path)
        return entry | {"stage": "parity", "reason": f"is not what was written: {wrong}"}
    entry = verified_entry(GGUF_FORMAT, path, adapter, manifest, tolerance)
    reason, ran = entry.pop("reason"), {}
    if not reason and has_llama_cpp():
        ran = run_in_llama_cpp(folder)
        if unusable := ran.pop("unusable", ""):
            _LOGGER.warning("llama.cpp was not run: llama-cpp-python cannot be loaded (%s).", unusable)
        elif problem := ran.pop("problem"):
            reason = f"is wrong in llama.cpp: {explain(problem)}"
    if reason:
        delete_file(path)
        return entry | {"file": None, "status": "failed", "stage": "parity", "reason": reason}
    (folder / MODELFILE).write_text(_modelfile(metadata, layout), encoding="utf-8")
    entry |= describe_file(path) | {"architecture": layout.architecture} | ({"llama_cpp": ran} if ran else {})
    _LOGGER.info("model.gguf is a %s of llama.cpp%s.", layout.architecture, ", which has run it" if ran else "")
    return entry | ({"note": _gelu_note(path, manifest)} if layout.has_exact_gelu else {})


def _described(native: Path, manifest: Mapping[str, Any], license_id: str) -> tuple[Layout, dict[str, Value]]:
    from safetensors.torch import load_file
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(native)
    layout = lay_out(config.model_type, config, load_file(native / "model.safetensors"))
    rows = layout.tensors["token_embd.weight"].shape[0]
    general: dict[str, Value] = {
        "general.type": "model",
        "general.name": str(manifest["model"]["name"]),
        "general.license": license_id,
        "general.file_type": _ALL_FLOAT32,
    }
    return layout, general | layout.metadata | describe_vocabulary(native, manifest, rows)


def _modelfile(metadata: Mapping[str, Any], layout: Layout) -> str:
    """Return the text of Ollama's file: the prompt is continued as it is, without the roles of a chat."""
    end = metadata["tokenizer.ggml.tokens"][metadata["tokenizer.ggml.eos_token_id"]]
    lines = [
        f"FROM ./{GGUF_FILE}",
        f"PARAMETER num_ctx {layout.metadata[f'{layout.architecture}.context_length']}",
        f"PARAMETER temperature {_TEMPERATURE}",
        # llama.cpp ends at this token by its id; a quotation mark would end the line's string.
        *([] if '"' in end else [f"PARAMETER stop {json.dumps(end, ensure_ascii=False)}"]),
        'TEMPLATE """{{ .Prompt }}"""',
    ]
    return "\n".join(lines) + "\n"


def _gelu_note(path: Path, manifest: Mapping[str, Any]) -> str:
    ids = torch.tensor([manifest["prompt"]["input_ids"]])
    exact, computed = (GgufModel(path, exact_gelu=exact).logits(ids) for exact in (True, False))
    error = float((exact - computed).abs().max())
    return (
        "the model computes GELU by the error function and llama.cpp in the tanh form, which changes the logits of the "
        f"example by up to {error:.1g}"
    )
