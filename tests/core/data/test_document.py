from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.data.samples import corpus_of, sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import Document
from transformer_foundry.core.data.document import SPLIT_NAMES

TEXTS = st.lists(st.text(min_size=1, max_size=20).filter(str.strip), min_size=1, max_size=60)


def texts_of(corpus, split):
    return [document.text for document in corpus.documents(split)]


@given(texts=TEXTS, seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_splits_share_no_text_and_lose_none(texts, seed):
    documents = [Document(text) for text in (*texts, *sentences(5))]
    corpus = corpus_of(documents, "causal_lm", seed=seed)
    parts = {split: texts_of(corpus, split) for split in SPLIT_NAMES}
    assert Counter(itertools.chain(*parts.values())) == Counter(document.text for document in documents)
    assert sum(len(set(part)) for part in parts.values()) == len({document.text for document in documents})


@given(parts=st.fixed_dictionaries({name: st.lists(st.integers(0, 20), min_size=1) for name in SPLIT_NAMES}))
@settings(max_examples=60, deadline=None)
def test_given_held_out_splits_stay_whole_and_share_no_text_with_train(parts):
    given = {name: [Document(f"text {number}") for number in numbers] for name, numbers in parts.items()}
    for name in SPLIT_NAMES:
        given[name].append(Document(f"only in {name}"))
    corpus = corpus_of(given, "causal_lm")
    for name in ("validation", "test"):
        assert texts_of(corpus, name) == [document.text for document in given[name]]
        assert set(texts_of(corpus, "train")).isdisjoint(texts_of(corpus, name))
    in_both = set(texts_of(corpus, "validation")) & set(texts_of(corpus, "test"))
    assert corpus.assignment.shared == sum(text in in_both for text in texts_of(corpus, "validation"))


@pytest.mark.parametrize("drops_near", [False, True])
@pytest.mark.parametrize("given_split", ["validation", "test"])
@pytest.mark.parametrize("seed", range(3))
def test_a_missing_split_is_cut_from_what_no_given_split_holds(given_split, drops_near, seed):
    missing = "test" if given_split == "validation" else "validation"
    texts = [f"text {number}" for number in range(120)]
    given = {"train": [Document(text) for text in texts], given_split: [Document(text) for text in texts[:60]]}
    corpus = corpus_of(given, "causal_lm", seed=seed, drop_near_duplicates=drops_near)
    assert texts_of(corpus, given_split) == texts[:60]
    assert set(texts_of(corpus, missing)) | set(texts_of(corpus, "train")) == set(texts[60:])
    assert corpus.assignment.leaks == 60
    assert corpus.assignment.counts[missing] >= 1


def test_shares_are_kept_in_a_large_corpus():
    corpus = corpus_of([Document(str(number)) for number in range(5000)], "causal_lm", validation_share=0.1)
    assert corpus.assignment.counts["validation"] == pytest.approx(500, rel=0.2)
    assert corpus.assignment.counts["test"] == pytest.approx(500, rel=0.2)


def test_order_of_the_documents_is_kept():
    documents = [Document(text) for text in sentences(50)]
    assert texts_of(corpus_of(documents, "causal_lm"), "train") == [
        text for text in sentences(50) if text in set(texts_of(corpus_of(documents, "causal_lm"), "train"))
    ]


def test_another_seed_makes_other_splits():
    documents = [Document(text) for text in sentences(100)]
    first, second = (corpus_of(documents, "causal_lm", seed=seed) for seed in (0, 1))
    assert texts_of(first, "validation") != texts_of(second, "validation")
    assert first.digest() != second.digest()


def test_given_splits_are_used_as_they_are():
    given = {name: [Document(f"{name} {number}") for number in range(9)] for name in SPLIT_NAMES}
    corpus = corpus_of(given, "causal_lm")
    assert {name: texts_of(corpus, name) for name in SPLIT_NAMES} == {
        name: [document.text for document in documents] for name, documents in given.items()
    }


def test_a_missing_test_split_is_cut_from_train_only():
    given = {"train": [Document(text) for text in sentences(50)], "validation": [Document("held out")]}
    corpus = corpus_of(given, "causal_lm")
    assert texts_of(corpus, "validation") == ["held out"]
    assert 1 <= corpus.assignment.counts["test"] <= 15


def test_what_a_given_test_split_holds_is_dropped_from_train():
    given = {"train": [Document("a"), Document("b"), Document("c")], "test": [Document("b")]}
    corpus = corpus_of(given, "causal_lm")
    assert "b" not in texts_of(corpus, "train") + texts_of(corpus, "validation")
    assert corpus.assignment.leaks == 1


def test_a_sample_is_no_matter_of_the_order_of_the_file():
    documents = [Document(f"text {number}", label=number // 500) for number in range(1000)]
    corpus = corpus_of(documents, "sequence_classification", max_documents=200)
    assert sum(corpus.assignment.counts.values()) == 200
    assert corpus.assignment.labels["train"][0] == pytest.approx(corpus.assignment.labels["train"][1], rel=0.5)


def test_empty_texts_are_dropped_and_counted():
    corpus = corpus_of([Document(text) for text in ("", "  \n", *sentences(20))], "causal_lm")
    assert corpus.assignment.empty == 2
    assert sum(corpus.assignment.counts.values()) == 20


def test_pairs_without_a_target_are_dropped():
    documents = [Document(text, target="") for text in sentences(3)]
    documents += [Document(f"source {number}", target="target") for number in range(20)]
    assert corpus_of(documents, "seq2seq_lm").assignment.empty == 3


def test_a_lone_surrogate_becomes_a_question_mark():
    corpus = corpus_of([Document("bad \ud800 one"), *map(Document, sentences(10))], "causal_lm")
    assert "bad ? one" in itertools.chain(*(texts_of(corpus, split) for split in SPLIT_NAMES))


@pytest.mark.parametrize("texts", [[], ["", " "]])
def test_a_corpus_without_text_is_refused(texts):
    with pytest.raises(DataError, match="contains no text"):
        _ = corpus_of([Document(text) for text in texts], "causal_lm").assignment


@pytest.mark.parametrize("seed", range(5))
def test_texts_that_are_nearly_all_alike_do_not_leave_train_empty(seed):
    template = "Dear customer, thank you for your order. It has been sent today and will arrive soon. Its number is {}."
    texts = [template.format(number) for number in range(300)] + sentences(3)
    assignment = corpus_of([Document(text) for text in texts], "causal_lm", seed=seed).assignment
    assert assignment.counts["train"] > 150
    assert assignment.counts["validation"] > 20
    assert assignment.near_leaks > 100


@pytest.mark.parametrize("seed", range(5))
def test_a_text_repeated_most_often_stays_in_train(seed):
    documents = [Document(text) for text in (*["the same row again"] * 300, *sentences(5))]
    corpus = corpus_of(documents, "causal_lm", seed=seed)
    assert "the same row again" in texts_of(corpus, "train")
    assert corpus.assignment.counts["validation"] >= 1


def test_a_refused_validation_split_names_the_leaks_of_train():
    texts = [Document(text) for text in sentences(20)]
    with pytest.raises(DataError, match="validation split: 19 of the training texts are also in a held-out split of"):
        _ = corpus_of({"train": texts, "test": texts[1:]}, "causal_lm").assignment


def test_a_train_split_that_a_given_test_split_holds_too_is_refused_as_a_leak():
    given = {name: [Document(text) for text in sentences(20)] for name in ("train", "test")}
    with pytest.raises(DataError, match="20 of its texts are also in a held-out split"):
        _ = corpus_of(given, "causal_lm").assignment


@pytest.mark.parametrize("seed", range(5))
def test_two_texts_are_enough_to_train_and_to_validate(seed):
    assignment = corpus_of([Document(text) for text in sentences(2)], "causal_lm", seed=seed).assignment
    assert assignment.counts == {"train": 1, "validation": 1, "test": 0}


def test_a_corpus_of_one_repeated_text_is_refused():
    with pytest.raises(DataError, match="too few of them are different"):
        _ = corpus_of([Document("again")] * 50, "causal_lm").assignment


def test_names_of_labels_are_sorted_and_numbered():
    documents = [Document(text, label=("b", "c", "a")[number % 3]) for number, text in enumerate(sentences(30))]
    corpus = corpus_of(documents, "sequence_classification")
    assert corpus.label_names == ("a", "b", "c")
    expected = {document.text: "abc".index(document.label) for document in documents}
    assert all(document.label == expected[document.text] for document in corpus.documents("train"))


def test_classes_are_the_numbers_that_occur_by_value():
    documents = [Document(text, label=(10, 4)[number % 2]) for number, text in enumerate(sentences(30))]
    corpus = corpus_of(documents, "sequence_classification", num_labels=4)
    assert corpus.label_names == ("4", "10")
    assert {document.label for document in corpus.documents("train")} == {0, 1}


def test_a_number_and_its_name_are_one_class():
    documents = [Document(text, label=(1, "1", "x")[number % 3]) for number, text in enumerate(sentences(30))]
    corpus = corpus_of(documents, "sequence_classification")
    assert corpus.label_names == ("1", "x")
    assert {document.label for document in corpus.documents("train")} == {0, 1}


def test_more_classes_than_the_model_has_are_refused_with_both_numbers():
    documents = [Document(text, label=number % 5) for number, text in enumerate(sentences(30))]
    with pytest.raises(
        DataError, match=r"memory, train 4: .* is 3; the data have 5 classes .* but the model has only 3"
    ):
        list(corpus_of(documents, "sequence_classification", num_labels=3).documents("train"))


def test_the_rarest_classes_are_the_unexpected_ones():
    labels = ["-" if number in (7, 20) else ("a", "b", "~")[number % 3] for number in range(30)]
    documents = [Document(text, label=label) for text, label in zip(sentences(30), labels, strict=True)]
    with pytest.raises(DataError, match=r"memory, train 8: .*; 2 rows of train\) is -; the data have 4 classes"):
        list(corpus_of(documents, "sequence_classification", num_labels=3).documents("train"))


def test_a_class_that_only_the_validation_file_has_is_the_unexpected_one():
    from tests.core.data.samples import MemorySource
    from transformer_foundry.core.data import Corpus

    documents = [Document(text, label=("b", "c")[number % 2]) for number, text in enumerate(sentences(40))]
    held = [Document(f"held {text}", label="a") for text in sentences(30)]
    source = MemorySource({"train": documents, "validation": held})
    with pytest.raises(DataError, match=r"memory, validation 1: .*; 30 rows of validation\) is a;"):
        _ = Corpus(source, "sequence_classification", num_labels=2).label_names


def test_a_label_outside_the_declared_classes_is_refused():
    from tests.core.data.samples import MemorySource
    from transformer_foundry.core.data import Corpus

    documents = [Document(text, label=number % 3) for number, text in enumerate(sentences(30))]
    corpus = Corpus(MemorySource({"train": documents}, label_names=("no", "yes")), "sequence_classification")
    with pytest.raises(DataError, match=r"memory, train 3: .* is 2; it is none of the 2 classes no, yes"):
        list(corpus.documents("train"))


def test_ratings_from_one_move_down_to_zero():
    documents = [Document(text, label=1 + number % 5) for number, text in enumerate(sentences(30))]
    corpus = corpus_of(documents, "sequence_classification", num_labels=5)
    assert corpus.label_names == ("1", "2", "3", "4", "5")
    assert {document.label for document in corpus.documents("train")} <= set(range(5))


def test_a_huge_number_is_a_code_and_not_the_number_of_a_class():
    documents = [Document(text, label=(10**12, 7)[number % 2]) for number, text in enumerate(sentences(30))]
    assert corpus_of(documents, "sequence_classification").label_names == ("7", "1000000000000")


def test_the_source_is_read_once_for_the_plan_and_once_for_each_split():
    corpus = corpus_of([Document(text) for text in sentences(30)], "causal_lm")
    list(corpus.documents("train"))
    list(corpus.documents("validation"))
    assert corpus.source.reads == 3
