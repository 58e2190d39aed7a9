from pathlib import Path

import pytest

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, open_corpus, read_corpus
from transformer_foundry.datasets import CorpusDataset


def texts(folder: Path, *lines: str) -> DataOptions:
    path = folder / "texts.txt"
    path.write_text("\n".join(lines))
    return DataOptions(source=str(path))


def saved(folder: Path, options: DataOptions) -> CorpusDataset:
    dataset = CorpusDataset(filepath=str(folder / "made" / "corpus.json"))
    dataset.save(read_corpus(options, "causal_lm"))
    return dataset


def test_the_process_that_saves_a_corpus_gets_the_opened_one_back(tmp_path: Path) -> None:
    dataset = CorpusDataset(filepath=str(tmp_path / "corpus.json"))
    corpus = read_corpus(texts(tmp_path, "one text", "another text"), "causal_lm")
    dataset.save(corpus)
    assert dataset.load() is corpus


def test_another_process_opens_the_same_corpus_again(tmp_path: Path) -> None:
    options = texts(tmp_path, "one text", "another text")
    saved(tmp_path, options)
    description = CorpusDataset(filepath=str(tmp_path / "made" / "corpus.json")).load()
    assert "texts.txt" in repr(description)
    again = description.open(options)
    assert again.digest() == read_corpus(options, "causal_lm").digest()


def test_a_source_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, texts(tmp_path, "one text", "another text"))
    description = CorpusDataset(filepath=str(tmp_path / "made" / "corpus.json")).load()
    with pytest.raises(DataError, match="have changed"):
        open_corpus(description, texts(tmp_path, "one text", "a third text"), "causal_lm")
