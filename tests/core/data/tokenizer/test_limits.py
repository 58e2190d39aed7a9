"""Tokenizers from someone else: small files cost no memory, no time and no process; published kinds stay accepted."""

from __future__ import annotations

import base64
import builtins
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.core.data.tokenizer.test_foreign_files import NORMAL, PIECES, field, write_model
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import load_tokenizer
from transformer_foundry.core.data.tokenizer.foreign_files import read_foreign_tokenizer
from transformer_foundry.core.data.tokenizer.given import read_local
from transformer_foundry.core.data.tokenizer.limits import check_tokenizer

GROWING = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
EMPTY = {"type": "Replace", "pattern": {"Regex": ""}, "content": "a"}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
TABLE = base64.b64encode(b"\xff" * 50).decode()


def sequence(part: str, steps: list[Any]) -> dict[str, Any]:
    names = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
    return {part: {"type": "Sequence", names[part]: steps}}


FOREIGN: dict[str, tuple[dict[str, Any], str]] = {
    "steps that each make ten of one": (sequence("normalizer", [GROWING] * 7), "normalizer makes a text more than"),
    "steps in steps": (
        sequence("normalizer", [sequence("normalizer", [GROWING] * 4)["normalizer"]] * 2), "normalizer makes a text"),
    "matches of nothing": (sequence("normalizer", [EMPTY] * 11), "normalizer makes a text"),
    "matches between letters": (
        sequence("normalizer", [EMPTY | {"pattern": {"Regex": "(?=a)"}}] * 11), "normalizer makes a text"),
    "text before the text": (
        {"normalizer": {"type": "Prepend", "prepend": "a" * 2000}}, "normalizer makes a text"),
    "bytes of bytes": (sequence("pre_tokenizer", [BYTES] * 11), "pre_tokenizer makes a text"),
    "a decoder": (sequence("decoder", [GROWING] * 7), "decoder makes a text"),
    "very many steps": (sequence("normalizer", [{"type": "NFC"}] * 65), "more than 64 steps"),
    "the text many times": (
        {"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 1000,
                            "pair": [], "special_tokens": {}}}, "more than 64 steps"),
    "a table that asks for memory": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": TABLE}}, "table of characters is damaged"),
    "tokens that grow before they are searched for": (
        sequence("normalizer", [GROWING] * 3)
        | {"added_tokens": [{"id": 0, "content": "a" * 5000, "normalized": True, "special": False}]},
        "added tokens have more than"),
    "words of any length": ({"model": {"type": "WordPiece", "max_input_chars_per_word": 10**9}}, "cuts words of more"),
}  # fmt: skip


def write(folder: Path, **parts: Any) -> Path:
    vocab = {"a": 0, "b": 1, "[UNK]": 2}
    content = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
               "pre_tokenizer": None, "post_processor": None, "decoder": None,
               "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"}}  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(content | parts))
    return folder


@pytest.mark.parametrize(("parts", "problem"), FOREIGN.values(), ids=FOREIGN)
def test_a_tokenizer_that_multiplies_a_text_is_refused(tmp_path: Path, parts: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        load_tokenizer(write(tmp_path, **parts))


def test_the_steps_of_published_tokenizers_are_accepted() -> None:
    blank = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    clip = {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}
    table = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(struct.pack("<I", 0) + b"x\0").decode()}
    quotes = [{"type": "Replace", "pattern": {"String": mark}, "content": '"'} for mark in ("``", "''")]
    for steps in (
        [{"type": "Prepend", "prepend": "▁"}, blank],  # Llama
        [{"type": "NFC"}, clip, {"type": "Lowercase"}],  # CLIP
        [{"type": "Nmt"}, table, {"type": "NFKC"}, {"type": "Strip"}, blank | {"pattern": {"Regex": " {2,}"}}],  # T5
        [*quotes, {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, table],  # ALBERT
        [{"type": "BertNormalizer", "clean_text": True, "lowercase": True}],
    ):
        check_tokenizer(sequence("normalizer", steps) | sequence("pre_tokenizer", [BYTES]) | {"model": {}})


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("YQ== 3000000000", "its highest rank is 3000000000, but it has 1 tokens"),
        ("YQ== -5", "a rank is negative"),
        ("YQ== 3\nYg== 3", "two tokens have the same"),
        (f"{base64.b64encode(b'a' * 50_000).decode()} 0", "a token has 50,000 bytes"),
    ],
)
def test_ranks_and_tokens_that_cost_memory_or_time_are_refused(tmp_path: Path, lines: str, problem: str) -> None:
    path = tmp_path / "t.tiktoken"
    path.write_text(lines + "\n")
    with pytest.raises(DataError, match=problem):
        read_local(str(path))


def test_a_piece_that_takes_quadratic_time_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.model", [*PIECES, ("a" * 2000, -1.0, NORMAL)], kind=2)
    with pytest.raises(DataError, match="a token has 2,000 bytes"):
        read_foreign_tokenizer(path)


DAMAGED = {
    "a table that asks for memory": field(3, field(2, b"\xff" * 50)),
    "a table that is cut": field(3, field(2, b"\x01")),
    "a piece that is a number": field(1, 7),
    "a text that is a number": field(1, field(1, 5)),
    "a score that is a number": field(1, field(1, b"x") + field(2, 5)),
    "a trainer that is a number": field(2, 7),
}


@pytest.mark.parametrize("more", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_sentencepiece_model_ends_in_three_lines(tmp_path: Path, more: bytes) -> None:
    path = write_model(tmp_path / "m.model", [*PIECES, ("a", -1.0, NORMAL)])
    path.write_bytes(path.read_bytes() + more)
    with pytest.raises(DataError, match="cannot be read as a sentencepiece model") as caught:
        read_foreign_tokenizer(path)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    "config",
    [[], {"foundry": {"special": {"evil": 1}}}, {"foundry": {"special": {"pad": -5}}}, {"foundry": [1]},
     {"foundry": {"special": {"eos": 10**30}}}, {"foundry": {"special": {"eos": "x"}}}, {"pad_token": [1]}],
    ids=str,
)  # fmt: skip
def test_a_damaged_configuration_ends_in_three_lines(tmp_path: Path, config: object) -> None:
    (write(tmp_path) / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="no readable tokenizer") as caught:
        load_tokenizer(tmp_path)
    assert len(str(caught.value).splitlines()) == 3


def test_a_tokenizer_of_the_hub_is_checked_before_another_library_loads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformer_foundry.core.data.tokenizer.given import _download

    repository = tmp_path / "models--evil--words"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    write(snapshot, **sequence("normalizer", [GROWING] * 7))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(DataError, match="normalizer makes a text more than"):
        _download("evil/words")


def test_code_of_a_tokenizer_s_repository_does_not_run_whatever_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformer_foundry.core.data.tokenizer.given import _download

    mark = tmp_path / "ran"
    repository = tmp_path / "repository"
    repository.mkdir()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    config = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": [None, "tok.Evil"]}}
    (repository / "tokenizer_config.json").write_text(json.dumps(config))
    (repository / "config.json").write_text(json.dumps({"model_type": "zzz"}))
    (repository / "tok.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(DataError, match="cannot be read"):
        _download(str(repository))
    assert not mark.exists()
