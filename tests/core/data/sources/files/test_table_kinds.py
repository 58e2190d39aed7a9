"""Tables as programs write them: each gives its rows, or a refusal that names the line."""

from __future__ import annotations

import json

import pytest

from tests.core.data.samples import sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import Corpus, DataOptions, read_corpus

TEXTS = [text.replace("ü", "u") for text in sentences(30)]
ROWS = [(text, "ab"[number % 2]) for number, text in enumerate(TEXTS)]


def lines(header: str, form: str, end: str = "") -> str:
    rows = (form.format(text, label, n=number) for number, (text, label) in enumerate(ROWS))
    return header + "".join(f"{row}\n" for row in rows) + end


def corpus_of(folder, name, content, task="sequence_classification", num_labels=2, **options) -> Corpus:
    (folder / name).write_bytes(content.encode())
    return read_corpus(DataOptions(source=str(folder / name), **options), task, num_labels)


def read_all(*given, **options) -> None:
    corpus = corpus_of(*given, **options)
    assert corpus.label_names
    list(corpus.all_documents())


LABELLED = {
    "spaced_quotes.csv": lines("text, label\n", '"{0}, and", "{1}"'),
    "spaced_where_needed.csv": lines("label, text\n", '{1}, "{0}, and"'),
    "spaced_and_quoted_header.csv": lines('"label", "text"\n', '"{1}", "{0}, and"'),
    "license.csv": lines("# License: MIT, 2024\n# By: x, y\n\ntext;label\n".replace(";", ","), '"{0}, and",{1}'),
    "titled.tsv": lines("#text\tlabel\n", "{0}, and\t{1}"),
    "numbered_header.csv": lines("0,1\n", '"{0}, and",{1}'),
    "numbered_header_and_index.csv": lines(",0,1\n", '{n},"{0}, and",{1}'),
    "groups.csv": lines("review,review,meta\ntext,label,id\n", '"{0}, and",{1},{n}'),
    "lists.json": json.dumps([["text", "label"], *((f"{text}, and", label) for text, label in ROWS)]),
    "lists_without_header.json": json.dumps([(f"{text}, and", label) for text, label in ROWS]),
    "caret.csv": lines("text^label\n", "{0}, and^{1}"),
    "movies.dat": lines("", "{n}::{0}, and::{1}"),
    "tilde.csv": lines("text~label\n", "{0}, and~{1}"),
    "rows_from_zero.csv": lines("text,label\n", '{n},"{0}, and",{1}'),
    "rows_left_over.csv": lines("text,label\n", '1{n:02},"{0}, and",{1}'),
    "dos.csv": lines("text,label\n", '"{0}, and",{1}', end="\x1a"),
    "two_capitals.csv": lines("Text,text,label\n", 'Another one,"{0}, and",{1}'),
    "sentiment140.csv": lines("", '"{1}","14678{n:02}","Mon Apr {n:02} 22:19:45 PDT 2009","Q","u{n}","{0}, and"'),
    "one_time.csv": lines("", '"{1}","14678{n:02}","all of them were read at one time","u{n}","{0}, and"'),
}


@pytest.mark.parametrize("name", LABELLED)
def test_texts_and_classes_are_those_of_the_rows(tmp_path, name):
    corpus = corpus_of(tmp_path, name, LABELLED[name])
    names = corpus.label_names
    assert {(document.text, names[document.label], document.pair) for _, document in corpus.all_documents()} == {
        (f"{text}, and", label, None) for text, label in ROWS
    }


