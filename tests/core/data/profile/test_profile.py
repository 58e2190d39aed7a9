from __future__ import annotations

import json
import random

import numpy as np
import pytest

from tests.core.data.samples import contract_for, corpus_of, prepare, sentences
from transformer_foundry.core.data import DataOptions, Document, fit_tokenizer, prepare_splits, profile_splits
from transformer_foundry.core.data.profile.profile import _bin_edges

TASKS = ("causal_lm", "masked_lm", "seq2seq_lm", "sequence_classification")


def profile_of(documents, folder, task="causal_lm", **settings):
    corpus, contract = corpus_of(documents, task, **settings), contract_for(task)
    tokenizer = fit_tokenizer(corpus, contract, DataOptions())
    return profile_splits(prepare_splits(corpus, tokenizer, contract, DataOptions(), folder), tokenizer)


def messages(profile, check):
    return [(finding["severity"], finding["message"]) for finding in profile["findings"] if finding["check"] == check]


def checks_of(profile):
    return {finding["check"] for finding in profile["findings"]}


@pytest.mark.parametrize("task", TASKS)
def test_the_profile_survives_json(tmp_path, task):
    splits, tokenizer, _ = prepare(task, tmp_path)
    profile = profile_splits(splits, tokenizer)
    assert json.loads(json.dumps(profile, allow_nan=False)) == profile
    assert profile["baselines"] == splits.baselines


def test_counts_are_those_of_the_splits(tmp_path):
    splits, tokenizer, corpus = prepare("causal_lm", tmp_path)
    train = profile_splits(splits, tokenizer)["splits"]["train"]
    documents = list(corpus.documents("train"))
    ids = sum(len(tokenizer.encode(document.text)) for document in documents)
    assert train["documents"] == len(documents)
    assert train["tokens"] == ids + len(documents) + 1
    assert train["targets"] == train["tokens"] - 1


def test_examples_show_what_the_model_sees(tmp_path):
    splits, tokenizer, _ = prepare("seq2seq_lm", tmp_path, max_length=64)
    example = profile_splits(splits, tokenizer)["examples"][0]
    assert example["input"].endswith("<|eos|>")
    assert example["expected"].removesuffix("<|eos|>") == " ".join(reversed(example["input"].split()[:6]))


def test_the_balance_of_the_labels_is_counted(tmp_path):
    splits, tokenizer, corpus = prepare("sequence_classification", tmp_path)
    assert profile_splits(splits, tokenizer)["labels"]["train"] == {
        name: sum(document.label == number for document in corpus.documents("train"))
        for number, name in enumerate(("even", "odd"))
    }


def test_little_text_is_found(tmp_path):
    splits, tokenizer, _ = prepare("causal_lm", tmp_path, vocab_size=5000)
    profile = profile_splits(splits, tokenizer)
    assert {"amount", "split size", "preparation"} <= checks_of(profile)
    assert any("of the model's 5000 tokens" in finding["message"] for finding in profile["findings"])


def test_cut_rows_are_found(tmp_path):
    splits, tokenizer, _ = prepare("sequence_classification", tmp_path, max_length=5)
    assert "truncation" in checks_of(profile_splits(splits, tokenizer))


def test_unknown_characters_are_counted(tmp_path):
    splits, tokenizer, corpus = prepare("causal_lm", tmp_path, vocab_size=30)
    text = "".join(document.text for document in corpus.documents("train"))
    known = tokenizer.backend.get_vocab()
    share = sum(character not in known for character in text) / splits.train.counts["tokens"]
    profile = profile_splits(splits, tokenizer)
    assert profile["vocabulary"]["unknown_share"] == pytest.approx(share, abs=1e-6)
    assert ("unknown tokens" in checks_of(profile)) == (share > 0.01)


