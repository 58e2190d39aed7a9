"""Append-only log of a registry: one event per line, with a checksum, durable before the call returns.

A line that a crash has cut off is ignored, so that an event is recorded whole or not at all. A lock keeps processes
apart.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.base.secrets import redact_texts
from transformer_foundry.core.base.text import one_line
from transformer_foundry.core.files.atomic import sync
from transformer_foundry.core.files.lock import lock_file
from transformer_foundry.core.files.plain_files import plain_opener, read_plain, require_contained

__all__ = ["RegistryLog"]

_log = logging.getLogger(__name__)

_LOG = "log.jsonl"
_CHECK_LENGTH = 16
_LONGEST_REASON = 200


class RegistryLog:
    """The log in ``folder``, which need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / _LOG
        self._is_contained = False

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the registry's lock; the system releases it when the process ends, however that happens.

        Raises:
            DeploymentError: If the folder cannot be written to, or a link leads out of it.
        """
        self._require_contained()
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(open(self.folder / ".lock", "a", opener=plain_opener))
            except OSError as err:
                raise self._not_written(err) from err
            if not lock_file(file, wait=True):
                _log.warning("%s cannot be locked here: write to it from one process at a time.", self.folder)
            yield

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events, the oldest first.

        Raises:
            DeploymentError: If a line is damaged, or a link leads out of the folder.
        """
        self._require_contained()
        data = read_plain(self.path) if self.path.exists() else b""
        # A crash has cut off what follows the last line end: it was never acknowledged.
        for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
            yield self._checked(line, number)

    def append(self, event: Mapping[str, Any]) -> None:
        """Append an event, durably; the caller holds the lock.

        Raises:
            DeploymentError: If it cannot be written; the log is then unchanged.
        """
        text = json.dumps(redact_texts(event), sort_keys=True)
        try:
            with open(self.path, "ab+", buffering=0, opener=plain_opener) as file:
                file.seek(0)
                end = file.readall().rfind(b"\n") + 1
                file.truncate(end)
                try:
                    _write_all(file.fileno(), f"{_check(text)} {text}\n".encode())
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)
                    raise
            sync(self.folder)
        except OSError as err:
            raise self._not_written(err) from err

    def _require_contained(self) -> None:
        """Look through the folder once: it may come from someone else."""
        if not self._is_contained:
            require_contained(self.folder, error=DeploymentError)
            self._is_contained = True

    def _checked(self, line: bytes, number: int) -> dict[str, Any]:
        text = line.decode("utf-8", errors="replace")
        check, _, body = text.partition(" ")
        if check != _check(body):
            raise self.damaged(number, "it differs from its checksum")
        try:
            event = json.loads(body)
        except (ValueError, RecursionError) as err:
            raise self.damaged(number, "it is not JSON") from err
        if not isinstance(event, dict):
            raise self.damaged(number, "it is no event")
        return event

    def damaged(self, number: int, reason: str) -> DeploymentError:
        """Return the error for a line that no version of this library has written."""
        return DeploymentError(
            f"Line {number} of {self.path} is damaged: {one_line(reason, _LONGEST_REASON)}.",
            "Every line begins with its own checksum and is one event of this registry.",
            f"Restore {self.path.name} from a copy, or delete that line if you know what it said.",
        )

    def _not_written(self, err: OSError) -> DeploymentError:
        return DeploymentError(
            f"The registry in {self.folder} cannot be written to: {err}",
            "Expected a folder with room for a line; what it held is unchanged.",
            "Make room or correct its rights, then run the command again; packages are complete where they were.",
        )


def _write_all(descriptor: int, data: bytes) -> None:
    # On a full disk the first call writes a part and returns its size; only the next call fails.
    while data:
        data = data[os.write(descriptor, data) :]


def _check(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_CHECK_LENGTH]
