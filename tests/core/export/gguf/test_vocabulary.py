"""The tokenizer in a GGUF file is the package's; what llama.cpp would read in another way is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, pre_tokenizers

from tests.core.export.gguf.tiny import VOCABULARY, byte_tokenizer
from transformer_foundry.core.export.gguf.layout import Unwritable
from transformer_foundry.core.export.gguf.vocabulary import TokenType, describe_vocabulary

MANIFEST: dict[str, Any] = {
    "special_token_ids": {"pad": 0, "bos": 1, "eos": 2, "unk": None},
    "encoding": {"prefix": [1]},
}
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def described(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None, **manifest: Any) -> Any:
    written = json.loads(byte_tokenizer().to_str())
    change(written)
    (folder / "tokenizer.json").write_text(json.dumps(written))
    return describe_vocabulary(folder, MANIFEST | manifest, VOCABULARY)


def test_tokens_merges_types_and_special_ids_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    found, backend = described(tmp_path), byte_tokenizer()
    tokens, types, size = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"], backend.get_vocab_size()
    assert {text: number for number, text in enumerate(tokens[:size])} == backend.get_vocab()
    assert types[:3] == [TokenType.CONTROL] * 3
    assert set(types[3:size]) == {TokenType.NORMAL}
    assert (tokens[size], types[size:]) == (f"[PAD{size}]", [TokenType.UNUSED] * (VOCABULARY - size))
    merges = [tuple(merge.split(" ")) for merge in found["tokenizer.ggml.merges"]]
    assert merges == [tuple(merge) for merge in json.loads(backend.to_str())["model"]["merges"]]
    assert found["tokenizer.ggml.pre"] == "gpt-2"
    ids = [found[f"tokenizer.ggml.{role}_token_id"] for role in ("bos", "eos", "padding")]
    assert (ids, found["tokenizer.ggml.add_bos_token"]) == ([1, 2, 0], True)


def test_a_text_begins_with_the_token_that_begins_documents_or_with_none(tmp_path: Path) -> None:
    ends = described(tmp_path, encoding={"prefix": [2]})
    assert (ends["tokenizer.ggml.bos_token_id"], ends["tokenizer.ggml.add_bos_token"]) == (2, True)
    without = {"pad": 5, "bos": None, "eos": 2, "unk": None}
    found = described(tmp_path, encoding={"prefix": []}, special_token_ids=without)
    assert (found["tokenizer.ggml.bos_token_id"], found["tokenizer.ggml.add_bos_token"]) == (2, False)
    assert "tokenizer.ggml.padding_token_id" not in found  # id 5 is an ordinary token


def test_the_pre_tokenizer_of_llama_3_is_known_by_its_expression_and_takes_whole_words(tmp_path: Path) -> None:
    backend: Tokenizer = byte_tokenizer()
    split = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    parts = json.loads(backend.to_str())["pre_tokenizer"]
    found = described(tmp_path, lambda w: (w.update(pre_tokenizer=parts), w["model"].update(ignore_merges=True)))
    assert found["tokenizer.ggml.pre"] == "llama-bpe"
    with pytest.raises(Unwritable, match="ignore_merges"):
        described(tmp_path, lambda w: w.update(pre_tokenizer=parts))


def test_a_chat_template_is_kept(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert described(tmp_path)["tokenizer.chat_template"] == "{{ messages }}"


def added(**values: Any) -> Callable[[dict[str, Any]], object]:
    base = {"id": 250, "content": "<x>", "special": False, "single_word": False, "lstrip": False, "rstrip": False}
    return lambda w: w["added_tokens"].append(base | {"normalized": False} | values)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w["model"].update(type="WordLevel"), "is a WordLevel"),
        (lambda w: w.update(normalizer={"type": "NFC"}), r"changes texts first \(NFC\)"),
        (lambda w: w.update(pre_tokenizer={"type": "Whitespace"}), "splits texts by Whitespace"),
        (lambda w: w.update(pre_tokenizer=None), "splits texts by no pre-tokenizer"),
        (lambda w: w["pre_tokenizer"].update(add_prefix_space=True), "adds a space before each text"),
        (lambda w: w["pre_tokenizer"].update(use_regex=False), "in a way that llama.cpp has no name for"),
        (lambda w: w["model"].update(merges=[]), "has no merges"),
        (lambda w: w["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix is </w>"),
        (lambda w: w["model"].update(dropout=0.1), "dropout is 0.1"),
        (lambda w: w["model"]["vocab"].pop("a"), "lacks 1 of the bytes"),
        (lambda w: w["model"]["vocab"].update(late=400), "has the id 400, and its embedding 320 rows"),
        (added(content="the"), "have one text"),
        (added(lstrip=True), "added token with lstrip"),
    ],
)
def test_what_llama_cpp_cannot_express_is_refused(
    change: Callable[[dict[str, Any]], object], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(Unwritable, match=reason):
        described(tmp_path, change)


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unwritable, match="no token that ends a text"):
        described(tmp_path, special_token_ids={"pad": 0, "bos": 1, "eos": None, "unk": None})