def test_lopsided_and_absent_labels_are_found(tmp_path):
    documents = [Document(text, label=2 if number > 50 else 0) for number, text in enumerate(sentences(60))]
    corpus = corpus_of({"train": documents[:40], "validation": documents[40:]}, "sequence_classification")
    contract = contract_for("sequence_classification", output_size=3)
    tokenizer = fit_tokenizer(corpus, contract, DataOptions())
    profile = profile_splits(prepare_splits(corpus, tokenizer, contract, DataOptions(), tmp_path), tokenizer)
    assert {"labels", "label balance"} <= checks_of(profile)


def test_words_outside_spans_are_no_imbalance(tmp_path):
    texts = [text.split() for text in sentences(40)]
    documents = [
        Document(" ".join(words), words=tuple(words), tags=("B-X", *["O"] * (len(words) - 1))) for words in texts
    ]
    corpus = corpus_of(documents, "token_classification")
    contract = contract_for("token_classification", output_size=2)
    tokenizer = fit_tokenizer(corpus, contract, DataOptions())
    profile = profile_splits(prepare_splits(corpus, tokenizer, contract, DataOptions(), tmp_path), tokenizer)
    ((severity, message),) = messages(profile, "label balance")
    assert severity == "info"
    assert message.endswith("of the training labels are O.")


def test_duplicates_are_found_and_the_way_out_is_named(tmp_path):
    texts = [f"{number}".join("abcdefghijklmnop") for number in range(100, 200)]
    profile = profile_of([Document(text) for text in (*texts, *texts[:30])], tmp_path)
    ((severity, message),) = messages(profile, "duplicates")
    assert severity == "warning"
    assert message.startswith("30 of 130 texts")


def test_encoding_trouble_and_markup_are_found_with_an_example(tmp_path):
    bad = ["caf\ufffd and more of it", "Z\u00c3\u00bcrich is a town", "<div>some text</div>"]
    profile = profile_of([Document(text) for text in (*sentences(50), *bad)], tmp_path)
    assert len(messages(profile, "encoding")) == 2
    assert "'<div>some text</div>'" in messages(profile, "markup")[0][1]


def test_marks_between_documents_are_one_warning_with_their_count(tmp_path):
    texts = [f"{text}\n<|endoftext|>" if number % 2 else text for number, text in enumerate(sentences(60))]
    ((severity, message),) = messages(profile_of([Document(text) for text in texts], tmp_path), "marks")
    assert severity == "warning"
    assert message.startswith("30 of 60 examined texts contain marks of the end of a document")


def test_a_mixture_of_languages_is_found(tmp_path):
    english = [Document(f"The number of this one is {n} and that of the other is not.") for n in range(60)]
    german = [Document(f"Die Nummer {n} ist nicht die von der anderen und auch nicht das.") for n in range(40)]
    ((severity, message),) = messages(profile_of(english + german, tmp_path), "language")
    assert severity == "warning"
    assert message == "The texts are in several languages: en 60%, de 40%."


def test_drift_between_given_splits_is_found(tmp_path):
    train = [Document(text) for text in sentences(300)]
    other = [Document(f"completely different words about gardening {n}") for n in range(60)]
    drifted = profile_of({"train": train, "validation": other}, tmp_path / "a", test_share=0)
    same = profile_of(train, tmp_path / "b")
    assert messages(drifted, "drift")
    assert not messages(same, "drift")


def test_labels_that_are_balanced_otherwise_are_found(tmp_path):
    train = [Document(text, label=number % 2) for number, text in enumerate(sentences(60))]
    other = [Document(f"held out {number}", label=0) for number in range(30)]
    given = {"train": train, "validation": other}
    profile = profile_of(given, tmp_path, "sequence_classification", test_share=0)
    assert profile["drift"]["label_distance"] == 0.5
    assert messages(profile, "label drift")


def test_labels_of_few_texts_are_balanced_otherwise_by_chance(tmp_path):
    train = [Document(text, label=number % 2) for number, text in enumerate(sentences(60))]
    other = [Document(f"held out {number}", label=int(number < 13)) for number in range(20)]
    profile = profile_of({"train": train, "validation": other}, tmp_path, "sequence_classification", test_share=0)
    assert profile["drift"]["label_distance"] == 0.15
    assert not messages(profile, "label drift")


