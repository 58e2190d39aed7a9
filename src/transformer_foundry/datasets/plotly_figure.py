"""Kedro dataset of a figure of plotly, which may have nothing to show."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kedro.io.core import Version, get_filepath_str
from kedro_datasets._typing import PlotlyPreview  # kedro-viz chooses the drawing by this annotation
from kedro_datasets.plotly import JSONDataset

from transformer_foundry.core.base.secrets import redact_texts
from transformer_foundry.core.base.text import one_line
from transformer_foundry.datasets.storage.arguments import InheritedArguments
from transformer_foundry.datasets.storage.location import version_pattern

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["PlotlyFigureDataset"]

# Any tag but our own line break.
_TAG = re.compile(r"<(?!br>)")
_NOTHING_DRAWN = "null"


class PlotlyFigureDataset(InheritedArguments, JSONDataset):  # type: ignore[misc]  # kedro_datasets has no types
    """``plotly.JSONDataset`` that keeps ``null`` for a figure without data: a task without classes has no confusion.

    Then the output exists for ``--only-missing-outputs`` and for nodes that read it, ``load`` returns None, and
    kedro-viz shows nothing. Without a file ``load`` returns None too. The arguments are those of
    ``plotly.JSONDataset``.
    """

    def __init__(
        self,
        *,
        filepath: str,
        load_args: dict[str, Any] | None = None,
        save_args: dict[str, Any] | None = None,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            filepath=filepath,
            load_args=load_args,
            save_args=save_args,
            version=version,
            credentials=credentials,
            fs_args=fs_args,
            metadata=metadata,
        )
        self._glob_function = self._list_versions

    def load(self) -> Figure | None:
        """Return the figure; None if nothing is drawn in it, or there is none."""
        return super().load() if self._has_figure() else None

    def save(self, data: Figure) -> None:
        """Write a figure; ``null`` if nothing is drawn in it."""
        if data.data:
            super().save(type(data)(_plain_text(redact_texts(data.to_dict()))))
            return
        path = get_filepath_str(self._get_save_path(), self._protocol)
        with self._fs.open(path, **self._fs_open_args_save) as file:
            file.write(_NOTHING_DRAWN)
        self._invalidate_cache()

    # "PlotlyPreview | None" is no drawing that kedro-viz knows.
    def preview(self) -> PlotlyPreview:
        """Return the figure for kedro-viz; None if nothing is drawn in it, or there is none."""
        return super().preview() if self._has_figure() else None

    def _list_versions(self, pattern: str) -> list[str]:
        return list(self._fs.glob(version_pattern(pattern)))

    def _has_figure(self) -> bool:
        if not self._exists():
            return False
        path = get_filepath_str(self._get_load_path(), self._protocol)
        return bool(self._fs.cat_file(path, end=len(_NOTHING_DRAWN)) != _NOTHING_DRAWN.encode())


def _plain_text(value: Any) -> Any:
    """Return a figure's values with texts on one line and without tags: plotly shows ``<a href>`` in a label as a link.

    Our own line breaks, ``<br>``, stay.
    """
    if isinstance(value, dict):
        return {key: _plain_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_text(item) for item in value]
    return _TAG.sub("&lt;", one_line(value)) if isinstance(value, str) else value
