"""Tokenizers in files of sentencepiece and tiktoken, compared with brute force over small vocabularies."""

from __future__ import annotations

import base64
import itertools
import struct

import pytest

from tests.core.data.samples import contract_for, corpus_of, documents_for
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, fit_tokenizer
from transformer_foundry.core.data.tokenizer.foreign_files import read_foreign_tokenizer

NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6
PIECES = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
WORDS = [("▁ab", -1.0), ("ab", -3.0), ("▁a", -2.5), ("b", -2.0), ("a", -4.0), ("▁", -3.5), ("ba", -2.2), ("bab", -2.9)]


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
    found = []
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def write_model(path, pieces, *, kind=1, has_bytes=0, adds_blank=1, joins_blanks=1):
    written = (field(1, text.encode()) + field(2, score) + field(3, type_) for text, score, type_ in pieces)
    content = b"".join(field(1, piece) for piece in written)
    trainer = field(3, kind) + field(35, has_bytes) + field(41, 1) + field(42, 2)
    path.write_bytes(content + field(2, trainer) + field(3, field(3, adds_blank) + field(4, joins_blanks)))
    return path


def best_cut(text, scores):
    """The most probable pieces of a text, by trying all ways to cut it."""
    places = range(1, len(text))
    cuts = itertools.chain.from_iterable(itertools.combinations(places, count) for count in range(len(text)))
    ways = ([text[one:other] for one, other in itertools.pairwise((0, *cut, len(text)))] for cut in cuts)
    return max((way for way in ways if scores.keys() >= set(way)), key=lambda way: sum(map(scores.get, way)))


@pytest.mark.parametrize("text", ["ab ab", "abab", "ba bab", "a b  ab", " abb", "bbabab a"])
def test_a_unigram_model_gives_the_most_probable_pieces(tmp_path, text):
    tokenizer = read_foreign_tokenizer(write_model(tmp_path / "m.model", PIECES + [(*word, NORMAL) for word in WORDS]))
    marked = "▁" + "▁".join(text.split())
    found = [tokenizer.backend.id_to_token(number) for number in tokenizer.encode(text)]
    scores = dict(WORDS)
    assert "".join(found) == marked
    assert sum(map(scores.get, found)) == pytest.approx(sum(map(scores.get, best_cut(marked, scores))))
    assert tokenizer.decode(tokenizer.encode(text)) == " ".join(text.split())
    assert (tokenizer.special.bos, tokenizer.special.eos, tokenizer.special.pad) == (1, 2, None)


def test_a_bpe_model_merges_by_score_and_falls_back_to_bytes(tmp_path):
    pieces = [*PIECES, *((f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256))]
    pieces += [(text, -float(rank), NORMAL) for rank, text in enumerate(["ab", "▁ab", "abab", "▁", "a", "b"])]
    path = write_model(tmp_path / "m.model", pieces, kind=2, has_bytes=1, joins_blanks=0)
    tokenizer = read_foreign_tokenizer(path)
    found = [tokenizer.backend.id_to_token(number) for number in tokenizer.encode(" abab é")]
    assert found == ["▁", "▁ab", "ab", "▁", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokenizer.encode(" abab é")) == " abab é"


def test_names_of_control_pieces_in_a_text_are_text(tmp_path):
    letters = [(letter, -5.0, NORMAL) for letter in "<>/s▁a"]
    tokenizer = read_foreign_tokenizer(write_model(tmp_path / "m.model", PIECES + letters))
    assert not {1, 2}.intersection(tokenizer.encode("a </s> a <s>"))


RANKS = [bytes([byte]) for byte in range(256)] + [b"th", b"the", b" the", b"er", b"hello", "é".encode()]


def test_a_tiktoken_file_merges_by_rank_and_keeps_words_that_are_tokens(tmp_path):
    path = tmp_path / "own.tiktoken"
    path.write_bytes(b"\n".join(base64.b64encode(token) + f" {rank}".encode() for rank, token in enumerate(RANKS)))
    tokenizer = read_foreign_tokenizer(path)
    found = [RANKS[number] for number in tokenizer.encode("the other é hello")]
    # No merges lead to hello, which is a token nevertheless; the pattern cuts before blanks.
    assert found == [b"the", b" ", b"o", b"the", b"r", b" ", "é".encode(), b" ", *(bytes([byte]) for byte in b"hello")]
    assert tokenizer.encode("hello") == [RANKS.index(b"hello")]
    assert tokenizer.decode(tokenizer.encode("Ünder the <|endoftext|>")) == "Ünder the <|endoftext|>"
    assert tokenizer.special.eos == len(RANKS)


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_given_file_trains_the_model(tmp_path, place):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"\n".join(base64.b64encode(token) + f" {rank}".encode() for rank, token in enumerate(RANKS)))
    options = DataOptions(tokenizer=str(path if place == "file" else tmp_path))
    tokenizer = fit_tokenizer(corpus_of(documents_for("causal_lm"), "causal_lm"), contract_for("causal_lm"), options)
    assert (tokenizer.algorithm, tokenizer.vocab_size, tokenizer.special.pad) == ("given", 263, 262)


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"not a model", b"\x0a\xff\xff\xff\xff\x0fabc"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "m.model"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a sentencepiece model or tiktoken file"):
        read_foreign_tokenizer(path)


def test_sentencepiece_models_of_words_are_refused(tmp_path):
    path = write_model(tmp_path / "m.model", [*PIECES, ("▁a", -1.0, NORMAL)], kind=3)
    with pytest.raises(DataError, match="is a sentencepiece model of words or characters"):
        read_foreign_tokenizer(path)
