"""Read an export: a folder, a zip file or a gist that holds ``model.py`` and ``config.json``."""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.base.text import one_line
from transformer_foundry.core.files.provenance import model_digest
from transformer_foundry.core.models.source.cache import (
    CONFIG_FILE,
    MAX_FILE_BYTES,
    MODEL_FILE,
    PACKAGED_CONFIG_FILE,
    default_cache,
    missing_files,
    too_large,
    write_cache,
)
from transformer_foundry.core.models.source.gist import DEFAULT_API_URL, fetch_gist, parse_gist
from transformer_foundry.core.models.source.support_modules import collect_support
from transformer_foundry.core.models.source.zip_file import unpack_archive

__all__ = ["ModelSource", "read_export"]

# Python parses expressions made from the configuration, and its parser allows fewer than 200 levels.
MAX_DEPTH = 64
_LONGEST_NAME = 200
_ENCODINGS = ("ascii", "utf-8", "utf-8-sig", "iso8859-1", "iso8859-15", "cp1252", "gb18030", "gbk", "big5", "shift_jis",
              "euc_jp", "euc_kr", "koi8-r", "cp1251")  # fmt: skip
# In the first line, or in the second after an empty line or a comment, whatever ends a line; see PEP 263.
_CODING = re.compile(rb"(?:[ \t\f]*(?:#[^\r\n]*)?(?:\r\n|\r|\n))?[ \t\f]*#[^\r\n]*?coding[:=][ \t]*([-\w.]+)")


@dataclass(frozen=True)
class ModelSource:
    """An exported model as it was read, before any of its code runs.

    Attributes:
        folder: Local folder that holds ``model.py`` and ``config.json``.
        source: What the user gave: a folder, a zip file, a gist id or URL.
        revision: Resolved revision of a gist, None for local files.
        config: Content of ``config.json``.
        model_code: Text of ``model.py``.
        sha256: File name -> sha256 (hex) of the bytes that were read.
        support: Path -> text of the modules beside ``model.py`` that it imports, directly or not.
        is_local: Whether it is a local folder; gists and zip files hold external code.
        is_trusted: Whether its code may run; ``approve`` sets it for external code.
    """

    folder: Path
    source: str
    revision: str | None
    config: dict[str, Any]
    model_code: str
    sha256: Mapping[str, str]
    is_local: bool = True
    is_trusted: bool = True
    support: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        trust = "approved" if self.is_trusted else "not approved"
        return f"ModelSource({self.name[:80]!r}, source={self.source!r}, identity={self.identity[:12]!r}, {trust})"

    @property
    def name(self) -> str:
        """Name of the model: ``model_name`` of the configuration, or the name of the folder; one printable line."""
        name = self.config.get("model_name")
        return one_line(name.strip() if isinstance(name, str) and name.strip() else self.folder.name, _LONGEST_NAME)

    @property
    def identity(self) -> str:
        """Sha256 (hex) of all files together; checkpoints belong to it."""
        return model_digest(self.code_digest, self.sha256[CONFIG_FILE])

    @property
    def code_digest(self) -> str:
        """Sha256 (hex) of ``model.py``, or of the digests of all modules if it imports others beside it."""
        if not self.support:
            return self.sha256[MODEL_FILE]
        lines = [f"{name}:{self.sha256[name]}\n" for name in (MODEL_FILE, *sorted(self.support))]
        # No module contains a zero byte, so this is never the digest of a model.py.
        return hashlib.sha256("\0".join(["modules", *lines]).encode()).hexdigest()

    @property
    def code_files(self) -> dict[str, str]:
        """Path -> text of all modules, ``model.py`` first."""
        return {MODEL_FILE: self.model_code, **self.support}

    @property
    def model_file(self) -> Path:
        """Path of ``model.py``."""
        return self.folder / MODEL_FILE


def read_export(
    source: str | Path,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    api_url: str | None = None,
    token: str | None = None,
) -> ModelSource:
    """Read the export at ``source`` without running its code.

    An existing path is read as a folder or a zip file, even if it looks like a gist id.

    Args:
        source: Folder (of an export, or of a package made from one), zip file, gist id (20 to 40 hexadecimal
            characters) or gist URL.
        revision: Revision of a gist (40 hexadecimal characters); None means the newest.
        cache_dir: Where the files of a gist or a zip file are stored; None uses the user's cache.
        api_url: Base URL of the gist API; None uses ``GITHUB_API_URL`` from the environment, or GitHub.
        token: GitHub token, which raises the limit of requests per hour.

    Raises:
        ModelError: If the source cannot be read, lacks one of the two files, or one of them is damaged.
    """
    name = str(source).strip()
    path = os.path.expanduser(name)
    cache = default_cache() if cache_dir is None else Path(cache_dir)
    if name and os.path.isdir(path):
        return _read_folder(_unpackaged(Path(path), cache), name)
    if os.path.isfile(path):
        if os.path.basename(path) == MODEL_FILE:
            return _read_folder(_unpackaged(Path(path).parent, cache), name)
        return _as_external(_read_folder(unpack_archive(Path(path), cache), name))
    gist = parse_gist(name, revision)
    if gist is None:
        raise ModelError(
            f"There is no export at '{name}'.",
            "Expected a folder with model.py and config.json, a zip file of one, a gist id or a gist URL.",
            "Set model.source to the path or URL of the export.",
        )
    api_url = api_url or os.environ.get("GITHUB_API_URL") or DEFAULT_API_URL
    folder, resolved = fetch_gist(gist, cache, api_url=api_url, token=token)
    return _as_external(_read_folder(folder, name, resolved))


