from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.data.samples import contract_for, corpus_of, documents_for, prepare, sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import (
    DataOptions,
    Document,
    RaggedArray,
    copy_splits,
    fit_tokenizer,
    load_splits,
    prepare_splits,
)
from transformer_foundry.core.data.tokenized.dataset import find_splits, read_fingerprint
from transformer_foundry.core.data.tokenized.packing import block_offsets


def stream_of(split):
    """The token stream that packed rows were cut from, put together again."""
    rows = [row.tolist() for row in split.input_ids]
    overlap = split.input_ids.overlap
    return rows[0] + [token for row in rows[1:] for token in row[overlap:]]


@given(tokens=st.integers(2, 200), length=st.integers(2, 40), overlap=st.integers(0, 1))
def test_packing_loses_no_token(tokens, length, overlap):
    rows = RaggedArray(np.arange(tokens), block_offsets(tokens, length, overlap), overlap)
    assert all(len(row) <= length for row in rows)
    assert [token for row in rows for token in row[overlap:]] == list(range(overlap, tokens))


@given(tokens=st.integers(2, 200), length=st.integers(2, 40))
def test_every_token_but_the_first_is_a_target_exactly_once(tokens, length):
    rows = RaggedArray(np.arange(tokens), block_offsets(tokens, length, 1), 1)
    targets = [token for row in rows for token in row[1:]]
    assert targets == list(range(1, tokens))
    assert all(len(row) > 1 for row in rows)


