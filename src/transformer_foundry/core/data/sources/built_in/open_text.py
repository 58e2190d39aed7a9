"""Open the built-in text that ``data.source`` names."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.document import Source
from transformer_foundry.core.data.options import BUILT_IN_COUNTRIES, DataOptions
from transformer_foundry.core.data.sources.built_in.countries import CountryProfiles
from transformer_foundry.core.data.sources.built_in.python_text import PythonText

__all__ = ["open_text", "text_file", "text_name", "text_version"]


def open_text(options: DataOptions, task: str, num_labels: int | None) -> tuple[Source, str]:
    """Return the source of a built-in text, and the task that it is for.

    Args:
        options: The section ``data``; its source names a built-in text.
        task: The task of the model.
        num_labels: Number of outputs of a model of texts or of classes of tokens.

    Raises:
        DataError: If the text has nothing for the task, or no such configuration.
    """
    corrupts_spans = bool(options.span_corruption)
    if options.source != BUILT_IN_COUNTRIES:
        return PythonText(task, num_labels, options.config_name, corrupts_spans=corrupts_spans), task
    if options.config_name is not None:
        raise DataError(
            f"data.config_name is {options.config_name}, which {BUILT_IN_COUNTRIES} does not have.",
            "Expected null: there is one text of countries.",
            "Set data.config_name to null.",
        )
    countries = CountryProfiles(task, num_labels, corrupts_spans=corrupts_spans)
    return countries, countries.task


def text_name(source: str) -> str:
    """Return the name of the text in messages and in the profile."""
    return CountryProfiles.name if source == BUILT_IN_COUNTRIES else PythonText.name


def text_file(source: str) -> Path | None:
    """Return the file that a built-in text, or the first part of it, is read from; None if this Python lacks it."""
    if source == BUILT_IN_COUNTRIES:
        return Path(__file__).with_name("countries.jsonl.xz")
    found = importlib.util.find_spec("pydoc_data.topics")
    return None if found is None or found.origin is None else Path(found.origin)


def text_version(source: str) -> tuple[int, ...]:
    """Return the version of Python if the text is of its modules: the docstrings differ between versions."""
    return () if source == BUILT_IN_COUNTRIES else sys.version_info[:2]
