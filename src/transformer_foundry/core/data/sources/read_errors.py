"""Errors of the ``datasets`` library, translated: which file, which line, what to do."""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import re
from pathlib import Path

from transformer_foundry.core.base.errors import DataError, cause_chain
from transformer_foundry.core.data.sources.local_files import BINARY_BUILDERS, find_separator, is_compressed

__all__ = ["catchable_errors", "explain_file_error", "explain_remote_error"]

_TIME_OUTS = frozenset({"ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout", "TimeoutError", "Timeout"})
_UNREACHABLE = frozenset({"OfflineModeIsEnabled", "ConnectionError", "ConnectError", "LocalEntryNotFoundError"})
_NOT_FOUND = frozenset({"DatasetNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError"})
_LINE_IN_MESSAGE = re.compile(r"in line (\d+)")
_CHOICES_IN_MESSAGE = re.compile(
    r"(?:Available: |Available splits: |one among the available configs: |Should be one of )(\[[^\]]*\])"
)


def catchable_errors() -> tuple[type[BaseException], ...]:
    """Return the exceptions that invalid data or a failing network cause."""
    import lzma
    import zipfile
    import zlib

    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    found: list[type[BaseException]] = [OSError, ValueError, RuntimeError, EOFError, LookupError, TypeError]
    found += [lzma.LZMAError, zlib.error, zipfile.BadZipFile, DatasetsError, HfHubHTTPError]
    # The HTTP clients of huggingface_hub; older versions use requests, whose errors are OSErrors.
    for name in ("httpx", "httpx2"):
        with contextlib.suppress(ImportError):
            found.append(importlib.import_module(name).HTTPError)
    return tuple(found)


def explain_file_error(err: BaseException, builder: str, path: Path) -> DataError:
    """Return the error that names the invalid line of ``path``, or at least the file."""
    bad_line = _find_bad_line(path, builder)
    if bad_line is not None:
        number, problem, expected, remedy = bad_line
        return DataError(f"{path}, line {number}: {problem}", expected, remedy)
    text = _first_line(_root(err))
    ragged = _LINE_IN_MESSAGE.search(text)
    if ragged:
        return DataError(
            f"{path}, line {ragged.group(1)}: {text.rsplit('error: ', 1)[-1]}.",
            "Expected as many fields in each line as in the first.",
            "Correct the line; quote fields that contain a comma.",
        )
    if "EOF inside string" in text and not is_compressed(path):
        return DataError(
            f"{path}, line {_find_open_quote(path)}: a quote is opened that is never closed.",
            "Expected quotes in pairs.",
            'Close the quote; a quote inside a quoted field is written twice: "".',
        )
    return DataError(
        f"{path} cannot be read: {text}", f"Expected {builder} data.", "Check the file, or write it again."
    )


def explain_remote_error(err: BaseException, source: str) -> DataError:
    """Return the error that says why a dataset of the Hub or a URL cannot be read."""
    cause, text = _root(err), _first_line(_root(err))
    kinds = {type(item).__name__ for item in cause_chain(err)}
    everything = " ".join(str(item) for item in cause_chain(err))
    choices = _CHOICES_IN_MESSAGE.search(everything)
    if choices:
        key = "data.split" if "split" in everything.lower() else "data.config_name"
        return DataError(f"{source}: {text}", f"Available: {choices.group(1)}.", f"Set {key} to one of them.")
    if "script" in everything and "no longer supported" in everything:
        return DataError(
            f"{source} is a dataset with a loading script; such scripts are no longer run.",
            "Expected a dataset of plain files.",
            "Set data.revision=refs/convert/parquet, where the Hub often has a copy in parquet.",
        )
    error = _explain_access(kinds, everything, _status(err), source) or _explain_service(kinds, _status(err), source)
    if error is not None:
        return error
    if kinds & _UNREACHABLE:
        return DataError(
            f"The Hub cannot be reached and {source} is not in the cache: {text}",
            "Expected a connection, or a dataset that was read before.",
            "Connect and run again, unset HF_HUB_OFFLINE, or set data.source to a local file or 'built-in'.",
        )
    if kinds & _NOT_FOUND or isinstance(cause, FileNotFoundError) or _status(err) == 404:
        return DataError(
            f"There is no dataset {source} that can be read: {text}",
            "Expected 'built-in', an existing local path or the name of a dataset on the Hub.",
            "Check data.source and data.revision; a private dataset needs HF_TOKEN.",
        )
    return DataError(
        f"{source} cannot be read ({type(cause).__name__}): {text}",
        "Expected a dataset that the datasets library can read.",
        "Check data.source, or download its files and set data.source to their folder.",
    )