@pytest.mark.parametrize("classes", [2, 5])
def test_random_splits_have_no_drift_of_labels(tmp_path, classes):
    warned = 0
    for seed in range(15):
        order = random.Random(seed).sample(range(150), 150)
        rows = [Document(f"{number} {seed}", label=number % classes) for number in order]
        given = {"train": rows[:120], "validation": rows[120:]}
        profile = profile_of(given, tmp_path / str(seed), "sequence_classification", test_share=0)
        warned += bool(messages(profile, "label drift"))
    assert warned == 0


FRENCH = """Il a une maison dans la rue. | Elle va à la gare en train. | Un chat dort sur le lit.
Il pleut à Paris ce soir.
Le café est fermé lundi. | La porte du garage est ouverte. | Marie lit un livre. | Nous partons demain matin.
Il fait la cuisine. | Le prix a monté encore. | La ville est calme la nuit. | Un homme entre et salue.
Il y a un problème avec la photo. | Une fille chante le soir. | Le film a été un échec. | Le train part à midi."""
RECIPES = """Bake at 180 degrees for ten minutes. | Mix flour, butter, sugar. | Add eggs, stir until smooth.
Chop onions, fry for five minutes. | Serve with rice. | Leave to cool, then cut in squares. | Season, taste, serve hot.
Pour over pasta, top with cheese. | Roast chicken at high heat for an hour. | Simmer for ten minutes, stir often.
Preheat oven at 200, grease tin. | Put dough in tin, bake for half an hour. | Drain beans, mix in oil."""


@pytest.mark.parametrize("text", [FRENCH, RECIPES])
def test_short_texts_of_one_language_are_no_mixture(tmp_path, text):
    lines = [line.strip() for line in text.replace("|", "\n").split("\n")]
    profile = profile_of([Document(f"{line} {n}") for n in range(8) for line in lines], tmp_path)
    assert not [finding for finding in messages(profile, "language") if finding[0] == "warning"]


def test_text_shorter_than_a_row_is_found(tmp_path):
    profile = profile_of([Document("ab"), Document("cd"), Document("ef")], tmp_path)
    assert any("shorter than one row" in message for _, message in messages(profile, "amount"))


def test_what_is_read_is_shown(tmp_path):
    profile = profile_of([Document(text) for text in sentences(60)], tmp_path)
    assert ("info", "What is read: text from text.") in messages(profile, "preparation")


def test_packed_rows_are_full_and_their_cuts_counted(tmp_path):
    profile = profile_of([Document(text) for text in sentences(600)], tmp_path)
    assert profile["splits"]["train"]["fill"] > 0.999
    assert profile["splits"]["train"]["cut_documents"] < 600


@pytest.mark.parametrize("task", TASKS)
def test_table_and_figures_show_every_split(tmp_path, task):
    from transformer_foundry.core.data import label_figure, length_figure, splits_table, token_figure

    splits, tokenizer, _ = prepare(task, tmp_path)
    profile = profile_splits(splits, tokenizer)
    assert splits_table(profile)["rows"].tolist() == [len(split) for split in splits.splits.values()]
    for figure in (length_figure(splits), token_figure(splits)):
        assert [trace.name for trace in figure.data] == ["train", "validation", "test"]
    assert len(label_figure(profile).data) == (3 if task == "sequence_classification" else 0)


@pytest.mark.parametrize(
    "numbers", [[1e17, 1e17 + 16], [1.7e18, 1.7e18 + 512], [1.0, 1.0 + 2**-52], [-1.7e308, 1.7e308], [5.0, 5.0]]
)
def test_numbers_that_floats_hardly_tell_apart_are_counted(numbers: list[float]) -> None:
    edges = _bin_edges(np.array(numbers))
    assert (np.diff(edges) > 0).all()
    assert np.histogram(numbers, edges)[0].sum() == 2
