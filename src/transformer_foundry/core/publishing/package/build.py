"""Build the self-contained package of a trained model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.export.files import (
    CALL_FILE,
    EXPORT_CONFIG_FILE,
    FORMAT_VERSION,
    LOADER_FILE,
    VERIFY_FILE,
)
from transformer_foundry.core.export.formats.table import GGUF_FORMAT, TRANSFORMERS_FORMAT
from transformer_foundry.core.export.transformers_code.auto_map import add_transformers_code
from transformer_foundry.core.files.atomic import sha256_of, write_json
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE
from transformer_foundry.core.files.provenance import CODE_VERSION, MADE_FROM, Origin, digest_of, settings_text
from transformer_foundry.core.publishing.options import DeploymentOptions
from transformer_foundry.core.publishing.package.manifest import (
    describe_encoding,
    describe_model,
    describe_training,
    make_prompt,
    special_token_ids,
    trained_contract,
)
from transformer_foundry.core.publishing.package.package import CARD_FILE, Package, list_files
from transformer_foundry.core.publishing.package.programs import add_programs
from transformer_foundry.core.publishing.package.runtimes import describe_runtimes
from transformer_foundry.core.system.environment import describe_environment
from transformer_foundry.core.system.process import make_build_folder

if TYPE_CHECKING:
    from torch import Tensor

    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
    from transformer_foundry.core.models.adapter import Adapter
    from transformer_foundry.core.models.contract import Contract
    from transformer_foundry.core.models.source.read import ModelSource
    from transformer_foundry.core.training.checkpointing.state import TrainingState

__all__ = ["build_package", "package_origin"]

_DATA_KEYS = ("source", "task", "fingerprint", "max_length", "tokenizer", "splits", "baselines", "findings")
_PACKAGE_OPTIONS = ("formats", "page", "license", "language", "tolerance")
# From the weights, the tokenizer and the manifest of the package.
_MADE_LATER = (TRANSFORMERS_FORMAT, GGUF_FORMAT)
# Any seed other than the one that models are built with.
_OTHER_SEED = 987_654_321


def build_package(
    adapter: Adapter,
    export: ModelSource,
    tokenizer: Tokenizer,
    *,
    training_state: TrainingState | None,
    evaluation: Mapping[str, Any],
    data_profile: Mapping[str, Any],
    validation_report: Mapping[str, Any],
    run_manifest: Mapping[str, Any],
    options: DeploymentOptions,
    splits: TokenSplits | None = None,
) -> Package:
    """Build the package of a trained model in a temporary folder, which then belongs to the caller.

    Args:
        adapter: The adapted model; it is filled with the weights of ``training_state``, and gets the task of the data.
        export: What it was built from; ``model.py`` and ``config.json`` go into the package as they are.
        tokenizer: The tokenizer it was trained with.
        training_state: The checkpoint that is packaged; None packages the weights that ``adapter`` holds.
        evaluation: What ``core.evaluation.assess`` measured: ``validation``, ``test``, ``baselines``, ``comparisons``.
        data_profile: What ``core.data.profile_splits`` found.
        validation_report: Report of the checks.
        run_manifest: Manifest of the training run: parameters, seeds, environment.
        options: Formats, tolerance, license, language.
        splits: The data; the smaller variants of the ONNX file are judged on its test split.

    Returns:
        The package; ``problems`` names requested formats whose outputs were wrong.

    Raises:
        DeploymentError: If the checkpoint belongs to another model, or the model fails or returns NaN.
    """
    _load_checkpoint(adapter, export, training_state)
    adapter.contract = trained_contract(adapter.contract, data_profile)
    manifest = _strict_json(
        {
            "format_version": FORMAT_VERSION,
            "model": describe_model(adapter, export),
            "training": describe_training(training_state, run_manifest),
            "evaluation": dict(evaluation),
            "validation": _summarize_checks(validation_report),
            "environment": _environment(),
            MADE_FROM: package_origin(
                training_state.made_from if training_state else {"model": export.identity},
                evaluation,
                data_profile,
                validation_report,
                run_manifest,
                options,
            ),
        }
        | _describe_data(adapter.contract, tokenizer, data_profile)
    )
    folder = make_build_folder("foundry-package")
    try:
        _write_code(folder, export)
        tokenizer.save(folder)
        # load_example.py, which is verified like the other formats, reads the manifest.
        write_json(folder / MANIFEST_FILE, manifest)
        manifest |= _export_formats(folder, adapter, export, manifest, options, splits)
        _complete(folder, adapter, manifest, options)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Package(folder, manifest)


def package_origin(
    made_from: Origin,
    evaluation: Mapping[str, Any],
    data_profile: Mapping[str, Any],
    validation_report: Mapping[str, Any],
    run_manifest: Mapping[str, Any],
    options: DeploymentOptions,
) -> dict[str, str | int]:
    """Return what a package with these parts is made from: the same parts give the same bytes.

    Args:
        made_from: What the weights are (``TrainingState.made_from``).
        evaluation: As for ``build_package``, like the following ones.
        data_profile: The profile of the data.
        validation_report: Report of the checks.
        run_manifest: Manifest of the training run.
        options: Those of where it is published and under which name do not count.
    """
    settings = {name: getattr(options, name) for name in _PACKAGE_OPTIONS}
    parts = {
        "data_profile": {key: data_profile[key] for key in _DATA_KEYS if key in data_profile},
        "validation_report": _summarize_checks(validation_report),
        "training": describe_training(None, run_manifest),
    }
    settings |= {f"{name}_sha256": digest_of(_strict_json(part)) for name, part in parts.items()}
    return {
        **made_from,
        "evaluation": digest_of(evaluation),
        "parameters": settings_text(_strict_json(settings)),
        "code": CODE_VERSION,
    }


def _complete(folder: Path, adapter: Adapter, manifest: dict[str, Any], options: DeploymentOptions) -> None:
    """Add the model for transformers, programs and card to a package with verified formats; the manifest comes last."""
    from transformer_foundry.core.export.gguf.package import add_gguf
    from transformer_foundry.core.export.native.folder import add_native_model
    from transformer_foundry.core.publishing.package.model_card import make_card

    if TRANSFORMERS_FORMAT in options.formats and manifest["formats"][0]["status"] == "verified":
        entry, manifest["native"] = add_native_model(folder, adapter, manifest, options.tolerance)
        # Where transformers has no such architecture, code in the package stands for one.
        manifest["formats"].append(entry or add_transformers_code(folder, adapter, manifest, options.tolerance))
        if GGUF_FORMAT in options.formats:
            manifest["formats"].append(add_gguf(folder, adapter, manifest, options.tolerance, options.license))
    manifest["runtimes"] = describe_runtimes(manifest)
    manifest["parts"] = add_programs(folder, manifest, page=options.page)
    (folder / CARD_FILE).write_text(make_card(manifest, list_files(folder), options), encoding="utf-8")
    manifest["files"] = list_files(folder)
    write_json(folder / MANIFEST_FILE, manifest)


def _load_checkpoint(adapter: Adapter, export: ModelSource, state: TrainingState | None) -> None:
    from transformer_foundry.core.training.checkpointing.state import restore_model

    if state is None:
        return
    digests = {"model_code": export.code_digest, "config": export.sha256["config.json"]}
    for key, file in (("model_code", "model.py"), ("config", "config.json")):
        if state.identity.get(key, digests[key]) != digests[key]:
            raise DeploymentError(
                f"The checkpoint of step {state.step} was made with another {file}.",
                f"Expected sha256 {state.identity[key]}, found {digests[key]}.",
                "Package the model that was trained: set model.source to it, or run.name to the run of this one.",
            )
    restore_model(adapter.model, state.evaluated_model)


def _export_formats(
    folder: Path,
    adapter: Adapter,
    export: ModelSource,
    manifest: Mapping[str, Any],
    options: DeploymentOptions,
    splits: TokenSplits | None,
) -> dict[str, Any]:
    from transformer_foundry.core.export.exporter import export_model
    from transformer_foundry.core.export.formats.pytorch import write_weights
    from transformer_foundry.core.export.verification.reference_inputs import (
        compared_by,
        labelled_calls,
        reference_inputs,
    )
    from transformer_foundry.core.models.building.build import build_model

    contract, special = adapter.contract, manifest["special_token_ids"]
    rebuilt = dict(build_model(export, seed=_OTHER_SEED).named_buffers())
    buffers = _irreproducible(dict(adapter.model.named_buffers()), rebuilt)
    exported = export_model(
        adapter,
        reference_inputs(contract, special["pad"], [number for number in special.values() if number is not None]),
        folder,
        ["pytorch", *(name for name in options.formats if name not in _MADE_LATER)],
        max_length=contract.max_length,
        tolerance=options.tolerance,
        compared=compared_by(contract, special["pad"]),
        labelled=labelled_calls(splits, contract) if splits else (),
        write_pytorch=lambda path: write_weights(adapter.model, path, buffers),
    )
    return {key: exported[key] for key in ("inputs", "example", "tolerance", "formats")}


def _irreproducible(trained: Mapping[str, Tensor], rebuilt: Mapping[str, Tensor]) -> list[str]:
    """Return the names of buffers that building the model again does not reproduce, such as random ones."""
    import torch

    return [
        name
        for name, value in trained.items()
        if name in rebuilt
        and rebuilt[name].shape == value.shape
        and not torch.equal(rebuilt[name].cpu(), value.detach().cpu())
    ]


def _write_code(folder: Path, export: ModelSource) -> None:
    from transformer_foundry.core.models.inference import call
    from transformer_foundry.core.publishing.package.templates import load_example, verify_files

    for name, digest in export.sha256.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copyfile(export.folder / name, folder / name)
        if sha256_of(folder / name) != digest:
            raise DeploymentError(
                f"{name} in {export.folder} has changed while it was in use.",
                f"Expected sha256 {digest}.",
                "Run the pipeline again.",
            )
    # The package's config.json is the one of transformers.
    shutil.copyfile(folder / "config.json", folder / EXPORT_CONFIG_FILE)
    for module, name in ((load_example, LOADER_FILE), (verify_files, VERIFY_FILE), (call, CALL_FILE)):
        shutil.copyfile(str(module.__file__), folder / name)


def _environment() -> dict[str, Any]:
    # The command line and the folders of this machine are not published.
    return {key: value for key, value in describe_environment().items() if key in ("python", "packages", "platform")}


def _describe_data(contract: Contract, tokenizer: Tokenizer, profile: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "data": {key: profile[key] for key in _DATA_KEYS if key in profile},
        "special_token_ids": special_token_ids(contract, tokenizer),
        "encoding": describe_encoding(contract, tokenizer, profile),
        "label_names": _label_names(profile),
        "prompt": make_prompt(contract, tokenizer, profile),
    }


def _summarize_checks(report: Mapping[str, Any]) -> dict[str, Any]:
    findings = report.get("findings", [])
    problems = [item for item in findings if item["severity"] in ("error", "warning")]
    return {"status": report.get("status"), "problems": problems}


def _label_names(profile: Mapping[str, Any]) -> list[str] | None:
    labels = profile.get("labels")
    return list(labels["train"]) if labels else None


def _strict_json(value: Any) -> Any:
    """Return ``value`` in the types of strict JSON: lists for tuples, null for NaN and infinities."""
    if isinstance(value, Mapping):
        return {str(key): _strict_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