@given(texts=st.lists(st.text(min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=15))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("task", ["causal_lm", "masked_lm"])
def test_unpacking_gives_back_every_document(tmp_path_factory, task, texts):
    given = {"train": [Document(text) for text in texts], "validation": [Document(text) for text in sentences(2)]}
    corpus, contract = corpus_of(given, task, test_share=0), contract_for(task)
    tokenizer = fit_tokenizer(corpus, contract, DataOptions())
    split = prepare_splits(corpus, tokenizer, contract, DataOptions(), tmp_path_factory.mktemp("splits")).train
    stream = stream_of(split)
    found = tokenizer.decode(stream, skip_special_tokens=False).split("<|eos|>")
    assert Counter(found[split.input_ids.overlap : -1]) == Counter(texts)
    assert stream[-1] == tokenizer.eos_token_id


def test_tokens_know_the_tokenizer_that_made_them(tmp_path):
    splits, tokenizer, _ = prepare("causal_lm", tmp_path)
    _, other, _ = prepare("causal_lm", tmp_path / "other", count=60)
    assert splits.vocab_size == other.vocab_size
    splits.require_tokenizer(tokenizer)
    with pytest.raises(DataError, match="not made with the tokenizer that is stored beside them"):
        splits.require_tokenizer(other)


def test_a_distinct_first_token_begins_every_document(tmp_path):
    splits, tokenizer, _ = prepare("causal_lm", tmp_path, bos_token_id=1, eos_token_id=2)
    stream = stream_of(splits.train)
    assert stream.count(1) == stream.count(2) == splits.train.documents
    assert (stream[0], stream[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)


def test_text_bytes_count_the_utf8_bytes_of_the_documents(tmp_path):
    splits, _, corpus = prepare("causal_lm", tmp_path)
    for name, split in splits.splits.items():
        assert split.text_bytes == sum(len(document.text.encode()) for document in corpus.documents(name))


def test_pairs_keep_their_order_and_their_end(tmp_path):
    splits, tokenizer, corpus = prepare("seq2seq_lm", tmp_path, max_length=40)
    documents = list(corpus.documents("train"))
    assert [tokenizer.decode(row) for row in splits.train.input_ids] == [document.text for document in documents]
    assert [tokenizer.decode(row) for row in splits.train.target_ids] == [document.target for document in documents]
    assert all(row[-1] == tokenizer.eos_token_id for row in splits.train.target_ids)
    assert splits.train.text_bytes == sum(len(document.target.encode()) for document in documents)


def test_a_long_pair_is_cut_but_keeps_its_end(tmp_path):
    splits, tokenizer, _ = prepare("seq2seq_lm", tmp_path, max_length=8)
    assert splits.train.input_ids.lengths().max() == 8
    assert all(row[-1] == tokenizer.eos_token_id for row in splits.train.input_ids)
    assert splits.train.counts["truncated_rows"] >= len(splits.train)
    assert splits.train.text_bytes == sum(len(tokenizer.decode(row).encode()) for row in splits.train.target_ids)


def test_classes_stay_with_their_texts(tmp_path):
    splits, tokenizer, _ = prepare("sequence_classification", tmp_path, max_length=60)
    numbers = [int(tokenizer.decode(row).split()[0]) for row in splits.train.input_ids]
    assert splits.label_names == ("even", "odd")
    assert splits.train.labels.tolist() == [number % 2 for number in numbers]


def test_a_long_text_is_cut_to_what_the_model_takes(tmp_path):
    splits, tokenizer, _ = prepare("sequence_classification", tmp_path, max_length=6)
    assert set(splits.train.input_ids.lengths()) == {6}
    assert all(row[0] == tokenizer.bos_token_id for row in splits.train.input_ids)


@pytest.mark.parametrize(
    ("option", "model", "expected"), [(None, 64, 64), (None, 4096, 128), (None, None, 128), (32, 64, 32)]
)
def test_max_length_is_the_option_or_the_model_up_to_128(tmp_path, option, model, expected):
    splits, _, _ = prepare("causal_lm", tmp_path, options=DataOptions(max_length=option), max_length=model)
    assert splits.max_length == expected
    assert splits.train.input_ids.lengths().max() == expected


def test_a_longer_row_than_the_model_takes_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"data.max_length is 32 but the model accepts at most 16"):
        prepare("causal_lm", tmp_path, options=DataOptions(max_length=32), max_length=16)


def test_small_vocabularies_are_stored_in_two_bytes(tmp_path):
    splits, _, _ = prepare("causal_lm", tmp_path)
    assert splits.train.input_ids.values.dtype == np.uint16


@pytest.mark.parametrize("task", ["causal_lm", "masked_lm", "seq2seq_lm", "sequence_classification"])
def test_loading_gives_what_was_prepared(tmp_path, task):
    splits, _, _ = prepare(task, tmp_path)
    loaded = load_splits(tmp_path)
    assert loaded.fingerprint == splits.fingerprint == read_fingerprint(tmp_path)
    assert (loaded.special, loaded.baselines, loaded.label_names) == (
        splits.special,
        splits.baselines,
        splits.label_names,
    )
    for name, split in splits.splits.items():
        assert all(np.array_equal(a, b) for a, b in zip(split.input_ids, loaded.splits[name].input_ids, strict=True))


def test_preparing_again_reads_nothing(tmp_path):
    corpus, contract = corpus_of(documents_for("causal_lm"), "causal_lm"), contract_for("causal_lm")
    tokenizer = fit_tokenizer(corpus, contract, DataOptions())
    first = prepare_splits(corpus, tokenizer, contract, DataOptions(), tmp_path)
    reads = corpus.source.reads
    assert prepare_splits(corpus, tokenizer, contract, DataOptions(), tmp_path).fingerprint == first.fingerprint
    assert prepare_splits(corpus, tokenizer, contract, DataOptions(), previous=first) is first
    assert corpus.source.reads == reads


def test_data_tokenizer_and_settings_each_change_the_fingerprint(tmp_path):
    prints = [
        prepare("causal_lm", tmp_path / "a")[0].fingerprint,
        prepare("causal_lm", tmp_path / "b", count=121)[0].fingerprint,
        prepare("causal_lm", tmp_path / "c", vocab_size=280)[0].fingerprint,
        prepare("causal_lm", tmp_path / "d", options=DataOptions(max_length=8))[0].fingerprint,
    ]
    assert len(set(prints)) == 4
    assert prepare("causal_lm", tmp_path / "e")[0].fingerprint == prints[0]


def test_other_settings_replace_the_old_preparation(tmp_path):
    prepare("causal_lm", tmp_path)
    splits, _, _ = prepare("causal_lm", tmp_path, vocab_size=280)
    assert load_splits(tmp_path).vocab_size == 280
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == [splits.fingerprint[:16]]


def test_a_killed_preparation_does_not_look_finished(tmp_path, monkeypatch):
    def die(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("transformer_foundry.core.data.prepare.measure_baselines", die)
    with pytest.raises(KeyboardInterrupt):
        prepare("causal_lm", tmp_path)
    assert read_fingerprint(tmp_path) is None
    with pytest.raises(DataError, match="no finished data preparation"):
        load_splits(tmp_path)


def test_a_killed_preparation_leaves_the_one_before_it_whole(tmp_path, monkeypatch):
    old, _, _ = prepare("causal_lm", tmp_path)
    monkeypatch.setattr("transformer_foundry.core.data.prepare.write_index", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare("causal_lm", tmp_path, vocab_size=280)
    assert load_splits(tmp_path).fingerprint == old.fingerprint
    assert len(load_splits(tmp_path).train) == len(old.train)


def test_a_cut_file_is_a_data_error(tmp_path):
    splits, _, _ = prepare("causal_lm", tmp_path)
    path = tmp_path / splits.fingerprint[:16] / "train-input_ids.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DataError, match=r"train-input_ids.bin has"):
        load_splits(tmp_path)


def test_a_preparation_that_lost_a_file_is_made_again(tmp_path):
    splits, _, _ = prepare("causal_lm", tmp_path)
    (tmp_path / splits.fingerprint[:16] / "train-input_ids.bin").unlink()
    assert find_splits(tmp_path, splits.fingerprint) is None
    assert len(prepare("causal_lm", tmp_path)[0].train) == len(load_splits(tmp_path).train)


def test_an_index_of_another_format_is_prepared_again(tmp_path):
    prepare("causal_lm", tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**index, "format_version": 0}))
    assert read_fingerprint(tmp_path) is None


def test_an_empty_test_split_can_be_prepared(tmp_path):
    corpus, contract = corpus_of(documents_for("causal_lm"), "causal_lm", test_share=0), contract_for("causal_lm")
    tokenizer = fit_tokenizer(corpus, contract, DataOptions())
    splits = prepare_splits(corpus, tokenizer, contract, DataOptions(), tmp_path)
    assert (len(splits.test), splits.test.target_count) == (0, 0)


def test_a_tokenizer_larger_than_the_model_is_refused_with_both_numbers(tmp_path):
    corpus = corpus_of(documents_for("causal_lm"), "causal_lm")
    tokenizer = fit_tokenizer(corpus, contract_for("causal_lm", 300), DataOptions())
    with pytest.raises(DataError, match="has 300 tokens but the model only 280"):
        prepare_splits(corpus, tokenizer, contract_for("causal_lm", 280), DataOptions(), tmp_path)


def test_copied_splits_are_the_same_and_whole(tmp_path):
    splits, _, _ = prepare("seq2seq_lm", tmp_path / "here")
    copy = copy_splits(splits, tmp_path / "there")
    assert copy.fingerprint == splits.fingerprint
    assert copy.folder == tmp_path / "there"
    assert np.array_equal(copy.train.target_ids.values, splits.train.target_ids.values)


def test_splits_in_memory_cannot_be_copied(tmp_path):
    import dataclasses

    splits, _, _ = prepare("causal_lm", tmp_path / "here")
    with pytest.raises(DataError, match="are not on the disk"):
        copy_splits(dataclasses.replace(splits, folder=None), tmp_path / "there")


def test_a_row_outside_is_an_index_error():
    with pytest.raises(IndexError, match="row 2 of 2"):
        _ = RaggedArray.from_rows([[1, 2], [3]])[2]


def flip_bit(path, bit=4):
    """Change a bit in the middle of a file, without a trace in its size."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1 << bit
    path.write_bytes(content)


TOKEN_FILES = [f"{name}-{column}.bin" for name in ("train", "validation") for column in ("input_ids", "input_offsets")]


@pytest.mark.parametrize("file", [*TOKEN_FILES, "index.json"])
def test_one_flipped_bit_is_found_named_and_made_again_to_the_byte(tmp_path, file):
    splits, tokenizer, corpus = prepare("causal_lm", tmp_path)
    path = next(tmp_path.rglob(file))
    before = path.read_bytes()
    flip_bit(path)
    with pytest.raises(DataError, match=rf"{file} is damaged"):
        load_splits(tmp_path)
    assert find_splits(tmp_path, splits.fingerprint) is None
    prepare_splits(corpus, tokenizer, contract_for("causal_lm"), DataOptions(), tmp_path)
    assert path.read_bytes() == before


def without_digests(folder):
    """Make a preparation what version 0.1.0 wrote at first."""
    index = json.loads((folder / "index.json").read_text())
    index.pop("seal")
    for split in index["splits"].values():
        for column in split["columns"].values():
            del column["sha256"]
    (folder / "index.json").write_text(json.dumps(index))


def test_tokens_of_an_earlier_version_are_read_and_an_id_out_of_range_is_damage(tmp_path):
    splits, _, _ = prepare("causal_lm", tmp_path)
    without_digests(tmp_path)
    assert load_splits(tmp_path).fingerprint == splits.fingerprint
    path = next(tmp_path.rglob("train-input_ids.bin"))
    ids = np.fromfile(path, np.uint16)
    ids[7] = splits.vocab_size
    ids.tofile(path)
    with pytest.raises(DataError, match=r"train-input_ids\.bin is damaged"):
        load_splits(tmp_path)


def test_files_are_read_for_their_digest_once(tmp_path, monkeypatch):
    prepare("causal_lm", tmp_path)
    load_splits(tmp_path)
    monkeypatch.setattr("transformer_foundry.core.files.digests.sha256_of", lambda path: 1 / 0)
    load_splits(tmp_path)
