"""Make a package loadable by transformers: ``AutoModel...from_pretrained(folder, trust_remote_code=True)``."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.export.files import EXPORT_CONFIG_FILE, describe_file
from transformer_foundry.core.export.formats.table import TRANSFORMERS_FORMAT
from transformer_foundry.core.files.atomic import write_json

if TYPE_CHECKING:
    from transformer_foundry.core.export.verification.parity import ParityResult
    from transformer_foundry.core.models.adapter import Adapter

__all__ = ["AUTO_CLASSES", "add_transformers_code", "auto_class"]

AUTO_CLASSES = {
    "causal_lm": "AutoModelForCausalLM",
    "masked_lm": "AutoModelForMaskedLM",
    "seq2seq_lm": "AutoModelForSeq2SeqLM",
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
}
"""Task -> class of transformers that loads the package."""

_CODE_FOLDER = Path(__file__).parent
_CONFIGURATION, _MODELING = "configuration_foundry", "modeling_foundry"


def add_transformers_code(
    folder: Path, adapter: Adapter, manifest: Mapping[str, Any], tolerance: float
) -> dict[str, Any]:
    """Make a package with verified weights loadable by transformers.

    ``config.json`` becomes the one of transformers; the model's own stays beside it. A fresh process loads the package
    with ``AutoModel...``; if its logits differ from the model's, the added files are removed.

    Args:
        folder: The package.
        adapter: The model, with the weights of the package.
        manifest: The manifest so far: ``model``, ``special_token_ids``, ``label_names``.
        tolerance: Largest difference allowed, times the largest logit if that is above 1.

    Returns:
        The entry of the manifest's ``formats``.
    """
    written = [f"{name}.py" for name in (_CONFIGURATION, _MODELING)]
    for name in written:
        shutil.copyfile(_CODE_FOLDER / name, folder / name)
    write_json(folder / "config.json", _configuration(folder, adapter, manifest))
    if adapter.contract.task in ("causal_lm", "seq2seq_lm"):
        written.append("generation_config.json")
        write_json(folder / written[-1], _token_ids(manifest) | {"use_cache": False})
    _pad_on_the_left(folder, adapter.contract.task)
    result, bound = _verify(folder, adapter, manifest["special_token_ids"]["pad"], tolerance)
    entry: dict[str, Any] = {"format": TRANSFORMERS_FORMAT, "file": None, "status": "failed", "tolerance": bound}
    entry |= {"shapes": result.rows, "max_abs_error": result.max_abs_error}
    if result.reason:
        for name in written:
            (folder / name).unlink()
        shutil.copyfile(folder / EXPORT_CONFIG_FILE, folder / "config.json")
        return entry | {"stage": "parity", "reason": result.reason}
    return entry | {"status": "verified", "auto_class": auto_class(manifest), **describe_file(folder / written[1])}


def auto_class(manifest: Mapping[str, Any]) -> str:
    """Return the class of transformers that loads the package of ``manifest``."""
    return AUTO_CLASSES[manifest["model"]["task"]]


def _configuration(folder: Path, adapter: Adapter, manifest: Mapping[str, Any]) -> dict[str, Any]:
    contract, name = adapter.contract, auto_class(manifest)
    own_class = f"Foundry{name.removeprefix('AutoModel')}"
    settings: dict[str, Any] = {
        "architectures": [own_class],
        "auto_map": {
            "AutoConfig": f"{_CONFIGURATION}.FoundryConfig",
            **dict.fromkeys(("AutoModel", name), f"{_MODELING}.{own_class}"),
        },
        "model_type": "transformer_foundry",
        "vocab_size": contract.vocab_size,
        "max_position_embeddings": contract.max_length,
        "is_encoder_decoder": contract.decoder_ids_argument is not None,
        "use_cache": False,
        **_token_ids(manifest),
        "foundry": {
            "expression": manifest["model"]["expression"],
            "contract": contract.to_dict(),
            "buffers": _kept_buffers(folder, adapter),
            "config": json.loads((folder / EXPORT_CONFIG_FILE).read_text(encoding="utf-8")),
        },
    }
    if contract.num_labels:
        names = manifest.get("label_names") or []
        labels = [names[index] if index < len(names) else f"LABEL_{index}" for index in range(contract.num_labels)]
        settings |= {"id2label": dict(enumerate(labels)), "label2id": {name: at for at, name in enumerate(labels)}}
    return settings


def _token_ids(manifest: Mapping[str, Any]) -> dict[str, int]:
    special = manifest["special_token_ids"]
    ids = {f"{role}_token_id": special.get(role) for role in ("pad", "bos", "eos")}
    ids["decoder_start_token_id"] = special["decoder_start"] if manifest["model"]["task"] == "seq2seq_lm" else None
    return {name: number for name, number in ids.items() if number is not None}


def _kept_buffers(folder: Path, adapter: Adapter) -> list[str]:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return sorted(set(file.keys()) - set(adapter.model.state_dict()))


def _pad_on_the_left(folder: Path, task: str) -> None:
    """Let the tokenizer of a language model pad before the text, as generation requires."""
    path = folder / "tokenizer_config.json"
    if task == "causal_lm" and path.is_file():
        write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"padding_side": "left"})


def _verify(folder: Path, adapter: Adapter, pad_token_id: int, tolerance: float) -> tuple[ParityResult, float]:
    """Return the comparison of the package, loaded by transformers, with the model, and the error that was allowed."""
    from transformer_foundry.core.export.verification.parity import (
        LONGEST_UNLIMITED,
        ParityCheck,
        check_shapes,
        judge,
        make_cases,
        write_cases,
    )
    from transformer_foundry.core.export.verification.reference_inputs import compared_by, reference_inputs
    from transformer_foundry.core.export.verify_file import Verification

    inputs = reference_inputs(adapter.contract, pad_token_id)
    names = list(inputs(1, 1))
    shapes = check_shapes(adapter.contract.max_length or LONGEST_UNLIMITED)
    model: Any = lambda *values: adapter(**dict(zip(names, values, strict=True)))  # noqa: E731
    with tempfile.TemporaryDirectory(prefix="foundry-verify-") as scratch:
        was_training = adapter.training
        adapter.eval()
        cases = make_cases(model, inputs, shapes, compared_by(adapter.contract, pad_token_id))
        adapter.train(was_training)
        check = ParityCheck(cases, Path(scratch) / "cases.safetensors", tolerance)
        write_cases(cases, check.file)
        rows, failure = Verification(TRANSFORMERS_FORMAT, folder / f"{_MODELING}.py", check.file).wait()
    return judge(rows, failure, check.bound), check.bound
