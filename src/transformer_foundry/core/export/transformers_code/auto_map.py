"""The package as a repository of transformers: ``AutoModel...from_pretrained(folder, trust_remote_code=True)``."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.export.names import EXPORT_CONFIG_FILE, TRANSFORMERS_FORMAT
from transformer_foundry.core.files.atomic import sha256_of, write_json

if TYPE_CHECKING:
    from transformer_foundry.core.models.adapter import Adapter

__all__ = ["AUTO_CLASSES", "add_transformers_code", "auto_class"]


AUTO_CLASSES = {
    "causal_lm": "AutoModelForCausalLM",
    "masked_lm": "AutoModelForMaskedLM",
    "seq2seq_lm": "AutoModelForSeq2SeqLM",
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
}
"""Task -> class of transformers that loads a package."""

_CODE_FOLDER = Path(__file__).parent
_CONFIGURATION, _MODELING = "configuration_foundry", "modeling_foundry"
_LONGEST_UNLIMITED = 128


def add_transformers_code(
    folder: Path, adapter: Adapter, manifest: Mapping[str, Any], tolerance: float
) -> dict[str, Any]:
    """Make ``folder``, which holds a package with verified weights, a repository that transformers loads.

    ``config.json`` becomes that of transformers; the model's own stays beside it. What a fresh process loads with
    ``AutoModel...`` is compared with the model; if it differs, the folder is left without this format.

    Args:
        folder: The package.
        adapter: The model, filled with the weights of the package.
        manifest: The manifest so far: ``model``, ``special_token_ids``, ``label_names``.
        tolerance: Largest difference allowed, times the largest logit when that is above 1.

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
    rows, reason, bound = _verify(folder, adapter, manifest["special_token_ids"]["pad"], tolerance)
    entry = {"format": TRANSFORMERS_FORMAT, "file": None, "status": "failed", "tolerance": bound, "shapes": rows}
    entry["max_abs_error"] = max(
        (row["max_abs_error"] for row in rows if row["max_abs_error"] is not None), default=None
    )
    if reason:
        for name in written:
            (folder / name).unlink()
        shutil.copyfile(folder / EXPORT_CONFIG_FILE, folder / "config.json")
        return entry | {"stage": "parity", "reason": reason}
    file = folder / written[1]
    entry |= {"file": file.name, "status": "verified", "auto_class": auto_class(manifest)}
    return entry | {"sha256": sha256_of(file), "size_bytes": file.stat().st_size}


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
    """Have the tokenizer of a language model pad where generation wants it: before the text."""
    path = folder / "tokenizer_config.json"
    if task == "causal_lm" and path.is_file():
        write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"padding_side": "left"})


def _verify(
    folder: Path, adapter: Adapter, pad_token_id: int, tolerance: float
) -> tuple[list[dict[str, Any]], str, float]:
    """Return the compared shapes, why the copy is not right (empty if it is), and the error that was allowed."""
    import numpy as np

    from transformer_foundry.core.export.check_shapes import check_shapes
    from transformer_foundry.core.export.verification.parity import is_plain, make_cases, write_cases
    from transformer_foundry.core.export.verification.reference_inputs import compared_by, reference_inputs
    from transformer_foundry.core.export.verification.verifier_process import Verification, judge

    inputs = reference_inputs(adapter.contract, pad_token_id)
    names = list(inputs(1, 1))
    shapes = check_shapes(adapter.contract.max_length or _LONGEST_UNLIMITED)
    model: Any = lambda *values: adapter(**dict(zip(names, values, strict=True)))  # noqa: E731
    with tempfile.TemporaryDirectory(prefix="foundry-verify-") as scratch:
        was_training = adapter.training
        adapter.eval()
        cases = make_cases(model, inputs, shapes, compared_by(adapter.contract, pad_token_id))
        adapter.train(was_training)
        file = Path(scratch) / "cases.safetensors"
        write_cases(cases, file)
        largest = max(float(np.abs(case.logits[is_plain(case.logits)]).max(initial=0.0)) for case in cases)
        bound = tolerance * max(1.0, largest)
        rows, failure = Verification(TRANSFORMERS_FORMAT, folder / f"{_MODELING}.py", file).wait()
    verdict = judge(rows, failure, bound)
    return verdict.rows, verdict.reason, bound
