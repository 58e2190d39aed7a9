"""Files as people have them, written anew after public questions: each gives its rows, or a refusal with the reason."""

from __future__ import annotations

import json

import pytest

from tests.core.data.samples import sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus

TEXTS = [text.replace("ü", "u") for text in sentences(40)]
ROWS = [(text, "spam" if number % 3 else "ham") for number, text in enumerate(TEXTS)]
NUMBERED = [(text, str(number % 2)) for number, text in enumerate(TEXTS)]


def table(header, row, rows=ROWS, end=""):
    return header + "".join(row.format(*cells, number=number) for number, cells in enumerate(rows)) + end


def as_json(rows, **settings):
    return "".join(json.dumps(row, **settings) + "\n" for row in rows)


LABELLED = {
    "imdb.csv": table("review,sentiment\n", '"{0}",{1}\n'),
    "index.csv": table(",text,label\n", "{number},{0},{1}\n"),
    "no_header.csv": table("", '"{1}","{0}"\n'),
    "SMSSpamCollection": table("", "{1}\t{0}\n"),
    "excel.csv": "\ufeff" + table("text;label\r\n", "{0};{1}\r\n"),
    "declared.csv": "sep=;\n" + table("text;label\n", "{0};{1}\n"),
    "padded.csv": table(" Text , Label \n", "{0},  {1} \n"),
    "mac.csv": table("text,label\r", "{0},{1}\r"),
    "titles.csv": "Export of May\n\n" + table("text,label\n", "{0},{1}\n"),
    "comments.csv": "# made by hand\n" + table("text,label\n", "{0},{1}\n"),
    "blank_lines.csv": table("text,label\n", "{0},{1}\n\n"),
    "trailing.csv": table("text,label,,\n", "{0},{1},,\n"),
    "metadata.csv": table("id,date,user,label,text\n", "{number},2024-01-01,u{number},{1},{0}\n"),
    "bars.txt": table("text | label\n", "{0} | {1}\n"),
    "tabs.csv": table("text\tlabel\n", "{0}\t{1}\n"),
    "quoted.tsv": table('"text"\t"label"\n', '"{0}"\t"{1}"\n'),
    "fasttext.txt": table("", "__label__{1} {0}\n"),
    "rows.jsonl": as_json({"text": text, "label": label} for text, label in ROWS),
    "crlf.jsonl": as_json({"text": text, "label": label} for text, label in ROWS).replace("\n", "\r\n"),
    "named.txt": as_json({"text": text, "label": label} for text, label in ROWS),
    "list.json": json.dumps([{"text": text, "label": label} for text, label in ROWS], indent=1),
    "pairs.json": json.dumps(ROWS),
    "data.json": json.dumps({"data": [{"text": text, "label": label} for text, label in ROWS]}),
    "columns.json": json.dumps({"text": TEXTS, "label": [label for _, label in ROWS]}),
    "split.json": json.dumps({"columns": ["text", "label"], "index": list(range(40)), "data": ROWS}),
    "orient.json": json.dumps({"text": dict(enumerate(TEXTS)), "label": {n: row[1] for n, row in enumerate(ROWS)}}),
    "by_id.json": json.dumps(
        {f"id{number}": {"text": text, "label": label} for number, (text, label) in enumerate(ROWS)}
    ),
    "joined.json": as_json({"text": text, "label": label} for text, label in ROWS).replace("\n", ""),
    "geo.geojson": json.dumps({"features": [{"properties": {"text": text, "label": label}} for text, label in ROWS]}),
}


@pytest.mark.parametrize("name", LABELLED)
def test_texts_and_classes_are_read(tmp_path, name):
    (tmp_path / name).write_bytes(LABELLED[name].encode())
    corpus = read_corpus(DataOptions(source=str(tmp_path / name)), "sequence_classification")
    names = corpus.label_names
    assert {(document.text, names[document.label]) for _, document in corpus.all_documents()} == set(ROWS)


QUOTED = {
    "doubled.csv": ('"He said ""{0}"", then left",{1}\n', 'He said "{0}", then left'),
    "escaped.csv": ('"He said \\"{0}\\", then left",{1}\n', 'He said "{0}", then left'),
    "inches.csv": ('{0} 5" disk,{1}\n', '{0} 5" disk'),
    "lines.csv": ('"{0}\nand more",{1}\n', "{0}\nand more"),
    "windows.csv": ('"{0}\r\nand more",{1}\r\n', "{0}\r\nand more"),
    "said.tsv": ('"{0}" he said\t{1}\n', '"{0}" he said'),
    "next_line.csv": ("{0}\x85more,{1}\n", "{0}\x85more"),
    "separator.csv": ("{0}\u2028more,{1}\n", "{0}\u2028more"),
    "entities.csv": ("{0} &amp; &lt;b&gt;,{1}\n", "{0} &amp; &lt;b&gt;"),
}


