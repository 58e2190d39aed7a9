"""Read and verify trained weights of a run, of a package, or of a package on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from transformer_foundry.core.base.errors import CheckpointError, error_message, suggestion
from transformer_foundry.core.files.atomic import sha256_of
from transformer_foundry.core.files.run_paths import CHECKPOINTS_FOLDER, RUN_MANIFEST_FILE
from transformer_foundry.core.system.hub_client import limit_hub_waits, network_errors
from transformer_foundry.core.training.checkpointing.checkpoint import read_checkpoint
from transformer_foundry.core.training.checkpointing.directory import best_checkpoint
from transformer_foundry.core.training.checkpointing.run_manifest import read_run_manifest

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer

__all__ = ["WeightSource", "read_weight_source", "vocabulary_digest"]

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
_MANIFEST, _TOKENIZER = RUN_MANIFEST_FILE, "tokenizer.json"
_PARTS = (CHECKPOINTS_FOLDER, _MANIFEST)
"""The first exists in each run, the second in each package."""


@dataclass(frozen=True)
class WeightSource:
    """Trained weights.

    Attributes:
        name: The value of ``model.init_from``.
        origin: A description for messages.
        sha256: Digest of the weights file.
        tensors: Name -> tensor; names of tied tensors share one.
        kind: Kind of the model; empty if an older run does not record it.
        task: Its task; empty if an older run does not record it.
        vocabulary: Digest of the tokens and their ids; empty if unknown.
    """

    name: str
    origin: str
    sha256: str
    tensors: Mapping[str, Tensor] = field(repr=False)
    kind: str = ""
    task: str = ""
    vocabulary: str = ""


def read_weight_source(name: str, runs_folder: Path) -> WeightSource:
    """Read the weights that ``model.init_from`` names.

    Args:
        name: Folder of a run or of a package, name of a run in ``runs_folder``, or ``owner/name`` (``@revision``) of a
            package on the Hub.
        runs_folder: Folder of all runs, ``<data_dir>/06_models``.

    Raises:
        CheckpointError: If the name is unknown, a file is damaged, or the weights are not verified.
    """
    for folder in (Path(name), runs_folder / name):
        if (folder / _PARTS[0]).is_dir():
            return _read_run(name, folder)
        if (folder / _MANIFEST).is_file():
            return _read_package(name, folder, f"the package in {folder}")
    if Path(name).exists():
        raise _not_verified(name, f"{name} is no folder of a run or of a package")
    nearest = _nearest(name, runs_folder)
    if not _HUB_NAME.fullmatch(name):
        raise CheckpointError(
            f"model.init_from is {name!r}: there is no such run in {runs_folder}, and no such folder." + nearest,
            "The name of a run, the folder of a run or of a package, or a Hub repository OWNER/NAME was expected.",
            "See 'kedro runs list' for the runs.",
        )
    return _read_hub(name, nearest)


def vocabulary_digest(tokenizer: Tokenizer) -> str:
    """Return a digest of the tokens and their ids: embeddings can be reused only if it is the same."""
    return _digest_of(tokenizer.backend.get_vocab())


def _read_run(name: str, folder: Path) -> WeightSource:
    notes: list[str] = []
    checkpoint = best_checkpoint(folder, notes)
    if checkpoint is None:
        raise CheckpointError(
            f"model.init_from is {name!r}, a run without a checkpoint.",
            "A run that has saved at least one checkpoint was expected.",
            "Train it first; 'kedro runs list' shows how far the runs are.",
        )
    state = read_checkpoint(checkpoint, notes)
    manifest = read_run_manifest(folder)
    model = manifest.get("model", {})
    return WeightSource(
        name,
        f"run {folder.name}, step {state.step}",
        sha256_of(checkpoint / "weights.safetensors"),
        state.evaluated_model,
        kind=str(model.get("kind", "")),
        task=str(model.get("task", "")),
        vocabulary=str(model.get("vocabulary", "")),
    )


def _read_package(name: str, folder: Path, origin: str) -> WeightSource:
    from safetensors import SafetensorError

    try:
        return _read_verified(name, folder, origin, _package_manifest(name, folder))
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError, SafetensorError) as err:
        # A repository is untrusted input: its manifest may contain anything.
        what = error_message(err, 100)
        raise _not_verified(name, f"it is not as a package is made ({type(err).__name__}: {what})") from err


def _read_verified(name: str, folder: Path, origin: str, manifest: Mapping[str, Any]) -> WeightSource:
    entry: dict[str, Any] = next((item for item in manifest["formats"] if item.get("format") == "pytorch"), {})
    if entry.get("status") != "verified":
        raise _not_verified(name, f"its weights have the status {entry.get('status', 'missing')!r}")
    for file in (entry["file"], *([_TOKENIZER] if _TOKENIZER in manifest["files"] else [])):
        is_inside = Path(file).name == file
        if not (is_inside and (folder / file).is_file()) or (
            sha256_of(folder / file) != manifest["files"][file]["sha256"]
        ):
            raise _not_verified(name, f"{file} is missing or is not what its manifest says")
    model = manifest["model"]
    return WeightSource(
        name,
        origin,
        manifest["files"][entry["file"]]["sha256"],
        _read_tensors(folder / entry["file"]),
        kind=str(model.get("kind", "")),
        task=str(model.get("task", "")),
        vocabulary=_read_vocabulary(folder / _TOKENIZER),
    )


def _package_manifest(name: str, folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if not manifest["formats"] or not manifest["files"] or "model" not in manifest:
            raise KeyError("formats, files, model")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as err:
        raise _not_verified(name, f"its {_MANIFEST} is not that of a package") from err
    return manifest


def _read_hub(name: str, nearest: str) -> WeightSource:
    from huggingface_hub import snapshot_download

    limit_hub_waits()
    repository, _, revision = name.partition("@")
    wanted = [_MANIFEST, _TOKENIZER, "*.safetensors"]
    failures: tuple[type[BaseException], ...] = (*network_errors(), ValueError)
    try:
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=wanted))
    except failures as err:
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        is_answer = isinstance(err, RepositoryNotFoundError | RevisionNotFoundError)
        why = "the Hub has no such repository" if is_answer else "the Hub did not answer"
        raise CheckpointError(
            f"model.init_from is {name!r}: there is no such run or folder, and {why} ({type(err).__name__}).{nearest}",
            "The name of a run, the folder of a run or of a package, or a Hub repository OWNER/NAME was expected.",
            "Check the name and the network; a private repository needs HF_TOKEN in the environment.",
        ) from err
    if not (folder / _MANIFEST).is_file():
        raise _not_verified(name, f"the repository has no {_MANIFEST}")
    return _read_package(name, folder, f"Hub repository {repository} at {folder.name[:12]}")


def _nearest(name: str, runs_folder: Path) -> str:
    """Return a suggestion of the run or the sibling folder with the nearest name."""
    beside = Path(name).parent if "/" in name else runs_folder
    choices = (folder for folder in beside.glob("*/") if any((folder / part).exists() for part in _PARTS))
    return suggestion(name, [str(folder) if "/" in name else folder.name for folder in choices])


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        aliases: dict[str, str] = json.loads((file.metadata() or {}).get("aliases", "{}"))
    return tensors | {name: tensors[kept] for name, kept in aliases.items()}


def _read_vocabulary(path: Path) -> str:
    if not path.is_file():
        return ""
    from transformer_foundry.core.data.tokenizer.limits import build_backend

    try:
        return _digest_of(build_backend(path.read_text(encoding="utf-8")).get_vocab())
    except (ValueError, RecursionError) as err:
        raise ValueError(f"{path.name}: {error_message(err, 200)}") from err


def _digest_of(vocabulary: Mapping[str, int]) -> str:
    return hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode()).hexdigest()


def _not_verified(name: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"model.init_from is {name!r}, which is not verified: {why}.",
        "A run, or a package of this project whose weights were verified and are as they were written, was expected.",
        "Make the package with 'kedro run --pipelines deployment', or name the run it was made from.",
    )
