"""Datasets of the Hub and URLs as sources of documents, through the ``datasets`` library."""

from __future__ import annotations

import atexit
import functools
import itertools
import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from transformer_foundry.core.base.errors import DataError, suggestion
from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.data.document import SPLIT_NAMES
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources import read_errors
from transformer_foundry.core.data.sources.files.separated.separators import find_separator
from transformer_foundry.core.data.sources.files.sniff import ending_of
from transformer_foundry.core.data.sources.folders import split_from_name
from transformer_foundry.core.data.sources.rows import RemoteRows, Rows, StreamedRows
from transformer_foundry.core.data.sources.table_source import TableSource
from transformer_foundry.core.system.hub_client import limit_hub_waits
from transformer_foundry.core.system.redirects import redirect_trace

if TYPE_CHECKING:
    import datasets

    Table: TypeAlias = datasets.Dataset | datasets.IterableDataset

__all__ = ["LINES", "STREAMED", "download", "download_lines", "open_remote", "require_readable_address"]

_log = logging.getLogger(__name__)

_HEAD_CHARACTERS = 2**16
_PIECE_BYTES = 2**18
STREAMED = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
"""Ending of a URL -> the builder that streams it."""
LINES = (".jsonl", ".ndjson")
"""Endings of URLs of which the first rows are the first lines."""
CONNECT_S, READ_S = 15.0, 60.0
"""Time limits of connecting, and of each piece of a response."""
_STREAM_ATTEMPTS, _PAUSE_S = 3, 2
"""Attempts to read a piece of a stream, and the pause after each: ``datasets`` makes 20, which took 22 minutes of
silence with a server that answers no more."""

_WEB = ("http", "https")
_HERE = ("hf", "file")
_LIBRARIES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
    "adl": "adlfs",
}  # fmt: skip
"""Scheme of a storage -> the library of fsspec that reads it."""


def require_readable_address(source: str) -> None:
    """Refuse an address that cannot be read, before anything is asked.

    Raises:
        DataError: For a chain of addresses, an unknown scheme, or a storage whose library is not installed.
    """
    scheme = source.partition("://")[0].lower()
    shown = redact(source)
    if "::" in source:
        raise DataError(
            f"data.source is {shown}, a chain of addresses.",
            "Expected one address: archives and compressed files are unpacked by themselves.",
            "Set data.source to the address of the archive, without what is before '::'.",
        )
    if scheme in _LIBRARIES:
        import fsspec

        try:
            fsspec.get_filesystem_class(scheme)
        except (ImportError, ValueError) as err:
            library = _LIBRARIES[scheme]
            raise DataError(
                f"data.source is {shown}, but {library}, which reads {scheme}://, is not installed.",
                "Expected the library of the storage.",
                f"Install it with 'pip install {library}', or download the files and set data.source to their folder.",
            ) from err
    elif scheme not in _WEB + _HERE:
        known = [*_WEB, *_HERE, *_LIBRARIES]
        raise DataError(
            f"data.source is {shown}, and {scheme}:// is not read.{suggestion(scheme, known)}",
            f"Expected a path, a Hub name, or an address that begins with {', '.join(known[:6])}.",
            "Download the files and set data.source to their folder.",
        )


def download(options: DataOptions) -> str:
    """Download a URL into the cache of the ``datasets`` library, and return the path."""
    import datasets

    limit_hub_waits()
    _log.info("Downloading %s; a server that sends nothing is given up after %g s.", redact(options.source), READ_S)
    try:
        limits = datasets.DownloadConfig(storage_options=_limits())
        return str(datasets.DownloadManager(download_config=limits).download(options.source))
    except read_errors.catchable_errors() as err:
        raise read_errors.explain_remote_error(err, options.source) from err


def download_lines(options: DataOptions) -> str:
    """Download the first ``max_documents`` lines of a URL, once in a process, and return the path."""
    limit = options.max_documents or sys.maxsize
    for attempt in range(1, _STREAM_ATTEMPTS + 1):
        try:
            return str(_copy_lines(options.source, limit))
        except read_errors.catchable_errors() as err:
            if attempt == _STREAM_ATTEMPTS or isinstance(err, FileNotFoundError):
                raise read_errors.explain_remote_error(err, options.source) from err
            _log.info("Attempt %d of %d has failed, trying again.", attempt, _STREAM_ATTEMPTS)
            time.sleep(_PAUSE_S)
    raise AssertionError("the last attempt returns or raises")


@functools.cache
def _copy_lines(source: str, limit: int) -> Path:
    """Copy lines that are not blank to a temporary file, which is deleted when the process ends."""
    import fsspec

    folder = tempfile.TemporaryDirectory(prefix="foundry-stream-")
    atexit.register(folder.cleanup)
    path = Path(folder.name) / f"rows{ending_of(source)}"
    scheme = source.partition("://")[0]
    headers = {"headers": {"Accept-Encoding": "identity"}} if scheme in _WEB else {}
    _log.info("Reading from %s; each of %d attempts waits %g s for a piece.", redact(source), _STREAM_ATTEMPTS, READ_S)
    with (
        # Lengths and ranges are those of the compressed answer otherwise: fsspec cuts it.
        fsspec.open(source, "rb", **_limits().get(scheme, {}), **headers) as file,
        path.open("wb") as copy,
    ):
        copy.writelines(itertools.islice(_lines_of(file), limit))
    return path


