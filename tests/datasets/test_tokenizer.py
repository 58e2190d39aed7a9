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


def test_an_earlier_one_that_is_missing_or_damaged_is_none(tmp_path):
    dataset = TokenizerDataset(filepath=str(tmp_path))
    assert dataset.load_if_whole() is None
    (tmp_path / "tokenizer.json").write_text("{")
    assert dataset.load_if_whole() is None


def test_the_catalog_builds_it(tmp_path):
    entry = {"type": "transformer_foundry.datasets.tokenizer.TokenizerDataset", "filepath": str(tmp_path / "t")}
    catalog = DataCatalog.from_config({"tokenizer": entry | {"metadata": {"kedro-viz": {"layer": "model_input"}}}})
    assert not catalog.exists("tokenizer")


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "seal.json"])
def test_a_tokenizer_that_has_changed_is_made_again_and_not_used(tmp_path, file, caplog):
    _, tokenizer, _ = prepare("causal_lm", tmp_path / "tokens")
    folder = tmp_path / "tokenizer"
    TokenizerDataset(filepath=str(folder)).save(tokenizer)
    text = (folder / file).read_text()
    at = text.rindex('"', 0, text.rindex('"')) + 1
    (folder / file).write_text(text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :])
    assert TokenizerDataset(filepath=str(folder)).load_if_whole() is None
    assert "is damaged" in caplog.text
    with pytest.raises(DatasetError, match="is damaged"):
        TokenizerDataset(filepath=str(folder)).load()
    TokenizerDataset(filepath=str(folder)).save(tokenizer)
    assert TokenizerDataset(filepath=str(folder)).load().digest() == tokenizer.digest()


def test_a_tokenizer_of_an_earlier_version_has_no_seal_and_is_read(tmp_path):
    _, tokenizer, _ = prepare("causal_lm", tmp_path / "tokens")
    tokenizer.save(tmp_path / "tokenizer")
    assert TokenizerDataset(filepath=str(tmp_path / "tokenizer")).load().digest() == tokenizer.digest()
