"""What is wrong with data although they can be read: one warning line each, and none for ordinary data."""

from __future__ import annotations

import json

import pytest

from tests.core.data.samples import contract_for, sentences
from transformer_foundry.core.data import DataOptions, fit_tokenizer, prepare_splits, profile_splits, read_corpus

TEXTS = sentences(120)


def write(folder, rows, name="train.jsonl"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def warnings_of(folder, task, **options):
    contract = contract_for(task, 400, output_size=400 if task.endswith("lm") else 4, num_labels=4, max_length=64)
    settings = DataOptions(source=str(folder), validation_share=0.2, **options)
    corpus = read_corpus(settings, task, None if task.endswith("lm") else 4)
    tokenizer = fit_tokenizer(corpus, contract, settings)
    splits = prepare_splits(corpus, tokenizer, contract, settings, folder / "tokens")
    found = profile_splits(splits, tokenizer)["findings"]
    small = ("amount", "split size", "drift", "duplicates")  # the tables of tests are small and alike
    return [one["message"] for one in found if one["severity"] == "warning" and one["check"] not in small]


def labelled(labels):
    return [{"text": text, "label": labels[number % len(labels)]} for number, text in enumerate(TEXTS)]


CASES = {
    "labels for a language model": ("causal_lm", labelled(["pos", "neg"]), "The texts have classes (column label: neg"),
    "equal sides": (
        "seq2seq_lm",
        [{"source": text, "target": text} for text in TEXTS],
        "source and target are equal in most rows",
    ),
    "equal texts of a pair": (
        "sequence_classification",
        [{"sentence1": text, "sentence2": text, "label": n % 2} for n, text in enumerate(TEXTS)],
        "sentence1 and sentence2 are equal in most rows",
    ),
    "texts with two labels": (
        "sequence_classification",
        labelled(["x", "y"]) + [{"text": text, "label": "y"} for text in TEXTS[:8:2]],
        "8 of 124 texts occur with different labels",
    ),
    "a leak of the class": (
        "sequence_classification",
        [{**row, "text": f"{row['label']}: {row['text']}"} for row in labelled(["sports", "world"])],
        "120 of 120 examined texts contain the name of their class",
    ),
    "a leak of one class of unequal ones": (
        "sequence_classification",
        [
            {**row, "text": f"spam? {row['text']}" if row["label"] == "spam" else row["text"]}
            for row in labelled(["spam", *["ham"] * 3])
        ],
        "30 of 30 examined texts of the class spam contain its name, and 0 of 90 others",
    ),
    "a leak of unequal classes": (
        "sequence_classification",
        [{**row, "text": f"{row['text']} [{row['label']}]"} for row in labelled(["sports", *["world"] * 3])],
        "120 of 120 examined texts contain the name of their class (0 by chance)",
    ),
    "a leak in texts that are sorted by class": (
        "sequence_classification",
        [
            {"text": f"{label}: {text} {number}", "label": label}
            for label in ("sports", "world")
            for number in range(20)
            for text in TEXTS
        ],
        "2000 of 2000 examined texts contain the name of their class",
    ),
    "classes that look alike": (
        "sequence_classification",
        labelled(["Positive", "positive", " pos ", "neg"]),
        "Classes look alike: 'Positive' and 'positive'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_problem_is_one_warning(tmp_path, case):
    task, rows, message = CASES[case]
    found = warnings_of(write(tmp_path / "d", rows), task)
    assert len(found) == 1, found
    assert found[0].startswith(message)


def test_a_class_only_in_validation_is_named(tmp_path):
    folder = write(tmp_path / "d", labelled(["a", "b"])[:80])
    write(folder, labelled(["a", "c"])[80:], "valid.jsonl")
    found = warnings_of(folder, "sequence_classification")
    assert [message for message in found if "No training example has the label c" in message]


def test_training_texts_that_are_also_held_out_are_counted(tmp_path):
    folder = write(tmp_path / "d", [{"text": text} for text in TEXTS])
    write(folder, [{"text": text} for text in TEXTS[:60]], "valid.jsonl")
    assert warnings_of(folder, "causal_lm")[0].startswith(
        "60 training texts that are also in a held-out split were dropped"
    )


ORDINARY = {
    "reviews": ("sequence_classification", labelled(["positive", "negative"])),
    "topics that name themselves now and then": (
        "sequence_classification",
        [
            {**row, "text": f"{row['text']} {'about ' + row['label'] if number % 3 == 0 else ''}"}
            for number, row in enumerate(labelled(["sports", "world", "business", "science"]))
        ],
    ),
    "a text that always names both classes": (
        "sequence_classification",
        [{**row, "text": f"yes or no? {row['text']}"} for row in labelled(["yes", "no"])],
    ),
    "a text that always names both of two unequal classes": (
        "sequence_classification",
        [{**row, "text": f"yes or no? {row['text']}"} for row in labelled(["yes", *["no"] * 2])],
    ),
    "texts sorted by class that name both": (
        "sequence_classification",
        [{**row, "text": f"yes or no? {row['text']}"}
         for row in sorted(labelled(["yes", "no"]), key=lambda row: row["label"])],
    ),
    "signs": ("sequence_classification", labelled([-1, 1])),
    "stars": ("sequence_classification", labelled([1, 2, 3, 4])),
    "languages whose names differ in signs": ("sequence_classification", labelled(["C", "C++", "C#"])),
    "pairs, some of them equal": (
        "seq2seq_lm",
        [{"source": text, "target": text if n % 5 == 0 else text[::-1]} for n, text in enumerate(TEXTS)],
    ),
    "instructions": ("causal_lm", [{"instruction": text, "output": text[::-1], "category": "a"} for text in TEXTS]),
    "articles": ("causal_lm", [{"id": n, "url": f"http://x/{n}", "title": "A b", "text": text}
                               for n, text in enumerate(TEXTS)]),
}  # fmt: skip


@pytest.mark.parametrize("case", ORDINARY)
def test_ordinary_data_have_no_warning(tmp_path, case):
    task, rows = ORDINARY[case]
    assert warnings_of(write(tmp_path / "d", rows), task) == []


@pytest.mark.parametrize("marks", [0, 5])
def test_a_class_of_very_few_rows_is_named_once(tmp_path, marks):
    labels = ["-"] * marks + [*"abc"] * 100
    rows = [{"text": text, "label": label} for text, label in zip(sentences(300), labels, strict=False)]
    found = warnings_of(write(tmp_path / "data", rows), "sequence_classification")
    assert ["very few are - (" in message for message in found] == [True] * bool(marks)
