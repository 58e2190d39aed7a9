from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus
from transformer_foundry.core.data.sources.built_in.python_text import PythonText, _module_files
from transformer_foundry.core.data.sources.files.sections import cut_sections, split_paragraphs

TASKS = ("causal_lm", "masked_lm", "seq2seq_lm", "sequence_classification")


@pytest.fixture(scope="module")
def documents():
    return {task: list(PythonText(task).documents("train")) for task in TASKS}


def repeated_paragraphs(documents):
    paragraphs = [" ".join(text.split()) for document in documents for text in split_paragraphs(document.text)]
    return [text for text, count in Counter(paragraphs).items() if count > 1 and len(text) >= 40]


def test_no_paragraph_of_prose_occurs_twice(documents):
    assert repeated_paragraphs(documents["causal_lm"]) == []


def test_there_is_enough_prose_to_train_on(documents):
    assert sum(len(document.text) for document in documents["causal_lm"]) > 300_000


def test_masked_models_read_the_same_prose(documents):
    assert documents["masked_lm"] == documents["causal_lm"]


def test_signatures_come_with_one_line_that_says_what_they_do(documents):
    pairs = documents["seq2seq_lm"]
    assert len(pairs) > 3000
    assert all(pair.text.startswith(("def ", "async def ")) for pair in pairs)
    assert all("\n" not in pair.target and " " in pair.target for pair in pairs)
    assert len({pair.text for pair in pairs}) == len(pairs)


def test_classes_are_balanced_and_no_text_is_in_two(documents):
    labelled = documents["sequence_classification"]
    counts = Counter(document.label for document in labelled)
    assert len(counts) == 12
    assert max(counts.values()) / len(labelled) < 0.15
    assert len({document.text for document in labelled}) == len(labelled)


def test_a_model_with_fewer_classes_gets_the_largest(documents):
    counts = Counter(document.label for document in documents["sequence_classification"])
    source = PythonText("sequence_classification", num_labels=3)
    assert len(source.label_names) == 3
    assert min(counts[name] for name in source.label_names) == max(counts.values())
    assert {document.label for document in source.documents("train")} == set(source.label_names)


def test_labels_of_the_corpus_are_numbers_of_its_names():
    corpus = read_corpus(DataOptions(), "sequence_classification", 4)
    assert {document.label for document in corpus.documents("train")} == set(range(4))
    assert corpus.label_names == tuple(sorted(corpus.label_names))


def test_tests_and_vanished_packages_are_left_out():
    parts = {part for path in _module_files() for part in path.parts[-3:-1]}
    assert not parts & {"test", "tests", "distutils", "lib2to3", "site-packages"}


def test_an_unknown_task_has_no_built_in_text():
    with pytest.raises(DataError, match="no built-in text for the task regression"):
        PythonText("regression")


def test_the_parts_of_a_signature_are_tagged():
    document = next(iter(PythonText("token_classification").documents("train")))
    assert len(document.words) == len(document.tags)
    assert document.words[:2] == ("def", document.words[1])
    assert document.tags[:3] == ("keyword", "function", "operator")


def test_a_model_with_fewer_classes_gets_the_most_frequent_parts():
    source = PythonText("token_classification", 3)
    assert source.label_names == ("operator", "name", "other")
    assert {tag for document in source.documents("train") for tag in document.tags} == set(source.label_names)


@pytest.mark.slow
def test_reading_imports_nothing_of_the_standard_library_it_reads():
    code = (
        "import sys; from transformer_foundry.core.data.sources.built_in.python_text import PythonText;"
        "list(PythonText('seq2seq_lm').documents('train'));"
        "print({'antigravity', 'this', 'idlelib', 'turtle', 'tkinter'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_stamp_is_the_same_in_another_process():
    code = (
        "from transformer_foundry.core.data.sources.built_in.python_text import PythonText; "
        "print(PythonText('causal_lm').digest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == PythonText("causal_lm").digest()


def test_a_python_without_sources_is_a_data_error(monkeypatch, tmp_path):
    from transformer_foundry.core.data.sources.built_in import python_text

    monkeypatch.setattr(python_text, "_folder", lambda: Path(tmp_path))
    python_text._module_files.cache_clear()
    with pytest.raises(DataError, match="has no source files"):
        python_text._module_files()
    python_text._module_files.cache_clear()


def test_sections_are_cut_between_paragraphs():
    paragraphs = [f"paragraph {number}" for number in range(30)]
    sections = list(cut_sections(paragraphs, size=50))
    assert all(50 <= len(section) < 90 for section in sections[:-1])
    assert [part for section in sections for part in split_paragraphs(section)] == paragraphs


def test_the_large_text_holds_the_plain_one(documents):
    large = list(PythonText("causal_lm", config_name="large").documents("train"))
    assert large[: len(documents["causal_lm"])] == documents["causal_lm"]
    assert sum(len(document.text) for document in large) > 1_500_000


def test_no_paragraph_of_the_large_text_occurs_twice():
    large = PythonText("masked_lm", config_name="large").documents("train")
    assert repeated_paragraphs(large) == []


def test_another_configuration_is_refused():
    with pytest.raises(DataError, match=r"data.config_name is huge"):
        PythonText("causal_lm", config_name="huge")


def test_each_corpus_has_its_own_digest():
    sources = [PythonText(task) for task in ("causal_lm", "seq2seq_lm", "sequence_classification")]
    sources += [PythonText("causal_lm", config_name="large"), PythonText("sequence_classification", 3)]
    assert len({source.digest() for source in sources}) == 5


def test_a_model_with_one_output_needs_numbers():
    with pytest.raises(DataError, match="the built-in text has only classes"):
        PythonText("sequence_classification", 1)


@pytest.mark.parametrize(
    "changes", [{"text_column": "zz"}, {"label_columns": ["a"]}, {"columns": ["a", "b"]}, {"encoding": "cp1252"}]
)
def test_options_of_files_are_refused_instead_of_ignored(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"data.{next(iter(changes))} is set, but the built-in text"):
        read_corpus(DataOptions(**changes), "causal_lm")
