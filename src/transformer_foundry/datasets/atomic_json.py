"""Kedro datasets of a result in JSON: written in one step, and perhaps missing."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, ClassVar

from kedro.io.core import DatasetError, Version
from kedro_datasets._typing import JSONPreview  # kedro-viz chooses the drawing by this annotation
from kedro_datasets.json import JSONDataset

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.secrets import redact_texts
from transformer_foundry.core.files.atomic import make_folder, replace_file
from transformer_foundry.datasets.storage.arguments import InheritedArguments
from transformer_foundry.datasets.storage.location import explain_storage_errors, open_location, version_pattern

__all__ = ["AtomicJSONDataset", "OptionalJSONDataset"]

_log = logging.getLogger(__name__)


class AtomicJSONDataset(InheritedArguments, JSONDataset):  # type: ignore[misc]  # kedro_datasets has no types
    """``json.JSONDataset`` that a kill leaves with its old content or the new one.

    It exists if it can be read, so that ``--only-missing-outputs`` makes a damaged result again.

    Args:
        filepath: The file, with a protocol of fsspec if it is not on this machine.
        save_args: Arguments of ``json.dumps``; ``indent`` is 2.
        version: Set by Kedro for ``versioned: true``.
        credentials: Arguments of the file system of fsspec that are secret.
        fs_args: Other arguments of the file system; ``open_args_load`` and ``open_args_save`` only behind fsspec.
        metadata: Ignored; for users and plugins.
    """

    IS_OPTIONAL: ClassVar[bool] = False
    """Whether ``load`` returns None if the file is missing: the result of an optional pipeline."""

    def __init__(
        self,
        *,
        filepath: str,
        save_args: dict[str, Any] | None = None,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._location = open_location(filepath, version, credentials, fs_args, opens_remote_files=True)
        super().__init__(
            filepath=filepath,
            save_args=save_args,
            version=version,
            credentials=credentials,
            fs_args=fs_args,
            metadata=metadata,
        )
        self._glob_function = self._list_versions

    def load(self) -> Any:
        """Return the content of the file, None if it is missing or damaged and may be.

        Raises:
            DataError: If it is damaged or cannot be reached.
        """
        return self.load_if_whole() if self.IS_OPTIONAL else self._load_whole()

    def load_if_whole(self) -> Any:
        """Return the content of the file, None if it is missing or damaged.

        Raises:
            DataError: If it cannot be reached.
        """
        if self._exists():
            return self._load_whole()
        if self._is_there():
            _log.info("%s is damaged and not used.", self._location.url)
        return None

    def _load_whole(self) -> Any:
        with explain_storage_errors(self._location.url):
            try:
                return JSONDataset.load.__wrapped__(self)
            except (ValueError, RecursionError) as err:
                raise DataError(
                    f"{self._location.url} is damaged: {err}",
                    "Expected JSON, as it was written.",
                    "Run the pipeline that makes it again, or delete it.",
                ) from err
            except FileNotFoundError as err:
                raise DataError(
                    f"There is no file {self._location.url}.",
                    "Expected the result of an earlier pipeline.",
                    "Run the pipeline that makes it, or correct the path in the catalog.",
                ) from err

    def save(self, data: Any) -> None:
        """Write the file in one step, without secrets."""
        data = redact_texts(data)
        if not self._location.is_local:
            with explain_storage_errors(self._location.url):
                super().save.__wrapped__(self, data)
            return
        path = Path(self._get_save_path())
        make_folder(path.parent)
        replace_file(path, json.dumps(data, **self._save_args))

    def preview(self) -> JSONPreview:
        """Return the content for kedro-viz; None if there is none."""
        return JSONPreview(json.dumps(self.load())) if self._exists() else None

    def is_readable(self) -> bool:
        """Return whether ``load`` has something to return, None for an optional file included."""
        return self.IS_OPTIONAL or self._exists()

    def _is_there(self) -> bool:
        try:
            path = self._get_load_path()
        except DatasetError:  # there is no version yet
            return False
        if self._location.is_local:
            return Path(path).is_file()
        with explain_storage_errors(self._location.url):
            self._invalidate_cache()
            try:
                # fs.exists answers False to any error, a wrong password too.
                self._fs.info(path.as_posix())
            except FileNotFoundError:
                return False
            return True

    def _exists(self) -> bool:
        if not self._is_there():
            return False
        if not self._location.is_local:
            return True
        try:
            json.loads(Path(self._get_load_path()).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        return True

    def _list_versions(self, pattern: str) -> list[str]:
        return list(self._fs.glob(version_pattern(pattern)))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._location.url, "version": self._version}


class OptionalJSONDataset(AtomicJSONDataset):
    """``AtomicJSONDataset`` that may be missing: then ``load`` returns None."""

    IS_OPTIONAL = True