def _explain_access(kinds: set[str], everything: str, status: int | None, source: str) -> DataError | None:
    if "GatedRepoError" in kinds or "is a gated dataset" in everything:
        return DataError(
            f"{source} is gated: its authors approve each user.",
            "Expected a token of a user who has access.",
            "Request access on the page of the dataset, then set HF_TOKEN.",
        )
    if status == 403 or (status == 401 and not kinds & {"RepositoryNotFoundError"}):
        cause = "is invalid" if status == 401 else "has no access"
        return DataError(
            f"The Hub refuses {source} (HTTP {status}): the token {cause}.",
            "Expected a token with access to the dataset, or no token for a public one.",
            "Create a read token at huggingface.co/settings/tokens and set HF_TOKEN to it.",
        )
    return None


def _explain_service(kinds: set[str], status: int | None, source: str) -> DataError | None:
    if status == 429:
        return DataError(
            f"The Hub temporarily refuses {source} (HTTP 429): too many requests.",
            "Expected fewer requests in five minutes; the limit is higher with a token.",
            "Wait a few minutes and run again, or set HF_TOKEN.",
        )
    if (status or 0) >= 500 or kinds & _TIME_OUTS:
        return DataError(
            f"{source} cannot be read: the server {f'fails (HTTP {status})' if status else 'does not answer in time'}.",
            "Several attempts were made.",
            "Run again later, or set data.source to a local copy; files already downloaded are kept.",
        )
    return None


def _find_bad_line(path: Path, builder: str) -> tuple[int, str, str, str] | None:
    """Return number, problem, expectation and remedy of the first line that is not UTF-8, or not JSON."""
    if builder in BINARY_BUILDERS or is_compressed(path):
        return None
    is_lines = builder == "json" and path.suffix.lower() != ".json"
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                text = raw.decode()
            except UnicodeDecodeError as err:
                problem = f"byte 0x{raw[err.start]:02x} at position {err.start + 1} is not UTF-8."
                remedy = f"Convert the file: iconv -f latin1 -t utf-8 {path.name} > converted{path.suffix}"
                return number, problem, "Expected text in UTF-8.", remedy
            json_problem = _find_json_problem(text) if is_lines and text.strip() else None
            if json_problem is not None:
                return number, json_problem, "Expected one JSON object per line.", "Correct the line."
    if builder == "json" and not is_lines:
        error = _json_error(path.read_text(encoding="utf-8"))
        if error is not None:
            return error.lineno, f"not JSON: {error.msg}.", "Expected a list of objects.", "Correct the line."
    return None


def _find_open_quote(path: Path) -> int:
    """Return the line where the last row of a csv begins: an open quote makes the rest of the file one field."""
    begins = next_begins = 1
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=find_separator(path))
        try:
            for _ in reader:
                begins, next_begins = next_begins, reader.line_num + 1
        except csv.Error:  # the rest is longer than the largest field of the reader
            return next_begins
    return begins


def _find_json_problem(line: str) -> str | None:
    """Return the problem of a line of a jsonl file; None if it is valid."""
    error = _json_error(line)
    if error is not None:
        return f"not JSON: {error.msg}."
    value = json.loads(line)
    if not isinstance(value, dict):
        return f"not an object in braces, but {line.strip()[:40]}"
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as err:
        return f"an incomplete surrogate pair: \\u{ord(err.object[err.start]):x} without its other half."
    return None


def _json_error(text: str) -> json.JSONDecodeError | None:
    try:
        json.loads(text)
    except json.JSONDecodeError as err:
        return err
    except RecursionError:
        return json.JSONDecodeError("Nested too deep", "", 0)
    except ValueError as err:  # a number with thousands of digits
        return json.JSONDecodeError(str(err), "", 0)
    return None


def _root(err: BaseException) -> BaseException:
    """Return the cause of the wrapper "An error occurred while generating the dataset"."""
    while type(err).__name__ == "DatasetGenerationError" and err.__cause__ is not None:
        err = err.__cause__
    return err


def _status(err: BaseException) -> int | None:
    """Return the HTTP status of an error or of its causes."""
    for item in cause_chain(err):
        status = getattr(getattr(item, "response", None), "status_code", None) or getattr(item, "status", None)
        if isinstance(status, int):
            return status
    return None


def _first_line(err: BaseException) -> str:
    return (str(err).strip() or type(err).__name__).splitlines()[0]
