"""What one text is in a file of plain text: how it is decided, and that nothing is lost."""

from __future__ import annotations

import json
import random

import pytest

from tests.core.data.samples import WORDS, sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus
from transformer_foundry.core.data.sources.files.sections import cut_text

_RANDOM = random.Random(0)


def letters(alphabet, count):
    return "".join(_RANDOM.choices(alphabet, k=count))


NAMES = [letters("aeioulmnrst", _RANDOM.randint(3, 9)) for _ in range(500)]
WRAPPED = "\n".join(
    "It was the best of times and it was the worst of times, so they said, and\n"
    f"there was no reason to think that the number {number} would ever be seen by\nanyone who walks. He left."
    for number in range(60)
)
CODE = "\n".join(f"def f{number}(x):\n\tif x:\n\t\treturn {number}\n\n" for number in range(60))


def read(path, **options):
    return read_corpus(DataOptions(source=str(path), **options), "causal_lm")


def texts(corpus, split="train"):
    return [document.text for document in corpus.source.documents(split)]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "unit", "reason"),
    [
        ("\n".join(NAMES), "line", "no blank lines"),
        ("\n".join(sentences(100)), "line", "no blank lines"),
        ("\n".join(f"2024-01-01 10:00:{n:02} INFO job {n}" for n in range(60)), "line", "no blank lines"),
        ("\n".join(f"{first.title()},{last.title()}" for first in WORDS for last in WORDS), "line", "no blank lines"),
        ("\n".join(letters("ACGT", 100) for _ in range(90)), "line", "no blank lines"),
        ("\n\n".join(sentences(100)), "section", "blank lines"),
        ("\n".join(f"KING:\n{text}\n" for text in sentences(100)), "section", "blank lines"),
        (WRAPPED, "section", "in the middle of sentences"),
        (CODE.replace("\n\n\n", "\n"), "section", "indented"),
        ("\n".join(letters("ACGT", 60_000) for _ in range(3)), "section", "60,000 characters"),
        (letters("ACGT", 4000), "section", "only 1 line"),
        ("这是一个句子。我们来看看它怎么被切开" * 600, "section", "only 1 line"),
    ],
)
def test_the_unit_is_decided_from_the_lines_and_said(tmp_path, content, unit, reason):
    path = write(tmp_path / "a.txt", content)
    corpus = read(path)
    assert corpus.source.notes[0].startswith(f"One text is a {unit} of {path}: ")
    assert reason in corpus.source.notes[0]
    assert "".join("".join(texts(corpus)).split()) == "".join(content.split())
    assert len(texts(corpus)) == len(content.split("\n")) if unit == "line" else len(texts(corpus)) > 3


@pytest.mark.parametrize(("document", "count"), [("line", 80), ("paragraph", 40), ("section", 5)])
def test_the_unit_can_be_set(tmp_path, document, count):
    path = write(tmp_path / "a.txt", "\n\n\n".join(f"{text}\nand so on" for text in sentences(40)))
    found = texts(read(path, document=document))
    assert len(found) == count if document != "section" else count < len(found) < 40