PAIRS = {
    "bars.txt": (lines("", "{0} ||| to {n}"), "{0}", "to {n}"),
    "close_bars.txt": (lines("", "{0}|||to {n}"), "{0}", "to {n}"),
    "colons.txt": (lines("source :: target\n", "{0} :: to {n}"), "{0}", "to {n}"),
    "mysql.tsv": (lines("source\ttarget\tnote\n", "{0}\\nmore\\tof \\\\N\tto {n}\t\\N"), "{0}\nmore\tof \\N", "to {n}"),
    "latex.tsv": (lines("source\ttarget\n", "{0} \\nabla \\N\tto {n}"), "{0} \\nabla \\N", "to {n}"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_both_sides_are_read_as_they_are_meant(tmp_path, name):
    content, text, target = PAIRS[name]
    found = {(one.text, one.target) for _, one in corpus_of(tmp_path, name, content, "seq2seq_lm").all_documents()}
    assert found == {(text.format(line), target.format(n=number)) for number, line in enumerate(TEXTS)}


def test_choices_in_columns_are_part_of_the_prompt(tmp_path):
    content = lines("question,option1,option2,answer\n", "{0},oa{n},ob{n},ob{n}")
    corpus = corpus_of(tmp_path, "choices.csv", content, "causal_lm", None)
    assert corpus.columns.template == "{question}\n{option1}\n{option2}\n{answer}"
    assert not corpus.source.notes


REFUSED = {
    "null_class.tsv": (lines("text\tlabel\n", "{0}\t{1}", "one more\t\\N\n"), "line 32: .* is missing"),
    "keys.csv": (lines("id,text\n", "{n},{0}, and"), "line 2: Expected 2 fields, saw 3"),
    "unordered.csv": (lines("text,label\n", "{n},{0},{1}", "3,one more,a\n"), "line 2: Expected 2 fields, saw 3"),
    "unlabelled.csv": (lines("text,label\n", "{0},{n}").replace(",29\n", ",-1\n"), "line 31: .* is -1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_rows_that_do_not_fit_are_named(tmp_path, name):
    content, message = REFUSED[name]
    with pytest.raises(DataError, match=message):
        read_all(tmp_path, name, content, num_labels=29)


@pytest.mark.parametrize("written", ["nan", "inf", "1e400", "n/a", "12%"])
def test_a_number_that_is_none_is_named_with_its_line(tmp_path, written):
    content = lines("text,score\n", "{0},{n}.5", f"one more,{written}\n")
    with pytest.raises(DataError, match=rf"line 32: the number \(column score\) is '?{written}"):
        list(corpus_of(tmp_path, "numbers.csv", content, num_labels=1).all_documents())


def test_the_sign_for_minus_is_read(tmp_path):
    content = lines("text,score\n", "{0},\N{MINUS SIGN}{n}.5")
    found = corpus_of(tmp_path, "minus.csv", content, num_labels=1).all_documents()
    assert {document.number for _, document in found} == {-(number + 0.5) for number in range(30)}


WARNED = {
    "thousands": (lines("text;price\n", "{0};4.{n:02}1"), 1, "three digits after the point, such as 4.001"),
    "digits": (
        lines("text,value\n", "{0},{n}00000000000000001"),
        1,
        "100000000000000001, which is read as 100000000000000000",
    ),
    "tail": (lines("v1,v2,,\n", "{1},{0},,", "a,one more,the rest,\n"), 2, "line 32: 'the rest'"),
    "beside": (
        lines("label,text,reason\n", "{1},{0},it was said by number {n} of them"),
        2,
        "Column reason holds text",
    ),
    "sum": (lines("text,value\n", "{0},{n}", "Total,435\n"), 1, "looks like a sum or a note on the table ('Total')"),
    "note": (lines("text,label\n", "{0},{1}", "Source: our office,\n"), 2, "on the table ('Source: our office')"),
    "second": (
        lines("text,label\n", "{0},{1}", "\nname,age\nAnn,1\nBob,2\n"),
        4,
        "line 33: after a blank line another table seems to begin (name, age)",
    ),
    "dates": (
        lines("text,size\n", "{0},4-{1}", "one more,4-May\nyet another,2023-05-04\n"),
        4,
        "dates (2023-05-04, 4-May)",
    ),
}
QUIET = {
    "long": (lines("text,value\n", "{0},{n}0000000000000"), 1),
    "shares": (lines("text,score\n", "{0},0.{n:03}"), 1),
    "grades": (lines("text,score\n", "{0},{n}.25"), 1),
    "empty": (lines("v1,v2,,\n", "{1},{0},,"), 2),
    "filled": (lines("label,text,\n", "{1},{0},{n}"), 2),
    "a word": (lines("text,label\n", "{0},{1}", "Total,a\nthe last one of all of them,a\n" + "a b c d e f,a\n" * 3), 2),
    "blank lines": (lines("text,label\n", "{0},{1}\n"), 2),
    "a gap": (lines("text,label\n", "{0},{1}", "\nAnn and Bob,a\nthe last one,b\n"), 2),
    "lines in a cell": (lines("text,label\n", '"{0}\n\nand more",{1}', 'one,a\n"two, and",b\n'), 2),
    "days": (lines("text,label\n", "{0},2023-05-1{1}").replace("-1a", "-10").replace("-1b", "-11"), 2),
}


@pytest.mark.parametrize("name", [*WARNED, *QUIET])
def test_what_may_be_misread_is_a_warning_and_ordinary_data_are_not(tmp_path, name):
    content, outputs, *message = WARNED.get(name) or QUIET[name]
    warnings = corpus_of(tmp_path, "table.csv", content, num_labels=outputs).columns.warnings
    assert len(warnings) == len(message)
    assert all(text in warning for text, warning in zip(message, warnings, strict=True))


def test_labels_joined_by_commas_are_those_of_the_outputs(tmp_path):
    several = "".join(f"{text}\t{('0,2', '1', '2')[number % 3]}\tid{number}x\n" for number, text in enumerate(TEXTS))
    corpus = corpus_of(tmp_path, "goemotions.tsv", several, num_labels=3)
    assert {document.present for _, document in corpus.all_documents()} == {(0, 2), (1,), (2,)}
    ratings = "".join(f"{text}\t{number % 3 + 1},{number % 2 * 5}\n" for number, text in enumerate(TEXTS))
    assert corpus_of(tmp_path, "ratings.tsv", ratings, num_labels=7).task == "sequence_classification"


def test_texts_with_two_classes_are_counted(tmp_path):
    content = lines("text,label\n", "{0},{1}", f"{TEXTS[0]},b\n{TEXTS[1]},b\n")
    assert corpus_of(tmp_path, "twice.csv", content).assignment.contradictions == 2


STARTS_WITH_NUMBERS = {
    "one text": lines("event\n", "19{n:02}, {0}"),
    "a text and a class": lines("text,label\n", "10{n:02},{0},{1}"),
}


@pytest.mark.parametrize("name", STARTS_WITH_NUMBERS)
def test_a_number_that_may_begin_a_text_is_no_name_of_a_row(tmp_path, name):
    with pytest.raises(DataError, match="line 2"):
        read_all(tmp_path, "a.csv", STARTS_WITH_NUMBERS[name], task="causal_lm")


@pytest.mark.parametrize(
    "content", [lines("text,label\n", "{n},{0},{1}"), lines("text\tlabel\n", "10{n:02}\t{0}\t{1}")]
)
def test_numbers_that_name_the_rows_are_left_out_with_a_note(tmp_path, content):
    corpus = corpus_of(tmp_path, "a.csv", content)
    assert {document.text for _, document in corpus.all_documents()} == set(TEXTS)
    assert any("name its rows" in note for note in corpus.source.notes)


def test_names_of_programs_in_sentences_are_no_separators(tmp_path):
    corpus = corpus_of(tmp_path, "a.log", "".join(f"INFO std::map::insert {text}\n" for text in TEXTS), "causal_lm")
    assert next(corpus.source.documents("train")).text == f"INFO std::map::insert {TEXTS[0]}"


def test_lines_of_names_with_colons_are_no_table(tmp_path):
    content = "".join(f"std::chrono::seconds{number} is a type\n" for number in range(40))
    found = corpus_of(tmp_path, "names.txt", content, "causal_lm", None).all_documents()
    assert {document.text for _, document in found} == set(content.splitlines())


def test_rows_in_which_qualtrics_describes_the_columns_are_left_out_with_a_note(tmp_path):
    header = 'StartDate,Q1,Q2\nStart Date,"What do you think,\nand why?",How good?\n'
    ids = ",".join(f'"{{""ImportId"":""{name}""}}"' for name in ("startDate", "QID1_TEXT", "QID2"))
    content = lines(f"{header}{ids}\n", "2024-01-02,{0},{1}")
    source = corpus_of(tmp_path, "a.csv", content, text_column="Q1", label_column="Q2").source
    assert [(document.text, document.label) for document in source.documents("train")] == ROWS
    assert any(note.startswith("2 rows below the header") for note in source.notes)
    assert source.location("train", 1).endswith("line 6")


def test_true_as_a_value_and_as_text_are_a_warning(tmp_path):
    rows = [{"text": text, "label": (True, "TRUE", False, "FALSE")[number % 4]} for number, text in enumerate(TEXTS)]
    corpus = corpus_of(tmp_path, "a.json", json.dumps(rows), num_labels=4)
    assert "holds true and false both as values and as text ('TRUE')" in corpus.columns.warnings[0]
