"""Places that a dataset refuses when it is made, so that no folder called ``s3:`` is ever created."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog, DatasetError, Version
from plotly.graph_objects import Figure

from transformer_foundry.core.base.errors import DataError, ParameterError, find_foundry_error
from transformer_foundry.datasets import (
    AtomicJSONDataset,
    ComparisonDataset,
    CorpusDataset,
    FigureDataset,
    HubPackageDataset,
    ModelExportDataset,
    PackageDataset,
    PlotlyFigureDataset,
    RegistryDataset,
    StudyDataset,
    TokenizerDataset,
    TokenSplitsDataset,
    TrainingRunDataset,
)
from transformer_foundry.datasets.storage.location import explain_storage_errors

LOCAL_ONLY: tuple[Any, ...] = (TrainingRunDataset, StudyDataset, RegistryDataset)
ALL: tuple[Any, ...] = (*LOCAL_ONLY, TokenizerDataset, TokenSplitsDataset, PackageDataset, ComparisonDataset)


def refusal(entry: dict[str, Any]) -> str:
    with pytest.raises(DatasetError) as caught:
        DataCatalog.from_config({"entry": entry}).get("entry")
    found = find_foundry_error(caught.value)
    assert isinstance(found, ParameterError), caught.value
    assert len(str(found).splitlines()) == 3
    return str(found)


@pytest.mark.parametrize("kind", LOCAL_ONLY)
@pytest.mark.parametrize("path", ["s3://bucket/run", "memory://run", "gs://bucket/run", "https://host/run"])
def test_what_needs_a_local_folder_refuses_a_url(
    kind: Any, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert path in refusal({"type": kind, "filepath": path})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [*ALL, AtomicJSONDataset])
@pytest.mark.parametrize("path", ["s3:/bucket/run", "C:/data/run", "C:\\data\\run", "simplecache::s3://bucket/run"])
def test_no_folder_is_called_like_the_beginning_of_a_url(kind: Any, path: str) -> None:
    refusal({"type": kind, "filepath": path})


@pytest.mark.parametrize("kind", [TrainingRunDataset, StudyDataset, RegistryDataset, TokenSplitsDataset])
def test_what_has_no_versions_refuses_them(kind: Any, tmp_path: Path) -> None:
    assert "versioned" in refusal({"type": kind, "filepath": str(tmp_path / "x"), "versioned": True})


def test_other_kinds_refuse_versions_too(tmp_path: Path) -> None:
    for entry in (
        {"type": ComparisonDataset, "filepath": str(tmp_path / "x.jsonl")},
        {"type": ModelExportDataset, "source": "x", "cache_dir": str(tmp_path)},
        {"type": HubPackageDataset, "repo_id": "a/b"},
    ):
        assert "versioned" in refusal({**entry, "versioned": True})


@pytest.mark.parametrize("kind", [AtomicJSONDataset, FigureDataset, CorpusDataset, TokenizerDataset, ComparisonDataset])
@pytest.mark.parametrize("name", ["open_args_load", "open_args_save"])
def test_arguments_that_nothing_uses_are_refused(kind: Any, name: str, tmp_path: Path) -> None:
    entry = {"type": kind, "filepath": str(tmp_path / "x"), "fs_args": {name: {"compression": "gzip"}}}
    assert name in refusal(entry)
    if kind not in (AtomicJSONDataset, CorpusDataset):
        assert name in refusal({**entry, "filepath": "memory://x"})


@pytest.mark.parametrize(("url", "named"), [("data/x.json", False), ("s3://bucket/x.json", True)])
def test_only_what_is_elsewhere_may_lack_credentials(url: str, named: bool) -> None:
    with pytest.raises(DataError) as caught, explain_storage_errors(url):
        raise PermissionError(13, "Permission denied")
    assert ("credentials" in str(caught.value)) is named
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("kind", [AtomicJSONDataset, FigureDataset, PlotlyFigureDataset])
@pytest.mark.parametrize("root", ["{tmp}", "memory://brackets"])
def test_versions_below_a_folder_with_brackets_are_found(kind: Any, root: str, tmp_path: Path) -> None:
    version = Version(None, "2026-01-01T00.00.00.000Z")
    path = f"{root.format(tmp=tmp_path)}/run [1]/{kind.__name__}"
    dataset = kind(filepath=path, version=version)
    data = {AtomicJSONDataset: {"a": 1}, FigureDataset: b"\x89PNG..IEND\xaeB`\x82"}.get(kind, Figure({"data": [{}]}))
    dataset.save(data)
    assert kind(filepath=path, version=Version(None, None)).load() == data


def test_the_cache_of_exports_is_local() -> None:
    refusal({"type": ModelExportDataset, "source": "x", "cache_dir": "s3://bucket/01_raw/downloads"})


def test_a_protocol_without_its_library_names_it() -> None:
    assert "abfs" in refusal({"type": TokenizerDataset, "filepath": "abfs://bucket/tok"})


def test_a_description_has_no_secrets_and_contacts_nothing() -> None:
    dataset = TokenizerDataset(filepath="ftp://u:pw1234@host.invalid/tok", credentials={"password": "s3cr3t"})
    assert "host.invalid/tok" in repr(dataset)
    assert not {"s3cr3t", "pw1234"} & set(repr(dataset).replace(":", "/").replace("@", "/").split("/"))