@pytest.mark.parametrize("name", QUOTED)
def test_quotes_and_odd_line_breaks_are_what_was_written(tmp_path, name):
    row, expected = QUOTED[name]
    header = "text\tlabel\n" if name.endswith(".tsv") else "text,label\n"
    (tmp_path / name).write_bytes(table(header, row, NUMBERED).encode())
    corpus = read_corpus(DataOptions(source=str(tmp_path / name)), "sequence_classification")
    found = {(document.text, corpus.label_names[document.label]) for _, document in corpus.all_documents()}
    assert found == {(expected.format(text), label) for text, label in NUMBERED}


TEXT_FILES = {
    "list.json": (json.dumps(TEXTS), "{0}"),
    "numbered.json": (json.dumps({str(number): text for number, text in enumerate(TEXTS)}), "{0}"),
    "nested.jsonl": (as_json({"meta": {"id": 1}, "data": {"body": text}} for text in TEXTS), "{0}"),
    "logs.txt": ("".join(f"2024-01-01 10:00:00,123 INFO [main] {text}\n" for text in TEXTS),
                 "2024-01-01 10:00:00,123 INFO [main] {0}"),
    "commas.txt": ("".join(f"{text}, and, more\n" for text in TEXTS), "{0}, and, more"),
    "speakers.txt": ("".join(f"Alice: {text}\n" for text in TEXTS), "Alice: {0}"),
    "one.csv": ("".join(f"{text}\n" for text in TEXTS), "{0}"),
    "marks.txt": ("".join(f"{text}\n<|endoftext|>\n" for text in TEXTS), "{0}"),
    "sft.jsonl": (as_json({"prompt": text, "completion": " yes"} for text in TEXTS), "{0}\n yes"),
    "chat.jsonl": (as_json({"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}]}
                           for text in TEXTS), "user: {0}\nassistant: yes"),
    "sharegpt.json": (json.dumps([{"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "yes"}]}
                                  for text in TEXTS]), "human: {0}\ngpt: yes"),
    "dpo.jsonl": (as_json({"prompt": text, "chosen": "yes", "rejected": "no"} for text in TEXTS), "{0}\nyes"),
    "notebook.ipynb": (json.dumps({"cells": [{"cell_type": "code", "source": [f"{text}\n", "x = 1"]} for text in TEXTS],
                                   "nbformat": 4}), "{0}\nx = 1"),
    "proteins.fasta": ("".join(f">p{n}\n{'ACDEFGHIKL'[n % 10] * 60}\n{'MNPQRST'[n // 10] * 9}\n" for n in range(40)),
                       None),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXT_FILES)
def test_texts_are_read(tmp_path, name):
    content, form = TEXT_FILES[name]
    (tmp_path / name).write_bytes(content.encode())
    found = {
        document.text
        for _, document in read_corpus(DataOptions(source=str(tmp_path / name)), "causal_lm").all_documents()
    }
    if form is None:
        assert found == {"ACDEFGHIKL"[n % 10] * 60 + "MNPQRST"[n // 10] * 9 for n in range(40)}
    else:
        assert found == {form.format(text) for text in TEXTS}


REFUSED = {
    "footer.csv": (table("text,label\n", "{0},{1}\n", end="Total rows: 40\n"), "line 42: Expected 2 fields, saw 1"),
    "twice.csv": (table("text,label\n", "{0},{1}\n", end="text,label\nx,ham\n"), "line 42: it repeats the header"),
    "single_quotes.csv": (table("text,label\n", "'{0}, x',{1}\n"), "line 2: Expected 2 fields, saw 3"),
    "missing.csv": (table("text,label\n", "{0},{1}\n", end="no class,\n"), "line 42: the label .* is missing"),
    "python.jsonl": ("".join(f"{ {'text': text, 'label': 1} }\n" for text in TEXTS), "names in single quotes"),
    "commas.jsonl": (
        as_json({"text": text} for text in TEXTS).replace("\n", ",\n"),
        "after the first value stands ','",
    ),
    "nan.jsonl": (
        "".join(f'{{"text": "{text}", "label": NaN}}\n' for text in TEXTS),
        "line 1: the label .* is missing",
    ),
    "half.jsonl": ('{"text": "x\\ud83d", "label": 1}\n' * 9, "an incomplete surrogate pair"),
    "tab.jsonl": ('{"text": "a\tb", "label": 1}\n' * 9, "Invalid control character"),
    "latin.csv": (table("text,label\n", "{0} caf\udce9,{1}\n"), "is not UTF-8. In cp1252 it reads '.* café"),
    "zeros.txt": ("a text\0" * 40, "is binary and no known format"),
    "table.html": ("<table><tr><td>text</td></tr></table>", "has no labels"),
    "rows.yaml": ("- text: a\n  label: 1\n" * 9, "has no labels"),
    "pickled.pkl": ("\udc80\x04\udc95x", "is a pickled Python object"),
    "headlines.csv": (table("headline,summary,label\n", "{0},{0} again,{1}\n"), "each of which could be the text"),
    "wide.csv": (
        ",".join(f"a_long_name_of_a_column_{n}" for n in range(300)) + "\n" + ",".join("x" * 300) + "\n",
        "and 292 more",
    ),
    "empty.csv": ("", "is empty"),
    "blank.txt": ("\n \n", "contains only blanks"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_exactly_is_refused_with_the_reason(tmp_path, name):
    content, said = REFUSED[name]
    (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=said) as caught:
        _ = read_corpus(DataOptions(source=str(tmp_path / name)), "sequence_classification").assignment
    assert len(str(caught.value).splitlines()) <= 3
    assert len(str(caught.value)) < 1000


OF_CLASSES = {
    "two lists of one length": {"pos": TEXTS[:20], "neg": TEXTS[20:]},
    "numbers": {"0": TEXTS[:20], "1": TEXTS[20:]},
    "any names": {"sport": TEXTS[:15], "tech": TEXTS[15:], "arts": ["short", "texts"]},
}


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_list_of_texts_for_each_class_is_read_as_classes(tmp_path, name):
    (tmp_path / "a.json").write_text(json.dumps(OF_CLASSES[name]))
    expected = {(text, label) for label, texts in OF_CLASSES[name].items() for text in texts}
    corpus = read_corpus(DataOptions(source=str(tmp_path / "a.json")), "sequence_classification")
    names = corpus.label_names
    assert {(document.text, names[document.label]) for _, document in corpus.all_documents()} == expected
    corpus = read_corpus(DataOptions(source=str(tmp_path / "a.json")), "causal_lm")
    assert {document.text for _, document in corpus.all_documents()} == {text for text, _ in expected}
    assert "The texts have classes (column label:" in corpus.columns.warnings[0]


def test_lists_of_one_length_are_columns_unless_their_names_are_classes(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"sport": TEXTS[:20], "tech": TEXTS[20:]}))
    with pytest.raises(DataError) as caught:
        read_corpus(DataOptions(source=str(tmp_path / "a.json")), "causal_lm")
    assert "if its keys are classes, write rows of text and label." in caught.value.remedy
    (tmp_path / "a.json").write_text(json.dumps({"source": TEXTS[:20], "target": TEXTS[20:]}))
    assert read_corpus(DataOptions(source=str(tmp_path / "a.json")), "seq2seq_lm").columns.target == "target"


@pytest.mark.parametrize(
    ("lists", "problem"),
    [({"source": TEXTS, "target": TEXTS[1:]}, "columns have different lengths"),
     ({"train": TEXTS, "test": TEXTS[1:]}, "columns have different lengths")],
)  # fmt: skip
def test_lists_that_are_columns_or_splits_are_no_classes(tmp_path, lists, problem):
    (tmp_path / "a.json").write_text(json.dumps(lists))
    with pytest.raises(DataError, match=problem):
        read_corpus(DataOptions(source=str(tmp_path / "a.json")), "sequence_classification")


def test_of_two_tables_in_a_document_the_longer_one_is_named(tmp_path):
    messages = [{"sender_name": "A", "content": text} for text in TEXTS]
    (tmp_path / "a.json").write_text(json.dumps({"participants": [{"name": "A"}], "messages": messages}))
    with pytest.raises(DataError, match="holds 2 tables: participants, messages") as caught:
        read_corpus(DataOptions(source=str(tmp_path / "a.json")), "causal_lm")
    assert "jq -c '.messages[]'" in caught.value.remedy


@pytest.mark.parametrize(
    ("header", "is_said"), [("Apple pie,Dessert", True), ("text,Dessert", False), ("Dish,Course number", False)]
)
def test_a_first_row_that_is_only_unlike_the_others_is_said_to_be_the_header(tmp_path, header, is_said):
    second = "{number}" if "number" in header else "{label}"
    rows = [f"soup of {word},{second.format(number=n % 2, label=['starter', 'main'][n % 2])}" for n, word in
            enumerate(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"])]  # fmt: skip
    (tmp_path / "a.csv").write_text("\n".join([header, *rows]) + "\n")
    source = read_corpus(DataOptions(source=str(tmp_path / "a.csv")), "sequence_classification").source
    assert any("is taken for the header" in note for note in source.notes) is is_said


PRINTED = {
    "psql": (table(" text | label \n------+-------\n", " {0} | {1}\n", end="(40 rows)\n"), "as psql prints it"),
    "mysql": (table("+---+---+\n| text | label |\n+---+---+\n", "| {0} | {1} |\n"), "as MySQL prints it"),
    "markdown": (table("| text | label |\n|---|:---:|\n", "| {0} | {1} |\n"), "in Markdown"),
    "arff": (table("% made by x\n@relation r\n@attribute text string\n@data\n", "'{0}',{1}\n"), "an ARFF table"),
    "r": (table('"text" "label"\n"1" "a" "ham"\n', '"{number}" "{0}" "{1}"\n'), "as write.table of R writes it"),
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_table_as_programs_print_it_is_named_with_its_export(tmp_path, name):
    content, problem = PRINTED[name]
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(DataError) as caught:
        read_corpus(DataOptions(source=str(tmp_path / "a.txt")), "sequence_classification")
    assert problem in caught.value.problem
    assert caught.value.remedy.startswith("Write it")
