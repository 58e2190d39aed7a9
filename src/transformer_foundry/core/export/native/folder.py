"""Write a recognized model into a package, in its native architecture, and verify it in a fresh process."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from transformer_foundry.core.export.files import NATIVE_FOLDER, describe_file
from transformer_foundry.core.export.formats.cached_onnx import add_cached_steps
from transformer_foundry.core.export.formats.table import TRANSFORMERS_FORMAT
from transformer_foundry.core.export.native.proof import build, load_weights, quiet_transformers
from transformer_foundry.core.export.native.recognize import recognize
from transformer_foundry.core.export.transformers_code.auto_map import auto_class, prepare_tokenizer, token_ids
from transformer_foundry.core.export.verification.parity import (
    LONGEST_UNLIMITED,
    Case,
    ParityCheck,
    check_shapes,
    judge,
    make_cases,
    write_cases,
)
from transformer_foundry.core.export.verification.reference_inputs import compared_by, reference_inputs
from transformer_foundry.core.export.verify_file import Verification
from transformer_foundry.core.files.atomic import write_json

if TYPE_CHECKING:
    from transformer_foundry.core.models.adapter import Adapter

__all__ = ["add_native_model", "verified_entry"]

_LOGGER = logging.getLogger(__name__)

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_GENERATION_CONFIG = "generation_config.json"
_NEW_TOKENS = 24


def add_native_model(
    folder: Path, adapter: Adapter, manifest: Mapping[str, Any], tolerance: float
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Add the model in the architecture of transformers that it is, if it is one.

    ``native/`` then holds weights, configuration and tokenizer, and the package's own ``config.json`` leads there:
    ``from_pretrained`` loads the package without code of its own. A fresh process compares logits at several shapes,
    and those of greedy generation with a cache.

    Args:
        folder: The package.
        adapter: The model, with the weights of the package.
        manifest: The manifest so far: ``model``, ``special_token_ids``, ``prompt``.
        tolerance: Largest difference allowed, times the largest logit if that is above 1.

    Returns:
        The entry of the manifest's ``formats``, None if the model is no such architecture, and the manifest's
        ``native``: ``architecture``, ``model_type``, ``folder``, of decoders with an ONNX file ``cache``; or
        ``reason``.
    """
    pad = manifest["special_token_ids"]["pad"]
    recognition = recognize(adapter, pad, token_ids(manifest))
    candidate = recognition.candidate
    if candidate is None:
        _LOGGER.info("The package gets code of its own for transformers (%s).", recognition.reason)
        return None, {"architecture": None, "reason": recognition.reason}
    native = folder / NATIVE_FOLDER
    parameters = {name: value.detach().float().cpu() for name, value in adapter.named_parameters()}
    model: Any = build(candidate)
    load_weights(model, candidate, parameters)
    with quiet_transformers():
        model.save_pretrained(native)
    prepare_tokenizer(folder, manifest)
    for name in filter(lambda item: (folder / item).is_file(), _TOKENIZER_FILES):
        shutil.copyfile(folder / name, native / name)
    original = (folder / "config.json").read_bytes()
    settings = _with_older_names(json.loads((native / "config.json").read_text(encoding="utf-8")))
    write_json(native / "config.json", settings)
    write_json(folder / "config.json", settings | {"transformers_weights": f"{NATIVE_FOLDER}/model.safetensors"})
    if (native / _GENERATION_CONFIG).is_file():
        shutil.copyfile(native / _GENERATION_CONFIG, folder / _GENERATION_CONFIG)
    entry = verified_entry(TRANSFORMERS_FORMAT, folder / "config.json", adapter, manifest, tolerance)
    if reason := entry.pop("reason", ""):
        shutil.rmtree(native)
        (folder / _GENERATION_CONFIG).unlink(missing_ok=True)
        (folder / "config.json").write_bytes(original)
        return None, {"architecture": None, "reason": f"it looks like a {candidate.name}, but {reason}"}
    _LOGGER.info("The model is a %s: the package loads without code of its own.", candidate.architecture)
    entry |= {"architecture": candidate.architecture, "auto_class": auto_class(manifest)}
    entry |= describe_file(native / "model.safetensors") | {"file": f"{NATIVE_FOLDER}/model.safetensors"}
    named: dict[str, Any] = {
        "architecture": candidate.architecture,
        "model_type": candidate.model_type,
        "folder": NATIVE_FOLDER,
    }
    plain = next((item for item in manifest["formats"] if item["format"] == "onnx"), {"status": "failed"})
    if manifest["model"]["task"] == "causal_lm" and plain["status"] == "verified":
        longest = adapter.contract.max_length or LONGEST_UNLIMITED
        with quiet_transformers():
            named["cache"] = add_cached_steps(
                folder, model, vocab_size=adapter.contract.vocab_size, longest=longest, bound=entry["tolerance"]
            )
    return entry, named


