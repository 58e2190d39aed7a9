from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from transformer_foundry.core.base.errors import DataError, ParameterError
from transformer_foundry.core.data import DataOptions, read_corpus
from transformer_foundry.core.data.sources.built_in import countries
from transformer_foundry.core.data.sources.built_in.countries import CountryProfiles
from transformer_foundry.core.data.sources.source_digest import source_digest

COUNTRIES = DataOptions(source="built-in:countries")
TASKS = {
    "causal_lm": None,
    "seq2seq_lm": None,
    "sequence_classification": 7,
    "multi_label_classification": 10,
    "regression": 1,
    "token_classification": 2,
}


def documents(task: str, num_labels: int | None = None, **options: bool):
    return list(CountryProfiles(task, num_labels, **options).documents("train"))


def test_the_bundled_text_is_small_and_says_where_it_is_from() -> None:
    folder = Path(countries.__file__).parent
    assert (folder / "countries.jsonl.xz").stat().st_size < 300_000
    about = (folder / "countries.md").read_text()
    assert all(word in about for word in ("World Factbook", "November 2015", "public domain", "country_text.py"))


@pytest.mark.parametrize("task", ["causal_lm", "masked_lm"])
def test_a_card_is_a_country_and_at_least_two_lines_about_it(task: str) -> None:
    cards = documents(task)
    assert len(cards) > 600
    lines = [card.text.split("\n") for card in cards]
    assert all(len(card) >= 3 and card[0].startswith("Name: ") for card in lines)
    assert all(re.fullmatch(r"[A-Z][a-z ]+: [ -~]+", line) for card in lines for line in card)


def test_no_remark_source_or_percentage_is_left_in_a_line() -> None:
    text = "\n".join(card.text for card in documents("causal_lm"))
    found = re.findall(r"\S*(?:[()]|\best\.|\bnote:|\+\+)\S*", text)
    assert found == []
    assert not any("%" in line for line in text.split("\n") if line.startswith(("Languages", "Religions", "Exports")))


def test_pairs_ask_for_a_field_of_a_country() -> None:
    pairs = documents("seq2seq_lm")
    assert len(pairs) > 2_500
    assert len({pair.text for pair in pairs}) == len(pairs)
    capital = next(pair for pair in pairs if pair.text.startswith("Capital of Chile, "))
    assert capital.target == "Santiago"


def test_an_encoder_decoder_that_fills_spans_reads_cards() -> None:
    assert documents("seq2seq_lm", corrupts_spans=True) == documents("causal_lm")


def test_a_region_is_not_named_in_its_texts() -> None:
    texts = documents("sequence_classification", 7)
    counts = Counter(document.label for document in texts)
    assert len(counts) == 7
    assert counts.most_common(1)[0][1] < len(texts) / 3
    for document in texts:
        assert re.findall("[A-Z]", re.sub(r"^[A-Z][a-z ]+: ", "", document.text, flags=re.M)) == []


def test_a_model_with_fewer_classes_gets_the_largest_regions() -> None:
    assert CountryProfiles("sequence_classification", 2).label_names == ("Africa", "Europe")
    assert {document.label for document in documents("sequence_classification", 2)} == {"Africa", "Europe"}


def test_a_model_of_texts_with_one_output_learns_years() -> None:
    corpus = read_corpus(COUNTRIES, "sequence_classification", 1)
    assert corpus.task == "regression"
    assert all(45 < document.number < 95 for document in corpus.documents("train"))


def test_labels_are_the_resources_that_the_text_does_not_show() -> None:
    source = CountryProfiles("multi_label_classification", 4)
    found = list(source.documents("train"))
    assert len(source.label_names) == 4
    assert set().union(*(document.present for document in found)) == set(source.label_names)
    assert not any("resources" in document.text for document in found)


def test_names_are_tagged_in_text_without_capitals() -> None:
    for document in documents("token_classification", 2):
        assert document.text == document.text.lower()
        assert len(document.words) == len(document.tags)
    words = {
        word: tag
        for document in documents("token_classification")
        for word, tag in zip(document.words, document.tags, strict=True)
    }
    assert [words[word] for word in ("spanish", "mountains", "pacific")] == ["name", "other", "name"]


@pytest.mark.parametrize("task", ["multi_label_classification", "token_classification"])
def test_several_classes_need_several_outputs(task: str) -> None:
    with pytest.raises(DataError, match="one output"):
        CountryProfiles(task, 1)


@pytest.mark.parametrize(("task", "num_labels"), TASKS.items())
def test_each_kind_of_model_gets_splits_of_the_text(task: str, num_labels: int | None) -> None:
    corpus = read_corpus(COUNTRIES, task, num_labels)
    assert corpus.name == "built-in profiles of countries"
    assert all(corpus.assignment.counts[split] >= 10 for split in ("train", "validation", "test"))


def test_each_task_and_each_number_of_classes_has_its_own_digest() -> None:
    sources = [CountryProfiles(*given) for given in (*TASKS.items(), ("sequence_classification", 3))]
    assert len({source.digest() for source in sources}) == len(sources)


def test_python_text_has_two_names() -> None:
    digests = {name: source_digest(name) for name in ("built-in", "built-in:python", "built-in:countries")}
    assert digests["built-in"] == digests["built-in:python"] != digests["built-in:countries"]
    first = [next(read_corpus(DataOptions(source=name), "causal_lm").documents("train")) for name in digests]
    assert first[0] == first[1] != first[2]


@pytest.mark.parametrize(
    ("written", "near"),
    [("built-in:contries", "countries"), ("builtin:countries", "countries"), ("Built-in: Python", "python"),
     ("built-in:", "countries")],
)  # fmt: skip
def test_another_name_is_refused_with_the_nearest(written: str, near: str) -> None:
    with pytest.raises(ParameterError, match="no such built-in text") as caught:
        DataOptions(source=written)
    assert f"data.source=built-in:{near}." in caught.value.remedy


def test_countries_have_no_other_configuration() -> None:
    with pytest.raises(DataError, match=r"data.config_name is large, which built-in:countries does not have"):
        read_corpus(DataOptions(source="built-in:countries", config_name="large"), "causal_lm")
