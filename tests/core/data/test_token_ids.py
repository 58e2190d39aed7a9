"""Data that are token ids already: lists, arrays and raw files, used as they are."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.core.data.samples import contract_for, sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, fit_tokenizer, prepare_splits, read_corpus

RANDOM = np.random.default_rng(0)
ROWS = [RANDOM.integers(1, 60, 5 + number % 9).tolist() for number in range(80)]


def prepare(path, task="causal_lm", model_ids=64, contract=None, **options):
    options = DataOptions(source=str(path), **{"vocab_size": 60, **options})
    corpus = read_corpus(options, task, 2)
    contract = contract_for(task, model_ids, **(contract or {}))
    tokenizer = fit_tokenizer(corpus, contract, options)
    return prepare_splits(corpus, tokenizer, contract, options), tokenizer


def write_rows(path, rows=ROWS, **columns):
    lines = [{"input_ids": row, **{name: values[n] for name, values in columns.items()}} for n, row in enumerate(rows)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_stream(path, ids, dtype="uint16"):
    np.asarray(ids, dtype).tofile(path)
    return path


def rows_between_ends(splits, end):
    """The documents of all splits, taken apart at their end token."""
    found = []
    for split in splits.splits.values():
        row = []
        for number in np.asarray(split.input_ids.values).tolist():
            if number == end:
                found.append(row)
                row = []
            else:
                row.append(number)
        assert row == []
    return sorted(row for row in found if row)


def test_lists_of_ids_are_rows_that_an_unused_id_ends(tmp_path):
    splits, tokenizer = prepare(write_rows(tmp_path / "a.jsonl"))
    assert tokenizer.eos_token_id == 60
    assert rows_between_ends(splits, 60) == sorted(ROWS)
    assert splits.train.text_bytes == 0


@pytest.mark.parametrize("written", ["json", "blanks", "commas"])
def test_ids_written_as_text_are_ids(tmp_path, written):
    forms = {"json": json.dumps, "blanks": lambda row: " ".join(map(str, row)), "commas": lambda row: str(row)[1:-1]}
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{forms[written](row)}\n" for row in ROWS))
    splits, _ = prepare(path)
    assert rows_between_ends(splits, 60) == sorted(ROWS)


def test_rows_that_have_their_own_end_get_no_second_one(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [[*row, 0] for row in ROWS])
    splits, _ = prepare(path, contract={"eos_token_id": 0})
    assert rows_between_ends(splits, 0) == sorted(ROWS)


def test_without_an_unused_id_rows_follow_one_another(tmp_path):
    splits, tokenizer = prepare(write_rows(tmp_path / "a.jsonl"), model_ids=60)
    assert tokenizer.eos_token_id is None
    assert sum(len(split.input_ids.values) for split in splits.splits.values()) == sum(map(len, ROWS))


def test_padding_is_no_data(tmp_path):
    masks = [[1] * len(row) + [0] * 3 for row in ROWS]
    path = write_rows(tmp_path / "a.jsonl", [[*row, 0, 0, 0] for row in ROWS], attention_mask=masks)
    splits, _ = prepare(path)
    assert rows_between_ends(splits, 60) == sorted(ROWS)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int32", "int64"])
def test_a_raw_file_is_a_stream_of_ids(tmp_path, dtype):
    ids = RANDOM.integers(0, 60, 20_000)
    splits, tokenizer = prepare(write_stream(tmp_path / "train.bin", ids, dtype))
    kept = np.concatenate([split.input_ids.values for split in splits.splits.values()])
    assert np.bincount(kept).tolist() == np.bincount(ids).tolist()
    assert tokenizer.eos_token_id is None
    assert tokenizer.decode([3, 17]) == "3 17"


def test_a_folder_of_nanogpt_gives_its_splits_and_no_pickle_is_opened(tmp_path):
    write_stream(tmp_path / "train.bin", RANDOM.integers(0, 60, 20_000))
    write_stream(tmp_path / "val.bin", RANDOM.integers(0, 60, 2_000))
    (tmp_path / "meta.pkl").write_bytes(b"\x80\x04cposix\nsystem\n")
    splits, _ = prepare(tmp_path, test_share=0)
    assert (len(splits.train.input_ids.values), len(splits.validation.input_ids.values)) == (20_000, 2_000)
    assert splits.texts["warnings"] == ["Not read: 1 other file of the folder (1 with .pkl)."]


def test_the_header_of_llm_c_is_no_data(tmp_path):
    header = np.zeros(256, np.int32)
    header[:3] = 20240520, 1, 20_000
    path = tmp_path / "train.bin"
    path.write_bytes(header.tobytes() + RANDOM.integers(0, 60, 20_000).astype("uint16").tobytes())
    splits, _ = prepare(path)
    assert sum(len(split.input_ids.values) for split in splits.splits.values()) == 20_000


@pytest.mark.parametrize("shape", [(20_000,), (80, 12)])
def test_arrays_are_streams_or_rows(tmp_path, shape):
    ids = RANDOM.integers(0, 60, shape)
    np.save(tmp_path / "a.npy", ids)
    splits, tokenizer = prepare(tmp_path / "a.npy")
    assert (tokenizer.eos_token_id is None) == (len(shape) == 1)
    kept = np.concatenate([split.input_ids.values for split in splits.splits.values()])
    assert np.bincount(kept[kept < 60], minlength=60).tolist() == np.bincount(ids.ravel(), minlength=60).tolist()


def test_a_classifier_reads_ids_as_they_are(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", label=[number % 2 for number in range(80)])
    splits, _ = prepare(path, "sequence_classification")
    found = [row.tolist() for split in splits.splits.values() for row in split.input_ids]
    assert sorted(found) == sorted(ROWS)


def test_pairs_of_ids_end_once(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", labels=[[*row[::-1], 2] for row in ROWS])
    splits, _ = prepare(path, "seq2seq_lm", contract={"eos_token_id": 2}, model_ids=60)
    found = [row.tolist() for split in splits.splits.values() for row in split.target_ids]
    assert sorted(found) == sorted([*row[::-1], 2] for row in ROWS)


def test_a_masked_model_needs_an_id_for_its_mask(tmp_path):
    path = write_rows(tmp_path / "a.jsonl")
    assert prepare(path, "masked_lm")[1].mask_token_id == 62
    with pytest.raises(DataError, match=r"needs a mask token, but the ids of .* fill the 60 ids"):
        prepare(path, "masked_lm", model_ids=60)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"vocab_size": None}, "has no column of text, but input_ids could be token ids"),
        ({"vocab_size": 50}, r"line \d+: id 5\d at position \d+ of column input_ids is not between 0 and 49"),
        ({"vocab_size": 65}, "data.vocab_size is 65, but the model has 64 token ids"),
        ({"tokenizer": "word"}, "holds token ids, but data.tokenizer is word"),
        ({"template": "{input_ids}"}, "which data.template does not support"),
        ({"text_column": "label"}, "has no token ids in label"),
    ],
)
def test_ids_that_cannot_be_used_are_refused(tmp_path, settings, said):
    path = write_rows(tmp_path / "a.jsonl", label=[0, 1] * 40)
    with pytest.raises(DataError, match=said):
        prepare(path, text_column=settings.pop("text_column", "input_ids" if settings.get("vocab_size", 1) else None),
                **settings)  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.array([1.5, 2]), "float64 numbers"),
        (np.array([[1], [2, 3]], dtype=object), "cannot be read as an array"),
        (np.zeros((2, 2, 2), int), r"of shape \(2, 2, 2\)"),
        (np.zeros(0, int), "holds no ids"),
    ],
)
def test_arrays_of_something_else_are_refused(tmp_path, content, said):
    np.save(tmp_path / "a.npy", content)
    with pytest.raises(DataError, match=said):
        prepare(tmp_path / "a.npy")


def test_a_raw_file_without_a_vocabulary_size_says_its_largest_id(tmp_path):
    path = write_stream(tmp_path / "train.bin", [3, 59] * 5000)
    with pytest.raises(DataError, match="the largest is 59") as caught:
        prepare(path, vocab_size=None)
    assert "for example to 60" in caught.value.remedy


def test_labels_that_leave_ids_out_are_named(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", labels=[[-100, *row[1:]] for row in ROWS])
    splits, _ = prepare(path)
    assert "leaves ids out of the loss (-100)" in splits.texts["warnings"][0]


@pytest.mark.parametrize("form", ["lines", "list"])
def test_bare_lists_of_ids_are_rows(tmp_path, form):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS) if form == "list" else "".join(f"{json.dumps(row)}\n" for row in ROWS))
    assert rows_between_ends(prepare(path)[0], 60) == sorted(ROWS)


def test_a_text_called_bin_is_a_text(tmp_path):
    (tmp_path / "a.bin").write_text("\n".join(sentences(40)))
    corpus = read_corpus(DataOptions(source=str(tmp_path / "a.bin")), "causal_lm")
    assert {document.text for _, document in corpus.all_documents()} == set(sentences(40))