def _with_older_names(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the names of rotary positions that other programs read.

    transformers 5 keeps them in one dictionary; without ``rope_theta``, MLX-LM 0.32 rotates by a base of its own.
    """
    rope = settings.get("rope_parameters") or {}
    older: dict[str, Any] = {}
    if "rope_theta" in rope:
        older["rope_theta"] = rope["rope_theta"]
    if settings["model_type"] == "gpt_neox" and rope:
        older |= {"rotary_emb_base": rope["rope_theta"], "rotary_pct": rope.get("partial_rotary_factor", 1.0)}
    return older | settings


def verified_entry(
    format_name: str, path: Path, adapter: Adapter, manifest: Mapping[str, Any], tolerance: float
) -> dict[str, Any]:
    """Compare a file with the model in a fresh process; return its entry of the manifest, and why it is wrong.

    Args:
        format_name: Format of the file. ``transformers`` is also compared at each step of a greedy generation.
        path: The file.
        adapter: The model.
        manifest: The manifest so far.
        tolerance: Largest difference allowed, times the largest logit if that is above 1.
    """
    contract, pad = adapter.contract, manifest["special_token_ids"]["pad"]
    inputs = reference_inputs(contract, pad)
    names = list(inputs(1, 1))
    shapes = check_shapes(contract.max_length or LONGEST_UNLIMITED)
    model: Any = lambda *values: adapter(**dict(zip(names, values, strict=True)))  # noqa: E731
    was_training = adapter.training
    adapter.eval()
    with tempfile.TemporaryDirectory(prefix="foundry-verify-") as scratch:
        cases = make_cases(model, inputs, shapes, compared_by(contract, pad))
        check = ParityCheck(cases, Path(scratch) / "cases.safetensors", tolerance)
        if format_name == TRANSFORMERS_FORMAT and contract.task in ("causal_lm", "seq2seq_lm"):
            cases.append(_generation(adapter, manifest, check.bound))
        adapter.train(was_training)
        write_cases(cases, check.file)
        rows, failure = Verification(format_name, path, check.file).wait()
    result = judge(rows, failure, check.bound)
    entry = {"format": format_name, "status": "verified", "tolerance": check.bound, "shapes": result.rows}
    return entry | {"max_abs_error": result.max_abs_error, "reason": result.reason}


@torch.no_grad()
def _generation(adapter: Adapter, manifest: Mapping[str, Any], bound: float) -> Case:
    """Return the case of a greedy generation: the model's logits at each step, computed without a cache."""
    contract = adapter.contract
    longest = contract.max_length or LONGEST_UNLIMITED
    prompt = torch.tensor([manifest["prompt"]["input_ids"][: max(1, longest // 2)]])
    is_pair = contract.decoder_ids_argument is not None
    written = torch.tensor([[manifest["special_token_ids"]["decoder_start"]]]) if is_pair else prompt
    steps: list[Tensor] = []
    while len(steps) < _NEW_TOKENS and written.shape[1] < longest:
        logits = (adapter(prompt, decoder_input_ids=written) if is_pair else adapter(written))[:, -1]
        steps.append(logits)
        best = logits[0].topk(2)
        if float(best.values[0] - best.values[1]) <= 4 * bound:
            break  # a tie, which rounding decides
        written = torch.cat([written, best.indices[None, :1]], 1)
    tensors = {"input_ids": prompt.numpy(), "new_tokens": np.array([len(steps)])}
    return Case(1, prompt.shape[1], tensors, torch.stack(steps, 1).float().numpy())
