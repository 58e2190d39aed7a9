"""Kedro dataset of a figure of matplotlib that can be kept: it is loaded as the bytes of its png file."""

from __future__ import annotations

import base64
import glob
import io
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kedro.io.core import AbstractVersionedDataset, DatasetError, Version
from kedro_datasets._typing import ImagePreview  # kedro-viz chooses the drawing by this annotation

from transformer_foundry.core.files.atomic import make_folder, replace_file
from transformer_foundry.datasets.storage.location import explain_storage_errors, open_location, version_pattern

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FigureDataset"]

_PNG_START, _PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"


class FigureDataset(AbstractVersionedDataset["Figure | bytes", "bytes | None"]):
    """A png file; saving takes a figure, or the bytes of one as loading returns them.

    A node that keeps an earlier result returns the figure that it has loaded; matplotlib is imported only to draw.

    Args:
        filepath: The file, with a protocol of fsspec if it is not on this machine.
        save_args: Arguments of ``Figure.savefig``.
        version: Set by Kedro for ``versioned: true``.
        credentials: Arguments of the file system of fsspec that are secret.
        fs_args: Other arguments of the file system.
        metadata: Ignored; for users and plugins.
    """

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
        self._location = open_location(filepath, version, credentials, fs_args)
        super().__init__(
            filepath=PurePosixPath(self._location.path),
            version=version,
            exists_function=self._has_file,
            glob_function=self._glob,
        )
        self._save_args = {"format": "png", **(save_args or {})}
        self.metadata = metadata

    def load(self) -> bytes | None:
        """Return the content of the file; None if it is missing or incomplete: the figure is drawn again.

        Raises:
            DataError: If the place cannot be reached.
        """
        try:
            path = str(self._get_load_path())
        except DatasetError:  # there is no version yet
            return None
        with explain_storage_errors(self._location.url):
            try:
                content = Path(path).read_bytes() if self._location.is_local else self._location.fs.cat_file(path)
            except FileNotFoundError:
                return None
        return content if content.startswith(_PNG_START) and content.endswith(_PNG_END) else None

    def save(self, data: Figure | bytes) -> None:
        """Write the file in one step."""
        content, path = data if isinstance(data, bytes) else self._draw(data), self._get_save_path()
        if self._location.is_local:
            make_folder(Path(path).parent)
            replace_file(Path(path), content)
            return
        with explain_storage_errors(self._location.url):
            self._location.fs.pipe_file(str(path), content)

    def preview(self) -> ImagePreview:
        """Return the picture for kedro-viz."""
        return ImagePreview(base64.b64encode(self.load() or b"").decode())

    def _draw(self, figure: Figure) -> bytes:
        buffer = io.BytesIO()
        figure.savefig(buffer, **self._save_args)
        return buffer.getvalue()

    def _has_file(self, path: str) -> bool:
        return Path(path).is_file() if self._location.is_local else bool(self._location.fs.exists(path))

    def _glob(self, pattern: str) -> list[str]:
        pattern = version_pattern(pattern)
        return glob.glob(pattern) if self._location.is_local else list(self._location.fs.glob(pattern))

    def _exists(self) -> bool:
        return self.load() is not None

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._location.url, "version": self._version}
