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
from transformer_foundry.core.models.options import TEXT_TASKS

if TYPE_CHECKING:
    from transformer_foundry.core.export.verification.parity import ParityResult
    from transformer_foundry.core.models.adapter import Adapter

__all__ = ["AUTO_CLASSES", "add_transformers_code", "auto_class", "prepare_tokenizer", "token_ids"]

AUTO_CLASSES = {
    "causal_lm": "AutoModelForCausalLM",
    "masked_lm": "AutoModelForMaskedLM",
    "seq2seq_lm": "AutoModelForSeq2SeqLM",
    **dict.fromkeys(TEXT_TASKS, "AutoModelForSequenceClassification"),
    "token_classification": "AutoModelForTokenClassification",
}
"""Task -> class of transformers that loads the package."""

_PROBLEM_TYPES = {
    "sequence_classification": "single_label_classification",
    "multi_label_classification": "multi_label_classification",
    "regression": "regression",
}
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
    support = [name for name in manifest["model"]["sha256"] if name not in ("model.py", "config.json")]
    if support:
        reason = f"transformers copies single files, and model.py imports {', '.join(support[:3])}"
        return {"format": TRANSFORMERS_FORMAT, "file": None, "status": "failed", "stage": "export", "reason": reason}
    written = [f"{name}.py" for name in (_CONFIGURATION, _MODELING)]
    for name in written:
        shutil.copyfile(_CODE_FOLDER / name, folder / name)
    write_json(folder / "config.json", _configuration(folder, adapter, manifest))
    if adapter.contract.task in ("causal_lm", "seq2seq_lm"):
        written.append("generation_config.json")
        write_json(folder / written[-1], token_ids(manifest) | {"use_cache": False})
    prepare_tokenizer(folder, manifest)
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
        **token_ids(manifest),
        "foundry": {
            "expression": manifest["model"]["expression"],
            "contract": contract.to_dict(),
            "buffers": _kept_buffers(folder, adapter),
            "config": json.loads((folder / EXPORT_CONFIG_FILE).read_text(encoding="utf-8")),
        },
    }
    if contract.task in _PROBLEM_TYPES:
        settings["problem_type"] = _PROBLEM_TYPES[contract.task]
    if contract.num_labels:
        names = manifest.get("label_names") or []
        labels = [names[index] if index < len(names) else f"LABEL_{index}" for index in range(contract.num_labels)]
        settings |= {"id2label": dict(enumerate(labels)), "label2id": {name: at for at, name in enumerate(labels)}}
    return settings


def token_ids(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Return the special tokens for a configuration of transformers, such as ``eos_token_id``."""
    special = manifest["special_token_ids"]
    ids = {f"{role}_token_id": special.get(role) for role in ("pad", "bos", "eos")}
    ids["decoder_start_token_id"] = special["decoder_start"] if manifest["model"]["task"] == "seq2seq_lm" else None
    return {name: number for name, number in ids.items() if number is not None}


def _kept_buffers(folder: Path, adapter: Adapter) -> list[str]:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return sorted(set(file.keys()) - set(adapter.model.state_dict()))


def prepare_tokenizer(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Let the tokenizer of a package make rows as its programs do, for transformers.

    Before a text to continue comes the token that begins documents in training, and padding comes before both, as
    generation requires. A mask token takes the space before it where words include theirs. Names of special tokens in a
    text are ordinary text, unless the model has a mask token, which is written by its name.
    """
    task, encoding = manifest["model"]["task"], manifest["encoding"]
    settings, file = folder / "tokenizer_config.json", folder / "tokenizer.json"
    if settings.is_file():
        written = json.loads(settings.read_text(encoding="utf-8")) | {"split_special_tokens": task != "masked_lm"}
        write_json(settings, written | ({"padding_side": "left"} if task == "causal_lm" else {}))
    if not file.is_file() or task not in ("causal_lm", "masked_lm"):
        return
    from tokenizers import Tokenizer, processors

    backend = Tokenizer.from_file(str(file))
    if task == "causal_lm" and encoding["prefix"]:
        start = (backend.id_to_token(encoding["prefix"][0]), encoding["prefix"][0])
        frame = processors.TemplateProcessing(single=[start[0], "$A"], special_tokens=[start])
        # What was there adds ends to complete texts, and a text to continue has none.
        backend.post_processor = frame
    written = json.loads(backend.to_str())
    for token in written["added_tokens"]:
        if task == "masked_lm" and encoding["mask_takes_space"] and token["content"] == encoding["mask_text"]:
            token["lstrip"] = True
    write_json(file, written)


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