@pytest.mark.parametrize(
    "stamp",
    ["[12/03/2024, 10:00:11] Bob: ", "\u200e[3.12.24, 10:00:11] Bob: ", "3/12/24, 10:00 - Bob: ", "2024-03-12T10:00 "],
)
def test_a_message_goes_on_until_the_next_date_and_time(tmp_path, stamp):
    messages = [f"{stamp}{text}" + "\n\ngoes on" * (number % 3 == 0) for number, text in enumerate(sentences(12))]
    corpus = read(write(tmp_path / "chat.txt", "\n".join(messages) + "\n"))
    assert texts(corpus) == messages
    assert "One text is a message" in corpus.source.notes[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_inside_joined_files_is_no_text(tmp_path, encoding):
    content = "".join(f"{text}\n" for text in sentences(10)).encode(encoding)
    assert texts(read(write(tmp_path / "a.txt", content * 2))) == sentences(10) * 2


def test_a_whole_file_is_one_text_whose_end_is_held_out(tmp_path):
    path = write(tmp_path / "a.txt", "\n".join(NAMES))
    corpus = read(path, document="file", validation_share=0.1, test_share=0.1)
    parts = [texts(corpus, split) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [1, 1, 1]
    assert "\n".join(part[0] for part in parts) == "\n".join(NAMES)


def test_each_of_many_small_files_is_a_text(tmp_path):
    for number, text in enumerate(sentences(12)):
        write(tmp_path / f"{number:02}.txt", f"Story {number}\n\n{text}\n")
    corpus = read(tmp_path)
    assert texts(corpus) == [f"Story {number}\n\n{text}" for number, text in enumerate(sentences(12))]


def test_a_table_can_be_read_as_lines_and_lines_as_a_table(tmp_path):
    path = write(tmp_path / "a.txt", "".join(f"{text}\t{text[::-1]}\n" for text in sentences(30)))
    assert texts(read(path, document="line"))[0] == f"{sentences(1)[0]}\t{sentences(1)[0][::-1]}"
    path = write(tmp_path / "b.txt", "".join(f"{text},{number}\n" for number, text in enumerate(sentences(30))))
    assert texts(read(path, document="row", text_column="column_1")) == sentences(30)


@pytest.mark.parametrize("wrap", [60, 10_000])
def test_sequences_of_fasta_are_joined_and_cut_without_a_loss(tmp_path, wrap):
    sequences = [letters("ACGT", 3000) for _ in range(8)]
    lines = [
        f">chr{number} of something\n" + "\n".join(part[start : start + wrap] for start in range(0, 3000, wrap))
        for number, part in enumerate(sequences)
    ]
    found = texts(read(write(tmp_path / "a.fasta", "\n".join(lines) + "\n")))
    assert "".join(found) == "".join(sequences)
    assert max(map(len, found)) < 1000


READS = [letters("ACGT", 50) for _ in range(20)]


def fastq(change=None, at=7, wrap=50):
    """20 records as lines; ``change`` makes others of the lines of one."""
    records = [
        [
            f"@r{n}",
            *(part[i : i + wrap] for i in range(0, 50, wrap)),
            "+",
            *("@" * len(part[i : i + wrap]) for i in range(0, 50, wrap)),
        ]
        for n, part in enumerate(READS)
    ]
    if change is not None:
        records[at] = change(records[at])
    return "".join(line + "\n" for record in records for line in record)


SOUND = {  # content, and which sequences are read
    "plain": (fastq(), READS),
    "wrapped": (fastq(wrap=20), READS),
    "one is wrapped": (fastq(lambda r: [r[0], r[1][:20], r[1][20:], "+r7", r[3][:20], r[3][20:]]), READS),
    "a blank line": (fastq(lambda r: [*r, ""]), READS),
    "an empty sequence": (fastq(lambda r: [r[0], "", "+", ""]), READS[:7] + READS[8:]),
    "the first is wrapped": (fastq(lambda r: [r[0], r[1][:20], r[1][20:], "+", r[3]], at=0), READS),
}


@pytest.mark.parametrize("kind", SOUND)
def test_only_the_sequences_of_fastq_are_read(tmp_path, kind):
    content, sequences = SOUND[kind]
    corpus = read(write(tmp_path / "a.fastq", content))
    assert texts(corpus) == sequences
    assert "fastq" in corpus.source.notes[0]


DAMAGED = {
    "qualities are short": (lambda r: [*r[:3], r[3][:-1]], 7, "line 29: .* has 50 letters and another number"),
    "qualities are long": (lambda r: [*r[:3], r[3] + "@"], 7, "line 29: .* another number of qualities"),
    "no name": (lambda r: r[1:], 7, "line 29: .* where a record begins"),
    "no plus": (lambda r: [*r[:2], r[3]], 7, "line 31: .* in the sequence of @r7"),
    "cut": (lambda r: r[:3], 19, "line 77: .* ends before there is a quality"),
    "cut early": (lambda r: r[:2], 19, "line 77: .* has no line of +"),
    "the first": (lambda r: [*r[:3], r[3][:-1]], 0, "line 1: .* another number of qualities"),
}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("name", ["a.fastq", "a.txt"])
def test_a_damaged_record_of_fastq_is_refused_with_its_line(tmp_path, kind, name):
    change, at, said = DAMAGED[kind]
    with pytest.raises(DataError, match=said):
        read(write(tmp_path / name, fastq(change, at)))


def test_a_text_that_begins_like_fastq_is_a_text(tmp_path):
    content = "".join(f"@user{n}\n{text}\n+1\n" for n, text in enumerate(NAMES))
    assert "fastq" not in read(write(tmp_path / "a.txt", content)).source.notes[0]


def test_code_keeps_its_tabs_and_blank_lines(tmp_path):
    assert "\n\n".join(texts(read(write(tmp_path / "a.py", CODE), document="section"))).count("\t\treturn") == 60
    jsonl = '{"content": "if x:\\r\\n\\ty\\r\\n\\r\\n\\r\\nz"}\n{"content": "b"}\n'
    assert texts(read(write(tmp_path / "a.jsonl", jsonl)))[0] == "if x:\r\n\ty\r\n\r\n\r\nz"


def test_a_family_of_joined_characters_is_not_torn(tmp_path):
    family = "👩\u200d👩\u200d👧"
    found = texts(read(write(tmp_path / "a.txt", "x" + family * 3000)))
    assert "".join(found) == "x" + family * 3000
    assert all(text.startswith(("👩", "x")) and text.endswith("👧") for text in found)


def test_a_file_that_is_too_large_for_one_text_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("transformer_foundry.core.data.sources.files.plain_text._LARGEST_FILE", 100)
    with pytest.raises(DataError, match="too much for one text"):
        texts(read(write(tmp_path / "a.txt", "\n".join(NAMES)), document="file"))


@pytest.mark.parametrize("start", ["; made by a program\n>one\n", ";one of the old\n", ">one\n"])
def test_a_fasta_file_may_begin_with_a_comment_and_end_sequences_by_a_star(tmp_path, start):
    content = "".join(f"{start}{letters('ACDEFGHIKLMNPQRSTVWY', 60)}*\n" for _ in range(60))
    found = texts(read(write(tmp_path / "a.txt", content)))
    assert found
    assert all(text.startswith(tuple("ACDEFGHIKLMNPQRSTVWY")) and ";" not in text for text in found)
    assert "record" in "".join(read(tmp_path / "a.txt").source.notes)


@pytest.mark.parametrize(
    "form", ["{}\n<|endoftext|>\n", "{}<|endoftext|>\n", "<|endoftext|>{}\n", "{}\n</s>\n", "<s>{}</s>\n"]
)
def test_texts_between_marks_are_texts_without_them(tmp_path, form):
    texts = [f"Story {number} begins.\n\nIt goes on and\nends." for number in range(20)]
    path = tmp_path / "stories.txt"
    path.write_text("".join(form.format(text) for text in texts))
    corpus = read_corpus(DataOptions(source=str(path)), "causal_lm")
    assert [document.text for document in corpus.source.documents("train")] == texts
    assert "ends each text, and is left out" in corpus.source.notes[0]


def test_a_text_about_marks_is_not_split_at_them(tmp_path):
    path = tmp_path / "about.txt"
    path.write_text("The token <|endoftext|> ends a text.\n\n" * 3 + "In html, </s> ends struck text.\n\n" * 3)
    corpus = read_corpus(DataOptions(source=str(path)), "causal_lm")
    assert "<|endoftext|> ends a text" in next(corpus.source.documents("train")).text


def test_sections_begin_at_lines_that_are_not_indented():
    events = [[f"error {number}\n", *["    at a place\n"] * 4] for number in range(60)]
    lines = [line for event in events for line in event]
    sections = list(cut_text(lines, size=60))
    assert all(section.startswith("error") for section in sections)
    assert "\n".join(sections) + "\n" == "".join(lines)
    assert all(len(section) < 3 * 60 + 15 for section in cut_text(["a\n", *[" b\n"] * 200], size=60))


def test_a_carriage_return_within_lines_ends_none(tmp_path):
    lines = [f"line {number} of the text" for number in range(60)]
    odd = [line.replace("of", "o\rf") if number == 5 else line for number, line in enumerate(lines)]
    for end, wanted in (("\n", odd), ("\r\n", odd), ("\r", lines)):
        path = tmp_path / "a.txt"
        path.write_bytes("".join(line + end for line in wanted).encode())
        corpus = read_corpus(DataOptions(source=str(path), document="line"), "causal_lm")
        assert [document.text for document in corpus.source.documents("train")] == wanted


def test_lines_of_a_notebook_are_not_doubled(tmp_path):
    cells = [
        {"cell_type": "code", "source": ["import os\n", f"x = {n}"], "outputs": [{"text": [f"{n}\n"]}]}
        for n in range(40)
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4}))
    corpus = read_corpus(DataOptions(source=str(tmp_path / "a.ipynb")), "causal_lm")
    assert "import os\nx = 0" in next(iter(corpus.source.documents("train"))).text