def _as_external(export: ModelSource) -> ModelSource:
    return replace(export, is_local=False, is_trusted=False)


def _unpackaged(folder: Path, cache: Path) -> Path:
    """Return ``folder``, or the export in it if it is a package: there ``config.json`` is that of transformers."""
    if not os.path.isfile(folder / PACKAGED_CONFIG_FILE):  # also False without permission
        return folder
    names = {MODEL_FILE: MODEL_FILE, CONFIG_FILE: PACKAGED_CONFIG_FILE}
    content = {name: _read_file(folder / packaged, str(folder)) for name, packaged in names.items()}
    content |= _read_support(folder, content[MODEL_FILE])
    digest = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in content.values())).hexdigest()
    return write_cache(cache / "package" / digest, content)


def _read_folder(folder: Path, source: str, revision: str | None = None) -> ModelSource:
    content = {name: _read_file(folder / name, source) for name in (MODEL_FILE, CONFIG_FILE)}
    support = _read_support(folder, content[MODEL_FILE])
    content |= support
    text = {name: _decode(name, data) for name, data in content.items()}
    return ModelSource(
        folder=folder,
        source=source,
        revision=revision,
        config=_parse_config(text[CONFIG_FILE]),
        model_code=text[MODEL_FILE],
        sha256={name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
        support={name: text[name] for name in support},
    )


def _read_support(folder: Path, code: bytes) -> dict[str, bytes]:
    """Return the modules beside ``model.py`` that it imports; a link to a file outside the folder is none."""
    root = os.path.realpath(folder)

    def read(name: str) -> bytes | None:
        path = folder / name
        is_inside = os.path.realpath(path).startswith(root + os.sep)
        return _read_file(path, str(folder)) if is_inside and os.path.isfile(path) else None

    return collect_support(code, read)


def _read_file(path: Path, source: str) -> bytes:
    try:
        if not path.is_file():
            raise missing_files(f"'{source}'", [path.name], (item.name for item in path.parent.iterdir()))
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise too_large(str(path), size)
        data = path.read_bytes()
        _require_declared_encoding(path.name, data)
        return data
    except OSError as err:
        raise ModelError(
            f"{path} cannot be read: {err.strerror or err}.", "Expected a readable file.", "Check its permissions."
        ) from err


def _decode(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = data[: err.start].count(b"\n") + 1
        raise ModelError(
            f"{name} line {line} is not UTF-8 text: byte 0x{data[err.start]:02x}.",
            "Expected a text file in UTF-8.",
            f"Save {name} as UTF-8.",
        ) from err


def _require_declared_encoding(name: str, data: bytes) -> None:
    """Refuse code that is another one for a program that follows its coding line, as Python does for files."""
    declared = _CODING.match(data.removeprefix(codecs.BOM_UTF8)) if name.endswith(".py") else None
    if declared is None:
        return
    encoding, problem = declared[1].decode(), "in which its text differs"
    try:
        # Python knows others too, some of which take quadratic time.
        if codecs.lookup(encoding).name not in _ENCODINGS:
            problem = "not UTF-8"
        elif data.decode(encoding) == data.decode():
            return
    except UnicodeError:
        problem = "in which it cannot be read"
    except LookupError:
        problem = "which Python does not know"
    raise ModelError(
        f"{name} declares the encoding {encoding}, {problem}.",
        "Expected code that every program reads alike.",
        f"Save {name} as UTF-8 and delete its line with 'coding'.",
    )


def _parse_config(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        _require_shallow(config)
        # An escaped lone surrogate cannot be written to a file or a terminal.
        json.dumps(config, ensure_ascii=False).encode()
    except json.JSONDecodeError as err:
        raise _bad_config(f"line {err.lineno}, column {err.colno}: {err.msg}") from err
    except UnicodeEncodeError as err:
        raise _bad_config(f"it contains the lone surrogate {err.object[err.start]!a}") from err
    except (ValueError, RecursionError) as err:
        raise _bad_config(str(err)) from err
    if not isinstance(config, dict):
        raise _bad_config(f"it contains a {type(config).__name__}, {json.dumps(config)[:60]}")
    return config


def _require_shallow(config: Any) -> None:
    level, depth = [config], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_constant(text)


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text[:20]} is not a JSON number")


def _bad_config(what: str) -> ModelError:
    return ModelError(
        f"config.json cannot be read: {what}.",
        'Expected a JSON object such as {"vocab_size": 512, "d_model": 128}.',
        "Correct config.json there.",
    )
