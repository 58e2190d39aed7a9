from __future__ import annotations

import pytest
from kedro.io import DataCatalog, DatasetError

from tests.core.data.samples import prepare
from transformer_foundry.core.base.errors import DataError, find_foundry_error
from transformer_foundry.datasets.tokenizer import TokenizerDataset


def test_a_tokenizer_is_loaded_with_the_same_ids(tmp_path):
    _, tokenizer, _ = prepare("causal_lm", tmp_path / "tokens")
    dataset = TokenizerDataset(filepath=str(tmp_path / "tokenizer"))
    dataset.save(tokenizer)
    assert dataset.load().digest() == tokenizer.digest()


def test_it_exists_only_when_it_is_whole(tmp_path):
    _, tokenizer, _ = prepare("causal_lm", tmp_path / "tokens")
    dataset = TokenizerDataset(filepath=str(tmp_path / "tokenizer"))
    assert not dataset.exists()
    dataset.save(tokenizer)
    assert dataset.exists()


def test_a_save_that_dies_leaves_nothing_that_exists(tmp_path, monkeypatch):
    _, tokenizer, _ = prepare("causal_lm", tmp_path / "tokens")
    dataset = TokenizerDataset(filepath=str(tmp_path / "tokenizer"))
    dataset.save(tokenizer)
    monkeypatch.setattr("transformer_foundry.core.data.tokenizer.tokenizer.replace_file", lambda *_: 1 / 0)
    with pytest.raises(DatasetError):
        dataset.save(tokenizer)
    assert not dataset.exists()


def test_a_missing_tokenizer_is_a_foundry_error_inside_that_of_kedro(tmp_path):
    with pytest.raises(DatasetError) as caught:
        TokenizerDataset(filepath=str(tmp_path)).load()
    assert isinstance(find_foundry_error(caught.value), DataError)


def test_what_is_missing_or_damaged_loads_as_none_where_it_is_optional(tmp_path):
    dataset = TokenizerDataset(filepath=str(tmp_path), is_optional=True)
    assert dataset.load() is None
    (tmp_path / "tokenizer.json").write_text("{")
    assert dataset.load() is None


def test_the_catalog_builds_it(tmp_path):
    entry = {"type": "transformer_foundry.datasets.tokenizer.TokenizerDataset", "filepath": str(tmp_path / "t")}
    catalog = DataCatalog.from_config({"tokenizer": entry | {"metadata": {"kedro-viz": {"layer": "model_input"}}}})
    assert not catalog.exists("tokenizer")
