from __future__ import annotations

import pytest

from transformer_foundry.core.evaluation.text_metrics import chrf, compare_texts, exact_match


def test_equal_texts_match() -> None:
    assert exact_match(["a b", "c"], [" a  b ", "c"]) == 1.0
    assert chrf(["a b", "cde"], ["a b", "cde"]) == 1.0


def test_texts_without_a_common_character_score_nothing() -> None:
    assert exact_match(["abc"], ["xyz"]) == 0.0
    assert chrf(["abc"], ["xyz"]) == 0.0


def test_chrf_has_the_value_computed_by_hand() -> None:
    # "ab" against "abc": unigrams P 2/2, R 2/3; bigrams P 1/1, R 1/2; longer ones do not occur in the text.
    precision, recall = (1 + 1) / 2, (2 / 3 + 1 / 2) / 2
    assert chrf(["ab"], ["abc"]) == pytest.approx(5 * precision * recall / (4 * precision + recall))


def test_an_empty_text_is_no_match() -> None:
    assert chrf([""], ["abc"]) == 0.0
    assert exact_match([""], ["abc"]) == 0.0


def test_bleu_and_rouge_are_added_where_their_libraries_are_installed():
    sacrebleu = pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    texts, references = ["the cat sat on the mat", "a b"], ["the cat sat on a mat", "a b"]
    found = compare_texts(texts, references)
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, [references]).score / 100)
    assert found["rouge_l"] == pytest.approx((5 / 6 + 1) / 2)
