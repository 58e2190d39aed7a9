from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.data.samples import corpus_of
from transformer_foundry.core.data import Document
from transformer_foundry.core.data.corpus.near_duplicates import NearDuplicates
from transformer_foundry.core.data.document import SPLIT_NAMES

WORDS = ["".join(random.Random(n).choices("abcdefghijklmnop", k=6)) for n in range(2000)]


def article(seed, length=120):
    return random.Random(seed).choices(WORDS, k=length)


def changed(words, count, seed=0):
    """The same words but for ``count`` of them."""
    copy = list(words)
    for place in random.Random(seed).sample(range(len(words)), count):
        copy[place] = "CHANGED"
    return " ".join(copy)


def groups_of(texts):
    found = NearDuplicates()
    for text in texts:
        found.add(text)
    return found.groups().tolist()


def pieces(text):
    text = " ".join(text.lower().split())
    return {text[start : start + 8] for start in range(len(text) - 7)}


def test_texts_that_differ_in_a_word_or_in_case_are_one_group():
    words = article(0)
    texts = [" ".join(words), changed(words, 1), "  ".join(words).upper(), " ".join(article(1))]
    assert groups_of(texts) == [0, 0, 0, 3]


def test_unrelated_texts_stay_alone():
    assert groups_of([" ".join(article(seed)) for seed in range(300)]) == list(range(300))


def test_most_pairs_above_the_threshold_are_found_and_none_far_below():
    found, similarity = [], []
    for seed in range(60):
        words = article(seed)
        texts = [" ".join(words), changed(words, 1 + seed % 30, seed)]
        left, right = map(pieces, texts)
        similarity.append(len(left & right) / len(left | right))
        found.append(groups_of(texts) == [0, 0])
    found, similarity = np.array(found), np.array(similarity)
    assert found[similarity > 0.9].mean() > 0.9
    assert not found[similarity < 0.6].any()


def test_short_texts_must_be_equal_but_for_case_and_blanks():
    assert groups_of(["Good  film", "good film", "good films", "", ""]) == [0, 0, 2, 3, 4]


def texts_by_split(corpus):
    return {name: [document.text for document in corpus.documents(name)] for name in SPLIT_NAMES}


VARIANTS = (str, str.upper, lambda text: text.replace(" ", "\n"), lambda text: f"  {text}")


@given(copies=st.lists(st.integers(0, 12), min_size=4, max_size=40), seed=st.integers(0, 20))
@example(copies=[0, 0, 0, 0, 0], seed=0)  # half of the texts are one group
@settings(deadline=None, max_examples=25)
def test_texts_equal_but_for_case_and_blanks_never_land_in_two_splits(copies, seed):
    documents = [Document(VARIANTS[place % 4](" ".join(article(n, 20)))) for place, n in enumerate(copies)]
    documents += [Document(" ".join(article(100 + number))) for number in range(5)]
    splits = texts_by_split(corpus_of(documents, "causal_lm", seed=seed))
    distinct = {name: {" ".join(text.lower().split()) for text in texts} for name, texts in splits.items()}
    assert sum(map(len, splits.values())) == len(documents)
    assert sum(map(len, distinct.values())) == len(set.union(*distinct.values()))


def test_texts_that_differ_in_a_word_land_in_one_split():
    documents = [Document(changed(article(n % 50), n // 50, n)) for n in range(100)]
    splits = texts_by_split(corpus_of(documents, "causal_lm"))
    articles = {name: {first_words(text) for text in texts} for name, texts in splits.items()}
    assert sum(map(len, articles.values())) == 50


def first_words(text):
    return next(seed for seed in range(50) if len(set(text.split()) & set(article(seed))) > 60)


def test_near_duplicates_are_counted_and_dropped_on_request():
    documents = [Document(changed(article(n % 30), n // 30)) for n in range(60)] + [Document(" ".join(article(0)))]
    plain = corpus_of(documents, "causal_lm").assignment
    dropped = corpus_of(documents, "causal_lm", drop_near_duplicates=True).assignment
    assert (plain.near_duplicates, plain.repeats, plain.dropped_duplicates) == (30, 1, 0)
    assert (sum(plain.counts.values()), sum(dropped.counts.values())) == (61, 30)
    assert dropped.dropped_duplicates == 31


def test_near_leaks_into_a_given_split_are_counted_and_dropped_on_request():
    held_out = [Document(" ".join(article(n))) for n in range(5)]
    train = [Document(changed(article(n), 1)) for n in range(20)]
    given = {"train": train, "validation": held_out}
    assert corpus_of(given, "causal_lm", test_share=0).assignment.near_leaks == 5
    dropped = corpus_of(given, "causal_lm", test_share=0, drop_near_duplicates=True)
    assert dropped.assignment.counts == {"train": 15, "validation": 5, "test": 0}


def test_questions_on_one_paragraph_are_no_duplicates_and_stay_in_one_split():
    paragraphs = [" ".join(article(number)) for number in range(20)]
    texts = [f"{paragraph}\nWhat is {number}?" for paragraph in paragraphs for number in range(3)]
    again = [f"{changed(article(number), 1)}\nWhat is 0?" for number in range(2)]
    documents = [Document(text, target="an answer") for text in (*texts, *again)]
    corpora = [asked(documents, drop_near_duplicates=drops) for drops in (False, True)]
    plain, dropped = (corpus.assignment for corpus in corpora)
    assert (plain.near_duplicates, plain.near_leaks) == (2, 0)
    assert (sum(plain.counts.values()), sum(dropped.counts.values())) == (62, 60)
    splits = texts_by_split(corpora[0])
    found = [{text.split("\n")[0] for text in texts} for texts in splits.values()]
    assert sum(map(len, found)) == len(set.union(*found))


def test_given_splits_that_ask_other_questions_on_one_paragraph_do_not_leak():
    given = {
        split: [Document(f"{' '.join(article(n))}\nWhat is {split}?", target="an answer") for n in range(8)]
        for split in ("train", "validation")
    }
    assert asked(given, test_share=0).assignment.near_leaks == 0


def test_other_hypotheses_on_one_premise_are_no_duplicates():
    premises = [" ".join(article(number)) for number in range(9)]
    documents = [Document(premise, pair=f"It is {k}.", label=k) for premise in premises for k in range(3)]
    assert corpus_of(documents, "sequence_classification").assignment.near_duplicates == 0


def asked(documents, **settings):
    corpus = corpus_of(documents, "seq2seq_lm", **settings)
    corpus.source.columns = replace(corpus.source.columns, template="{context}\\n{question}\\n{answer}")
    return corpus
