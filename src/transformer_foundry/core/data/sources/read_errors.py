"""Errors of the ``datasets`` library, translated: what is wrong, and what to do."""

from __future__ import annotations

import contextlib
import importlib
import re

from transformer_foundry.core.base.errors import DataError, cause_chain, find_foundry_error

__all__ = ["catchable_errors", "explain_remote_error"]

_TIME_OUTS = frozenset(
    (
        *("ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout", "TimeoutError", "Timeout", "FSTimeoutError"),
        *("ServerTimeoutError", "ConnectionTimeoutError", "SocketTimeoutError"),
    )
)
_UNREACHABLE = frozenset({"OfflineModeIsEnabled", "ConnectionError", "ConnectError", "LocalEntryNotFoundError"})
_NOT_FOUND = frozenset({"DatasetNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError"})
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
    with contextlib.suppress(ImportError):  # of fsspec: a connection that ends in the middle of an answer
        found.append(importlib.import_module("aiohttp").ClientError)
    return tuple(found)


def explain_remote_error(err: BaseException, source: str) -> DataError:
    """Return the error that says why a dataset of the Hub or a URL cannot be read."""
    known = find_foundry_error(err)
    if isinstance(known, DataError):
        return known
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
            "Connect and run again, unset HF_HUB_OFFLINE, or set data.source to a local file or 'built-in:countries'.",
        )
    if kinds & _NOT_FOUND or isinstance(cause, FileNotFoundError) or _status(err) == 404:
        return DataError(
            f"There is no dataset {source} that can be read: {text}",
            "Expected 'built-in:countries', an existing local path or the name of a dataset on the Hub.",
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