def _lines_of(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines that are not blank; a stream over HTTP can only be read from its beginning, in pieces."""
    rest = b""
    while piece := file.read(_PIECE_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in lines if line.strip())
    if rest.strip():
        yield rest


def open_remote(options: DataOptions, task: str, num_labels: int | None, builder: str | None) -> TableSource:
    """Open a dataset through the cache of the ``datasets`` library, which also works offline."""
    found = _load(options, builder)
    tables = _name_splits(found, options.source) if isinstance(found, Mapping) else {"train": found}
    rows: dict[str, Rows]
    if options.streaming:
        rows = {split: StreamedRows(table, options.source, options.max_documents) for split, table in tables.items()}
    else:
        rows = {split: RemoteRows(table) for split, table in tables.items()}
    return TableSource(
        options.source,
        rows,
        task,
        options,
        digest=functools.partial(_digest_remote, options, builder, tables, rows),
        location=lambda split, number: f"{options.source}, split {split}, row {number + 1}",
        label_names=_declared_labels(tables["train"]),
        num_labels=num_labels,
    )


def _load(options: DataOptions, builder: str | None) -> Table | Mapping[str, Table]:
    import datasets

    location: dict[str, Any] = (
        {"path": options.source, "name": options.config_name, "revision": options.revision}
        if builder is None
        else {"path": builder, "data_files": options.source}
    )
    limit_hub_waits()
    if options.streaming:
        _limit_stream_waits()
        longest = _STREAM_ATTEMPTS * (READ_S + _PAUSE_S)
        _log.info(
            "Reading from %s; a server that sends nothing is given up after %g s.", redact(options.source), longest
        )
    try:
        if builder == "csv":
            location |= {"sep": _separator_of_url(options.source), "keep_default_na": False}
        # huggingface_hub itself retries temporary errors (5xx, 429, timeouts) five times, for about 25 s.
        if builder is not None:
            location["storage_options"] = _limits().get(options.source.partition("://")[0])
        return datasets.load_dataset(**location, split=options.split, streaming=options.streaming)
    except read_errors.catchable_errors() as err:
        raise read_errors.explain_remote_error(err, options.source) from err


def _limit_stream_waits() -> None:
    """Let ``datasets`` give up a stream after a few attempts."""
    import datasets

    for kind in ("OPEN", "READ"):
        setattr(datasets.config, f"STREAMING_{kind}_MAX_RETRIES", _STREAM_ATTEMPTS)
        setattr(datasets.config, f"STREAMING_{kind}_RETRY_INTERVAL", _PAUSE_S)


def _limits() -> dict[str, Any]:
    """Return the limits of fsspec's HTTP client, of time and of redirects, by scheme."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_connect=CONNECT_S, sock_read=READ_S)
    settings = {"timeout": timeout, "trust_env": True, "trace_configs": [redirect_trace()]}
    return {scheme: {"client_kwargs": settings} for scheme in _WEB}


def _separator_of_url(source: str) -> str:
    import fsspec

    limits = _limits().get(source.partition("://")[0], {})
    text = {"compression": "infer", "encoding": "utf-8-sig", "errors": "replace", "newline": ""}
    with fsspec.open(source, "rt", **text, **limits) as file:
        separator, _ = find_separator(file.read(_HEAD_CHARACTERS), ending_of(source), is_whole=False)
    return separator or ","


def _digest_remote(
    options: DataOptions, builder: str | None, tables: Mapping[str, Table], rows: Mapping[str, Rows]
) -> str:
    """Return the library's digest of revision and files: hashing all rows would take minutes."""
    if not options.streaming:
        return repr(sorted((split, table._fingerprint) for split, table in tables.items()))
    if builder is None:
        from huggingface_hub import HfApi

        try:
            sha = HfApi().dataset_info(options.source, revision=options.revision).sha
        except read_errors.catchable_errors() as err:
            raise read_errors.explain_remote_error(err, options.source) from err
        return repr((sha, options.config_name, options.split, options.max_documents))
    return repr(
        sorted((split, streamed.digest()) for split, streamed in rows.items() if isinstance(streamed, StreamedRows))
    )


def _name_splits(found: Mapping[str, Table], source: str) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    for name in sorted(found, key=lambda name: (name not in SPLIT_NAMES, name)):
        split = split_from_name(name)
        if split is not None:
            tables.setdefault(split, found[name])
    if "train" in tables:
        return tables
    if len(found) == 1:
        return {"train": next(iter(found.values()))}
    raise DataError(
        f"{source} has the splits {', '.join(found)}, and none of them is called train.",
        "Expected a split to train on.",
        "Set data.split to one of them.",
    )


def _declared_labels(table: Table) -> dict[str, tuple[str, ...]]:
    """Return the declared names of classes and tags by column; a stream may declare none."""
    import datasets

    declared = {}
    for name, feature in (table.features or {}).items():
        single = getattr(feature, "feature", feature)
        if isinstance(single, datasets.ClassLabel) and single.names:
            declared[name] = tuple(single.names)
    return declared
