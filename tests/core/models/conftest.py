"""Exports and contracts out of source text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.core.models.samples import write_export
from transformer_foundry.core.models import Adapter, Contract, ModelSource, load_model, read_export

MakeExport = Callable[..., ModelSource]


@pytest.fixture
def make_export(tmp_path: Path) -> MakeExport:
    """Source text and configuration -> export."""
    return lambda code, config=None: read_export(write_export(tmp_path / "export", code, config))


@pytest.fixture
def make_model(make_export: MakeExport) -> Callable[..., Adapter]:
    """Source text and configuration -> adapter."""

    def make(code: str, config: dict[str, Any] | None = None, **options: Any) -> Adapter:
        return load_model(make_export(code, config), **options)

    return make


@pytest.fixture
def contract_of(make_model: Callable[..., Adapter]) -> Callable[..., Contract]:
    """Source text and configuration -> contract."""
    return lambda *arguments, **options: make_model(*arguments, **options).contract
