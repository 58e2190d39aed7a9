"""Folders of files: classes, splits, files that are not read, encodings that do not fit."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.core.data.samples import contract_for, sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, fit_tokenizer, prepare_splits, read_corpus
from transformer_foundry.core.data.sources.local_files import find_files

TEXTS = sentences(40)


def read(path, task="sequence_classification", num_labels=None, **options):
    return read_corpus(DataOptions(source=str(path), **options), task, num_labels)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_classes(folder, parts=("",), classes=("pos", "neg")):
    for part in parts:
        for number, text in enumerate(TEXTS):
            write(folder / part / classes[number % len(classes)] / f"{number}.txt", f"{part} {text}\n\nMore of it.")


def warnings_of(corpus):
    contract = contract_for(corpus.task)
    tokenizer = fit_tokenizer(corpus, contract, DataOptions())
    return prepare_splits(corpus, tokenizer, contract, DataOptions()).texts["warnings"]


def test_a_folder_for_each_class_is_a_table_of_texts_and_classes(tmp_path):
    write_classes(tmp_path)
    corpus = read(tmp_path)
    assert corpus.label_names == ("neg", "pos")
    found = {(document.text, document.label) for _, document in corpus.all_documents()}
    assert found == {(f" {text}\n\nMore of it.", 1 - number % 2) for number, text in enumerate(TEXTS)}
    assert "each file is in the folder of its class" in corpus.source.notes[0]


def test_class_folders_stand_below_those_of_splits(tmp_path):
    write_classes(tmp_path / "reviews", ("train", "test"))
    write(tmp_path / "reviews" / "train" / "unsup" / "1.txt", "no class")
    write(tmp_path / "reviews" / "train" / "urls_pos.txt", "an address")
    corpus = read(tmp_path)
    assert corpus.label_names == ("neg", "pos")
    assert corpus.source.splits == ("train", "test")
    assert "in no folder of a class are not read: reviews/train/unsup/1.txt" in corpus.columns.warnings[0]


def test_a_text_without_a_folder_of_its_class_has_no_class(tmp_path):
    for number, text in enumerate(TEXTS):
        write(tmp_path / "texts" / f"{number}.txt", text)
    with pytest.raises(DataError, match="is plain text, which has no labels") as caught:
        read(tmp_path)
    assert "a folder of texts for each class" in caught.value.remedy


def test_a_language_model_reads_class_folders_as_texts(tmp_path):
    write_classes(tmp_path)
    assert len([document for document in read(tmp_path, "causal_lm").documents("train") if document.label]) == 0


def test_files_of_other_endings_are_counted(tmp_path):
    write(tmp_path / "a.txt", "\n".join(TEXTS))
    for name in ("b.docx", "c.docx", "d.pdf", "README.md"):
        write(tmp_path / name, "x")
    assert warnings_of(read(tmp_path, "causal_lm")) == [
        "Not read: 3 other files of the folder (2 with .docx, 1 with .pdf)."
    ]


def test_a_text_of_many_is_not_held_out_for_a_word_in_its_name(tmp_path):
    for number, text in enumerate(TEXTS):
        write(tmp_path / f"{number}.md", text)
    write(tmp_path / "unit-test.md", "How tests are written here.")
    assert read(tmp_path, "causal_lm").source.splits == ("train",)
    write(tmp_path / "train.md", "Now the names are those of splits.")
    assert read(tmp_path, "causal_lm").source.splits == ("train", "test")


def write_tables(folder, names):
    for name in names:
        write(folder / name, "text,label\n" + "".join(f"{name} {text},{'ab'[n % 2]}\n" for n, text in enumerate(TEXTS)))


SPLIT_NAMES = {  # names -> those of the files of each split: train, validation, test
    "trn.csv tst.csv": "trn - tst",
    "x_tr.csv x_va.csv x_te.csv": "x_tr x_va x_te",
    "traindata.csv testdata.csv": "traindata - testdata",
    "imdbtrain.csv imdbtest.csv": "imdbtrain - imdbtest",
    "myTrainData.csv myTestData.csv": "myTrainData - myTestData",
    "Trainingsdaten.csv Testdaten.csv": "Trainingsdaten - Testdaten",
    "train_2019.csv test_2020.csv": "train_2019 - test_2020",
    "train.csv drug_test.csv": "train - drug_test",
    "data.csv data_test.csv": "data - data_test",
    "data.csv test.csv": "data - test",
}


@pytest.mark.parametrize("names", SPLIT_NAMES)
def test_names_of_files_give_the_splits_and_a_note_says_so(tmp_path, names):
    write_tables(tmp_path, names.split())
    corpus = read(tmp_path)
    splits = dict(zip(("train", "validation", "test"), SPLIT_NAMES[names].split(), strict=True))
    given = {split: name for split, name in splits.items() if name != "-"}
    assert corpus.source.splits == tuple(given)
    for split, name in given.items():
        assert {document.text.split()[0] for document in corpus.source.documents(split)} == {f"{name}.csv"}
    assert corpus.source.notes[-1].startswith(f"The names of files give the splits: train {given['train']}.csv")
    assert corpus.columns.warnings == ()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("drug_survey.csv drug_test.csv", "no name beside says train: drug_test.csv"),
        ("pre-test.csv post-test.csv", "no name beside says train: post-test.csv, pre-test.csv"),
        ("valid.csv invalid.csv", "no name beside says train: valid.csv"),
        ("contest.csv latest.csv", None),
        ("strings_tr.csv strings_te.csv strings_de.csv", None),
    ],
)
def test_a_part_of_a_name_holds_nothing_out_without_a_name_for_train(tmp_path, names, said):
    write_tables(tmp_path, names.split())
    corpus = read(tmp_path)
    assert corpus.source.splits == ("train",)
    assert (not corpus.columns.warnings) if said is None else said in corpus.columns.warnings[0]


@pytest.mark.parametrize("beside", ["E.de-en.ids", "E.de-en.scores", "E.de-en.xml", "E.de-en.align"])
def test_a_file_about_the_lines_of_two_languages_is_not_read(tmp_path, beside):
    for side, lines in zip(("de", "en"), zip(*PAIRS, strict=True), strict=True):
        write(tmp_path / f"E.de-en.{side}", "\n".join(lines) + "\n")
    write(tmp_path / beside, "".join(f"de/{n}.xml.gz\ten/{n}.xml.gz\t{n}\n" for n in range(40)))
    write(tmp_path / "README", "About the texts.")
    corpus = read(tmp_path, "seq2seq_lm")
    assert {(document.text, document.target) for _, document in corpus.all_documents()} == set(PAIRS)
    assert corpus.columns.warnings == (f"Not read: 1 other file of the folder (1 with .{beside.rpartition('.')[2]}).",)


def test_texts_about_the_data_are_named(tmp_path):
    for name in ("README.txt", "book.txt"):
        write(tmp_path / name, "\n".join(TEXTS))
    corpus = read(tmp_path, "causal_lm")
    assert "Files about the data are left out: README.txt." in corpus.source.notes
    assert corpus.columns.warnings == ()


@pytest.mark.parametrize(
    ("written", "given", "said"),
    [
        ("utf-8", "latin-1", "reads 'ZÃ¼rich'; in utf-8 it reads 'Zürich'. Set data.encoding to null."),
        ("utf-8", "cp1251", "Set data.encoding to null."),
        ("cp1251", "cp1252", "Set data.encoding to cp1251."),
        ("cp1252", "latin-1", r"reads '\x93Zürich\x94'; in cp1252 it reads '“Zürich”'."),
        ("cp1250", "iso8859-2", "Set data.encoding to cp1250."),
    ],
)
def test_a_wrong_encoding_is_a_warning(tmp_path, written, given, said):
    words = {"utf-8": "Zürich", "cp1252": "“Zürich”", "cp1250": "„Zürich”"}
    word = words.get(written, "Сегодня хорошая погода и тепло")
    (tmp_path / "a.txt").write_bytes("\n".join(f"{text.replace('ü', 'u')} {word}" for text in TEXTS).encode(written))
    (found,) = read(tmp_path / "a.txt", "causal_lm", encoding=given).columns.warnings
    assert said in found


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp1250", "iso8859-15", "cp1251", "shift_jis", "gb18030"])
def test_the_right_encoding_is_no_warning(tmp_path, encoding):
    words = {"cp1251": "Сегодня хорошая погода", "shift_jis": "今日は天気がいいです", "gb18030": "今天天气很好"}
    word = words.get(encoding, "Zürich für ändern")
    (tmp_path / "a.txt").write_bytes("\n".join(f"{text.replace('ü', 'u')} {word}" for text in TEXTS).encode(encoding))
    assert read(tmp_path / "a.txt", "causal_lm", encoding=encoding).columns.warnings == ()


PAIRS = [(text, " ".join(reversed(text.split()))) for text in TEXTS]


@pytest.mark.parametrize(
    ("source", "target", "columns"),
    [
        ("train.de", "train.en", ("de", "en")),
        ("train.src", "train.tgt", ("src", "tgt")),
        ("corpus_source.txt", "corpus_target.txt", ("source", "target")),
        ("news.en.txt", "news.zh.txt", ("en", "zh")),
        ("news-v7.de-en.clean.de", "news-v7.de-en.clean.en", ("de", "en")),
        ("train.deu", "train.eng", ("deu", "eng")),
        ("train.de_DE", "train.en_US", ("de_DE", "en_US")),
        ("train.en", "train.zh-CN", ("en", "zh-CN")),
        ("deu_Latn.dev", "eng_Latn.dev", ("deu_Latn", "eng_Latn")),
        ("questions.txt", "answers.txt", ("questions", "answers")),
        ("train_articles.txt", "train_summaries.txt", ("articles", "summaries")),
        ("wiki.train.complex", "wiki.train.simple", ("complex", "simple")),
        ("x.txt", "y.txt", ("x", "y")),
        ("questions.text", "answers.text", ("questions", "answers")),
    ],
)
def test_two_files_whose_lines_belong_together_are_pairs(tmp_path, source, target, columns):
    for name, lines in zip((source, target), zip(*PAIRS, strict=True), strict=True):
        write(tmp_path / name, "\n".join(lines) + "\n")
    corpus = read(tmp_path, "seq2seq_lm")
    assert (corpus.columns.text, corpus.columns.target) == columns
    assert {(document.text, document.target) for _, document in corpus.all_documents()} == set(PAIRS)
    assert any("are pairs" in note for note in corpus.source.notes)


def test_parallel_files_have_splits(tmp_path):
    for split in ("train", "valid"):
        for side, lines in zip(("de", "en"), zip(*PAIRS, strict=True), strict=True):
            write(tmp_path / f"{split}.{side}", "\n".join(f"{split} {line}" for line in lines))
    assert read(tmp_path, "seq2seq_lm").source.splits == ("train", "validation")


def test_parallel_files_of_different_lengths_are_refused(tmp_path):
    write(tmp_path / "a.de", "eins\nzwei\n")
    write(tmp_path / "a.en", "one\n")
    with pytest.raises(DataError, match=r"a.de has 2 lines, but .*a.en has 1\."):
        _ = read(tmp_path, "seq2seq_lm").assignment


def test_files_of_two_languages_are_texts_for_a_language_model(tmp_path):
    for side, lines in zip(("de", "en"), zip(*PAIRS, strict=True), strict=True):
        write(tmp_path / f"train.{side}", "\n".join(lines))
    assert len(list(read(tmp_path, "causal_lm").all_documents())) == 80


def test_a_text_in_the_folder_of_another_class_is_other_data(tmp_path):
    write_classes(tmp_path)
    before = read(tmp_path).digest()
    (tmp_path / "pos" / "0.txt").rename(tmp_path / "neg" / "0.txt")
    assert read(tmp_path).digest() != before


@pytest.mark.parametrize(
    ("name", "start", "said"),
    [
        ("a.xml", "<?xml version='1.0'?>\n<texts>", "is XML, read as plain text: its tags are learned"),
        ("a.po", '# made by x\nmsgid ""\nmsgstr ""\n', "is a gettext catalogue, read as plain text"),
        ("mbox", "From a@b.c Mon Jan  1 10:00:00 2024\nSubject: x\n", "is a mailbox, read as plain text"),
        ("a.eml", "Subject: x\nTo: a,\n b\nMIME-Version: 1.0\n", "is mail, read as plain text"),
        ("wiki.xml", '<mediawiki xmlns="http://a.b/c" version="1">\n<page>\n', "is XML, read as plain text"),
        ("bare.xml", "\n<TEI>\n <text>", "is XML, read as plain text"),
        ("feed", "<!-- made by x -->\n<rss version='2.0'>", "is XML, read as plain text"),
        ("named.txt", '<!DOCTYPE svg [ <!ENTITY a "b"> ]><svg>', "is XML, read as plain text"),
        ("extracted.txt", '<doc id="1" title="A">\nA\n', "is XML, read as plain text"),
        ("a.ass", "[Script Info]\nTitle: x\n", "is subtitles, read as plain text"),
        ("a.sql", "-- MySQL dump 10\n\nDROP TABLE IF EXISTS t;\n", "is a dump of a database, read as plain text"),
        ("b.sql", "CREATE TABLE t (a int);\nINSERT INTO t VALUES (1);\n", "is a dump of a database"),
        ("tweets.js", 'window.YTD.tweets.part0 = [ {"tweet"\n', "is JSON of X (Twitter), read as plain text"),
        ("1.", "Message-ID: <1>\nDate: x\nFrom: a@b\n\n", "is mail, read as plain text"),
        ("2.", "Received: from a\n by b\nSubject: x\n\n", "is mail, read as plain text"),
        ("a.md", "| text | label |\n|---|:--:|\n", "is a table in Markdown, read as plain text"),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\n", "is subtitles, read as plain text"),
        ("a.arff", "% made by x\n@RELATION r\n", "is an ARFF table, read as plain text"),
    ],
)
def test_markup_that_is_read_as_text_is_a_warning(tmp_path, name, start, said):
    write(tmp_path / name, start + "\n".join(TEXTS))
    assert said in read(tmp_path / name, "causal_lm").columns.warnings[0]


@pytest.mark.parametrize("start", ["<s> a </s>\n", "<Anna> hello\n", "<|user|> hello\n", "<3 you\n", "a < b > c\n"])
def test_a_text_that_begins_with_a_bracket_is_no_markup(tmp_path, start):
    write(tmp_path / "a.txt", start + "\n".join(TEXTS))
    assert read(tmp_path / "a.txt", "causal_lm").columns.warnings == ()


def test_what_tools_write_into_a_folder_is_not_read(tmp_path):
    for number, text in enumerate(TEXTS):
        write(tmp_path / f"{number}.py", f'"""{text}"""\n\nprint({number})\n')
    for name in ("__pycache__/1.pyc", "2.pyc", "node_modules/a/1.js", ".git/HEAD", ".kept/train.csv", ".gitkeep"):
        write(tmp_path / name, "\0")
    corpus = read(tmp_path, "causal_lm")
    (found,) = corpus.columns.warnings
    assert found.startswith("Not read: 4 other files of the folder (")
    shown = set(found.partition("(")[2][:-2].split(", "))
    assert shown == {"1 with .pyc", "1 in __pycache__", "1 in node_modules", "1 in .kept"}


@pytest.mark.parametrize("count", [1, 3])
def test_pages_of_html_are_no_text_unless_they_are_asked_for(tmp_path, count):
    for number in range(count):
        write(tmp_path / f"{number}.html", f"<!DOCTYPE html>\n<html><body><p>{TEXTS[number]}</p></body></html>\n" * 9)
    for source in (tmp_path, tmp_path / "0.html"):
        with pytest.raises(DataError, match=r"web page.*begins with HTML") as caught:
            read(source, "causal_lm")
        assert "data.document=file" in caught.value.remedy
    found = read(tmp_path, "causal_lm", document="file").source.documents("train")
    assert len(list(found)) == count


def test_pages_beside_the_code_of_a_project_are_read(tmp_path):
    write(tmp_path / "a.html", "<html><body>a page</body></html>")
    write(tmp_path / "a.py", "print('a program')\n")
    assert len(list(read(tmp_path, "causal_lm").source.documents("train"))) >= 2


def test_a_broken_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Some text.\n" * 20)
    (tmp_path / "b.txt").symlink_to("gone.txt")
    with pytest.raises(DataError, match=r"b\.txt is a link to gone\.txt, which does not exist"):
        find_files(str(tmp_path), DataOptions(source=str(tmp_path)), "causal_lm")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a.txt", "./a.txt"):
            archive.writestr(name, "Some text.\n" * 20)
    with pytest.raises(DataError, match="two members of the name"):
        find_files(str(tmp_path / "a.zip"), DataOptions(source="a.zip"), "causal_lm")


HELD_OUT = {
    "validation": ("development", "evaluation", "validate", "valset", "my_devset"),
    "test": ("holdout", "data_held-out", "held_out", "hold.out", "tst", "devtest", "unseen", "blind", "testset"),
}


@pytest.mark.parametrize(("split", "name"), [(split, name) for split, names in HELD_OUT.items() for name in names])
def test_a_held_out_file_beside_train_is_a_split(tmp_path, split, name):
    for stem in ("train", name):
        write(tmp_path / f"{stem}.csv", "text,label\n" + "".join(f"{text},a\n" for text in TEXTS))
    found = find_files(str(tmp_path), DataOptions())
    assert {key: [file.path.stem for file in files] for key, files in found.splits.items()} == {
        "train": ["train"],
        split: [name],
    }
    assert found.warnings == ()


def test_a_file_beside_train_whose_name_names_no_split_is_a_warning(tmp_path):
    for stem in ("train", "gold"):
        write(tmp_path / f"{stem}.csv", "text,label\n" + "".join(f"{text},a\n" for text in TEXTS))
    (found,) = find_files(str(tmp_path), DataOptions()).warnings
    assert "no split are read as training data: gold.csv" in found


def test_words_of_other_meanings_name_no_split_without_train_and_among_many_texts(tmp_path):
    for name in ("development", "blind"):
        write(tmp_path / "two" / f"{name}.txt", "\n".join(TEXTS))
    for number, text in enumerate(TEXTS):
        write(tmp_path / "many" / f"{number}.txt", text)
    for name in ("how-to-train-a-dog", "the-blind-man"):
        write(tmp_path / "many" / f"{name}.txt", "\n".join(TEXTS))
    for folder in ("two", "many"):
        found = find_files(str(tmp_path / folder), DataOptions())
        assert (list(found.splits), found.warnings) == (["train"], ())


def test_lists_of_words_and_classes_are_not_read_beside_data(tmp_path):
    write(tmp_path / "train.txt", "\n".join(TEXTS))
    for name in ("vocab.txt", "labels.txt"):
        write(tmp_path / name, "a\nb\n")
    found = find_files(str(tmp_path), DataOptions())
    assert [file.path.name for file in found.splits["train"]] == ["train.txt"]
    assert "1 called labels.txt, a list of words or classes" in found.warnings[0]
    assert len(find_files(str(tmp_path / "vocab.txt"), DataOptions()).splits["train"]) == 1


@pytest.mark.parametrize(
    "names",
    [("plain.txt", "pirate.txt"), ("train.de", "train.en", "train.fr"), ("source/train.txt", "target/train.txt")],
)
def test_files_with_as_many_lines_ask_whether_they_are_pairs(tmp_path, names):
    for name in names:
        write(tmp_path / name, "\n".join(f"{name} {text}" for text in TEXTS))
    with pytest.raises(DataError, match="have 40 lines each, but their names do not say which is the source"):
        read(tmp_path, "seq2seq_lm")
    assert read(tmp_path, "seq2seq_lm", span_corruption=True).corrupts_spans
    assert read(tmp_path, "causal_lm").source.splits == ("train",)


@pytest.mark.parametrize("names", [("part-1.txt", "part-2.txt"), ("xaa", "xab")])
def test_parts_of_one_text_with_as_many_lines_are_no_pairs(tmp_path, names):
    for name, lines in zip(names, zip(*PAIRS, strict=True), strict=True):
        write(tmp_path / name, "\n".join(lines))
    assert read(tmp_path, "seq2seq_lm").corrupts_spans


@pytest.mark.parametrize(
    "start", ['<tmx version="1.4">', "\ufeff<?xml version='1.0'?>\n<!DOCTYPE tmx>\n<tmx>", "<xliff >"]
)
def test_translations_in_xml_are_refused_with_what_to_do(tmp_path, start):
    write(tmp_path / "a.tmx", start + "\n".join(TEXTS))
    with pytest.raises(DataError, match=r"a\.tmx holds texts and their translations in XML") as caught:
        read(tmp_path / "a.tmx", "seq2seq_lm")
    assert "(train.de, train.en)" in caught.value.remedy


def test_translations_in_utf16_are_refused_too(tmp_path):
    (tmp_path / "a.tmx").write_bytes(f"<?xml version='1.0'?><tmx>{TEXTS}".encode("utf-16"))
    with pytest.raises(DataError, match="translations in XML"):
        read(tmp_path / "a.tmx", "causal_lm")


def test_a_held_out_file_is_no_training_data_beside_any_name(tmp_path):
    for name in ("data", "holdout"):
        write(tmp_path / f"{name}.csv", "text,label\n" + "".join(f"{text},a\n" for text in TEXTS))
    found = find_files(str(tmp_path), DataOptions()).splits
    assert {key: [file.path.stem for file in files] for key, files in found.items()} == {
        "train": ["data"],
        "test": ["holdout"],
    }


def test_class_folders_stand_below_other_names_of_splits_beside_train(tmp_path):
    write_classes(tmp_path, ("train", "development"))
    corpus = read(tmp_path)
    assert (corpus.label_names, corpus.source.splits) == (("neg", "pos"), ("train", "validation"))


@pytest.mark.parametrize(
    ("folders", "is_said"), [("News Articles/Summaries", True), ("pos/neg", False), ("text/summary/other", False)]
)
def test_folders_of_texts_and_their_targets_are_a_warning(tmp_path, folders, is_said):
    for folder in folders.split("/"):
        for number, text in enumerate(TEXTS):
            write(tmp_path / folder / "sport" / f"{number}.txt", f"{folder} {text}")
    warnings = read(tmp_path, "seq2seq_lm").columns.warnings
    assert any("hold files of equal names, which may be texts and their targets" in one for one in warnings) is is_said
    assert not any("equal names" in one for one in read(tmp_path, "seq2seq_lm", span_corruption=True).columns.warnings)
