from __future__ import annotations

import tempfile

import pytest
from kedro.io import DataCatalog, DatasetError

from tests.core.data.samples import contract_for, corpus_of, documents_for, prepare
from transformer_foundry.core.base.errors import DataError, find_foundry_error
from transformer_foundry.core.data import DataOptions, fit_tokenizer, prepare_splits
from transformer_foundry.datasets.token_splits import TokenSplitsDataset


def prepare_in_a_temporary_folder():
    corpus, contract = corpus_of(documents_for("causal_lm"), "causal_lm"), contract_for("causal_lm")
    return prepare_splits(corpus, fit_tokenizer(corpus, contract, DataOptions()), contract, DataOptions())


def test_splits_are_loaded_as_they_were_saved(tmp_path):
    splits, _, _ = prepare("causal_lm", tmp_path / "made")
    dataset = TokenSplitsDataset(filepath=str(tmp_path / "kept"))
    dataset.save(splits)
    loaded = dataset.load()
    assert (loaded.fingerprint, loaded.folder) == (splits.fingerprint, tmp_path / "kept")
    assert (tmp_path / "made" / "index.json").exists()


def test_a_temporary_preparation_is_moved(tmp_path):
    splits = prepare_in_a_temporary_folder()
    TokenSplitsDataset(filepath=str(tmp_path / "kept")).save(splits)
    assert not splits.folder.exists()
    assert str(splits.folder).startswith(tempfile.gettempdir())


def test_splits_that_were_loaded_are_copied_wherever_they_lie(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # an entry may lie in the temporary folder, too
    prepare("causal_lm", tmp_path / "kept")
    kept, other = (TokenSplitsDataset(filepath=str(tmp_path / name)) for name in ("kept", "other"))
    other.save(kept.load())
    assert kept.load().fingerprint == other.load().fingerprint


def test_saving_what_is_already_there_writes_nothing(tmp_path):
    splits, _, _ = prepare("causal_lm", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    TokenSplitsDataset(filepath=str(tmp_path)).save(splits)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_copy_that_dies_does_not_exist(tmp_path, monkeypatch):
    splits, _, _ = prepare("causal_lm", tmp_path / "made")
    dataset = TokenSplitsDataset(filepath=str(tmp_path / "kept"))
    monkeypatch.setattr("transformer_foundry.core.data.tokenized.dataset.write_index", lambda *_: 1 / 0)
    with pytest.raises(DatasetError):
        dataset.save(splits)
    assert not dataset.exists()


def test_missing_splits_are_a_foundry_error_inside_that_of_kedro(tmp_path):
    with pytest.raises(DatasetError) as caught:
        TokenSplitsDataset(filepath=str(tmp_path)).load()
    assert isinstance(find_foundry_error(caught.value), DataError)


def test_an_earlier_one_that_is_missing_or_damaged_is_none(tmp_path):
    dataset = TokenSplitsDataset(filepath=str(tmp_path))
    assert dataset.load_if_whole() is None
    (tmp_path / "index.json").write_text("{")
    assert dataset.load_if_whole() is None


def test_the_catalog_builds_it(tmp_path):
    entry = {"type": "transformer_foundry.datasets.token_splits.TokenSplitsDataset", "filepath": str(tmp_path / "t")}
    assert not DataCatalog.from_config({"token_splits": entry}).exists("token_splits")
