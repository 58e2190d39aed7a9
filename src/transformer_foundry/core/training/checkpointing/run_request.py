"""What a run was started with, as far as it is known before data are read and the model is built; its comparison.

``request.json`` in the folder of a run keeps it: a flat mapping from dotted names of parameters to values, and the
digests ``model.files``, ``data.files`` and ``data.tokenizer_files``. Two requests that differ belong to two runs. What
may change when a run is resumed (``compatibility.change_verdict``) is left out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from transformer_foundry.core.base.errors import FoundryError
from transformer_foundry.core.base.secrets import redact_values
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.source_digest import files_digest, source_digest
from transformer_foundry.core.files.atomic import make_folder, replace_file
from transformer_foundry.core.files.plain_files import read_plain_text
from transformer_foundry.core.files.provenance import model_digest
from transformer_foundry.core.files.run_paths import REQUEST_FILE
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.training.checkpointing.compatibility import change_verdict
from transformer_foundry.core.training.checkpointing.run_files import read_run_record
from transformer_foundry.core.training.options import TrainingOptions

__all__ = [
    "Request",
    "make_request",
    "prepared_part",
    "read_request",
    "request_differences",
    "unchanged_sources",
    "write_request",
]

Request: TypeAlias = Mapping[str, Any]
"""Dotted name -> value."""

_PREPARED = ("model.", "data.")
_DIGESTS = {"model.files": "model.source", "data.files": "data.source"}
"""Digest -> the parameter that names what it is of. Equal content is the same wherever it is."""

# Parts of a query that differ each time although the data are the same.
_SIGNATURE = re.compile(
    r"sig|token|key|secret|pass|pwd|auth|jwt|code|credential|expires|date|amz|goog|policy|session|nonce", re.I
)
_MODEL_FIELDS = ("kind", "task", "init_from")


def make_request(
    model: ModelOptions, data: DataOptions, training: TrainingOptions, *, fork_from: str | None = None
) -> dict[str, Any]:
    """Return what a run with these options starts with; what cannot be read now (a gist, the Hub) has no digest."""
    request: dict[str, Any] = {
        "model.files": _model_files(model.source) or _approved_digest(model),
        "data.files": _data_files(data.source),
        "data.address": _address_mark(data.source),
    }
    tokenizer = Path(data.tokenizer).expanduser()
    if tokenizer.is_dir():
        request["data.tokenizer_files"] = files_digest(sorted(path for path in tokenizer.iterdir() if path.is_file()))
    return {name: value for name, value in request.items() if value is not None} | _values(
        dataclasses.asdict(model), dataclasses.asdict(data), dataclasses.asdict(training), fork_from
    )


def prepared_part(request: Request) -> dict[str, Any]:
    """Return the part of a request that validation and the preparation of data depend on."""
    return {name: value for name, value in request.items() if name.startswith(_PREPARED) and name != "model.init_from"}


def request_differences(recorded: Request, now: Request) -> dict[str, tuple[Any, Any]]:
    """Return the values that differ between the request of a run and another one, by name: recorded and now.

    A parameter that did not exist when the run was started had its default. A request without parameters of training is
    that of a preparation, and is compared without them.

    Example:
        >>> request_differences({"data.source": "a", "data.files": "3f"}, {"data.source": "b", "data.files": "3f"})
        {}
        >>> request_differences({"training.seed": 1}, {"training.seed": 2, "training.beta1": 0.9})
        {'training.seed': (1, 2)}
    """
    recorded = redact_values(recorded)  # an earlier version has kept more of an address
    compared = {name for name in now if name not in ("model.revision", "model.source", "data.source")}
    if "data.address" not in recorded:
        compared.discard("data.address")
    if "run.fork_from" not in recorded:
        compared.discard("run.fork_from")
    for digest, source in _DIGESTS.items():
        if not (digest in recorded and digest in now):
            compared = (compared - {digest}) | {source} & {*recorded, *now}
            if source == "model.source" and now.get(source) == recorded.get(source):
                compared |= {"model.revision"} & now.keys()
    if "data.files" not in recorded and _is_same_file_name(recorded.get("data.source"), now.get("data.source")):
        compared.discard("data.source")  # of an earlier version: whether the content is equal shows in the tokens
    has_training = any(name.startswith("training.") for name in recorded)
    defaults = _defaults()
    pairs = {
        name: (recorded.get(name, defaults.get(name)), now.get(name))
        for name in sorted(compared)
        if has_training or name.startswith(_PREPARED)
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _is_same_file_name(recorded: object, now: object) -> bool:
    return isinstance(recorded, str) and isinstance(now, str) and Path(recorded).name == Path(now).name


def unchanged_sources(request: Request) -> dict[str, str]:
    """Return ``model.source`` and ``data.source`` of a request, if their files are still as they were."""
    found = {"model.files": _model_files, "data.files": _data_files}
    return {
        source: request[source]
        for digest, source in _DIGESTS.items()
        if digest in request and source in request and found[digest](request[source]) == request[digest]
    }


def read_request(run_folder: Path) -> dict[str, Any] | None:
    """Return the request of a run; one that an earlier version started without has it in its manifest.

    Returns:
        None if there is neither, or neither can be read.
    """
    request = _read(run_folder / REQUEST_FILE)
    return request if request else _from_manifest(read_run_record(run_folder))


def write_request(run_folder: Path, request: Request) -> None:
    """Write the request of a run.

    Raises:
        OSError: If that fails.
    """
    make_folder(run_folder)
    replace_file(run_folder / REQUEST_FILE, json.dumps(request, indent=2, sort_keys=True) + "\n", is_shared=True)


def _values(
    model: Mapping[str, Any], data: Mapping[str, Any], training: Mapping[str, Any], fork_from: str | None
) -> dict[str, Any]:
    sections = {
        "model": {name: model.get(name) for name in ("source", "revision", *_MODEL_FIELDS)},
        "data": data,
        "training": {name: value for name, value in training.items() if change_verdict(name) in ("fork", "refuse")},
        "run": {"fork_from": fork_from},
    }
    # The address of data may contain a password.
    return redact_values(
        {f"{section}.{name}": value for section, part in sections.items() for name, value in part.items()}
    )


def _defaults() -> dict[str, Any]:
    return _values(
        dataclasses.asdict(ModelOptions()),
        dataclasses.asdict(DataOptions()),
        dataclasses.asdict(TrainingOptions()),
        None,
    )


def _approved_digest(model: ModelOptions) -> str | None:
    """Return the digest that a gist must have, which is checked when it is downloaded."""
    is_local = _exists(model.source)
    return model.sha256.strip().lower() if model.sha256 and not is_local else None


def _model_files(source: object) -> str | None:
    from transformer_foundry.core.models.source.read import read_export

    if not isinstance(source, str) or not _exists(source):
        return None
    try:
        with tempfile.TemporaryDirectory(prefix="foundry-request-") as cache:
            return read_export(source, cache_dir=Path(cache)).identity
    except FoundryError:  # the check before the run reports it
        return None


def _data_files(source: object) -> str | None:
    try:
        return source_digest(source) if isinstance(source, str) else None
    except (OSError, ValueError):  # the check before the run reports it
        return None


def _exists(source: str) -> bool:
    try:
        return Path(source).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, of no user, with a zero byte
        return False


def _address_mark(source: str) -> str | None:
    """Return three hexadecimal digits that tell apart addresses that are equal as published; None for a path.

    They are of the query without signatures and keys, and too few to guess a secret under an unusual name from them.
    """
    query = source.partition("?")[2].partition("#")[0] if "://" in source else ""
    kept = sorted(pair for pair in parse_qsl(query) if not _SIGNATURE.search(pair[0]))
    return hashlib.sha256(repr(kept).encode()).hexdigest()[:3] if kept else None


def _from_manifest(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    parameters, identity = manifest.get("parameters"), manifest.get("identity")
    if not isinstance(parameters, Mapping):
        return None
    model, data, training = (parameters.get(name) for name in ("model", "data", "training"))
    if not (isinstance(model, Mapping) and isinstance(data, Mapping) and isinstance(training, Mapping)):
        return None
    request = _values(model, data, training, None)
    del request["run.fork_from"]  # a manifest does not record it
    if isinstance(identity, Mapping) and {"model_code", "config"} <= identity.keys():
        request["model.files"] = model_digest(str(identity["model_code"]), str(identity["config"]))
    return request


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(read_plain_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
